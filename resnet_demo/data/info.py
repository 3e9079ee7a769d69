"""What is known about a dataset without opening its images. No torch here."""

import math
import re
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from resnet_demo.errors import ConfigError, DamagedError
from resnet_demo.json_files import build

Triple = tuple[float, float, float]
MIN_STD = 1 / 255  # a channel that never varies would else be divided by zero
NAME_PATTERN = re.compile("[a-z0-9][a-z0-9-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """A dataset's own description.

    mean and std: of the training pixels, per channel, on the 0..1 scale; per_image_std: the mean
    of each training image's own deviation. skipped: the first unreadable files of an import.
    """

    name: str
    classes: tuple[str, ...]  # in label order
    size: int  # pixels, side of the stored square images
    train: int  # images
    test: int  # images
    mean: Triple
    std: Triple
    per_image_std: Triple
    synthetic: bool
    source: str  # where it came from, in words
    skipped_count: int = 0
    skipped: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Field name -> value, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> "DatasetInfo":
        """The opposite of `to_dict`. Raises DamagedError for what it never wrote."""
        try:
            info = build(cls, values, complete=True)
        except ValueError as error:
            raise DamagedError("the description of the dataset is incomplete") from error
        if not _is_sound(info):
            raise DamagedError("the description of the dataset makes no sense")
        return info


def _is_sound(info: DatasetInfo) -> bool:
    return (
        min(info.size, info.train, info.test) > 0
        and min(info.mean) >= 0 < min(*info.std, *info.per_image_std)
        and len(set(info.classes)) == len(info.classes) >= 2
    )


def check_name(name: object, field: str = "dataset") -> str:
    """The name, if it may become a folder's. Raises ConfigError."""
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        rule = "at most 64 small letters, digits and dashes, no dash first"
        raise ConfigError.rule(field, rule, name)
    return name


class PixelStatistics:
    """Running sums over uint8 images, exact in whole numbers; results on the 0..1 scale."""

    def __init__(self) -> None:
        self.images = self.pixels = 0
        self.total = np.zeros(3, np.int64)
        self.squares = np.zeros(3, np.int64)
        self.deviations = np.zeros(3)

    def add(self, images: np.ndarray) -> None:
        """images: (N, H, W, 3) uint8."""
        flat = images.reshape(len(images), -1, 3)
        total = flat.sum(axis=1, dtype=np.int64)  # (N, 3)
        squares = np.square(flat, dtype=np.uint32).sum(axis=1, dtype=np.int64)
        pixels = flat.shape[1]
        self.images += len(flat)
        self.pixels += len(flat) * pixels
        self.total += total.sum(axis=0)
        self.squares += squares.sum(axis=0)
        self.deviations += _deviation(total, squares, pixels).sum(axis=0)

    def mean(self) -> Triple:
        """Per channel, over all pixels."""
        return _triple(self.total / self.pixels / 255)

    def std(self) -> Triple:
        """Per channel, over all pixels."""
        return _triple(_deviation(self.total, self.squares, self.pixels) / 255, MIN_STD)

    def per_image_std(self) -> Triple:
        """Per channel, the mean of each image's own deviation: smaller than `std`.

        With n - 1 pixels in the divisor, as torch.std has it: CIFAR-10 then gives the numbers
        that tutorials copy from each other, (0.2023, 0.1994, 0.2010).
        """
        pixels = self.pixels / self.images
        sample = math.sqrt(pixels / max(pixels - 1, 1))
        return _triple(self.deviations / self.images / 255 * sample, MIN_STD)


def _deviation(total: np.ndarray, squares: np.ndarray, count: int) -> np.ndarray:
    mean = total / count
    return np.sqrt(np.maximum(squares / count - mean * mean, 0))


def _triple(values: np.ndarray, least: float = 0.0) -> Triple:
    red, green, blue = (round(max(float(value), least), 6) for value in values)
    return red, green, blue
