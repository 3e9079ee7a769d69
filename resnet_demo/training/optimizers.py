"""Optimizers, moving average of the weights, and the learning rate as a function of the step."""

import math
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from resnet_demo.config import TrainConfig

# For the parameters that Muon leaves to SGD: share of its learning rate, and momentum. After one
# epoch a share of 0.25 was as good.
SGD_SHARE, SGD_MOMENTUM = 0.5, 0.85
# Coefficients of Jordan's polynomial: after five rounds every singular value from 0.01 to 1 is
# close to 1.
MUON_A, MUON_B, MUON_C = 3.4445, -4.7750, 2.0315
MUON_ROUNDS = 5
RANGE_TEST_FACTOR = 1e5  # last learning rate of a range test over its first
ONE_CYCLE_RISE = 0.3  # share of the run, Smith & Topin 2017, section 3; as torch's OneCycleLR
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = ONE_CYCLE_START / 10_000


def make_optimizer(model: nn.Module, config: TrainConfig) -> "Optimizer | CombinedOptimizer":
    """Return SGD, AdamW, or Muon for convolutions with SGD for the rest.

    The learning rate of a parameter group is the schedule's times its `share`.
    """
    # The whitening stem of resnet9 is not trained.
    trained = [p for p in model.parameters() if p.requires_grad]
    # With one learning rate for all, the groups are those of runs before `backbone_lr`.
    of_head = {id(p) for p in model.head.parameters()} if config.backbone_lr < 1 else set()
    if config.optimizer != "muon":
        return gradient_optimizer(trained, config, of_head)
    convolutions = [p for p in trained if p.ndim == 4]
    others = [p for p in trained if p.ndim != 4]
    share = config.backbone_lr  # all convolutions belong to the backbone
    muon = Muon([{"params": convolutions, "share": share}], config.peak_lr, config.momentum)
    settings = replace(config, momentum=SGD_MOMENTUM, nesterov=True)
    return CombinedOptimizer(muon, gradient_optimizer(others, settings, of_head, SGD_SHARE))


def gradient_optimizer(
    trained: list[nn.Parameter], config: TrainConfig, of_head: Set[int], share: float = 1.0
) -> Optimizer:
    """Return SGD or AdamW over parameter groups: with weight decay and without.

    Without: vectors (biases, scale and shift of BatchNorm), unless `decay_all`. of_head: ids of the
    parameters whose learning rate is not lowered by `backbone_lr`. share: of the schedule's rate.
    """
    groups = []
    for is_head in (False, True):
        layers = [p for p in trained if (id(p) in of_head) == is_head]
        rate = share * (1.0 if is_head else config.backbone_lr)
        # Biases and BatchNorm are spared as in He et al. 2019, "Bag of Tricks for Image
        # Classification", section 3.1.
        decayed = [p for p in layers if p.ndim > 1 or config.decay_all]
        others = [p for p in layers if p.ndim <= 1 and not config.decay_all]
        groups += [
            {"params": decayed, "share": rate},
            {"params": others, "share": rate, "weight_decay": 0.0},
        ]
    # PyTorch refuses an empty group.
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "adamw":
        betas = (config.momentum, 0.999)
        return optim.AdamW(groups, config.peak_lr, betas, weight_decay=config.weight_decay)
    return optim.SGD(
        groups,
        config.peak_lr,
        momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0,  # SGD refuses Nesterov without momentum
        weight_decay=config.weight_decay,
    )


class CombinedOptimizer:
    """Several optimizers used as one, each for its own parameters."""

    def __init__(self, *parts: Optimizer) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Return the parameter groups of all parts."""
        return [group for part in self.parts for group in part.param_groups]

    def step(self) -> None:
        """Update all parameters once."""
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all parts, for a checkpoint."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for part, part_state in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(part_state)


class Muon(Optimizer):
    """Nesterov momentum with orthogonalized updates (Jordan 2024), for weights of 2 or more dims.

    torch.optim.Muon refuses the four-dimensional weights of convolutions; here each one is a matrix
    with a row per output channel, as in cifar10-airbench. Before an update each weight (C_out, …)
    is scaled to the norm √C_out, that of an orthogonal matrix of its shape: the learning rate is
    then relative to the weight, and no weight decay is needed. That suits weights followed by
    BatchNorm, whose scale does not matter.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.6) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Update every weight that has a gradient once."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group["lr"], group["momentum"])

    def _update(self, weight: Tensor, lr: float, momentum: float) -> None:
        """Update one weight in place; momentum is kept in the optimizer's state."""
        state, grad = self.state[weight], weight.grad
        if not state:
            state["momentum_buffer"] = torch.zeros_like(grad)
        buffer = state["momentum_buffer"].mul_(momentum).add_(grad)
        # Nesterov: the gradient plus the momentum that the next step would apply.
        lookahead = grad.add(buffer, alpha=momentum)
        # As a matrix (C_out, C_in · k · k).
        direction = orthogonalize(lookahead.flatten(1)).view(weight.shape)
        # Scaled to the norm √C_out of an orthogonal matrix first, so that lr is relative to the
        # weight.
        weight.mul_(len(weight) ** 0.5 / weight.norm()).sub_(direction, alpha=lr)


def orthogonalize(matrix: Tensor) -> Tensor:
    """Return about U V' of the singular value decomposition U S V'; (M, N) in and out.

    Newton-Schulz iteration, which needs matrix products only. Singular values end between 0.7 and
    1.2, which is close enough for a direction (Jordan 2024).
    """
    x = matrix / (matrix.norm() + 1e-7)  # no singular value above 1
    is_wide = x.shape[0] <= x.shape[1]
    x = x if is_wide else x.T
    # Each round multiplies x by a polynomial of its square X X'. These commute, so all rounds are
    # done on the square, up to nine times smaller for a 3x3 convolution, and x is multiplied once:
    # a third of the time for large weights, errors of 4e-6 against float64.
    square = x @ x.T
    product = torch.eye(len(x), dtype=x.dtype, device=x.device)
    for _ in range(MUON_ROUNDS):
        factor = torch.addmm(square, square, square, beta=MUON_B, alpha=MUON_C)
        factor.diagonal().add_(MUON_A)
        product = factor @ product
        square = factor @ square @ factor
    x = product @ x
    return x if is_wide else x.T


def exponential_average(model: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of the model whose weights follow it: w' <- d w' + (1 - d) w after each update.

    d is the decay, and (1 + n) / (10 + n) while that is less, after n updates: a short run would
    otherwise keep its first weights (as in TensorFlow's ExponentialMovingAverage). BatchNorm's
    running statistics are averaged in the same way.
    """

    def average(means: Sequence[Tensor], weights: Sequence[Tensor], on_device: Tensor) -> None:
        n = int(mean.n_averaged)  # on the CPU: reading `on_device` would wait for the device
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(means, weights, on_device)

    mean = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
    return mean


def set_learning_rate(optimizer: Optimizer | CombinedOptimizer, lr: float) -> None:
    """Set the learning rate of the next update, times the share of each parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["share"]


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of update number `step` (from 0)."""
    total = config.epochs * steps_per_epoch
    warmup = config.warmup_epochs * steps_per_epoch
    if config.schedule == "one-cycle":
        return config.peak_lr * one_cycle(step, total, warmup)
    if step < warmup:
        # Above 0 at the first update, and at the peak with the first one after the warm-up.
        return config.peak_lr * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, total - warmup)  # 0 to just under 1
    if config.schedule == "linear":
        return config.peak_lr * (1 - done)
    if config.schedule == "range-test":  # Smith 2017, section 3.3; in equal steps of the logarithm
        return config.peak_lr * RANGE_TEST_FACTOR ** (done - 1)
    if config.schedule == "cosine":  # Loshchilov & Hutter 2017, eq. 5, without restarts
        return config.peak_lr * (1 + math.cos(math.pi * done)) / 2
    return config.peak_lr


def one_cycle(step: int, total: int, rise: float) -> float:
    """Return the share of the peak: cosine up from 1/25 in `rise` steps, cosine down to 1/250,000.

    rise: 0 for ONE_CYCLE_RISE of the run.
    """
    # - 1, as in torch's OneCycleLR: updates are numbered from 0.
    peak_step = (rise or ONE_CYCLE_RISE * total) - 1
    if step <= peak_step:
        return cosine(ONE_CYCLE_START, 1.0, step / max(peak_step, 1))
    return cosine(1.0, ONE_CYCLE_END, (step - peak_step) / max(total - 1 - peak_step, 1))


def cosine(start: float, end: float, share: float) -> float:
    """Interpolate from start (share 0) to end (share 1) along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
