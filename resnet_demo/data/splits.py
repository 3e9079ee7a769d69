"""The split of the training images into a part to train on and a part for validation; folds."""

import math
from collections.abc import Sequence

import numpy as np

from resnet_demo.config import TrainConfig
from resnet_demo.errors import ConfigError, one_of

SPLITS = ("test", "val", "train")


def check_split(split: str) -> str:
    """Return the name of a split. Raises ConfigError for any other."""
    if split not in SPLITS:
        raise ConfigError.rule("split", one_of(SPLITS), split)
    return split


def split_indices(n: int, val_share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices 0 to n-1, shuffled and cut in two: (train, val), int64.

    This is the tutorial's split: `np.random.seed(seed)`, `np.random.shuffle(indices)`, and the
    first floor(val_share * n) are validation. For small n there is one addition: validation has at
    least one index where val_share > 0, and train keeps at least one.
    """
    indices = np.arange(n, dtype=np.int64)
    # The legacy generator: its stream never changes, and the global one is left alone.
    np.random.RandomState(seed).shuffle(indices)
    val = int(np.floor(val_share * n))
    if val_share > 0:
        val = max(val, 1)
    val = max(0, min(val, n - 1))
    return indices[val:], indices[:val]


def stratified_split(
    labels: np.ndarray, val_share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the labels (N,), shuffled and cut in two: (train, val), int64.

    Each class gives `held_out_counts` of its images to validation. Where no class can give one, the
    split is `split_indices`.
    """
    # Counted before the shuffle: the sizes of a split do not depend on its seed.
    held_out = np.array(held_out_counts(np.bincount(labels).tolist(), val_share), np.int64)
    if not held_out.any():
        return split_indices(len(labels), val_share, seed)
    order, _ = split_indices(len(labels), 0.0, seed)
    ranks = class_ranks(labels[order])
    # The first images of each class in the shuffled order: within a class, the choice is random.
    is_held_out = ranks < held_out[labels[order]]
    return order[~is_held_out], order[is_held_out]


def class_ranks(labels: np.ndarray) -> np.ndarray:
    """Return for each label (N,) how many equal ones stand before it, (N,) int64."""
    by_class, counts = np.argsort(labels, kind="stable"), np.bincount(labels)
    ranks = np.empty(len(labels), np.int64)
    ranks[by_class] = np.arange(len(labels)) - np.repeat(counts.cumsum() - counts, counts)
    return ranks


def held_out_counts(counts: Sequence[int], val_share: float) -> list[int]:
    """Return how many images of each class a stratified split holds out.

    The share of the class's images, rounded; at least one, but none of a class with one image.
    """
    if not val_share:
        return [0] * len(counts)
    return [min(max(int(n * val_share + 0.5), 1), max(n - 1, 0)) for n in counts]  # halves go up


def take_of_each_class(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return a mask (N,) that takes this share of each class, rounded up, at random."""
    order, _ = split_indices(len(labels), 0.0, seed)
    mask = np.zeros(len(labels), bool)
    for number in np.unique(labels):
        places = order[labels[order] == number]
        mask[places[: math.ceil(share * len(places))]] = True
    return mask


def fold_numbers(labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return the fold of each label, (N,) int64 from 0; each fold has its share of every class."""
    order, _ = split_indices(len(labels), 0.0, seed)
    order = order[labels[order].argsort(kind="stable")]
    numbers = np.empty(len(labels), np.int64)
    # Dealt like cards, class after class: the folds of each class differ by one image at most.
    numbers[order] = np.arange(len(labels)) % folds
    return numbers


def config_split(
    n: int, config: TrainConfig, stored_val: int = 0, labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the split of a config; train is cut to its first `train_images`.

    With `stratify`, these are as many of each class, as far as it has them. The split is
    `split_indices`, or `stratified_split` where the config says so, which needs the labels (N,).
    stored_val: images of the dataset's own validation split. Where it has one, none of the n
    training images is held out. With val_share 0, val is train.
    """
    share = 0.0 if stored_val else config.val_share
    if config.stratify and share:
        train, val = stratified_split(labels, share, config.seed)
    else:
        train, val = split_indices(n, share, config.seed)
    if config.stratify and config.train_images and labels is not None:
        # By rank within the class: first one image of each class, then a second one of each, and so
        # on.
        first = np.argsort(class_ranks(labels[train]), kind="stable")[: config.train_images]
        train = train[np.sort(first)]  # in the shuffled order
    train = train[: config.train_images or None]
    # Without held-out images the training images serve: their accuracy is better than none.
    return train, val if config.val_share or stored_val else train


def split_sizes(
    config: TrainConfig, images: int, stored_val: int = 0, counts: Sequence[int] | None = None
) -> tuple[int, int]:
    """Return the numbers of images to train on and for validation, as `config_split` has them.

    counts: training images of each class. Without them, the sizes of a stratified split may be some
    images off.
    """
    if stored_val or not config.val_share:
        train = min(images, config.train_images or images)
        return train, stored_val or train
    val = sum(held_out_counts(counts, config.val_share)) if config.stratify and counts else 0
    # As `split_indices` does where no class can give an image.
    val = val or max(1, int(images * config.val_share))
    train = images - val
    return min(train, config.train_images or train), val


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Return the number of updates in an epoch of so many training images.

    The last batch may be smaller. A batch of one image is dropped, because BatchNorm cannot
    normalize over one value.
    """
    full, rest = divmod(images, batch_size)
    return full + (rest > 1)  # a rest of one image is dropped
