"""Which training images are kept aside for validation, and which are trained on."""

import numpy as np

from resnet_demo.config import TrainConfig


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


def split_of(n: int, config: TrainConfig) -> tuple[np.ndarray, np.ndarray]:
    """`split_indices` as a config has it: of the training split the first `train_images`."""
    train, val = split_indices(n, config.val_share, config.seed)
    return train[: config.train_images or None], val
