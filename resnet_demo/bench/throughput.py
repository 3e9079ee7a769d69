"""Images a second of the product's training, side by side with how others train."""

import time
from dataclasses import replace
from typing import Any

import torch

from resnet_demo.bench.article import ArticleLoop
from resnet_demo.bench.loader import LoaderLoop, cores
from resnet_demo.bench.own import OwnLoop, begin, waiting_for
from resnet_demo.bench.turns import Clock, compare, in_turns
from resnet_demo.config import TrainConfig
from resnet_demo.data.store import Datasets
from resnet_demo.runs.lessons import PROBE_EVERY
from resnet_demo.training.device import device_name
from resnet_demo.training.state import Training

AGAINST = ("article", "loader")  # how others train
PROBED = "probed"  # this program, looking into every layer as often as the Learn tab does


def throughput(
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
    own = begin(config, datasets)
    workers = cores() if workers is None else workers
    probed = replace(config, probe_every=PROBE_EVERY)
    others = {
        "article": lambda: ArticleLoop(own),
        "loader": lambda: LoaderLoop(own, workers),
        PROBED: lambda: OwnLoop(begin(probed, datasets)),
    }
    loops = {"own": OwnLoop(own), **{name: others[name]() for name in against}}
    rates = in_turns(loops, rounds, seconds, clock, waiting_for(own.device))
    return {
        **compare(rates.pop("own"), rates),
        **conditions(own),
        "workers": workers if "loader" in against else None,
        "rounds": rounds,
        "seconds": seconds,
    }


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
