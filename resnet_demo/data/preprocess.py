"""Preprocessing from stored pixels to a network's input, for training, evaluation and uploads.

Its parameters travel with the weights, so that a network sees a picture as it saw those it
learned from.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_demo.data.info import DatasetInfo, Triple
from resnet_demo.data.pictures import FITS, fit_to_square
from resnet_demo.errors import DamagedError

ARTICLE_MEAN = (0.4914, 0.4822, 0.4465)
ARTICLE_STD = (0.2023, 0.1994, 0.2010)  # the tutorial's: the mean of per-image deviations
CIFAR_STD = (0.2470, 0.2435, 0.2616)  # of all training pixels
CHUNK_PIXELS = 2**21  # of stored images that are floats at the same time on a CPU, 25 MB
MAX_SIDE = 4096  # pixels; no network here was trained on larger images


@dataclass(frozen=True)
class Preprocessing:
    """Sizes in pixels (stored and shown to the network), mean and std on the 0..1 scale.

    fit: how the dataset's pictures were made square, one of `data.pictures.FITS`.
    """

    source_size: int
    image_size: int
    mean: Triple
    std: Triple
    fit: str = "crop"

    def to_dict(self) -> dict[str, Any]:
        """Return field name -> value, ready for JSON."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Any) -> "Preprocessing":
        """Return the preprocessing from `to_dict`'s values. Raises DamagedError for any others."""
        try:
            sizes = [values[name] for name in ("source_size", "image_size")]
            mean, std = (tuple(map(float, values[name])) for name in ("mean", "std"))
            fit = values.get("fit", "crop")  # older versions cropped every picture
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise DamagedError("the preprocessing is incomplete") from error
        valid = (
            all(type(size) is int and 0 < size <= MAX_SIDE for size in sizes)  # True is an int too
            and len(mean) == len(std) == 3
            and all(map(math.isfinite, mean + std))
            and min(std) > 0
            and fit in FITS
        )
        if not valid:
            raise DamagedError("the preprocessing has invalid values")
        return cls(*sizes, mean, std, fit)

    def prepare(self, images: Tensor) -> Tensor:
        """Return images (B, H, W, 3) uint8 resized and normalized: (B, 3, S, S) float32.

        S is image_size; memory is channels last. The resize is PIL's, bilinear and antialiased,
        without its rounding to integers: from 32 to 224 pixels the two differ by 0.27 of 255 on
        average over CIFAR-10's test images.
        """
        side, shrinks = self.image_size, self.image_size < min(images.shape[1:3])
        step = max(1, CHUNK_PIXELS // (images.shape[1] * images.shape[2]))  # at least one image
        if shrinks and images.device.type == "cpu" and step < len(images):
            # In parts: as floats, large images take many times the memory of the result.
            parts = [self.prepare(part) for part in images.split(step)]
            return torch.cat(parts).contiguous(memory_format=torch.channels_last)
        x = self._normalize(images).permute(0, 3, 1, 2)  # a view: channels stay last in memory
        if x.shape[2:] != (side, side):
            # Resize after normalizing: the two commute, and from 32 to 224 pixels normalizing
            # first handles 49 times fewer numbers. Antialiasing has no effect where an image
            # grows, but takes time.
            x = F.interpolate(x, (side, side), mode="bilinear", antialias=shrinks)
        return x.contiguous(memory_format=torch.channels_last)

    def _normalize(self, images: Tensor) -> Tensor:
        """Return images (B, H, W, 3) as normalized float32."""
        # Works on whole rows: six times faster than broadcasting over groups of three channels.
        width = images.shape[2]
        std = torch.tensor(self.std)
        affine = torch.stack((1 / (255 * std), torch.tensor(self.mean) / std)).repeat(1, width)
        # non_blocking: a blocking copy would make the host wait until the device is idle.
        scale, shift = affine.to(images.device, non_blocking=True)
        rows = images.reshape(*images.shape[:2], width * 3).float()
        return rows.mul_(scale).sub_(shift).view(images.shape)

    def fit_picture(self, rgb: np.ndarray, fit: str | None = None) -> np.ndarray:
        """Return an upload (H, W, 3) uint8 as a dataset stores it: (source_size, source_size, 3).

        fit: one of `data.pictures.FITS`; None: as the dataset's own pictures were made square.
        Raises ConfigError for another.
        """
        return fit_to_square(rgb, self.source_size, fit or self.fit)


def preprocessing_for(
    info: DatasetInfo, image_size: int, per_image_std: bool = False
) -> Preprocessing:
    """Return the preprocessing of a dataset: published numbers for cifar10, measured for others.

    per_image_std: reproduce the tutorial's fault, the mean of per-image deviations as std.
    """
    # Rounded to four digits, as published: results are compared with those of others.
    if info.name == "cifar10":
        mean, std = ARTICLE_MEAN, ARTICLE_STD if per_image_std else CIFAR_STD
    else:
        mean, std = info.mean, info.per_image_std if per_image_std else info.std
    return Preprocessing(info.size, image_size, mean, std, info.fit)
