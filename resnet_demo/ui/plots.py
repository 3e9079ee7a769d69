"""Line charts: their data, and the component that charts.js draws them in.

`line_chart` is the component, `chart` its value: plots below or beside each other that share the
x axis. The Train tab's charts are `run_curves`. charts.js adds what needs no server: smoothing,
logarithmic axes, zoom, and the values under the pointer or the arrow keys.
"""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_demo.lru import LRU
from resnet_demo.runs.text import accuracy_text, duration_text, share_text
from resnet_demo.runs.view import RunView, thin_points

SCRIPT = Path(__file__).with_name("charts.js")  # in the head of the page
TRAINING, VALIDATION = "training", "validation"
# Okabe & Ito 2008: safe for colour-blind readers
COLOURS = {TRAINING: "#0072B2", VALIDATION: "#D55E00", "learning rate": "#009E73"}
PLOT_HEIGHT, LOW_HEIGHT = 240, 130  # pixels
EPOCH_COLUMNS = ["epoch", "train loss", "val loss", "train accuracy", "val accuracy", "time"]
MAX_POINTS = 200  # of a line, up to twice as many while the bins are not full
MAX_CACHED = 32  # curves of a run, the least recently used are evicted
SMOOTHED_LOSS = (
    "Training loss includes label smoothing {share:g}; validation loss does not. Compare shapes, "
    "not values."
)

# (x, y), or (x, mean, lowest, highest) of several steps
Point = tuple[float, ...]


def line_chart(elem_id: str, value: dict[str, Any], **options: Any) -> gr.HTML:
    """Build a component that draws a `chart`. options: of gr.HTML."""
    # Gradio would execute `${…}` inside a value that its template shows. This template shows none:
    # the script reads the value.
    return gr.HTML(
        value,
        html_template='<div class="line-chart"></div>',
        js_on_load="window.lineChart(element, props, watch)",
        apply_default_css=False,
        elem_id=elem_id,
        **{"padding": False, "container": False, **options},
    )


def chart(
    x_title: str,
    plots: Sequence[dict[str, Any]],
    *,
    x_max: float | None = None,
    log_x: bool = False,
    steps: int | None = None,
    name: str = "",
) -> dict[str, Any]:
    """Return the value of a `line_chart`.

    plots: of `plot`. x_max: end of the axis, however far the lines go. steps: per unit of x, to
    name the step of a point. name: of the run, shown with the values.
    """
    x = {"title": x_title, "max": x_max, "log": log_x, "steps": steps}
    return {"x": x, "plots": list(plots), "name": name}


def plot(
    key: str,
    title: str,
    lines: Sequence[dict[str, Any]],
    *,
    y: tuple[float, float] | None = None,
    log: bool | str = False,
    unit: str = "",
    note: str = "",
    height: int = PLOT_HEIGHT,
    wide: bool = False,
) -> dict[str, Any]:
    """Return one plot of a `chart`.

    key: names it among the plots of a page that share a choice of scale. y: ends of the axis; by
    default, those of the lines and 0. log: offer a logarithmic axis; "first": start with it. wide:
    a row of its own.
    """
    return {
        "key": key,
        "title": title,
        "lines": list(lines),
        "y": y,
        "log": log,
        "unit": unit,
        "note": note,
        "height": height,
        "wide": wide,
    }


def line(
    name: str, points: Sequence[Point], colour: str, *, smooth: bool = False, marks: bool = False
) -> dict[str, Any]:
    """Return one line of a `plot`.

    points: one with a lowest and a highest value gets a band. smooth: the smoothing slider applies
    to it. marks: draw a dot at each point while they are few.
    """
    # Rounded, because open pages receive all points again and again.
    rounded = [[float(f"{x:.7g}"), *(float(f"{y:.5g}") for y in values)] for x, *values in points]
    return {"name": name, "points": rounded, "colour": colour, "smooth": smooth, "marks": marks}


class CurveCache:
    """Charts and epoch table of recent runs, shared by all pages."""

    def __init__(self) -> None:
        self.cached: LRU[str, tuple[list[float], tuple[Any, ...]]] = LRU(MAX_CACHED)  # by log file

    def __call__(self, view: RunView, name: str = "", smoothing: float = 0.0) -> tuple[Any, ...]:
        """Return charts and epoch table; drawn again if the version has changed.

        name: of the run. smoothing: of its labels.
        """
        key, version = str(view.log.path), curve_version(view)
        entry = self.cached.get(key)
        if entry is None or entry[0] != version:
            # Drawn once for all pages: each would send the same.
            entry = version, (run_curves(view, name, smoothing), epoch_table(view))
            self.cached[key] = entry
        return entry[1]


def curve_version(view: RunView) -> list[float]:
    """Return a value that changes when the curves of a run visibly change."""
    started = view.started.time if view.started else 0.0
    # In a long run, one more step only changes the last bin a little.
    width = bin_width(view.step)
    return [started, width, view.step // width, len(view.epochs), view.ended is not None]


def run_curves(view: RunView, name: str = "", smoothing: float = 0.0) -> dict[str, Any]:
    """Return the chart of a run: loss in nats, top-1 in percent, learning rate, by epoch.

    name: of the run. smoothing: of its labels.
    """
    started = view.started
    note = SMOOTHED_LOSS.format(share=smoothing) if smoothing else ""
    shown = [
        plot("loss", "Loss", both_lines(view, "loss", 1.0), log=True, note=note),
        plot("accuracy", "Accuracy", both_lines(view, "top1", 100.0), y=(0, 100), unit=" %"),
    ]
    rates = [line("learning rate", rate_points(view), COLOURS["learning rate"])]
    if view.steps or view.head is None:  # a head is fitted without a learning rate
        low = {"height": LOW_HEIGHT, "wide": True}
        shown.append(plot("lr", "Learning rate", rates, log=True, **low))
    return chart(
        "epoch",
        shown,
        x_max=started.epochs if started else None,
        steps=started.steps_per_epoch if started else None,
        name=name,
    )


def both_lines(view: RunView, quantity: str, scale: float) -> list[dict[str, Any]]:
    """Return the lines of training batches and validations. quantity: loss or top1.

    A run without batches, whose head was fitted to all images at once, has a point for each epoch.
    """

    def by_epoch(split: str) -> list[Point]:
        values = (getattr(epoch, f"{split}_{quantity}") for epoch in view.epochs)
        return [(float(each.epoch), scale * y) for each, y in zip(view.epochs, values, strict=True)]

    val = by_epoch("val")
    train = [
        (x, scale * getattr(step, quantity))
        for x, step in zip(step_positions(view), view.steps, strict=True)
    ]
    binned = bin_points(view, train) if train else thin_points(by_epoch("train"), 2 * MAX_POINTS)
    return [
        line(TRAINING, binned, COLOURS[TRAINING], smooth=True),
        line(VALIDATION, thin_points(val, 2 * MAX_POINTS), COLOURS[VALIDATION], marks=True),
    ]


def rate_points(view: RunView) -> list[Point]:
    """Return the learning rate by epoch."""
    rates = [(x, step.lr) for x, step in zip(step_positions(view), view.steps, strict=True)]
    return thin_points(rates, MAX_POINTS)


def bin_points(view: RunView, points: Sequence[Point]) -> list[Point]:
    """Return one point for each bin of steps: (x, mean, lowest, highest).

    points: (x, y) of each of the view's steps. A bin of one step has no lowest and highest.
    """
    # The bins depend on the steps alone, so the drawn part of a curve stays as it is while a run
    # goes on. A spike of one step stays visible as the highest of its bin.
    width, binned = bin_width(view.step), []
    pairs = zip(view.steps, points, strict=True)
    for _, group in groupby(pairs, lambda pair: pair[0].step // width):
        xs, ys = zip(*(point for _, point in group), strict=True)
        spread = (min(ys), max(ys)) if len(ys) > 1 else ()
        binned.append((xs[-1], sum(ys) / len(ys), *spread))
    return binned


def bin_width(step: int) -> int:
    """Return the steps per point at this step of a run, a power of two."""
    # A power of two: when it doubles, two whole bins make one.
    return 1 << max(0, (step // MAX_POINTS).bit_length() - 1)


def epoch_table(view: RunView | None) -> dict[str, Any]:
    """Return a row for each epoch, newest first."""
    rows = [
        [
            epoch.epoch,
            f"{epoch.train_loss:.4f}",
            f"{epoch.val_loss:.4f}",
            share_text(epoch.train_top1, 2),
            accuracy_text(epoch.val_top1, epoch.val_images),
            duration_text(epoch.seconds),
        ]
        for epoch in reversed(view.epochs if view else [])
    ]
    return {"headers": EPOCH_COLUMNS, "data": rows, "metadata": None}


def step_positions(view: RunView) -> list[float]:
    """Return the position of each logged step on the axis, in epochs."""
    per_epoch = view.started.steps_per_epoch if view.started else 1
    return [step.step / per_epoch for step in view.steps]


def empty_curves() -> dict[str, Any]:
    """Return the chart of a run without any point."""
    return run_curves(RunView(log=None))
