"""Image corruptions at five strengths, to measure robustness.

The idea is Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations"; the kinds and strengths differ, so results are not comparable with
CIFAR-10-C. Every function takes and returns (B, H, W, 3) uint8 on any device. The same seed gives
the same pixels.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from resnet_demo.errors import ConfigError

STRENGTHS = (1, 2, 3, 4, 5)
GREY = (0.299, 0.587, 0.114)  # luma weights of red, green, blue (ITU-R BT.601), as in PIL


def brightness(images: Tensor, factor: float) -> Tensor:
    """Scale all values by the factor, up to 255."""
    return _levels(images.float() * factor)


def contrast(images: Tensor, factor: float) -> Tensor:
    """Scale each value's distance from the image's mean grey by the factor."""
    x = images.float()
    # Rounded, as by PIL's ImageEnhance.Contrast.
    grey = (x * x.new_tensor(GREY)).sum(3, keepdim=True).mean((1, 2), keepdim=True).round()
    return _levels(grey + factor * (x - grey))


def blur(images: Tensor, percent: float) -> Tensor:
    """Blur with a Gaussian of standard deviation `percent` of the shorter side; mirrored edges."""
    shorter = min(images.shape[1:3])
    sigma = percent / 100 * shorter
    # Mirrored padding must be narrower than the side.
    radius = min(math.ceil(3 * sigma), shorter - 1)  # 0.3 % of the kernel lies beyond 3 sigma
    steps = torch.arange(-radius, radius + 1, device=images.device)
    kernel = (-0.5 * (steps / sigma) ** 2).softmax(0)  # a Gaussian that sums to 1
    x = images.permute(0, 3, 1, 2).float().flatten(0, 1)[:, None]  # (B * 3, 1, H, W)
    x = F.pad(x, (radius,) * 4, mode="reflect")
    # A Gaussian is separable: two passes of one dimension cost less than one of two.
    x = F.conv2d(F.conv2d(x, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return _levels(x[:, 0].unflatten(0, (-1, 3)).permute(0, 2, 3, 1))


def noise(images: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Add normal noise of that standard deviation, in grey levels."""
    # Drawn on the CPU, so that every device gets the same noise.
    drawn = torch.randn(images.shape, generator=generator).to(images.device)
    return _levels(images.float() + deviation * drawn)


def jpeg(images: Tensor, quality: float) -> Tensor:
    """Compress to JPEG of that quality and decode, one image at a time on the CPU, with PIL."""
    pictures = [_through_jpeg(pixels, int(quality)) for pixels in images.cpu().numpy()]
    return torch.from_numpy(np.stack(pictures)).to(images.device)


def shift(images: Tensor, percent: float, generator: torch.Generator) -> Tensor:
    """Shift by `percent` of the shorter side along both axes, in random directions."""
    pixels = round(percent / 100 * min(images.shape[1:3]))
    down, right = pixels * _signs((2, len(images)), generator)
    return translate(images, down.to(images.device), right.to(images.device))


def rotation(images: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """Rotate by that angle, in a random direction."""
    return rotate(images, degrees * _signs((len(images),), generator).to(images.device))


@dataclass(frozen=True)
class Corruption:
    """A kind of corruption.

    strengths: the second argument of `apply` at strength 1 to 5, in the unit. is_random: `apply`
    takes a generator too.
    """

    apply: Callable[..., Tensor]
    strengths: tuple[float, float, float, float, float]
    unit: str
    is_random: bool = False


# Blur and shift are in percent of the side, so that pictures of any size are damaged alike.
CORRUPTIONS = {
    "brightness": Corruption(brightness, (1.2, 1.4, 1.7, 2.1, 2.6), "times as bright"),
    "contrast": Corruption(contrast, (0.75, 0.5, 0.35, 0.25, 0.15), "of the contrast is left"),
    "blur": Corruption(blur, (2, 3, 4, 5, 7), "% of the side, standard deviation"),
    "noise": Corruption(noise, (8, 16, 25, 36, 50), "of 255, standard deviation", is_random=True),
    "jpeg": Corruption(jpeg, (70, 50, 30, 15, 7), "quality, of 95"),
    "shift": Corruption(shift, (3, 6, 9, 13, 18), "% of the side, each way", is_random=True),
    "rotation": Corruption(rotation, (5, 10, 20, 30, 45), "degrees, either way", is_random=True),
}


def corrupt(images: Tensor, name: str, strength: int, seed: int = 0) -> Tensor:
    """Apply one of CORRUPTIONS to images (B, H, W, 3) uint8, B ≥ 1. strength: 1 to 5.

    seed: use a different one for each batch; otherwise all batches get the same random numbers.

    Raises:
        ConfigError: an unknown name or strength.
    """
    if name not in list(CORRUPTIONS):  # a list: the name may be unhashable
        raise ConfigError.rule("corruption", f"one of {', '.join(CORRUPTIONS)}", name)
    if strength not in STRENGTHS:
        raise ConfigError.rule("strength", "a whole number from 1 to 5", strength)
    kind = CORRUPTIONS[name]
    value = kind.strengths[strength - 1]
    if kind.is_random:
        return kind.apply(images, value, torch.Generator().manual_seed(seed))
    return kind.apply(images, value)


def translate(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Shift each image by its own whole pixels (B,), less than a side; mirrored edges."""
    batch, height, width = images.shape[:3]
    rows, columns = _sources(height, down), _sources(width, right)
    first = torch.arange(batch, device=images.device)[:, None, None]
    return images[first, rows[:, :, None], columns[:, None]]


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Rotate each image by its own angle (B,), left if positive; bilinear, mirrored edges."""
    height, width = images.shape[1:3]
    cos, sin = degrees.deg2rad().cos(), degrees.deg2rad().sin()
    zero = torch.zeros_like(cos)
    # Source of each output pixel in coordinates from -1 to 1; the ratio of the sides keeps a
    # rotation of a rectangle a rotation.
    matrix = torch.stack([cos, -sin * height / width, zero, sin * width / height, cos, zero], 1)
    x = images.permute(0, 3, 1, 2).float()
    grid = F.affine_grid(matrix.view(-1, 2, 3), list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    return _levels(x.permute(0, 2, 3, 1))


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return random -1 and 1."""
    return torch.randint(2, shape, generator=generator) * 2 - 1


def _sources(size: int, by: Tensor) -> Tensor:
    """Return the source index of each pixel, (B, size), mirrored without repeating the edge."""
    # abs mirrors at the first pixel, the next line at the last.
    index = (torch.arange(size, device=by.device) - by[:, None]).abs()
    return size - 1 - (size - 1 - index).abs()


def _through_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    """Encode one image (H, W, 3) uint8 as JPEG and decode it."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file, formats=["JPEG"]))  # as RGB, as it was saved


def _levels(x: Tensor) -> Tensor:
    """Round to uint8, clamped to 0 to 255."""
    return x.round().clamp(0, 255).to(torch.uint8)
