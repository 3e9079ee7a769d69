"""The probes of a run: gradient and activation norms by layer and step, read and drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from resnet_demo.events import Event, Probe, Probing, Started
from resnet_demo.json_files import is_number
from resnet_demo.runs.log import EventLog

if TYPE_CHECKING:  # an import that takes long, and the page must appear without it
    from matplotlib.figure import Figure

MAX_PROBES = 400  # kept in memory; a screen has no more columns for them
ROW_HEIGHT = 1.5  # inches, of one heat map
DECADES = 6.0  # colour range below the largest value; smaller values are shown alike


@dataclass
class ProbeHistory:
    """The probes in a run's event log, read incrementally.

    layers: their names, in network order. probes: by step, thinned out. every: only each
    `every`-th probe of the log is kept, so that memory does not grow with the length of the run.
    offset: bytes of the log already read. seen: probes read.
    """

    log: EventLog
    offset: int = 0
    every: int = 1
    seen: int = 0
    layers: list[str] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)

    def refresh(self) -> bool:
        """Read the new lines of the log; return whether there were any."""
        before = self.offset
        for events, offset in self.log.read_chunks(before):
            self.offset = offset
            for event in events:
                self.fold(event)
        return self.offset != before

    def fold(self, event: Event) -> None:
        """Add one event; kinds other than probes are ignored."""
        if isinstance(event, Started):
            # A resumed run repeats the steps after its checkpoint.
            self.probes = [probe for probe in self.probes if probe.step <= event.step]
        elif isinstance(event, Probing):
            self.layers = event.layers
        elif isinstance(event, Probe) and self.is_complete(event):
            self.add(event)

    def is_complete(self, probe: Probe) -> bool:
        """Return whether the probe has a finite number or None for each layer."""
        return all(
            len(numbers) == len(self.layers) and all(n is None or is_number(n) for n in numbers)
            for numbers in (probe.gradients, probe.activations)
        )

    def add(self, probe: Probe) -> None:
        """Keep each `every`-th probe; above the limit, drop every second one."""
        if self.seen % self.every == 0:
            self.probes.append(probe)
        self.seen += 1
        if len(self.probes) > MAX_PROBES:
            # Every second one, so that the kept probes stay evenly spaced.
            self.probes, self.every = self.probes[::2], 2 * self.every


def depth_figure(
    maps: Mapping[str, tuple[Sequence[int], np.ndarray]], label: str, dark: bool = False
) -> "Figure":
    """Draw a heat map of layers by steps for each network, on one logarithmic colour scale.

    maps: name -> (steps (T,), values (layers, T), positive; NaN stays blank). The first layer is
    at the top. label: the quantity, for the colour bar. dark: text for a dark page.
    """
    from resnet_demo.evaluation.figures import COLOUR_MAP, ink_colour, new_figure

    ink, figure = ink_colour(dark), new_figure(ROW_HEIGHT * max(1, len(maps)) + 0.9)
    rows = figure.subplots(max(1, len(maps)), sharex=True, squeeze=False)[:, 0]
    logs = {name: (steps, log10_or_nan(values)) for name, (steps, values) in maps.items()}
    finite = [grid[np.isfinite(grid)] for _, grid in logs.values()]
    # One scale for all networks: they are compared by colour.
    high = max((float(grid.max()) for grid in finite if grid.size), default=0.0)
    low = min((float(grid.min()) for grid in finite if grid.size), default=-1.0)
    mesh = None
    for axes, (name, (steps, grid)) in zip(rows, logs.items(), strict=False):
        mesh = axes.pcolormesh(
            # pcolormesh needs the edges of the cells: each column ends at its step.
            np.concatenate([[0], np.asarray(steps, float)]),
            np.arange(len(grid) + 1) + 0.5,  # layers are counted from 1
            grid,
            cmap=COLOUR_MAP,
            # Gradients that underflowed would widen the scale until nothing else is visible.
            vmin=max(low, high - DECADES),
            vmax=high,
            rasterized=True,  # thousands of cells would make a large SVG
        )
        axes.invert_yaxis()
        axes.set_title(name, color=ink, fontsize=9, loc="left")
        axes.set_ylabel("layer", color=ink, fontsize=9)
        axes.set_facecolor("none")
        axes.tick_params(colors=ink, labelsize=8)
        axes.spines[:].set_visible(False)
    rows[-1].set_xlabel("step", color=ink, fontsize=9)
    if mesh is not None:
        bar = figure.colorbar(mesh, ax=list(rows), fraction=0.04, pad=0.02)
        bar.set_label(f"log10 of the {label}", color=ink, fontsize=9)
        bar.ax.tick_params(colors=ink, labelsize=8)
        bar.outline.set_visible(False)
    return figure


def log10_or_nan(values: np.ndarray) -> np.ndarray:
    """Return the decimal logarithm; NaN where a value is not positive."""
    out = np.full(values.shape, np.nan)
    np.log10(values, out=out, where=values > 0)
    return out
