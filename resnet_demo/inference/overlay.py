"""A map laid over the picture that it belongs to, at the picture's own size."""

import numpy as np
from matplotlib import colormaps
from torch import Tensor

from resnet_demo.data.pictures import check_fit, crop_region, pad_region
from resnet_demo.inference.class_maps import enlarged

# black, red, yellow: it brightens evenly all the way, and so reads the same with every kind of
# colour vision; and unlike the blue of cividis it stays apart from most pictures' colours
COLOURS = colormaps["inferno"](np.arange(256), bytes=True)[:, :3]


def placed(heat: Tensor, height: int, width: int, fit: str) -> Tensor:
    """The heat (…, side, side) of a network's square over the picture it was made of.

    -> (…, height, width), from 0 to 1 as before. fit: how `data.pictures.fitted` made the square
    of that side. What a `crop` left out the network never saw: 0. What `pad` added is cut off.
    Raises ConfigError for another fit.
    """
    check_fit(fit)
    if fit == "pad":
        heat = heat[..., *pad_region(height, width, heat.shape[-1])]
    if fit != "crop":
        return enlarged(heat, height, width)
    side = min(height, width)
    whole = heat.new_zeros(*heat.shape[:-2], height, width)
    whole[..., *crop_region(height, width)] = enlarged(heat, side, side)
    return whole


def overlay(rgb: np.ndarray, heat: Tensor, opacity: float) -> np.ndarray:
    """A picture (…, H, W, 3) uint8 under its heat (…, H, W) from 0 to 1; the same shape, uint8.

    opacity: 0 shows the picture alone, 1 the colours alone. What is cold is darkened.
    """
    shares = COLOURS * np.float32(opacity)  # of 256 colours, sooner than of every pixel
    mixed = shares[np.rint(heat.cpu().numpy() * 255).astype(np.uint8)]
    mixed += rgb * np.float32(1 - opacity)
    return np.rint(mixed, out=mixed).astype(np.uint8)
