"""The images of a run on its device, cut into batches by functions of seed, epoch and step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from resnet_demo.config import TrainConfig
from resnet_demo.data.augment import augment, mirrored, permutation
from resnet_demo.data.preprocess import Preprocessing, preprocessing_for
from resnet_demo.data.rules import check_data
from resnet_demo.data.splits import split_indices
from resnet_demo.data.store import Datasets

EVALUATION_PIXELS = 500 * 32 * 32  # a validation batch of 500 small images, or 10 of 224 pixels


@dataclass(frozen=True)
class Plan:
    """An epoch's order of the training images, (N,) int64, and which it mirrors, (N,) bool."""

    epoch: int
    order: Tensor
    mirror: Tensor


@dataclass(frozen=True)
class Batches:
    """Train and validation images, (N, H, W, 3) uint8, with labels (N,) int64, on one device."""

    config: TrainConfig
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    train_images: Tensor
    train_labels: Tensor
    val_images: Tensor
    val_labels: Tensor

    @classmethod
    def load(cls, config: TrainConfig, datasets: Datasets, device: torch.device) -> "Batches":
        """Split the training images as the config says and put them on the device."""
        info = check_data(config, datasets)
        images, labels = datasets.load(config.dataset, "train")
        train, val = split_indices(len(labels), config.val_share, config.seed)

        def on_device(array, indices) -> Tensor:
            return torch.from_numpy(array[indices]).to(device)

        return cls(
            config,
            info.classes,
            preprocessing_for(info, config.image_size, config.per_image_std),
            on_device(images, train),
            on_device(labels, train),
            on_device(images, val),
            on_device(labels, val),
        )

    @property
    def steps_per_epoch(self) -> int:
        """Updates an epoch."""
        return steps_per_epoch(len(self.train_labels), self.config.batch_size)

    @property
    def val_batch_size(self) -> int:
        """As the article validates, in batches of training size; else as memory allows."""
        if self.config.validate_in_training_mode:
            return self.config.batch_size
        return max(1, EVALUATION_PIXELS // self.config.image_size**2)

    def plan(self, epoch: int) -> Plan:
        """What the epoch (from 1) does with the training images, on their device."""
        n, seed = len(self.train_labels), self.config.seed
        order, mirror = permutation(n, seed, epoch), mirrored(n, seed, epoch)
        device = self.train_labels.device
        return Plan(epoch, order.to(device), mirror.to(device))

    def train_batch(self, plan: Plan, index: int) -> tuple[Tensor, Tensor]:
        """Batch number `index` (from 0) of an epoch: (B, 3, S, S) float32, and (B,) labels."""
        size = self.config.batch_size
        chosen = plan.order[index * size : (index + 1) * size]
        images, mirror = self.train_images[chosen], plan.mirror[chosen]
        images = augmented(self.config, self.preprocessing, images, mirror, plan.epoch, index)
        return self.preprocessing.prepare(images), self.train_labels[chosen]


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Updates an epoch: every image once, the last batch a smaller one.

    A single image left over is left out: BatchNorm cannot normalize over one value.
    """
    full, rest = divmod(images, batch_size)
    return full + (rest > 1 or (batch_size == 1 and rest > 0))


def augmented(
    config: TrainConfig,
    preprocessing: Preprocessing,
    images: Tensor,
    mirror: Tensor,
    epoch: int,
    index: int,
) -> Tensor:
    """Batch number `index` (from 0) as its epoch draws it; (B, H, W, 3) uint8 in and out.

    mirror: (B,) bool, of the epoch's `mirrored`. B counts: what is drawn for an image depends on
    its place and on how many there are.
    """
    return augment(
        images,
        mirror=mirror if config.flip else None,
        crop=config.crop,
        cutout=config.cutout,
        generator_seed=(config.seed, epoch, index),
        fill=tuple(round(255 * channel) for channel in preprocessing.mean),
    )
