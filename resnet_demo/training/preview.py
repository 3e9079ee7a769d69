"""What a run would show its network, before there is a run: the pictures of a few places.

Order, augmentation and resizing are the functions that training calls, at the place where training
calls them; of the images themselves only the few are read. On the CPU: a GPU is left to the runs.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from resnet_demo.config import TrainConfig
from resnet_demo.data.augment import mirror_mask, permutation
from resnet_demo.data.image_sizes import image_size_at, image_sizes
from resnet_demo.data.preprocess import Preprocessing, preprocessing_for
from resnet_demo.data.splits import config_split, steps_per_epoch
from resnet_demo.data.store import DatasetInfo, Datasets, check_data
from resnet_demo.training.batches import augment_batch, batch_positions

PAGE_SIZE = 8  # images on a page


@dataclass(frozen=True)
class Preview:
    """A page of the training images, as they are stored and as one epoch shows them.

    stored: (n, H, W, 3) uint8; shown: n of (S, S, 3) uint8, normalization undone, S growing with
    the steps where the run says so. steps: where in the epoch each image comes, from 1; None for
    the one that the epoch leaves out. first: the page's first place, from 0, in the order of
    epoch 1.
    """

    info: DatasetInfo
    stored: np.ndarray
    shown: list[np.ndarray]
    labels: tuple[str, ...]
    steps: tuple[int | None, ...]
    epoch: int
    first: int


def preview(config: TrainConfig, datasets: Datasets, epoch: int = 1, page: int = 0) -> Preview:
    """Page number `page` (from 0) of epoch 1's order, as epoch number `epoch` (from 1) shows it.

    Beyond the last page or epoch, counting starts again at the first. Raises as `check_data`, and
    DamagedError.
    """
    info = check_data(config, datasets)
    images, labels = datasets.load(config.dataset, "train")
    train, _ = config_split(len(labels), config)
    epoch = (epoch - 1) % config.epochs + 1
    first = PAGE_SIZE * (page % -(-len(train) // PAGE_SIZE))
    chosen = permutation(len(train), config.seed, 1)[first : first + PAGE_SIZE].numpy()
    places = permutation(len(train), config.seed, epoch).argsort().numpy()[chosen]
    stored = np.array(images[train[chosen]])
    preprocessing = preprocessing_for(info, config.image_size, config.per_image_std)
    mirror = mirror_mask(len(train), config.seed, epoch)[chosen]
    drawn = augment_at_positions(config, preprocessing, stored, mirror, epoch, places, len(train))
    indices, last = places // config.batch_size, steps_per_epoch(len(train), config.batch_size)
    before, whole = (epoch - 1) * last, config.epochs * last
    sized = [image_size_at(image_sizes(config), before + index, whole) for index in indices]
    return Preview(
        info,
        stored,
        [
            to_pixels(replace(preprocessing, image_size=side), one)
            for side, one in zip(sized, drawn.split(1), strict=True)
        ],
        tuple(info.classes[label] for label in labels[train[chosen]]),
        tuple(int(index) + 1 if index < last else None for index in indices),
        epoch,
        first,
    )


def augment_at_positions(
    config: TrainConfig,
    preprocessing: Preprocessing,
    images: np.ndarray,
    mirror: Tensor,
    epoch: int,
    places: np.ndarray,
    n: int,
) -> Tensor:
    """Images (B, H, W, 3) uint8, each augmented as at its place in the epoch's order of n images.

    The rest of each one's batch is not needed: only how many there are has a say in what is drawn.
    """
    drawn, indices = torch.from_numpy(images.copy()), places // config.batch_size
    for index in set(indices.tolist()):
        here = np.flatnonzero(indices == index)
        batch = batch_positions(index, n, config.batch_size)
        drawn[here] = augment_batch(
            config, preprocessing, drawn[here], mirror[here], epoch, index,
            len(batch), torch.from_numpy(places[here] - batch.start),
        )  # fmt: skip
    return drawn


def to_pixels(preprocessing: Preprocessing, image: Tensor) -> np.ndarray:
    """What `prepare` makes of it, normalization undone: (1, H, W, 3) -> (S, S, 3), both uint8."""
    [x] = preprocessing.prepare(image)
    mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
    pixels = (x.permute(1, 2, 0) * std + mean) * 255
    return pixels.round().clamp(0, 255).to(torch.uint8).numpy()
