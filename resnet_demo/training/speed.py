"""How long an image takes to train on and to validate, before there is a run.

The very steps that `fit` takes, under a stopwatch, on images of noise: a dataset need not be
loaded to know how long it will take.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from resnet_demo.config import TrainConfig
from resnet_demo.data.store import DatasetInfo, Datasets
from resnet_demo.errors import StoppedError
from resnet_demo.models.device import device_name
from resnet_demo.training.fit import train_step
from resnet_demo.training.optimizers import set_learning_rate
from resnet_demo.training.state import Training
from resnet_demo.training.validate import validate

FIRST_IMAGES = 8  # images in the first steps, which tell how many can be afforded
MIN_STEPS = 2
STEP_S = 0.7  # of a batch that takes longer a part is trained on: many looks say more than few
CHUNK_S = 0.02  # least time between two looks at the clock: for each an accelerator is waited for
STEP_IN_FORWARDS = 3  # backward takes as long as two passes forward


@dataclass(frozen=True)
class Speed:
    """Seconds a training image and a validation image, and the device's name."""

    train: float
    val: float
    device: str


class NoiseDataset(Datasets):
    """One dataset of so many random images, in the size and with the classes of a real one."""

    def __init__(self, info: DatasetInfo, images: int) -> None:
        self.info, self.random = replace(info, train=images), np.random.default_rng(0)

    def get(self, name: str) -> DatasetInfo:
        """That one, by whatever name."""
        return self.info

    def load(self, name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Images (N, size, size, 3) uint8 and labels (N,) int64."""
        shape = (self.info.train, self.info.size, self.info.size, 3)
        images = self.random.integers(0, 256, shape, np.uint8)
        return images, self.random.integers(len(self.info.classes), size=len(images))


@dataclass(frozen=True)
class Stopwatch:
    """Times work, and may be stopped in between. wait: returns when the device has done it all."""

    clock: Callable[[], float]
    wait: Callable[[], None]
    should_stop: Callable[[], bool]

    def seconds(self, work: Callable[[], object], calls: int = 1) -> float:
        """What so many calls take. Raises StoppedError before them."""
        if self.should_stop():
            raise StoppedError("stopped")
        began = self.clock()
        for _ in range(calls):
            work()
        self.wait()
        return self.clock() - began

    def typical(self, work: Callable[[], object], seconds: float, least: int) -> float:
        """Seconds of the call that a quarter of them is faster than.

        Of as many as fit into `seconds`, and that many at least; one before them does not count.
        What else the machine does, the page that asks for one, makes a call slower and never
        faster: the median would count it in. Raises StoppedError.
        """
        self.seconds(work)
        calls, took, end = 1, [], self.clock() + seconds
        while len(took) < least or self.clock() < end:
            chunk = self.seconds(work, calls)
            took.append(chunk / calls)
            if chunk < CHUNK_S:
                calls, took = 2 * calls, []  # so short a time says little
        return sorted(took)[len(took) // 4]


def measure_speed(
    config: TrainConfig,
    info: DatasetInfo,
    should_stop: Callable[[], bool] = lambda: False,
    seconds: float = 6.0,
    clock: Callable[[], float] = time.monotonic,
) -> Speed:
    """Train that network for so many seconds on one device, and validate for a quarter of them.

    Of a batch that takes longer than STEP_S only a part is trained on; the optimizer's update,
    which a step does once however many images it has, is then measured apart. Raises StoppedError
    between two steps, ConfigError, DamagedError.
    """
    few = min(FIRST_IMAGES, config.batch_size)
    rough = begin_on_noise(config, info, few, few)
    watch = Stopwatch(clock, synchronizer(rough.device), should_stop)
    watch.seconds(repeat_first_batch(rough))  # sets up what is set up once
    affordable = int(STEP_S * few / max(watch.seconds(repeat_first_batch(rough)), 1e-9))
    images = min(max(few, affordable), config.batch_size)
    val = min(STEP_IN_FORWARDS * images, rough.batches.val_batch_size)
    training = begin_on_noise(config, info, images, val)
    step, update = watch.typical(repeat_first_batch(training), seconds, MIN_STEPS), 0.0
    if images < config.batch_size:
        update = min(step, watch.typical(training.optimizer.step, seconds / 8, MIN_STEPS))
    validation = watch.typical(lambda: validate(training, should_stop), seconds / 4, 1)
    return Speed(
        train=(step - update) / images + update / config.batch_size,
        val=validation / len(training.batches.val_labels),
        device=device_name(training.device),
    )


def begin_on_noise(config: TrainConfig, info: DatasetInfo, images: int, val: int) -> Training:
    """The config's network before a batch of so many images, and at least `val` to validate on.

    Its learning rate is zero: what it would learn from noise might end in numbers that are none.
    """
    halves = NoiseDataset(info, 2 * max(images, val))
    noisy = replace(config, batch_size=images, val_share=0.5, grow_from=1.0)
    training = Training.begin(noisy, halves, None)
    set_learning_rate(training.optimizer, 0.0)
    return training


def repeat_first_batch(training: Training) -> Callable[[], None]:
    """What trains on the first batch again, as `train_epoch` does, whenever it is called."""
    batches, plan = training.batches, training.batches.plan(1)
    training.model.train()

    def step() -> None:
        x, labels = batches.train_batch(plan, 0)
        loss, correct = train_step(training, x, labels)
        training.tally.add(loss, correct, len(labels))

    return step


def synchronizer(device: torch.device) -> Callable[[], None]:
    """What returns when the device has done all it was given; at once on a CPU."""
    if device.type == "cpu":
        return lambda: None
    return lambda: torch.accelerator.synchronize(device)
