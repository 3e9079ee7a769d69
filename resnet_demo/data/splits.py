"""Which training images are kept aside for validation, and which are trained on."""

import numpy as np

from resnet_demo.config import TrainConfig
from resnet_demo.errors import ConfigError, one_of

SPLITS = ("test", "val", "train")


def split_indices(n: int, val_share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Shuffled indices 0 to n-1, cut in two: (train, val), int64. No global state is touched.

    The tutorial's own split: `np.random.seed(seed)`, `np.random.shuffle(indices)`, and the first
    floor(val_share * n) are validation. Beyond it, for small n: validation has at least one
    index where val_share > 0, and train keeps at least one.
    """
    indices = np.arange(n, dtype=np.int64)
    np.random.RandomState(seed).shuffle(indices)  # the legacy generator: its stream never changes
    val = int(np.floor(val_share * n))
    if val_share > 0:
        val = max(val, 1)
    val = max(0, min(val, n - 1))
    return indices[val:], indices[:val]


def config_split(n: int, config: TrainConfig) -> tuple[np.ndarray, np.ndarray]:
    """`split_indices` as a config has it: of the training split the first `train_images`."""
    train, val = split_indices(n, config.val_share, config.seed)
    return train[: config.train_images or None], val


def check_split(split: str) -> str:
    """The split, if there is one of that name. Raises ConfigError."""
    if split not in SPLITS:
        raise ConfigError.rule("split", one_of(SPLITS), split)
    return split


def split_sizes(config: TrainConfig, images: int) -> tuple[int, int]:
    """How many of so many training images are trained on, and how many are for validation."""
    val = max(1, int(images * config.val_share))
    left = images - val
    return min(left, config.train_images or left), val


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Return the number of updates in an epoch of so many training images.

    The last batch may be smaller. A batch of one image is dropped, because BatchNorm cannot
    normalize over one value.
    """
    full, rest = divmod(images, batch_size)
    return full + (rest > 1)
