"""Datasets, splits, augmentation and the preprocessing of pictures.

The package itself imports no torch, so that the app can list datasets before torch is loaded.
"""

from resnet_demo.data.splits import split_indices

__all__ = ["split_indices"]
