"""Time to accuracy: train a recipe with several seeds and score each on the test images.

Times are also scaled to a machine that trains a fixed reference network at a known rate, so that
results of different machines can be compared.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from resnet_demo import __version__
from resnet_demo.bench.loops import (
    Clock,
    ProductLoop,
    Stopwatch,
    begin_training,
    median_and_range,
)
from resnet_demo.bench.throughput import conditions
from resnet_demo.config import TrainConfig, make_config, to_json
from resnet_demo.data.recipe_fit import check_data
from resnet_demo.data.splits import steps_per_epoch
from resnet_demo.data.store import Datasets
from resnet_demo.evaluation.evaluate_run import SplitPredictor
from resnet_demo.evaluation.tta import VIEWS, Step, identity, mean_logits
from resnet_demo.events import Epoch
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.predict import load_split
from resnet_demo.models.device import autocast, pick_device, pick_precision
from resnet_demo.models.layers import LayerOptions, Network, he_init
from resnet_demo.runs.store import Run
from resnet_demo.training.fit import fit
from resnet_demo.training.optimizers import make_optimizer
from resnet_demo.training.speed import synchronizer
from resnet_demo.training.state import Training

REFERENCE_BATCH = 500  # images
REFERENCE_RATE = 1160.0  # images/s of the machine that times are scaled to
SCORES = {
    "test_top1": "plain",
    "test_top1_of_six": "flip-and-shift",
    "test_top1_of_ten": "flip-and-five-shifts",
}
SUMMARIZED = ("val_top1", *SCORES, "train_seconds", "seconds")


def measure_accuracy(
    config: TrainConfig,
    datasets: Datasets,
    seeds: int = 5,
    seconds: float = 10.0,
    clock: Clock = time.monotonic,
) -> Iterator[dict[str, Any]]:
    """Yield the result of each seed, from 0, and then a summary.

    seconds: time to measure the reference network before each seed, because the speed of a machine
    changes.

    Raises:
        ConfigError, DamagedError, TrainingError: as `fit`.
    """
    check_data(config, datasets)
    reference = reference_training(config, datasets)
    loop, wait = ProductLoop(reference), synchronizer(reference.device)
    rates, rows = [], []
    for seed in range(seeds):
        # The first step is not timed, which is warm-up enough: a round for it changed nothing on a
        # CPU.
        rates.append(Stopwatch(seconds, clock, wait).rate(loop))
        rows.append(measure_seed(replace(config, seed=seed), datasets))
        yield rows[-1]
    yield {
        "seeds": seeds,
        **{name: median_and_range([row[name] for row in rows]) for name in SUMMARIZED},
        **scaled_times(rows, median(rates)),
        # Device, dataset and precision are shared; model and sizes are replaced by the recipe's.
        **conditions(reference),
        "recipe": config.recipe,
        "model": config.model,
        "image_size": config.image_size,
        "batch_size": config.batch_size,
        "epochs": config.epochs,
        "reference_batch_size": reference.config.batch_size,
    }


def measure_seed(config: TrainConfig, datasets: Datasets) -> dict[str, Any]:
    """Train with the config's seed and score the kept weights on the test images.

    The scores are those of `score_views`. train_seconds: training steps only; seconds: with
    validation. Neither includes loading, saving or testing.
    """
    with TemporaryDirectory(prefix="resnet-demo-bench-") as name:
        folder = Path(name)
        (folder / "config.json").write_text(to_json(config, __version__), "utf-8")
        *events, finished = fit(config, datasets, folder)
        scores = score_views(Run(folder), datasets)
    epochs = [event for event in events if isinstance(event, Epoch)]
    images = images_per_epoch(config, datasets)
    return {
        "seed": config.seed,
        "best_epoch": finished.best_epoch,
        "val_top1": finished.best_val_top1,
        **scores,
        # From the rates, whose clock stops while the network is validated or saved.
        "train_seconds": sum(images / epoch.images_per_s for epoch in epochs),
        "seconds": finished.seconds,
    }


def score_views(run: Run, datasets: Datasets) -> dict[str, float]:
    """Return the top-1 on the test images with one, six and ten views; see `evaluation.tta`.

    Each view is computed once for all three, in the precision of training, as for validation.
    """
    config, device = run.config(), pick_device()
    images, labels = load_split(run, datasets, "test", config.dataset)
    predictor = SplitPredictor.of(Classifier.load(run), images, 1, None)
    logits: dict[tuple, Tensor] = {}
    scores = {}
    with autocast(device, pick_precision(config.precision, device)):
        for name, mode in SCORES.items():
            views = [without_identity(steps) for _, steps in VIEWS[mode]]
            for steps in views:
                if steps not in logits:
                    logits[steps] = predictor.predict_view(0, steps)
            mean = mean_logits([logits[steps] for steps in views], mode)
            scores[name] = (mean.argmax(1) == labels).float().mean().item()
    return scores


def without_identity(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps of a view that change the images: the same for the same view."""
    return tuple(step for step in steps if step is not identity)


def images_per_epoch(config: TrainConfig, datasets: Datasets) -> int:
    """Return the number of images that the steps of an epoch use."""
    train, _ = datasets.split_sizes(config)
    return min(train, steps_per_epoch(train, config.batch_size) * config.batch_size)


def reference_training(config: TrainConfig, datasets: Datasets) -> Training:
    """Start training the reference network on the config's dataset and in its precision."""
    n = datasets.get(config.dataset).train
    # Every field that costs time is set, so that later changes of the defaults change nothing.
    fields = {
        "model": "resnet9",
        "dataset": config.dataset,
        "precision": config.precision,
        "batch_size": min(REFERENCE_BATCH, n // 2),  # for tests, whose datasets are tiny
        "image_size": 32,
        "optimizer": "sgd",
        "peak_lr": 0.01,
        "schedule": "constant",
        "warmup_epochs": 0.0,
        "flip": True,
        "crop": 4,
        "cutout": 0,
        "crop_area": 1.0,
        "rotation": 0.0,
        "colour_jitter": 0.0,
    }
    training = begin_training(make_config(fields), datasets)
    network = ReferenceNetwork(len(training.batches.classes))
    training.model = network.to(training.device).to(memory_format=torch.channels_last)
    # Made again: the first one holds the parameters of the replaced model.
    training.optimizer = make_optimizer(training.model, training.config)
    return training


def scaled_times(rows: list[dict[str, Any]], rate: float) -> dict[str, Any]:
    """Return the times scaled to a machine of REFERENCE_RATE. rate: of this machine, images/s.

    scale: factor from a time measured here to that machine. allowance: its inverse, the factor from
    a time stated for that machine to this one.
    """
    scale = rate / REFERENCE_RATE
    return {
        "reference_images_per_s": rate,
        "scale": scale,
        "allowance": 1 / scale,
        "scaled_to": REFERENCE_RATE,
        "scaled_train_seconds": median_and_range([row["train_seconds"] * scale for row in rows]),
        "scaled_seconds": median_and_range([row["seconds"] * scale for row in rows]),
    }


# The reference network shares no layers with the product's, whose changes must not change what
# times are scaled by.
WIDTHS = (32, 64, 128, 256)  # channels after the stem and each of the three pools


class Residual(nn.Module):
    """Two convolutions with a shortcut: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int, layers: LayerOptions) -> None:
        super().__init__()
        self.conv1 = conv_norm(channels, channels, layers)
        self.conv2 = conv_norm(channels, channels, layers)

    def forward(self, x: Tensor) -> Tensor:
        """Add the convolutions of x to x."""
        return x + self.conv2(self.conv1(x))


class ReferenceNetwork(Network):
    """Eight 3x3 convolutions, two pairs of them residual, and a linear layer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        layers, (first, second, third, fourth) = LayerOptions(), WIDTHS
        self.body = nn.Sequential(
            conv_norm(3, first, layers),
            conv_norm(first, second, layers, pool=True),
            Residual(second, layers),
            conv_norm(second, third, layers, pool=True),
            conv_norm(third, fourth, layers, pool=True),
            Residual(fourth, layers),
        )
        self.head = nn.Linear(fourth, num_classes)
        he_init(self)

    def features(self, x: Tensor) -> Tensor:
        """Compute the feature map: (B, 3, H, W) -> (B, 256, H/8, W/8), rounded down."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (B, num_classes)."""
        return self.head(self.features(x).mean(dim=(2, 3)))


def conv_norm(c_in: int, c_out: int, layers: LayerOptions, pool: bool = False) -> nn.Sequential:
    """Build 3x3 convolution, BatchNorm, ReLU: (B, c_in, H, W) -> (B, c_out, H, W).

    pool: halve H and W with a max-pool after the convolution.
    """
    layer = nn.Sequential()
    layer.add_module("conv", layers.conv(c_in, c_out, 3))
    if pool:
        layer.add_module("pool", nn.MaxPool2d(2))
    layer.add_module("bn", layers.norm(c_out))
    layer.add_module("relu", nn.ReLU())
    return layer
