"""Layers by steps as heat maps: how large a gradient, or a signal, was where and when."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from resnet_demo.evaluation.figures import MAP, ink_on, page

ROW = 1.5  # inches: the height of one map
SPAN = 6.0  # decades of colour below the largest: what lies deeper is as good as nothing


def depth_figure(
    maps: Mapping[str, tuple[Sequence[int], np.ndarray]], label: str, dark: bool = False
) -> Figure:
    """A heat map for each network, its first layer at the top; all share one scale of colours.

    maps: name -> (steps (T,), values (layers, T), positive; NaN where there was no number, which
    stays blank). label: what is drawn, of which the colours are the logarithm.
    """
    ink, figure = ink_on(dark), page(ROW * max(1, len(maps)) + 0.9)
    axes = figure.subplots(max(1, len(maps)), sharex=True, squeeze=False)[:, 0]
    logs = {name: (steps, log10(values)) for name, (steps, values) in maps.items()}
    finite = [grid[np.isfinite(grid)] for _, grid in logs.values()]
    high = max((float(grid.max()) for grid in finite if grid.size), default=0.0)
    low = min((float(grid.min()) for grid in finite if grid.size), default=-1.0)
    drawn = None
    for one, (name, (steps, grid)) in zip(axes, logs.items(), strict=False):
        edges = np.concatenate([[0], np.asarray(steps, float)])
        drawn = one.pcolormesh(
            edges, np.arange(len(grid) + 1) + 0.5, grid, cmap=MAP, vmin=max(low, high - SPAN),
            vmax=high, rasterized=True,
        )  # fmt: skip
        one.invert_yaxis()
        one.set_title(name, color=ink, fontsize=9, loc="left")
        one.set_ylabel("layer", color=ink, fontsize=9)
        one.set_facecolor("none")
        one.tick_params(colors=ink, labelsize=8)
        one.spines[:].set_visible(False)
    axes[-1].set_xlabel("step", color=ink, fontsize=9)
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=list(axes), fraction=0.04, pad=0.02)
        bar.set_label(f"log10 of the {label}", color=ink, fontsize=9)
        bar.ax.tick_params(colors=ink, labelsize=8)
        bar.outline.set_visible(False)
    return figure


def log10(values: np.ndarray) -> np.ndarray:
    """Its decimal logarithm; NaN where there is none."""
    out = np.full(values.shape, np.nan)
    np.log10(values, out=out, where=values > 0)
    return out
