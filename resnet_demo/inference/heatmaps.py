"""Heat maps: scale a network's maps to 0–1, lay them over the picture, and colour them."""

import io
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from resnet_demo.data.pictures import check_fit, crop_region, pad_region


@cache
def heat_colours() -> np.ndarray:
    """Return the colours of heat from 0 to 1, (256, 3) uint8: from black over red to yellow."""
    from matplotlib import colormaps  # what only computes maps or scores does not wait for it

    # Its lightness grows evenly, so it reads the same with every kind of colour vision, and unlike
    # the blue of cividis it differs from most pictures' own colours.
    return colormaps["inferno"](np.arange(256), bytes=True)[:, :3]


def enlarge(maps: Tensor, height: int, width: int) -> Tensor:
    """Resize maps (…, h, w) to (…, height, width) float32, bilinear."""
    flat = maps.float().reshape(-1, 1, *maps.shape[-2:])
    flat = F.interpolate(flat, (height, width), mode="bilinear", align_corners=False)
    return flat.reshape(*maps.shape[:-2], height, width)


def heatmap(maps: Tensor, side: int) -> Tensor:
    """Scale maps (…, h, w) of any sign to heat (…, side, side) from 0 to 1.

    Enlarge, set negative values (evidence against the class) to 0, and divide each map by its
    maximum. A map without a positive value becomes 0 everywhere. NaN and infinity count as 0.
    """
    # Enlarged before it is cut at 0, so that the border of an area lies between the pixels.
    positive = enlarge(maps.float().nan_to_num(0, 0, 0), side, side).clamp(min=0)
    largest = positive.amax((-2, -1), keepdim=True)
    # The smallest float instead of 0: a map without a positive value is then 0 / tiny = 0, not NaN.
    return positive / largest.clamp(min=torch.finfo(torch.float32).tiny)


def place_on_picture(heat: Tensor, height: int, width: int, fit: str) -> Tensor:
    """Map heat (…, side, side) of the network's square back to the picture: (…, height, width).

    fit: how `data.pictures.fit_to_square` made the square. What `crop` left out gets 0, because the
    network never saw it. What `pad` added is cut off. Raises ConfigError for another fit.
    """
    check_fit(fit)
    if fit == "pad":
        heat = heat[..., *pad_region(height, width, heat.shape[-1])]
    if fit != "crop":
        return enlarge(heat, height, width)
    side = min(height, width)
    whole = heat.new_zeros(*heat.shape[:-2], height, width)
    whole[..., *crop_region(height, width)] = enlarge(heat, side, side)
    return whole


def colour(heat: Tensor) -> np.ndarray:
    """Colour heat (…, H, W) from 0 to 1: (…, H, W, 3) uint8."""
    return heat_colours()[_levels(heat)]


def overlay(rgb: np.ndarray, heat: Tensor, opacity: float) -> np.ndarray:
    """Blend a picture (…, H, W, 3) uint8 with its coloured heat (…, H, W) from 0 to 1.

    Return the same shape, uint8. opacity: 0 shows the picture only, 1 the colours only.
    """
    # Multiply the 256 colours by the opacity, not every pixel.
    mixed = (heat_colours() * np.float32(opacity))[_levels(heat)]
    mixed += rgb * np.float32(1 - opacity)
    return np.rint(mixed, out=mixed).astype(np.uint8)


def encode_png(rgb: np.ndarray) -> bytes:
    """Encode a picture (H, W, 3) uint8 as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "PNG")
    return file.getvalue()


def _levels(heat: Tensor) -> np.ndarray:
    """Return the row of `heat_colours` for each pixel, uint8."""
    return np.rint(heat.cpu().numpy() * 255).astype(np.uint8)
