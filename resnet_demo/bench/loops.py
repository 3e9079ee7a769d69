"""The training loops that the throughput benchmark compares, and measuring them in turns.

Loops run in turns, so that a slow phase of the machine affects all of them.

A loop is called with `should_continue`, which it calls after each step with the number of images
it has trained on in this call. It returns that number once `should_continue` returns False.
"""

import gc
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import v2

from resnet_demo.config import TrainConfig
from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.data.splits import steps_per_epoch
from resnet_demo.data.store import Datasets
from resnet_demo.training.batches import Batches
from resnet_demo.training.fit import train_epoch
from resnet_demo.training.initial import initial_model
from resnet_demo.training.state import Training

EPOCHS = 1000  # never reached, so that no schedule ends or reaches a rate that diverges


def begin_training(config: TrainConfig, datasets: Datasets) -> Training:
    """Start a training that is never saved, with full-sized images from the first step.

    Raises:
        ConfigError, DamagedError: as `Training.begin`.
    """
    return Training.begin(replace(config, epochs=EPOCHS, grow_from=1.0), datasets, None)


class ProductLoop:
    """The product's own loop: `train_epoch`, epoch after epoch, without validation."""

    def __init__(self, training: Training) -> None:
        self.training = training

    def __call__(self, should_continue: Callable[[int], bool]) -> int:
        """Train until `should_continue` returns False; return the number of images."""
        tally_before, of_epochs, stopped = self.training.tally.seen, 0, False

        # train_epoch calls this before each step. With no image trained yet there is nothing to
        # report.
        def should_stop() -> bool:
            nonlocal stopped
            images = of_epochs + self.training.tally.seen - tally_before
            stopped = images > 0 and not should_continue(images)
            return stopped

        while True:
            for _ in train_epoch(self.training, should_stop):
                pass
            if stopped:
                return of_epochs + self.training.tally.seen - tally_before
            of_epochs += self.training.tally.seen
            next_epoch(self.training)


def next_epoch(training: Training) -> None:
    """Close the epoch; after the last epoch of the config, start again from the first."""
    training.close_epoch()
    if training.epochs_done == training.config.epochs:
        training.epochs_done = training.step = 0


class ImageDataset(Dataset):
    """The training split as torchvision's CIFAR10 serves it: PIL image, transformed, and label."""

    def __init__(self, batches: Batches, transform: Callable) -> None:
        self.images = batches.train_images[:].cpu().numpy()  # (N, H, W, 3) uint8
        self.labels = batches.train_labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def drop_last(images: ImageDataset, batch_size: int) -> bool:
    """Return whether the last batch is a single image.

    The product drops it too, because BatchNorm cannot train on one image.
    """
    return steps_per_epoch(len(images), batch_size) * batch_size < len(images)


def article_transform(preprocessing: Preprocessing) -> transforms.Compose:
    """Return the tutorial's transform of one image on the CPU: resize, to tensor, normalize."""
    side = preprocessing.image_size
    return transforms.Compose(
        [
            transforms.Resize((side, side)),
            transforms.ToTensor(),
            transforms.Normalize(preprocessing.mean, preprocessing.std),
        ]
    )


class ArticleLoop:
    """The tutorial's loop: the same network and split, float32, contiguous memory format.

    One process prepares the batches and trains, and collects garbage after every step.
    """

    def __init__(self, own: Training) -> None:
        config, batches = own.config, own.batches
        self.device = own.device
        self.model = initial_model(config, len(batches.classes)).to(own.device)
        images = ImageDataset(batches, article_transform(batches.preprocessing))
        self.loader = DataLoader(
            images,
            batch_size=config.batch_size,
            shuffle=True,
            drop_last=drop_last(images, config.batch_size),
        )
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=0.01, weight_decay=0.001, momentum=0.9
        )

    def __call__(self, should_continue: Callable[[int], bool]) -> int:
        """Train until `should_continue` returns False; return the number of images."""
        done = 0
        while True:
            for images, labels in self.loader:
                images = images.to(self.device)
                labels = labels.to(self.device)
                outputs = self.model(images)
                loss = self.criterion(outputs, labels)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                done += len(labels)
                # Slow, but the tutorial does it after every step.
                del images, labels, outputs
                torch.cuda.empty_cache()
                gc.collect()
                if not should_continue(done):
                    return done


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def augmenting_transform(preprocessing: Preprocessing) -> v2.Compose:
    """Return today's usual transform of one image: random crop and flip, resize, normalize.

    Without a resize where the network's image size is the stored size.
    """
    stored, side = preprocessing.source_size, preprocessing.image_size
    resize = [] if side == stored else [v2.Resize((side, side), antialias=True)]
    return v2.Compose(
        [
            v2.ToImage(),
            v2.RandomCrop(stored, padding=4),
            v2.RandomHorizontalFlip(),
            *resize,
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(preprocessing.mean, preprocessing.std),
        ]
    )


class DataLoaderLoop:
    """Today's usual loop: DataLoader workers, torchvision transforms, SGD with momentum.

    The same network and split, float32, contiguous memory format.
    """

    def __init__(self, own: Training, workers: int) -> None:
        self.config, self.device, self.workers = own.config, own.device, workers
        self.model = initial_model(own.config, len(own.batches.classes)).to(own.device)
        self.images = ImageDataset(own.batches, augmenting_transform(own.batches.preprocessing))
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4
        )

    def loader(self) -> DataLoader:
        """Return a DataLoader with new workers."""
        # New workers for each call: old ones would still fill their queues and slow the next loop.
        size = self.config.batch_size
        return DataLoader(
            self.images,
            batch_size=size,
            shuffle=True,
            drop_last=drop_last(self.images, size),
            num_workers=self.workers,
            # Else each epoch would start new ones, which takes a second.
            persistent_workers=self.workers > 0,
            pin_memory=self.device.type == "cuda",
        )

    def __call__(self, should_continue: Callable[[int], bool]) -> int:
        """Train until `should_continue` returns False; return the number of images."""
        loader, done = self.loader(), 0
        while True:
            for images, labels in loader:
                images = images.to(self.device, non_blocking=True)
                labels = labels.to(self.device, non_blocking=True)
                loss = F.cross_entropy(self.model(images), labels)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                done += len(labels)
                if not should_continue(done):
                    return done


Clock = Callable[[], float]
# Calls its argument after each step with the number of images trained on in this call, and returns
# that number once it gets False.
Loop = Callable[[Callable[[int], bool]], int]
Rates = dict[str, list[float]]


class Stopwatch:
    """Times one call of a loop without its first step, which starts workers and fills caches.

    wait: returns when the device has finished its work.
    """

    def __init__(self, seconds: float, clock: Clock, wait: Callable[[], None]) -> None:
        self.seconds, self.clock, self.wait = seconds, clock, wait
        self.first: int | None = None  # images of the first step
        self.began = 0.0

    def should_continue(self, images: int) -> bool:
        """Return whether time is left. At least one step is timed, however long it takes."""
        if self.first is not None:
            return self.clock() - self.began < self.seconds
        self.wait()
        self.first, self.began = images, self.clock()
        return True

    def rate(self, loop: Loop) -> float:
        """Run the loop and return images per second."""
        images = loop(self.should_continue)
        self.wait()
        return (images - self.first) / max(self.clock() - self.began, 1e-9)


def measure_interleaved(
    loops: Mapping[str, Loop],
    rounds: int,
    seconds: float,
    clock: Clock = time.monotonic,
    wait: Callable[[], None] = lambda: None,
) -> Rates:
    """Return images per second of each loop in each round.

    A round runs every loop for `seconds`, one after the other. One more round, the first, is for
    warm-up and not returned.
    """
    rates: Rates = {name: [] for name in loops}
    for _ in range(rounds + 1):
        for name, loop in loops.items():
            rates[name].append(Stopwatch(seconds, clock, wait).rate(loop))
    return {name: of_rounds[1:] for name, of_rounds in rates.items()}


def compare_rates(own: list[float], against: Rates) -> dict[str, Any]:
    """Return medians over the rounds, the ratios own/other, and the spread of both."""
    # Ratios within a round: a slow phase of the machine slows both loops.
    ratios = {
        name: [ours / theirs for ours, theirs in zip(own, rates, strict=True)]
        for name, rates in against.items()
    }
    return {
        "images_per_s": median(own),
        "against": {name: median(rates) for name, rates in against.items()},
        "ratio": {name: median(of_rounds) for name, of_rounds in ratios.items()},
        "spread": {
            "images_per_s": spread(own),
            "against": {name: spread(rates) for name, rates in against.items()},
            "ratio": {name: spread(of_rounds) for name, of_rounds in ratios.items()},
        },
    }


def spread(values: list[float]) -> list[float]:
    """Return [minimum, maximum]."""
    return [min(values), max(values)]


def median_and_range(values: list[float]) -> dict[str, float]:
    """Return median, minimum and maximum, ready for JSON."""
    return {"median": median(values), "min": min(values), "max": max(values)}
