"""Training images as a run would show them to its network, before there is a run.

Order, augmentation and resizing are the functions that training calls, with the same arguments, for
the images of one page only. On the CPU: a GPU is left to the runs.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from resnet_demo.config import TrainConfig
from resnet_demo.data.augment import mirror_mask, permutation
from resnet_demo.data.image_sizes import image_size_at, image_sizes
from resnet_demo.data.info import DatasetInfo
from resnet_demo.data.preprocess import Preprocessing, preprocessing_for
from resnet_demo.data.recipe_fit import check_data
from resnet_demo.data.splits import steps_per_epoch
from resnet_demo.data.store import Datasets
from resnet_demo.training.batches import augment_batch, batch_positions

PAGE_SIZE = 8  # images


@dataclass(frozen=True)
class Preview:
    """A page of training images, as stored and as one epoch shows them.

    stored: (n, H, W, 3) uint8. shown: n of (S, S, 3) uint8, augmented and resized, not normalized;
    S depends on the step if the images grow. steps: the step of each image in the epoch, from 1;
    None for an image that the epoch leaves out. first: position of the page in the order of epoch
    1, from 0.
    """

    info: DatasetInfo
    stored: np.ndarray
    shown: list[np.ndarray]
    labels: tuple[str, ...]
    steps: tuple[int | None, ...]
    epoch: int
    first: int


def preview(config: TrainConfig, datasets: Datasets, epoch: int = 1, page: int = 0) -> Preview:
    """Return a page (from 0) of epoch 1's order, as epoch number `epoch` (from 1) shows it.

    After the last page or epoch the first one follows. Raises as `check_data`, and DamagedError.
    """
    info = check_data(config, datasets)
    images, labels, train = datasets.load_split(config, "train")
    n = len(train)
    epoch = (epoch - 1) % config.epochs + 1
    pages = -(-n // PAGE_SIZE)  # rounded up
    first = PAGE_SIZE * (page % pages)
    # Always by epoch 1's order, so that a page shows the same images in every epoch.
    chosen = permutation(n, config.seed, 1)[first : first + PAGE_SIZE].numpy()
    # the inverse permutation: position of each image in this epoch's order
    positions = permutation(n, config.seed, epoch).argsort().numpy()[chosen]
    mirror = mirror_mask(n, config.seed, epoch)[chosen]
    stored = np.array(images[train[chosen]])  # a copy: the images are mapped
    preprocessing = preprocessing_for(info, config.image_size, config.per_image_std)
    augmented = augment_at_positions(config, preprocessing, stored, mirror, epoch, positions, n)

    per_epoch = steps_per_epoch(n, config.batch_size)
    indices = positions // config.batch_size  # of batches in the epoch, from 0
    done, total = (epoch - 1) * per_epoch, config.epochs * per_epoch
    sizes = [image_size_at(image_sizes(config), done + index, total) for index in indices]
    return Preview(
        info=info,
        stored=stored,
        shown=[
            to_pixels(replace(preprocessing, image_size=size), image)
            for size, image in zip(sizes, augmented.split(1), strict=True)
        ],
        labels=tuple(info.classes[label] for label in labels[train[chosen]]),
        steps=tuple(int(index) + 1 if index < per_epoch else None for index in indices),
        epoch=epoch,
        first=first,
    )


def augment_at_positions(
    config: TrainConfig,
    preprocessing: Preprocessing,
    images: np.ndarray,
    mirror: Tensor,
    epoch: int,
    positions: np.ndarray,
    n: int,
) -> Tensor:
    """Augment each image as at its position in the epoch's order of n images.

    (B, H, W, 3) uint8 in and out. The other images of a batch are not needed: augmentation depends
    on their number only.
    """
    augmented, indices = torch.from_numpy(images.copy()), positions // config.batch_size
    for index in set(indices.tolist()):
        in_batch = np.flatnonzero(indices == index)
        batch = batch_positions(index, n, config.batch_size)
        augmented[in_batch] = augment_batch(
            config,
            preprocessing,
            augmented[in_batch],
            mirror[in_batch],
            epoch=epoch,
            index=index,
            batch_size=len(batch),
            positions=torch.from_numpy(positions[in_batch] - batch.start),
        )
    return augmented


def to_pixels(preprocessing: Preprocessing, image: Tensor) -> np.ndarray:
    """Return what `prepare` makes of an image, with normalization undone.

    (1, H, W, 3) -> (S, S, 3), both uint8.
    """
    [x] = preprocessing.prepare(image)
    mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
    pixels = (x.permute(1, 2, 0) * std + mean) * 255
    return pixels.round().clamp(0, 255).to(torch.uint8).numpy()
