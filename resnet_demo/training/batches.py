"""The images of a run on its device, cut into batches by functions of seed, epoch and step."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from resnet_demo.config import TrainConfig
from resnet_demo.data.augment import augment, mirror_mask, permutation
from resnet_demo.data.image_sizes import image_size_at, image_sizes
from resnet_demo.data.preprocess import Preprocessing, preprocessing_for
from resnet_demo.data.splits import config_split, steps_per_epoch
from resnet_demo.data.store import Datasets, check_data
from resnet_demo.errors import ConfigError
from resnet_demo.inference.predict import EVALUATION_PIXELS

MIN_IMAGES_PER_RANK = 2  # images a rank: BatchNorm cannot normalize over one value


@dataclass(frozen=True)
class EpochPlan:
    """An epoch's order of the training images, (N,) int64, and which it mirrors, (N,) bool."""

    epoch: int
    order: Tensor
    mirror: Tensor


@dataclass(frozen=True)
class Batches:
    """Train and validation images, (N, H, W, 3) uint8, with labels (N,) int64, on one device.

    Of `ranks` processes that train together each has all the images, and in every step works on
    its own share of the batch: `rank` says which.
    """

    config: TrainConfig
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    train_images: Tensor
    train_labels: Tensor
    val_images: Tensor
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
    ) -> "Batches":
        """Split the training images as the config says and put them on the device.

        Raises as `check_data` and `check_shares`.
        """
        info = check_data(config, datasets)
        images, labels = datasets.load(config.dataset, "train")
        train, val = config_split(len(labels), config)
        check_rank_batches(len(train), config.batch_size, ranks)

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
            rank,
            ranks,
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

    def plan(self, epoch: int) -> EpochPlan:
        """What the epoch (from 1) does with the training images, on their device."""
        n, seed = len(self.train_labels), self.config.seed
        order, mirror = permutation(n, seed, epoch), mirror_mask(n, seed, epoch)
        device = self.train_labels.device
        return EpochPlan(epoch, order.to(device), mirror.to(device))

    def positions(self, index: int) -> range:
        """Where in an epoch's order batch number `index` (from 0) lies, over all ranks."""
        return batch_positions(index, len(self.train_labels), self.config.batch_size)

    def first_images(self, count: int) -> Tensor:
        """At most so many of the training images, as they are: (b, 3, S, S) float32."""
        return self.preprocessing.prepare(self.train_images[:count])

    def train_batch(self, plan: EpochPlan, index: int) -> tuple[Tensor, Tensor]:
        """This rank's share of batch number `index` (from 0) of an epoch.

        (b, 3, S, S) float32, S as `side` says, and (b,) labels. It is shown as it would be shown to
        one rank alone.
        """
        batch = self.positions(index)
        mine = rank_share(len(batch), self.rank, self.ranks)
        chosen = plan.order[batch.start : batch.stop][mine]
        images = augment_batch(
            self.config, self.preprocessing, self.train_images[chosen], plan.mirror[chosen],
            plan.epoch, index, len(batch), mine,
        )  # fmt: skip
        side = self.image_size_at((plan.epoch - 1) * self.steps_per_epoch + index)
        shown = replace(self.preprocessing, image_size=side)
        return shown.prepare(images), self.train_labels[chosen]

    def image_size_at(self, step: int) -> int:
        """Pixels, the side of the training images in update number `step` (from 0)."""
        return image_size_at(
            image_sizes(self.config), step, self.config.epochs * self.steps_per_epoch
        )


def batch_positions(index: int, images: int, batch_size: int) -> range:
    """Places, from 0, in an epoch's order of so many images, of batch number `index` (from 0)."""
    return range(index * batch_size, min((index + 1) * batch_size, images))


def rank_share(images: int, rank: int, ranks: int) -> slice:
    """Which of so many images are a rank's: an unbroken part, as long as any other's or by one."""
    return slice(images * rank // ranks, images * (rank + 1) // ranks)


def check_rank_batches(images: int, batch_size: int, ranks: int) -> None:
    """Raises ConfigError where a step would leave a rank fewer than MIN_SHARE images."""
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
    epoch: int,
    index: int,
    batch_size: int,
    places: Tensor | slice,
) -> Tensor:
    """Images of batch number `index` (from 0) as its epoch draws it; (b, H, W, 3) uint8 in and out.

    mirror: (b,) bool, of the epoch's `mirrored`. What is drawn for an image depends on its place
    in the batch, from 0, and on how many the batch has.
    """
    return augment(
        images,
        mirror=mirror if config.flip else None,
        crop=config.crop,
        cutout=config.cutout,
        generator_seed=(config.seed, epoch, index),
        fill=tuple(round(255 * channel) for channel in preprocessing.mean),
        batch_size=batch_size,
        positions=places,
    )
