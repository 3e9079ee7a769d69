"""The description of a dataset, and the pixel statistics in it. No torch here."""

import math
import re
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from resnet_demo.data.pictures import FITS
from resnet_demo.errors import ConfigError, DamagedError
from resnet_demo.json_files import build

Triple = tuple[float, float, float]  # red, green, blue
CHUNK_VALUES = 2**18  # of pixels, as float64 in the processor's cache
MIN_STD = 1 / 255  # images are divided by the deviation, and a constant channel has none
NAME_PATTERN = re.compile("[a-z0-9][a-z0-9-]{0,63}")


def check_name(name: object, field: str = "dataset") -> str:
    """Return a name that is safe as a folder's name. Raises ConfigError for any other."""
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        rule = "at most 64 lowercase letters, digits and dashes, with no dash first"
        raise ConfigError.rule(field, rule, name)
    return name


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """The description of a dataset, as stored in its `dataset.json`.

    mean and std: of all training pixels, per channel, on the 0..1 scale. per_image_std: the mean
    of each training image's own deviation. skipped: the first unreadable files of an import.
    val: images of a stored validation split; 0 where a part of `train` serves as one. fit: how the
    pictures were made square, one of FITS. test: 0 where there were too few pictures to hold some
    out.
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
    source: str  # where it came from, for a person
    skipped_count: int = 0
    skipped: tuple[str, ...] = ()
    val: int = 0
    fit: str = "crop"

    @property
    def splits(self) -> tuple[str, ...]:
        """Return the names of the stored splits."""
        return ("train", *(split for split in ("val", "test") if getattr(self, split)))

    def to_dict(self) -> dict[str, Any]:
        """Return field name -> value, ready for JSON, with `val` only for a stored split."""
        values = asdict(self)
        # Left out where it is 0: that is how datasets without a validation split have always been
        # written.
        if not self.val:
            del values["val"]
        return values

    @classmethod
    def from_dict(cls, values: Any) -> "DatasetInfo":
        """Return the description from `to_dict`'s values. Raises DamagedError for any others."""
        try:
            # Datasets without a validation split have no such key, and older ones no `fit`.
            values = {"val": 0, "fit": "crop", **values} if isinstance(values, dict) else values
            info = build(cls, values, complete=True)
        except ValueError as error:
            raise DamagedError("the description of the dataset is incomplete") from error
        if not _is_valid(info):
            raise DamagedError("the description of the dataset has invalid values")
        return info


def _is_valid(info: DatasetInfo) -> bool:
    return (
        min(info.size, info.train) > 0
        and min(info.val, info.test) >= 0
        and info.fit in FITS
        and min(info.mean) >= 0 < min(*info.std, *info.per_image_std)
        and len(set(info.classes)) == len(info.classes) >= 2
    )


class PixelStatistics:
    """Mean and deviation of a dataset's pixels, accumulated while it is written.

    `mean` and `std` come from exact integer sums: how images are cut into chunks changes nothing.
    """

    def __init__(self) -> None:
        self.images = self.pixels = 0
        self.total = np.zeros(3, np.int64)
        self.squares = np.zeros(3, np.int64)
        self.deviations = np.zeros(3)

    def add(self, images: np.ndarray) -> None:
        """Add images: (N, H, W, 3) uint8."""
        flat = images.reshape(len(images), -1, 3)
        total, squares = np.empty((2, len(flat), 3), np.int64)
        step = max(1, CHUNK_VALUES // flat[0].size)
        ones = np.ones(flat.shape[1])
        for start in range(0, len(flat), step):
            values = flat[start : start + step].astype(np.float64)
            # A matrix product is many times as fast as NumPy's sum over whole numbers, and as
            # exact: all partial sums are whole numbers below 2**53.
            total[start : start + step] = ones @ values
            squares[start : start + step] = ones @ np.square(values, out=values)
        pixels = flat.shape[1]
        self.images += len(flat)
        self.pixels += len(flat) * pixels
        self.total += total.sum(axis=0)
        self.squares += squares.sum(axis=0)
        self.deviations += _deviation(total, squares, pixels).sum(axis=0)

    def mean(self) -> Triple:
        """Return the mean of all pixels per channel, on the 0..1 scale."""
        return _triple(self.total / self.pixels / 255)

    def std(self) -> Triple:
        """Return the deviation of all pixels per channel, on the 0..1 scale."""
        return _triple(_deviation(self.total, self.squares, self.pixels) / 255, MIN_STD)

    def per_image_std(self) -> Triple:
        """Return the mean of each image's own deviation per channel; it is smaller than `std`."""
        # The divisor is n - 1 as in torch.std, so that CIFAR-10 gives the numbers that tutorials
        # copy from each other: (0.2023, 0.1994, 0.2010).
        pixels = self.pixels / self.images
        sample = math.sqrt(pixels / max(pixels - 1, 1))
        return _triple(self.deviations / self.images / 255 * sample, MIN_STD)


def _deviation(total: np.ndarray, squares: np.ndarray, count: int) -> np.ndarray:
    mean = total / count
    return np.sqrt(np.maximum(squares / count - mean * mean, 0))  # rounding can make it negative


def _triple(values: np.ndarray, minimum: float = 0.0) -> Triple:
    # Rounded, so that another order of float additions does not change what is stored.
    red, green, blue = (round(max(float(value), minimum), 6) for value in values)
    return red, green, blue
