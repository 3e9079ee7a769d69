"""Images a second of the product's training, side by side with how others train."""

import time
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from resnet_demo.bench.interleaved import Clock, compare_rates, measure_interleaved
from resnet_demo.bench.loops import (
    ArticleLoop,
    DataLoaderLoop,
    ProductLoop,
    available_cores,
    begin_training,
)
from resnet_demo.config import TrainConfig
from resnet_demo.data.store import Datasets
from resnet_demo.learn.lessons import PROBE_EVERY
from resnet_demo.models.device import device_name
from resnet_demo.training.speed import synchronizer
from resnet_demo.training.state import Training

AGAINST = ("article", "loader")  # how others train
CHANGED = {  # this program again, with knobs of its own
    "probed": {"probe_every": PROBE_EVERY},  # looking into every layer as the Learn tab does
    "compiled": {"compile": True},  # before the first round, which takes a minute or more
}


def measure_throughput(
    config: TrainConfig,
    datasets: Datasets,
    against: tuple[str, ...] = AGAINST,
    seconds: float = 10.0,
    rounds: int = 3,
    workers: int | None = None,
    clock: Clock = time.monotonic,
) -> dict[str, Any]:
    """images_per_s, `against` and `ratio` of each other loop, their spread, and the conditions.

    seconds: for each loop in each round. workers: of the DataLoader; as many as there are cores
    unless given. Raises ConfigError, DamagedError.
    """
    own = begin_training(config, datasets)
    workers = available_cores() if workers is None else workers
    others = {
        "article": lambda: ArticleLoop(own),
        "loader": lambda: DataLoaderLoop(own, workers),
        **{name: partial(changed, config, knobs, datasets) for name, knobs in CHANGED.items()},
    }
    loops = {"own": ProductLoop(own), **{name: others[name]() for name in against}}
    rates = measure_interleaved(loops, rounds, seconds, clock, synchronizer(own.device))
    return {
        **compare_rates(rates.pop("own"), rates),
        **conditions(own),
        "workers": workers if "loader" in against else None,
        "rounds": rounds,
        "seconds": seconds,
    }


def changed(config: TrainConfig, knobs: dict[str, Any], datasets: Datasets) -> ProductLoop:
    """The same loop with these knobs. Its images do not grow, which compiled ones must not."""
    training = begin_training(replace(config, grow_from=1.0, **knobs), datasets)
    if training.config.compile:
        from resnet_demo.training.compiled import warm_up  # its imports take seconds

        warm_up(training)
    return ProductLoop(training)


def conditions(own: Training) -> dict[str, Any]:
    """What a rate was measured on, ready for JSON."""
    config = own.config
    return {
        "dataset": config.dataset,
        "model": config.model,
        "image_size": config.image_size,
        "batch_size": config.batch_size,
        "precision": own.precision,
        "device": device_name(own.device),
        "threads": torch.get_num_threads(),
    }
