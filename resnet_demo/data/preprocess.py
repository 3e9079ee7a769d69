"""From stored pixels to what a network is shown: one function for training, evaluation, uploads.

Its parameters travel with the weights: a network sees a picture as it saw those it learned from.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_demo.data.info import DatasetInfo, Triple
from resnet_demo.data.pictures import fit_to_square
from resnet_demo.errors import DamagedError

ARTICLE_MEAN = (0.4914, 0.4822, 0.4465)
ARTICLE_STD = (0.2023, 0.1994, 0.2010)  # the mean of per-image deviations, taken for the pixels'
CIFAR_STD = (0.2470, 0.2435, 0.2616)
MAX_SIDE = 4096  # pixels; more is no side of an image that a network here was trained on


@dataclass(frozen=True)
class Preprocessing:
    """source_size and image_size in pixels, stored and shown; mean and std on the 0..1 scale."""

    source_size: int
    image_size: int
    mean: Triple
    std: Triple

    def to_dict(self) -> dict[str, Any]:
        """Field name -> value, ready for JSON."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Any) -> "Preprocessing":
        """The opposite of `to_dict`. Raises DamagedError for what it never wrote."""
        try:
            sides = [values[name] for name in ("source_size", "image_size")]
            mean, std = (tuple(map(float, values[name])) for name in ("mean", "std"))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DamagedError("the preprocessing is incomplete") from error
        sound = (
            all(type(side) is int and 0 < side <= MAX_SIDE for side in sides)
            and len(mean) == len(std) == 3
            and all(map(math.isfinite, mean + std))
            and min(std) > 0
        )
        if not sound:
            raise DamagedError("the preprocessing makes no sense")
        return cls(*sides, mean, std)

    def prepare(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 -> (B, 3, image_size, image_size) normalized, channels last in memory.

        Resized as PIL does, bilinear and antialiased, but for its rounding to whole numbers:
        from 32 to 224 pixels the two differ by 0.27 of 255 on average over CIFAR-10's test images.
        """
        side, shrinks = self.image_size, self.image_size < min(images.shape[1:3])
        x = self._normalized(images).permute(0, 3, 1, 2)  # a view: channels stay last in memory
        if x.shape[2:] != (side, side):
            # after normalizing, which it commutes with: 49 times fewer numbers at 32 to 224.
            # Antialiasing changes nothing where an image grows, but takes longer.
            x = F.interpolate(x, (side, side), mode="bilinear", antialias=shrinks)
        return x.contiguous(memory_format=torch.channels_last)

    def _normalized(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) float32. By whole rows: six times faster than by threes of channels."""
        width = images.shape[2]
        std = torch.tensor(self.std)
        affine = torch.stack((1 / (255 * std), torch.tensor(self.mean) / std)).repeat(1, width)
        # not waiting: a copy that waits would hold the host up until the device has nothing to do
        scale, shift = affine.to(images.device, non_blocking=True)
        rows = images.reshape(*images.shape[:2], width * 3).float()
        return rows.mul_(scale).sub_(shift).view(images.shape)

    def fit_picture(self, rgb: np.ndarray, fit: str = "crop") -> np.ndarray:
        """An upload (H, W, 3) uint8 as the dataset would store it: (source_size, source_size, 3).

        fit: one of `data.pictures.FITS`; `crop` is how the dataset's own pictures were made square.
        Raises ConfigError for another.
        """
        return fit_to_square(rgb, self.source_size, fit)


def preprocessing_for(
    info: DatasetInfo, image_size: int, per_image_std: bool = False
) -> Preprocessing:
    """Published numbers for cifar10, measured ones for any other dataset.

    per_image_std: the tutorial's fault, deviations of single images for those of all pixels.
    """
    if info.name == "cifar10":
        mean, std = ARTICLE_MEAN, ARTICLE_STD if per_image_std else CIFAR_STD
    else:
        mean, std = info.mean, info.per_image_std if per_image_std else info.std
    return Preprocessing(info.size, image_size, mean, std)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
