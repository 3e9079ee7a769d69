"""The optimizer and the learning rate, the latter a function of the step alone."""

import math

from torch import nn, optim

from resnet_demo.config import TrainConfig

ONE_CYCLE_RISE = 0.3  # share of the run, Smith & Topin 2017, section 3; as torch's OneCycleLR
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = ONE_CYCLE_START / 10_000


def make_optimizer(model: nn.Module, config: TrainConfig) -> optim.Optimizer:
    """SGD or AdamW over two groups: what weight decay pulls on, and what it leaves alone.

    Left alone are vectors (biases, BatchNorm's scale and shift), unless `decay_all`.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1 or config.decay_all]},
        {
            "params": [p for p in trained if p.ndim <= 1 and not config.decay_all],
            "weight_decay": 0.0,
        },
    ]
    groups = [group for group in groups if group["params"]]
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
