"""Images made worse, five strengths of each kind: how much does a network bear?

After the idea of Hendrycks and Dietterich 2019 ("Benchmarking Neural Network Robustness"); kinds
and strengths are our own, so the numbers are not those of CIFAR-10-C. Every function takes and
gives (B, H, W, 3) uint8 on any device, and the same seed always gives the same pixels.
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

GREY = (0.299, 0.587, 0.114)  # luma of red, green, blue (ITU-R BT.601), as PIL has it


def brightness(images: Tensor, factor: float) -> Tensor:
    """All numbers times the factor, 255 at most."""
    return _levels(images.float() * factor)


def contrast(images: Tensor, factor: float) -> Tensor:
    """Each number's distance from the image's mean grey times the factor."""
    x = images.float()
    grey = (x * x.new_tensor(GREY)).sum(3, keepdim=True).mean((1, 2), keepdim=True).round()
    return _levels(grey + factor * (x - grey))


def blur(images: Tensor, percent: float) -> Tensor:
    """By a Gaussian whose deviation is that much of the shorter side; edges mirrored."""
    shorter = min(images.shape[1:3])
    sigma = percent / 100 * shorter
    radius = min(math.ceil(3 * sigma), shorter - 1)  # beyond, 0.3 % of it is cut off
    steps = torch.arange(-radius, radius + 1, device=images.device)
    kernel = (-0.5 * (steps / sigma) ** 2).softmax(0)
    x = images.permute(0, 3, 1, 2).float().flatten(0, 1)[:, None]  # each channel for itself
    x = F.pad(x, (radius,) * 4, mode="reflect")
    x = F.conv2d(F.conv2d(x, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return _levels(x[:, 0].unflatten(0, (-1, 3)).permute(0, 2, 3, 1))


def noise(images: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """A normal random number of that deviation added to each; drawn on the CPU, as all here."""
    drawn = torch.randn(images.shape, generator=generator).to(images.device)
    return _levels(images.float() + deviation * drawn)


def jpeg(images: Tensor, quality: float) -> Tensor:
    """Through a JPEG of that quality and back, by PIL, image by image on the CPU."""
    pictures = [_through_jpeg(pixels, int(quality)) for pixels in images.cpu().numpy()]
    return torch.from_numpy(np.stack(pictures)).to(images.device)


def shift(images: Tensor, percent: float, generator: torch.Generator) -> Tensor:
    """By that much of the shorter side, up or down and left or right by chance."""
    pixels = round(percent / 100 * min(images.shape[1:3]))
    down, right = pixels * _signs((2, len(images)), generator)
    return translate(images, down.to(images.device), right.to(images.device))


def rotation(images: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """By that angle, to the left or to the right by chance."""
    return rotate(images, degrees * _signs((len(images),), generator).to(images.device))


@dataclass(frozen=True)
class Corruption:
    """strengths: what `apply` is told for strength 1 to 5, in the unit. drawn: by chance, too."""

    apply: Callable[..., Tensor]
    strengths: tuple[float, float, float, float, float]
    unit: str
    drawn: bool = False


CORRUPTIONS = {
    "brightness": Corruption(brightness, (1.2, 1.4, 1.7, 2.1, 2.6), "times as bright"),
    "contrast": Corruption(contrast, (0.75, 0.5, 0.35, 0.25, 0.15), "of the contrast is left"),
    "blur": Corruption(blur, (2, 3, 4, 5, 7), "% of the side, standard deviation"),
    "noise": Corruption(noise, (8, 16, 25, 36, 50), "of 255, standard deviation", drawn=True),
    "jpeg": Corruption(jpeg, (70, 50, 30, 15, 7), "quality, of 95"),
    "shift": Corruption(shift, (3, 6, 9, 13, 18), "% of the side, each way", drawn=True),
    "rotation": Corruption(rotation, (5, 10, 20, 30, 45), "degrees, either way", drawn=True),
}


def corrupt(images: Tensor, name: str, strength: int, seed: int = 0) -> Tensor:
    """(B, H, W, 3) uint8, B from 1, made worse by one of CORRUPTIONS. strength: 1 to 5.

    seed: another one for each batch, or else every batch is given the same chances. Raises
    ConfigError for another name or strength.
    """
    if name not in list(CORRUPTIONS):
        raise ConfigError.rule("corruption", f"one of {', '.join(CORRUPTIONS)}", name)
    if strength not in range(1, 6):
        raise ConfigError.rule("strength", "a whole number from 1 to 5", strength)
    kind = CORRUPTIONS[name]
    chance = (torch.Generator().manual_seed(seed),) if kind.drawn else ()
    return kind.apply(images, kind.strengths[strength - 1], *chance)


def translate(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Each image by its own whole numbers (B,) of pixels, less than a side; edges mirrored."""
    batch, height, width = images.shape[:3]
    rows, columns = _sources(height, down), _sources(width, right)
    first = torch.arange(batch, device=images.device)[:, None, None]
    return images[first, rows[:, :, None], columns[:, None]]


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Each image by its own angle (B,), to the left if positive; bilinear, edges mirrored."""
    height, width = images.shape[1:3]
    cos, sin = degrees.deg2rad().cos(), degrees.deg2rad().sin()
    zero = torch.zeros_like(cos)
    # where each pixel comes from, on a scale from -1 to 1 whatever the side
    matrix = torch.stack([cos, -sin * height / width, zero, sin * width / height, cos, zero], 1)
    x = images.permute(0, 3, 1, 2).float()
    grid = F.affine_grid(matrix.view(-1, 2, 3), list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    return _levels(x.permute(0, 2, 3, 1))


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(2, shape, generator=generator) * 2 - 1


def _sources(size: int, by: Tensor) -> Tensor:
    """(B, size): the index that each comes from, mirrored without repeating the outermost one."""
    index = (torch.arange(size, device=by.device) - by[:, None]).abs()
    return size - 1 - (size - 1 - index).abs()


def _through_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file, formats=["JPEG"]))


def _levels(x: Tensor) -> Tensor:
    return x.round().clamp(0, 255).to(torch.uint8)
