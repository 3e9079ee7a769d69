"""Mean and deviation of a dataset's pixels, gathered while it is written."""

import math

import numpy as np

Triple = tuple[float, float, float]
LEAST_STD = 1 / 255  # a channel that never varies would else be divided by zero


class Moments:
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
        return _triple(_deviation(self.total, self.squares, self.pixels) / 255, LEAST_STD)

    def per_image_std(self) -> Triple:
        """Per channel, the mean of each image's own deviation: smaller than `std`.

        With n - 1 pixels in the divisor, as torch.std has it: CIFAR-10 then gives the numbers
        that tutorials copy from each other, (0.2023, 0.1994, 0.2010).
        """
        pixels = self.pixels / self.images
        sample = math.sqrt(pixels / max(pixels - 1, 1))
        return _triple(self.deviations / self.images / 255 * sample, LEAST_STD)


def _deviation(total: np.ndarray, squares: np.ndarray, count: int) -> np.ndarray:
    mean = total / count
    return np.sqrt(np.maximum(squares / count - mean * mean, 0))


def _triple(values: np.ndarray, least: float = 0.0) -> Triple:
    red, green, blue = (round(max(float(value), least), 6) for value in values)
    return red, green, blue
