"""The images of a run on its device, cut into batches by functions of seed, epoch and step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from resnet_demo.config import TrainConfig
from resnet_demo.data.augment import augment, permutation
from resnet_demo.data.preprocess import Preprocessing, preprocessing_for
from resnet_demo.data.rules import check_data
from resnet_demo.data.splits import split_indices
from resnet_demo.data.store import Datasets

EVALUATION_PIXELS = 500 * 32 * 32  # a validation batch of 500 small images, or 10 of 224 pixels


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
        """Updates an epoch: every image once, the last batch a smaller one.

        A single image left over is left out: BatchNorm cannot normalize over one value.
        """
        full, rest = divmod(len(self.train_labels), self.config.batch_size)
        return full + (rest > 1 or (self.config.batch_size == 1 and rest > 0))

    @property
    def val_batch_size(self) -> int:
        """As the article validates, in batches of training size; else as memory allows."""
        if self.config.validate_in_training_mode:
            return self.config.batch_size
        return max(1, EVALUATION_PIXELS // self.config.image_size**2)

    def order(self, epoch: int) -> Tensor:
        """The epoch's permutation of the training images, (N,) int64 on the device."""
        order = permutation(len(self.train_labels), self.config.seed, epoch)
        return order.to(self.train_labels.device)

    def train_batch(self, order: Tensor, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """Batch number `index` (from 0) of an epoch: (B, 3, S, S) float32, and (B,) labels."""
        config = self.config
        chosen = order[index * config.batch_size : (index + 1) * config.batch_size]
        mean = self.preprocessing.mean
        images = augment(
            self.train_images[chosen],
            flip=config.flip,
            crop=config.crop,
            cutout=config.cutout,
            generator_seed=(config.seed, epoch, index),
            fill=tuple(round(255 * channel) for channel in mean),
        )
        return self.preprocessing.prepare(images), self.train_labels[chosen]
