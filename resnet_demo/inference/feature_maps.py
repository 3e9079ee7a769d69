"""What a network sees after each of its stages: the feature maps that answer most."""

import io
import re
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from resnet_demo.inference.class_maps import heat
from resnet_demo.inference.hooks import evaluating, outputs_of
from resnet_demo.inference.overlay import COLOURS
from resnet_demo.models.layers import Network

COLUMNS, ROWS = 4, 2  # maps in a grid
TILE, GAP = 64, 2  # pixels: what a small map is enlarged to at most, and what lies between two
GREY = 128  # the gap, which is no colour of a map


@dataclass(frozen=True)
class StageMaps:
    """The strongest maps after one stage: channels (B, k) int64, maps (B, k, h, w) float32.

    name: the submodule's. all_channels: how many there are to choose from. On the model's device.
    """

    name: str
    all_channels: int
    channels: Tensor
    maps: Tensor


@torch.no_grad()
def strongest_maps(model: Network, x: Tensor, k: int) -> list[StageMaps]:
    """For each stage, in order, the k channels of the largest mean, the largest first.

    x (B, 3, H, W) normalized, each image for itself. Fewer than k where a stage has not as many; no
    stage at all of a network that names none. NaN counts as the smallest. `maps.heat` makes the
    maps fit to be shown.
    """
    with evaluating(model), outputs_of(model, model.stage_names) as outputs:
        model.features(x)
    return [_strongest(name, output.float(), k) for name, output in outputs.items()]


def grids(model: Network, x: Tensor) -> list[tuple[str, np.ndarray]]:
    """For each stage its name in words and its strongest maps side by side, (H, W, 3) uint8.

    x (1, 3, S, S) normalized. Each map is scaled by its own largest number; the strongest comes
    first, and a pixel of a map is a square.
    """
    stages = strongest_maps(model, x, COLUMNS * ROWS)
    return [(stage_in_words(stage.name), grid(stage.maps[0])) for stage in stages]


def grid(maps: Tensor) -> np.ndarray:
    """Up to COLUMNS * ROWS maps (k, s, s) of any sign as one picture, row by row."""
    side = maps.shape[-1]
    times = max(1, TILE // side)
    levels = heat(maps, side).mul(255).round().byte().cpu().numpy()
    step = side * times + GAP
    whole = np.full((ROWS * step - GAP, COLUMNS * step - GAP, 3), GREY, np.uint8)
    for place, level in enumerate(levels):
        top, left = (number * step for number in divmod(place, COLUMNS))
        tile = COLOURS[level].repeat(times, axis=0).repeat(times, axis=1)
        whole[top : top + step - GAP, left : left + step - GAP] = tile
    return whole


def png(pixels: np.ndarray) -> bytes:
    """A picture (H, W, 3) uint8 as a file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def stage_in_words(name: str) -> str:
    """`stages.0` and `stage1` are both stage 1; the stem is the stem."""
    found = re.fullmatch(r"stage(s\.)?(\d+)", name)
    return f"stage {int(found[2]) + bool(found[1])}" if found else name


def _strongest(name: str, output: Tensor, k: int) -> StageMaps:
    means = output.mean((2, 3)).nan_to_num(-torch.inf, torch.inf, -torch.inf)
    channels = means.topk(min(k, output.shape[1])).indices
    maps = output[torch.arange(len(output), device=output.device)[:, None], channels]
    return StageMaps(name, output.shape[1], channels, maps)
