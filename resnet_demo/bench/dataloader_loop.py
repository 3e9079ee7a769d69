"""The usual loop of today: a DataLoader with worker processes and torchvision's transforms."""

import os
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from resnet_demo.bench.article_loop import Pictures, drop_last
from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.training.state import Training, initial_model


def cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def augmenting(preprocessing: Preprocessing) -> v2.Compose:
    """Image by image: random crop and flip, then numbers; resized only where the sides differ."""
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


class LoaderLoop:
    """The same network on the same split, in float32, its memory contiguous; SGD with momentum."""

    def __init__(self, own: Training, workers: int) -> None:
        self.config, self.device, self.workers = own.config, own.device, workers
        self.model = initial_model(own.config, len(own.batches.classes)).to(own.device)
        self.pictures = Pictures(own.batches, augmenting(own.batches.preprocessing))
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4
        )

    def loader(self) -> DataLoader:
        """Anew for each call: workers that still fill their queues would slow whoever is next."""
        size = self.config.batch_size
        return DataLoader(
            self.pictures,
            batch_size=size,
            shuffle=True,
            drop_last=drop_last(self.pictures, size),
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.device.type == "cuda",
        )

    def __call__(self, goes_on: Callable[[int], bool]) -> int:
        """Train until told not to go on; the images."""
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
                if not goes_on(done):
                    return done
