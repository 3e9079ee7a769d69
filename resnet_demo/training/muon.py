"""Muon: momentum whose every update is turned into the nearest orthogonal matrix (Jordan 2024).

Torch's own refuses the four-dimensional weights of a convolution; here each is one matrix, a row
for each output channel, as in cifar10-airbench.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

# Jordan's polynomial: after five rounds every singular value from 0.01 to 1 lies near 1.
A, B, C = 3.4445, -4.7750, 2.0315
ROUNDS = 5


def orthogonalized(matrix: Tensor) -> Tensor:
    """(M, N) -> (M, N): about U V' of the singular value decomposition U S V'.

    Newton-Schulz iteration: matrix products alone. Singular values end between 0.7 and 1.2,
    which is near enough for a direction (Jordan 2024). Every round multiplies the matrix by a
    polynomial of its own square, X X'; these commute, so that the rounds can be done on the square
    alone, up to nine times smaller for a 3x3 convolution, and their product once on the matrix.
    """
    x = matrix / (matrix.norm() + 1e-7)  # no singular value above 1
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T  # the smaller square
    square = x @ x.T
    product = torch.eye(len(x), dtype=x.dtype, device=x.device)
    for _ in range(ROUNDS):
        factor = torch.addmm(square, square, square, beta=B, alpha=C)
        factor.diagonal().add_(A)
        product = factor @ product
        square = factor @ square @ factor
    x = product @ x
    return x if wide else x.T


class Muon(Optimizer):
    """Nesterov momentum, orthogonalized, for weights of two dimensions and more.

    Each weight (C_out, …) is first scaled back to the norm √C_out, that of an orthogonal matrix of
    its shape: the learning rate is then a share of the weight, and weight decay has nothing to do.
    Made for weights that BatchNorm follows, whose size does not matter.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.6) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One update of every weight that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group["lr"], group["momentum"])

    def _update(self, weight: Tensor, lr: float, momentum: float) -> None:
        state, grad = self.state[weight], weight.grad
        if not state:
            state["momentum_buffer"] = torch.zeros_like(grad)
        buffer = state["momentum_buffer"].mul_(momentum).add_(grad)
        ahead = grad.add(buffer, alpha=momentum)
        direction = orthogonalized(ahead.flatten(1)).view(weight.shape)
        weight.mul_(len(weight) ** 0.5 / weight.norm()).sub_(direction, alpha=lr)
