"""Feature maps: record what the stages of a network output, and draw the strongest channels."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from resnet_demo.inference.heatmaps import heat_colours, heatmap
from resnet_demo.inference.predict import model_mode
from resnet_demo.models.layers import Network

COLUMNS, ROWS = 4, 2  # maps in a grid
TILE, GAP = 64, 2  # pixels: side to which a small map is enlarged, and space between two maps
GREY = 128  # the gap's colour, which no map has


@dataclass(frozen=True)
class StageMaps:
    """The strongest maps after one stage, on the model's device.

    name: the submodule's. all_channels: how many channels the stage has. channels: (B, k) int64.
    maps: (B, k, h, w) float32.
    """

    name: str
    all_channels: int
    channels: Tensor
    maps: Tensor


@contextmanager
def record_outputs(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that each forward pass fills with the outputs of the named submodules.

    Name -> tensor, in the order in which the modules ran. The hooks are removed on exit. Raises
    AttributeError for a name that the model does not have.
    """
    outputs: dict[str, Tensor] = {}
    modules, handles = [(name, model.get_submodule(name)) for name in names], []
    try:
        for name, module in modules:
            # In a function of its own: a closure made in this loop would see the last name only.
            handles.append(module.register_forward_hook(_hook(outputs, name)))
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def strongest_maps(model: Network, x: Tensor, k: int) -> list[StageMaps]:
    """Return for each stage, in order, the k channels of the largest mean, the largest first.

    x: (B, 3, H, W), normalized; the channels are chosen for each image separately. Fewer than k
    where a stage has fewer channels. Empty for a network that names no stages. NaN counts as the
    smallest value. Use `heatmap` to scale the maps for display.
    """
    with model_mode(model), record_outputs(model, model.stage_names) as outputs:
        model.features(x)
    return [_strongest(name, output.float(), k) for name, output in outputs.items()]


def stage_grids(model: Network, x: Tensor) -> list[tuple[str, np.ndarray]]:
    """Return for each stage its title and a grid of its strongest maps, (H, W, 3) uint8.

    x: (1, 3, S, S), normalized.
    """
    stages = strongest_maps(model, x, COLUMNS * ROWS)
    return [(stage_title(stage.name), draw_grid(stage.maps[0])) for stage in stages]


def draw_grid(maps: Tensor) -> np.ndarray:
    """Draw up to COLUMNS * ROWS maps (k, s, s) of any sign row by row, (H, W, 3) uint8.

    Each map is scaled by its own maximum. Each pixel of a map becomes a square.
    """
    side = maps.shape[-1]
    zoom = max(1, TILE // side)  # whole, so that each pixel of a map stays a square
    # heatmap drops negative values: a channel is shown where it is active.
    levels = heatmap(maps, side).mul(255).round().byte().cpu().numpy()
    step = side * zoom + GAP
    grid = np.full((ROWS * step - GAP, COLUMNS * step - GAP, 3), GREY, np.uint8)
    for position, level in enumerate(levels):
        top, left = (number * step for number in divmod(position, COLUMNS))
        tile = heat_colours()[level].repeat(zoom, axis=0).repeat(zoom, axis=1)
        grid[top : top + step - GAP, left : left + step - GAP] = tile
    return grid


def stage_title(name: str) -> str:
    """Return a stage's title: `stages.0` and `stage1` are both stage 1, the stem is the stem."""
    if name == "last":
        return "last convolution"
    found = re.fullmatch(r"stage(s\.)?(\d+)", name)
    return f"stage {int(found[2]) + bool(found[1])}" if found else name


def _hook(outputs: dict[str, Tensor], name: str) -> object:
    """Return a forward hook that stores the output under the name."""

    def keep(module: nn.Module, args: object, output: Tensor) -> None:
        outputs[name] = output

    return keep


def _strongest(name: str, output: Tensor, k: int) -> StageMaps:
    """Return the k strongest channels of a stage's output (B, C, h, w) for each image."""
    # topk would rank NaN first: it counts as the smallest value instead.
    means = output.mean((2, 3)).nan_to_num(-torch.inf, torch.inf, -torch.inf)
    channels = means.topk(min(k, output.shape[1])).indices  # (B, k)
    # Each image has its own channels: indices of images (B, 1) beside those of channels (B, k).
    maps = output[torch.arange(len(output), device=output.device)[:, None], channels]
    return StageMaps(name, output.shape[1], channels, maps)
