"""The product's own loop under a stopwatch: `fit`'s code itself, not a copy of it."""

from collections.abc import Callable
from dataclasses import replace

from resnet_demo.config import TrainConfig
from resnet_demo.data.store import Datasets
from resnet_demo.training.fit import train_epoch
from resnet_demo.training.state import Training

EPOCHS = 1000  # never reached, so that no schedule comes to its end, or to a rate that diverges


def begin(config: TrainConfig, datasets: Datasets) -> Training:
    """A run of that config which nobody keeps, its images full-sized from the first.

    Raises ConfigError, DamagedError.
    """
    return Training.begin(replace(config, epochs=EPOCHS, grow_from=1.0), datasets, None)


class OwnLoop:
    """Epoch after epoch without validation, each as `fit` trains it."""

    def __init__(self, training: Training) -> None:
        self.training = training

    def __call__(self, goes_on: Callable[[int], bool]) -> int:
        """Train until told not to go on; the images."""
        tally_before, of_epochs, stopped = self.training.tally.seen, 0, False

        def should_stop() -> bool:  # asked before a step, and so after every other
            nonlocal stopped
            images = of_epochs + self.training.tally.seen - tally_before
            stopped = images > 0 and not goes_on(images)
            return stopped

        while True:
            for _ in train_epoch(self.training, should_stop):
                pass
            if stopped:
                return of_epochs + self.training.tally.seen - tally_before
            of_epochs += self.training.tally.seen
            next_epoch(self.training)


def next_epoch(training: Training) -> None:
    """Close the epoch; after the last one, which few images reach soon, begin again."""
    training.close_epoch()
    if training.epochs_done == training.config.epochs:
        training.epochs_done = training.step = 0
