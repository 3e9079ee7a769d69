"""The images of a run on its device, and its batches as a function of seed, epoch and step."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from resnet_demo.config import TrainConfig
from resnet_demo.data.augment import augment, mirror_mask, permutation
from resnet_demo.data.image_sizes import image_size_at, image_sizes
from resnet_demo.data.preprocess import Preprocessing, preprocessing_for
from resnet_demo.data.recipe_fit import check_data
from resnet_demo.data.splits import steps_per_epoch
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError
from resnet_demo.inference.predict import MappedImages, evaluation_batch_size
from resnet_demo.runs.weights import InitialWeights

MIN_IMAGES_PER_RANK = 2  # BatchNorm cannot normalize over one value


@dataclass(frozen=True)
class EpochPlan:
    """An epoch's order of the training images, (N,) int64, and which are mirrored, (N,) bool."""

    epoch: int
    order: Tensor
    mirror: Tensor


@dataclass(frozen=True)
class Batches:
    """Train and validation images, (N, H, W, 3) uint8, and labels, (N,) int64, on one device.

    On a CPU the images stay on the disk, and only those of a batch are read. With several ranks
    each one has all the images, and takes its own share of every batch.
    """

    config: TrainConfig
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    train_images: Tensor | MappedImages
    train_labels: Tensor
    val_images: Tensor | MappedImages
    val_labels: Tensor
    rank: int = 0
    ranks: int = 1

    @classmethod
    def load(
        cls,
        config: TrainConfig,
        datasets: Datasets,
        device: torch.device,
        rank: int = 0,
        ranks: int = 1,
        initial: InitialWeights | None = None,
    ) -> "Batches":
        """Open the images to train on and those for validation, for the device.

        initial: the weights that training starts from, which need their own normalization.
        Raises as `check_data` and `check_rank_batches`.
        """
        info = check_data(config, datasets)
        images, labels, train = datasets.load_split(config, "train")
        val_images, val_labels, val = datasets.load_split(config, "val")
        # Before the images are put on the device, which takes long for a large dataset.
        if config.train_layers != "head":
            check_rank_batches(len(train), config.batch_size, ranks)

        def on_device(array: np.ndarray, positions: np.ndarray) -> Tensor | MappedImages:
            if device.type == "cpu":
                return MappedImages(array, positions)
            return torch.from_numpy(array[positions]).to(device)

        preprocessing = preprocessing_for(info, config.image_size, config.per_image_std)
        # Weights expect the normalization that they were learned with: other numbers cost points.
        if initial is not None:
            preprocessing = replace(preprocessing, mean=initial.mean, std=initial.std)
        return cls(
            config=config,
            classes=info.classes,
            preprocessing=preprocessing,
            train_images=on_device(images, train),
            train_labels=torch.from_numpy(labels[train]).to(device),
            val_images=on_device(val_images, val),
            val_labels=torch.from_numpy(val_labels[val]).to(device),
            rank=rank,
            ranks=ranks,
        )

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of updates in an epoch; a head is fitted to all images at once."""
        if self.config.train_layers == "head":
            return 1
        return steps_per_epoch(len(self.train_labels), self.config.batch_size)

    @property
    def val_batch_size(self) -> int:
        """Return the batch size for validation: as memory allows."""
        if self.config.validate_in_training_mode:
            return self.config.batch_size  # as the tutorial does: here it changes the result
        return evaluation_batch_size(self.preprocessing)

    def plan(self, epoch: int) -> EpochPlan:
        """Return order and mirroring of the training images in an epoch (from 1), on the device."""
        n, seed = len(self.train_labels), self.config.seed
        # drawn on the CPU, so that the order is the same on every device
        order, mirror = permutation(n, seed, epoch), mirror_mask(n, seed, epoch)
        device = self.train_labels.device
        return EpochPlan(epoch, order.to(device), mirror.to(device))

    def positions(self, index: int) -> range:
        """Return the positions of batch `index` (from 0) in an epoch's order, over all ranks."""
        return batch_positions(index, len(self.train_labels), self.config.batch_size)

    def first_images(self, count: int) -> Tensor:
        """Return up to `count` training images without augmentation: (b, 3, S, S) float32."""
        return self.preprocessing.prepare(self.train_images[:count])

    def train_batch(self, plan: EpochPlan, index: int) -> tuple[Tensor, Tensor]:
        """Return this rank's share of batch `index` (from 0) of an epoch.

        (b, 3, S, S) float32, S from `image_size_at`, and (b,) labels. The pixels do not depend on
        the number of ranks.
        """
        batch = self.positions(index)
        mine = rank_share(len(batch), self.rank, self.ranks)
        chosen = plan.order[batch.start : batch.stop][mine]
        # at the stored size, for which crop and cutout are given in pixels
        images = augment_batch(
            self.config,
            self.preprocessing,
            self.train_images[chosen],
            plan.mirror[chosen],
            epoch=plan.epoch,
            index=index,
            batch_size=len(batch),
            positions=mine,
        )
        # From the step's number, not from a counter: a resumed run sees the same sizes.
        size = self.image_size_at((plan.epoch - 1) * self.steps_per_epoch + index)
        preprocessing = replace(self.preprocessing, image_size=size)
        return preprocessing.prepare(images), self.train_labels[chosen]

    def image_size_at(self, step: int) -> int:
        """Return the side of the training images in update number `step` (from 0), in pixels."""
        total = self.config.epochs * self.steps_per_epoch
        return image_size_at(image_sizes(self.config), step, total)


def batch_positions(index: int, images: int, batch_size: int) -> range:
    """Return the positions of batch `index` in an epoch's order of `images`; both from 0."""
    return range(index * batch_size, min((index + 1) * batch_size, images))


def rank_share(n: int, rank: int, ranks: int) -> slice:
    """Return a rank's part of n items: contiguous; the parts differ by one item at most."""
    return slice(n * rank // ranks, n * (rank + 1) // ranks)  # whole numbers: the parts cover all n


def check_rank_batches(images: int, batch_size: int, ranks: int) -> None:
    """Raise ConfigError if a step would leave a rank fewer than MIN_IMAGES_PER_RANK images."""
    if ranks == 1:
        return
    last = batch_positions(steps_per_epoch(images, batch_size) - 1, images, batch_size)
    if len(last) < MIN_IMAGES_PER_RANK * ranks:
        rule = (
            f"such that every step has {MIN_IMAGES_PER_RANK} images for each of {ranks} devices "
            f"(of {images} images it leaves {len(last)} for the last step of an epoch)"
        )
        raise ConfigError.rule("batch_size", rule, batch_size)


def augment_batch(
    config: TrainConfig,
    preprocessing: Preprocessing,
    images: Tensor,
    mirror: Tensor,
    *,
    epoch: int,
    index: int,
    batch_size: int,
    positions: Tensor | slice,
) -> Tensor:
    """Augment images of batch `index` (from 0) of an epoch; (b, H, W, 3) uint8 in and out.

    mirror: (b,) bool. positions: of the images in the batch, from 0. What is drawn for an image
    depends on its position and on the size of the whole batch.
    """
    return augment(
        images,
        mirror=mirror if config.flip else None,
        crop=config.crop,
        cutout=config.cutout,
        crop_area=config.crop_area,
        rotation=config.rotation,
        colour_jitter=config.colour_jitter,
        generator_seed=(config.seed, epoch, index),
        # The mean colour: after normalization it is 0, which adds nothing to a convolution.
        fill=tuple(round(255 * channel) for channel in preprocessing.mean),
        batch_size=batch_size,
        positions=positions,
    )
