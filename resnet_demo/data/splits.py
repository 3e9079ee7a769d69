"""The split of the training images into a part to train on and a part for validation."""

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


def config_split(n: int, config: TrainConfig, stored_val: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return `split_indices` of a config; train is cut to its first `train_images`.

    stored_val: images of the dataset's own validation split. Where it has one, none of the n
    training images is held out. With val_share 0, val is train.
    """
    train, val = split_indices(n, 0.0 if stored_val else config.val_share, config.seed)
    train = train[: config.train_images or None]
    return train, val if config.val_share or stored_val else train


def split_sizes(config: TrainConfig, images: int, stored_val: int = 0) -> tuple[int, int]:
    """Return the numbers of images to train on and for validation, as `config_split` has them."""
    if stored_val or not config.val_share:
        train = min(images, config.train_images or images)
        return train, stored_val or train
    val = max(1, int(images * config.val_share))
    train = images - val
    return min(train, config.train_images or train), val


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Return the number of updates in an epoch of so many training images.

    The last batch may be smaller. A batch of one image is dropped, because BatchNorm cannot
    normalize over one value.
    """
    full, rest = divmod(images, batch_size)
    return full + (rest > 1)
