"""The optimizer and the learning rate, the latter a function of the step alone."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from resnet_demo.config import TrainConfig

SGD_SHARE = 0.5  # of Muon's learning rate, for other parameters; after 1 epoch 0.25 was as good
SGD_MOMENTUM = 0.85
RANGE_TEST_FACTOR = 1e5  # what a range test's rate grows by, from first to last
ONE_CYCLE_RISE = 0.3  # share of the run, Smith & Topin 2017, section 3; as torch's OneCycleLR
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = ONE_CYCLE_START / 10_000
# Jordan's polynomial: after five rounds every singular value from 0.01 to 1 lies near 1.
MUON_A, MUON_B, MUON_C = 3.4445, -4.7750, 2.0315
MUON_ROUNDS = 5


class CombinedOptimizer:
    """Several optimizers as one, each for parameters of its own."""

    def __init__(self, *parts: optim.Optimizer) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of all parts."""
        return [group for part in self.parts for group in part.param_groups]

    def step(self) -> None:
        """One update."""
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The opposite of `state_dict`."""
        for part, own in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(own)


def make_optimizer(model: nn.Module, config: TrainConfig) -> optim.Optimizer | CombinedOptimizer:
    """SGD, AdamW, or Muon for convolutions with SGD for the rest.

    A group's learning rate is the schedule's times its `share`.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    if config.optimizer != "muon":
        return gradient_optimizer(trained, config)
    convolutions = [p for p in trained if p.ndim == 4]
    others = [p for p in trained if p.ndim != 4]
    muon = Muon([{"params": convolutions, "share": 1.0}], config.peak_lr, config.momentum)
    rest = gradient_optimizer(others, replace(config, momentum=SGD_MOMENTUM, nesterov=True))
    for group in rest.param_groups:
        group["share"] = SGD_SHARE
    return CombinedOptimizer(muon, rest)


def exponential_average(model: nn.Module, decay: float) -> AveragedModel:
    """A network of its own, whose weights follow the model's: w' <- d w' + (1 - d) w, each update.

    d is the decay, and less at first, (1 + n) / (10 + n) after n updates, or a short run would
    keep its first weights (as TensorFlow's ExponentialMovingAverage has it). BatchNorm's running
    statistics follow in the same way.
    """

    def follow(means: Sequence[Tensor], weights: Sequence[Tensor], on_device: Tensor) -> None:
        n = int(mean.n_averaged)  # on the host: reading `on_device` would wait for the device
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(means, weights, on_device)

    mean = AveragedModel(model, multi_avg_fn=follow, use_buffers=True)
    return mean


def set_learning_rate(optimizer: optim.Optimizer | CombinedOptimizer, lr: float) -> None:
    """Take the schedule's rate for the next update."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["share"]


def gradient_optimizer(trained: list[nn.Parameter], config: TrainConfig) -> optim.Optimizer:
    """SGD or AdamW over two groups: what weight decay pulls on, and what it leaves alone.

    Left alone are vectors (biases, BatchNorm's scale and shift), unless `decay_all`.
    """
    groups = [
        {"params": [p for p in trained if p.ndim > 1 or config.decay_all]},
        {
            "params": [p for p in trained if p.ndim <= 1 and not config.decay_all],
            "weight_decay": 0.0,
        },
    ]
    groups = [{**group, "share": 1.0} for group in groups if group["params"]]
    if config.optimizer == "adamw":
        betas = (config.momentum, 0.999)
        return optim.AdamW(groups, config.peak_lr, betas, weight_decay=config.weight_decay)
    return optim.SGD(
        groups,
        config.peak_lr,
        momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0,
        weight_decay=config.weight_decay,
    )


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """The rate of update number `step` (from 0)."""
    total = config.epochs * steps_per_epoch
    if config.schedule == "one-cycle":
        return config.peak_lr * one_cycle(step, total, config.warmup_epochs * steps_per_epoch)
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.peak_lr * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, total - warmup)  # 0 to just under 1
    if config.schedule == "linear":
        return config.peak_lr * (1 - done)
    if config.schedule == "range-test":  # Smith 2017, section 3.3; even steps of the logarithm
        return config.peak_lr * RANGE_TEST_FACTOR ** (done - 1)
    if config.schedule == "cosine":  # Loshchilov & Hutter 2017, eq. 5, without restarts
        return config.peak_lr * (1 + math.cos(math.pi * done)) / 2
    return config.peak_lr


def one_cycle(step: int, total: int, rise: float) -> float:
    """Share of the peak: cosine up from 1/25 over `rise` steps, cosine down to 1/250,000."""
    top = (rise or ONE_CYCLE_RISE * total) - 1  # the step at the peak, counted from 0
    if step <= top:
        return cosine(ONE_CYCLE_START, 1.0, step / max(top, 1))
    return cosine(1.0, ONE_CYCLE_END, (step - top) / max(total - 1 - top, 1))


def cosine(start: float, end: float, share: float) -> float:
    """From start (share 0) to end (share 1) along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def orthogonalize(matrix: Tensor) -> Tensor:
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
    for _ in range(MUON_ROUNDS):
        factor = torch.addmm(square, square, square, beta=MUON_B, alpha=MUON_C)
        factor.diagonal().add_(MUON_A)
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
        direction = orthogonalize(ahead.flatten(1)).view(weight.shape)
        weight.mul_(len(weight) ** 0.5 / weight.norm()).sub_(direction, alpha=lr)
