"""Training throughput of the product, compared with other training loops."""

import time
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from resnet_demo.bench.loops import (
    ArticleLoop,
    Clock,
    DataLoaderLoop,
    ProductLoop,
    available_cores,
    begin_training,
    compare_rates,
    measure_interleaved,
)
from resnet_demo.config import TrainConfig
from resnet_demo.data.store import Datasets
from resnet_demo.learn.lessons import PROBE_EVERY
from resnet_demo.models.device import device_name
from resnet_demo.training.speed import synchronizer
from resnet_demo.training.state import Training

AGAINST = ("article", "loader")
VARIANTS = {  # the product's loop with other settings
    "probed": {"probe_every": PROBE_EVERY},  # as the lesson on gradients
    "compiled": {"compile": True},
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
    """Return images_per_s, `against` and `ratio` for each other loop, spread, and conditions.

    seconds: for each loop in each round. workers: of the DataLoader; default: one per core.

    Raises:
        ConfigError, DamagedError: the config or the dataset cannot be used.
    """
    own = begin_training(config, datasets)
    workers = available_cores() if workers is None else workers
    others = {
        "article": lambda: ArticleLoop(own),
        "loader": lambda: DataLoaderLoop(own, workers),
    }
    for name, fields in VARIANTS.items():
        others[name] = partial(variant_loop, config, fields, datasets)
    loops = {"own": ProductLoop(own), **{name: others[name]() for name in against}}
    rates = measure_interleaved(loops, rounds, seconds, clock, synchronizer(own.device))
    return {
        **compare_rates(rates.pop("own"), rates),
        **conditions(own),
        "workers": workers if "loader" in against else None,
        "rounds": rounds,
        "seconds": seconds,
    }


def variant_loop(config: TrainConfig, fields: dict[str, Any], datasets: Datasets) -> ProductLoop:
    """Return the product's loop with these fields changed."""
    # Without growing images: a compiled model would be compiled again for each size.
    training = begin_training(replace(config, grow_from=1.0, **fields), datasets)
    if training.config.compile:
        from resnet_demo.training.compiled import warm_up  # its imports take seconds

        warm_up(training)
    return ProductLoop(training)


def conditions(own: Training) -> dict[str, Any]:
    """Return the conditions of a measurement, ready for JSON."""
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
