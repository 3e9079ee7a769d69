"""Time to accuracy: a recipe trained with several seeds, each scored once on the test images.

Times are also told as on a machine that trains one known network at a known rate, so that those of
two machines can be compared.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from resnet_demo import __version__
from resnet_demo.bench.interleaved import Clock, measure_interleaved
from resnet_demo.bench.loops import ProductLoop, begin_training
from resnet_demo.bench.reference_network import ReferenceNetwork
from resnet_demo.bench.throughput import conditions
from resnet_demo.config import TrainConfig, make_config, to_json
from resnet_demo.data.splits import split_sizes, steps_per_epoch
from resnet_demo.data.store import Datasets, check_data
from resnet_demo.evaluation.evaluate_run import evaluate_run
from resnet_demo.events import Epoch
from resnet_demo.runs.store import Run
from resnet_demo.training.fit import fit
from resnet_demo.training.optimizers import make_optimizer
from resnet_demo.training.speed import synchronizer
from resnet_demo.training.state import Training

REFERENCE_BATCH = 500  # images
REFERENCE_RATE = 1160.0  # images/s of the machine whose times the others' are turned into
VIEWS = {"test_top1_of_six": "flip-and-shift", "test_top1_of_ten": "flip-and-five-shifts"}
SUMMED_UP = ("val_top1", "test_top1", *VIEWS, "train_seconds", "seconds")


def measure_accuracy(
    config: TrainConfig,
    datasets: Datasets,
    seeds: int = 5,
    seconds: float = 10.0,
    clock: Clock = time.monotonic,
) -> Iterator[dict[str, Any]]:
    """A row a seed, from 0 on, as soon as it is known; then one that sums them up.

    seconds: for measuring the reference network before each seed, since a machine changes its pace.
    Raises ConfigError, DamagedError, TrainingError.
    """
    check_data(config, datasets)
    known = reference(config, datasets)
    loop, wait = {"reference": ProductLoop(known)}, synchronizer(known.device)
    rates, rows = [], []
    for seed in range(seeds):
        rates += measure_interleaved(loop, 1, seconds, clock, wait)["reference"]
        rows.append(one_seed(replace(config, seed=seed), datasets))
        yield rows[-1]
    yield {
        "seeds": seeds,
        **{name: summary([row[name] for row in rows]) for name in SUMMED_UP},
        **scaled(rows, median(rates)),
        **conditions(known),
        "recipe": config.recipe,
        "model": config.model,
        "image_size": config.image_size,
        "batch_size": config.batch_size,
        "epochs": config.epochs,
        "reference_batch_size": known.config.batch_size,
    }


def one_seed(config: TrainConfig, datasets: Datasets) -> dict[str, Any]:
    """Train, and score the weights that the run keeps on the test images.

    test_top1: each image asked about once; test_top1_of_six and _of_ten: so many times, mirrored
    and shifted, see `analysis.views`.
    train_seconds: in steps alone; seconds: validation too. In neither: loading, saving, testing.
    """
    with TemporaryDirectory(prefix="resnet-demo-bench-") as name:
        folder = Path(name)
        (folder / "config.json").write_text(to_json(config, __version__), "utf-8")
        *events, finished = fit(config, datasets, folder)
        scores = {
            name: evaluate_run(Run(folder), datasets, "test", mode=mode).result
            for name, mode in VIEWS.items()
        }
    epochs = [event for event in events if isinstance(event, Epoch)]
    images = images_per_epoch(config, datasets)
    return {
        "seed": config.seed,
        "best_epoch": finished.best_epoch,
        "val_top1": finished.best_val_top1,
        "test_top1": scores["test_top1_of_six"]["beside"]["top1"],
        **{name: result["top1"] for name, result in scores.items()},
        "train_seconds": sum(images / epoch.images_per_s for epoch in epochs),
        "seconds": finished.seconds,
    }


def images_per_epoch(config: TrainConfig, datasets: Datasets) -> int:
    """How many images the steps of an epoch see."""
    left, _ = split_sizes(config, datasets.get(config.dataset).train)
    return min(left, steps_per_epoch(left, config.batch_size) * config.batch_size)


def reference(config: TrainConfig, datasets: Datasets) -> Training:
    """The reference network in training, on the config's dataset and in its precision.

    Whatever the recipes are by now: everything that costs time is said here.
    """
    n = datasets.get(config.dataset).train
    knobs = {
        "model": "resnet9", "dataset": config.dataset, "precision": config.precision,
        "batch_size": min(REFERENCE_BATCH, n // 2), "image_size": 32, "optimizer": "sgd",
        "peak_lr": 0.01, "schedule": "constant", "warmup_epochs": 0.0, "flip": True, "crop": 4,
        "cutout": 0,
    }  # fmt: skip
    training = begin_training(make_config(knobs), datasets)
    network = ReferenceNetwork(len(training.batches.classes))
    training.model = network.to(training.device).to(memory_format=torch.channels_last)
    training.optimizer = make_optimizer(training.model, training.config)
    return training


def summary(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def scaled(rows: list[dict[str, Any]], rate: float) -> dict[str, Any]:
    """The times as on a machine of REFERENCE_RATE; rate: this one's, images/s.

    scale: what times here are multiplied by for that; allowance, its inverse: what a time stated
    for that machine is multiplied by for this one.
    """
    scale = rate / REFERENCE_RATE
    return {
        "reference_images_per_s": rate,
        "scale": scale,
        "allowance": 1 / scale,
        "scaled_to": REFERENCE_RATE,
        "scaled_train_seconds": summary([row["train_seconds"] * scale for row in rows]),
        "scaled_seconds": summary([row["seconds"] * scale for row in rows]),
    }
