"""Datasets, splits, augmentation and what happens to a picture before a network sees it.

No torch here: the app lists datasets before torch is wanted.
"""

from resnet_demo.data.splits import split_indices

__all__ = ["split_indices"]
