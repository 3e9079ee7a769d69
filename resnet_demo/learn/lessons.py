"""What the Learn tab lets run: each lesson as the configs of its arms. No torch here.

An arm is what sets runs of a group apart; each arm has one run a seed, and with the same seed the
runs of all arms see the same images in the same order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from resnet_demo.architectures import CIFAR_DEPTHS
from resnet_demo.config import TrainConfig, make_config
from resnet_demo.errors import ConfigError, one_of

Arms = list[tuple[str, TrainConfig]]

KINDS = ("duel", "gradient", "vgg", "bugs", "range")
MOST_SEEDS = 5
MOST_RUNS = 40  # each waits in a process of its own
PROBE_EVERY = 2  # steps, in the lesson that looks into each layer
VGG_LR = 0.02  # at the recipe's 0.1 VGG-16 was still at chance after three epochs
FEW = {"train_images": 5_000, "val_share": 0.04}  # a small training: 2,000 images to check it by

BUGS: dict[str, tuple[str, dict[str, Any]]] = {
    "training mode": (
        "validation in training mode: BatchNorm looks at the batch",
        {"validate_in_training_mode": True},
    ),
    "deviation": ("normalizing by the mean of per-image deviations", {"per_image_std": True}),
    "upsampling": ("showing 32 pixels as 64", {"image_size": 64}),
    "no augmentation": ("no flips and no crops", {"flip": False, "crop": 0}),
    "decay": ("weight decay on BatchNorm and biases too", {"decay_all": True}),
    "garbage": ("gc.collect() and empty_cache() after every step", {"collect_garbage": True}),
    "last batch": (
        "telling the last batch's loss as the epoch's",
        {"report_last_batch": True},
    ),
}
BASELINE_ARM = "none"  # the arm without a bug


def duel_arms(depths: Sequence[int], seeds: int, knobs: Mapping[str, Any]) -> Arms:
    """A plain and a residual network of each depth."""
    if not depths:
        raise ConfigError("choose a depth at least, got none", "depths")
    for depth in depths:
        if depth not in CIFAR_DEPTHS:
            raise ConfigError.rule("depths", one_of(map(str, CIFAR_DEPTHS)), depth)
    names = [f"{kind}{depth}" for depth in sorted(depths) for kind in ("plain", "resnet")]
    return make_arms({name: {"model": name} for name in names}, seeds, knobs)


def gradient_arms(depth: int, seeds: int, knobs: Mapping[str, Any]) -> Arms:
    """Plain without BatchNorm, plain with it, residual: all looked into every second step."""
    if depth not in CIFAR_DEPTHS:
        raise ConfigError.rule("depth", one_of(map(str, CIFAR_DEPTHS)), depth)
    same = {**FEW, "epochs": 2, "probe_every": PROBE_EVERY, **knobs}
    told = {
        "plain without BatchNorm": {"model": f"plain{depth}", "batch_norm": False},
        "plain": {"model": f"plain{depth}"},
        "residual": {"model": f"resnet{depth}"},
    }
    return make_arms(told, seeds, same)


def vgg_arms(seeds: int, knobs: Mapping[str, Any]) -> Arms:
    """VGG-16 and ResNet-18, all else the same."""
    networks = {"vgg16": {"model": "vgg16"}, "resnet18": {"model": "resnet18"}}
    return make_arms(networks, seeds, {"peak_lr": VGG_LR, **knobs})


def bug_arms(chosen: Sequence[str], seeds: int, knobs: Mapping[str, Any]) -> Arms:
    """One small training as it should be, and once more with each of the faults by itself.

    Of the smallest network: what counts is how many pairs a person can wait for.
    """
    if not chosen:
        raise ConfigError("choose a switch at least, got none", "bugs")
    for name in chosen:
        if name not in BUGS:
            raise ConfigError.rule("bugs", one_of(BUGS), name)
    faults = {name: BUGS[name][1] for name in BUGS if name in chosen}
    same = {**FEW, "model": "resnet8", "epochs": 4, **knobs}
    return make_arms({BASELINE_ARM: {}, **faults}, seeds, same)


def range_arms(steps: int, knobs: Mapping[str, Any]) -> Arms:
    """One run whose learning rate rises from step to step."""
    config = make_config({"recipe": "paper", "epochs": 1, "val_share": 0.01, **knobs})
    rising = replace(
        config, schedule="range-test", peak_lr=10.0, warmup_epochs=0.0,
        train_images=steps * config.batch_size,
    )  # fmt: skip
    return [("range test", rising)]


def make_arms(told: Mapping[str, Mapping[str, Any]], seeds: int, knobs: Mapping[str, Any]) -> Arms:
    """A config for each arm and seed, seed by seed, so that pairs are whole early.

    Raises ConfigError, for too many too.
    """
    if type(seeds) is not int or not 1 <= seeds <= MOST_SEEDS:
        raise ConfigError.rule("seeds", f"a whole number from 1 to {MOST_SEEDS}", seeds)
    if len(told) * seeds > MOST_RUNS:
        raise ConfigError.rule("runs", f"at most {MOST_RUNS} in a group", len(told) * seeds)
    base = {"recipe": "paper", **knobs}
    first = make_config(base).seed
    return [
        (arm, make_config({**base, **own, "seed": first + number}))
        for number in range(seeds)
        for arm, own in told.items()
    ]
