"""Where a network looked: the map of one class over the picture that it was shown."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from resnet_demo.data.pictures import shrink_to_side
from resnet_demo.errors import ConfigError
from resnet_demo.inference.class_maps import heat, where
from resnet_demo.inference.classification import shown
from resnet_demo.inference.overlay import placed
from resnet_demo.models.saved import Saved

MOST_SIDE = 1024  # pixels; a larger picture is reduced before it is laid under its heat


@dataclass(frozen=True)
class Looked:
    """picture (h, w, 3) uint8, at most MOST_SIDE a side; heat (h, w) float32 from 0 to 1 over it.

    coarse: the map as the network has it, rows of numbers from 0 to 1, before it is enlarged.
    """

    picture: np.ndarray
    heat: Tensor
    coarse: list[list[float]]


def looked(saved: Saved, rgb: np.ndarray, labels: Sequence[str], fit: str = "crop") -> list[Looked]:
    """What in a picture (H, W, 3) uint8 of any size spoke for each of these classes.

    A heat of 0 everywhere: nothing did. Raises ConfigError for a label that is no class of the
    network, and for another fit.
    """
    classes = torch.tensor([[place_of(saved, label) for label in labels]])
    seen, x = shown(saved, rgb, fit)
    maps = where(saved.model, x, classes)[0].cpu()
    picture = shrink_to_side(rgb, MOST_SIDE)
    heats = placed(heat(maps, len(seen)), *picture.shape[:2], fit)
    coarse = heat(maps, maps.shape[-1]).tolist()
    return [Looked(picture, *each) for each in zip(heats, coarse, strict=True)]


def place_of(saved: Saved, label: str) -> int:
    """The number of a class. Raises ConfigError."""
    if label not in saved.classes:
        raise ConfigError.rule("label", f"one of {', '.join(saved.classes)}", label)
    return saved.classes.index(label)
