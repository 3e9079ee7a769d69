"""Measure how long a training image and a validation image take, before there is a run.

It times the steps of `fit` itself, on images of noise, so that no dataset has to be loaded.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from resnet_demo.config import TrainConfig
from resnet_demo.data.info import DatasetInfo
from resnet_demo.data.store import Datasets
from resnet_demo.errors import StoppedError
from resnet_demo.models.device import device_name
from resnet_demo.training.fit import train_step
from resnet_demo.training.optimizers import set_learning_rate
from resnet_demo.training.state import Training
from resnet_demo.training.validate import validate

FIRST_IMAGES = 8  # in the first steps, from which the number of images is chosen
MIN_STEPS = 2
STEP_S = 0.7  # a slower batch is cut: several short steps are more reliable than one long one
CHUNK_S = 0.02  # between two readings of the clock, at least: each one waits for the device
STEP_IN_FORWARDS = 3  # a backward pass takes as long as two forward passes


@dataclass(frozen=True)
class Speed:
    """Seconds per training image and per validation image, and the device's name."""

    train: float
    val: float
    device: str


class NoiseDataset(Datasets):
    """A single dataset of random images, with the size and the classes of a real one."""

    def __init__(self, info: DatasetInfo, images: int) -> None:
        self.info, self.random = replace(info, train=images), np.random.default_rng(0)

    def get(self, name: str) -> DatasetInfo:
        """Return the dataset's description, whatever the name."""
        return self.info

    def prepare(self, name: str, progress: object = None) -> DatasetInfo:
        """Return the description: nothing is converted, as the archive of CIFAR-10 would be."""
        return self.info

    def _open(self, name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return images (N, size, size, 3) uint8 and labels (N,) int64."""
        shape = (self.info.train, self.info.size, self.info.size, 3)
        images = self.random.integers(0, 256, shape, np.uint8)
        return images, self.random.integers(len(self.info.classes), size=len(images))


@dataclass(frozen=True)
class Stopwatch:
    """Times function calls. wait: returns when the device has done all its work."""

    clock: Callable[[], float]
    wait: Callable[[], None]
    should_stop: Callable[[], bool]

    def seconds(self, work: Callable[[], object], calls: int = 1) -> float:
        """Return the duration of that many calls. Raises StoppedError before they begin."""
        if self.should_stop():
            raise StoppedError("stopped")
        began = self.clock()
        for _ in range(calls):
            work()
        self.wait()
        return self.clock() - began

    def lower_quartile(self, work: Callable[[], object], seconds: float, least: int) -> float:
        """Return the lower quartile of the duration of a call.

        It makes as many calls as fit into `seconds`, at least `least`, after one that is not
        counted. Raises StoppedError.
        """
        # Other work on the machine, such as the page that requested this, only makes calls slower:
        # the median would include it.
        self.seconds(work)
        calls, durations, end = 1, [], self.clock() + seconds
        while len(durations) < least or self.clock() < end:
            chunk = self.seconds(work, calls)
            durations.append(chunk / calls)
            if chunk < CHUNK_S:
                calls, durations = 2 * calls, []  # too short to be reliable
        return sorted(durations)[len(durations) // 4]


def measure_speed(
    config: TrainConfig,
    info: DatasetInfo,
    should_stop: Callable[[], bool] = lambda: False,
    seconds: float = 6.0,
    clock: Callable[[], float] = time.monotonic,
) -> Speed:
    """Train the config's network for so many seconds on one device, and validate for a quarter.

    A batch that takes longer than STEP_S is cut. The optimizer's update, which takes the same time
    for any number of images, is then measured separately. Raises StoppedError between two steps,
    ConfigError, DamagedError.
    """
    images = min(FIRST_IMAGES, config.batch_size)
    trial = begin_on_noise(config, info, images, images)
    watch = Stopwatch(clock, synchronizer(trial.device), should_stop)
    watch.seconds(repeat_first_batch(trial))  # the first step also sets things up
    # As many images as a step of STEP_S holds, going by the second step on a few images.
    affordable = int(STEP_S * images / max(watch.seconds(repeat_first_batch(trial)), 1e-9))
    images = min(max(images, affordable), config.batch_size)
    # A validation batch then takes as long as a training step.
    val = min(STEP_IN_FORWARDS * images, trial.batches.val_batch_size)
    training = begin_on_noise(config, info, images, val)
    step = watch.lower_quartile(repeat_first_batch(training), seconds, MIN_STEPS)
    update = 0.0
    if images < config.batch_size:
        update = watch.lower_quartile(training.optimizer.step, seconds / 8, MIN_STEPS)
        update = min(step, update)  # by noise alone it could seem longer than the whole step
    validation = watch.lower_quartile(lambda: validate(training, should_stop), seconds / 4, 1)
    return Speed(
        train=(step - update) / images + update / config.batch_size,
        val=validation / len(training.batches.val_labels),
        device=device_name(training.device),
    )


def begin_on_noise(config: TrainConfig, info: DatasetInfo, images: int, val: int) -> Training:
    """Return the config's network with batches of `images`, and at least `val` to validate on.

    The images are full-sized from the first step.
    """
    dataset = NoiseDataset(info, 2 * max(images, val))  # half of them are for validation
    # Initial weights take time to load and change no speed.
    noisy = replace(
        config,
        batch_size=images,
        val_share=0.5,
        grow_from=1.0,
        weights="random",
        train_layers="all",
        views=1,
        folds=0,
        class_weights="none",
        stratify=False,
    )
    training = Training.begin(noisy, dataset, None)
    # training on noise could diverge, and NaN is computed at another speed
    set_learning_rate(training.optimizer, 0.0)
    return training


def repeat_first_batch(training: Training) -> Callable[[], None]:
    """Return a function that trains on the first batch once more, as `train_epoch` does."""
    batches, plan = training.batches, training.batches.plan(1)
    training.set_training_mode()

    def step() -> None:
        x, labels = batches.train_batch(plan, 0)
        loss, correct = train_step(training, x, labels)
        training.tally.add(loss, correct, len(labels))

    return step


def synchronizer(device: torch.device) -> Callable[[], None]:
    """Return a function that waits until the device has done all its work; a no-op on a CPU."""
    if device.type == "cpu":
        return lambda: None
    return lambda: torch.accelerator.synchronize(device)
