"""The learning curves and epoch table of a run, as the plain tables that Gradio's components take.

gr.LinePlot accepts a dict of columns and rows: no pandas for each update.
"""

import math
from typing import Any

from resnet_demo.lru import LRU
from resnet_demo.runs.text import duration_text
from resnet_demo.runs.view import RunView, thin_points

COLOURS = {"train": "#0072B2", "val": "#D55E00"}  # Okabe & Ito 2008: safe for colour-blind readers
LEGEND = "".join(
    f'<span><i style="background:{colour}"></i>{split}</span>'
    for split, colour in (("training batches", COLOURS["train"]), ("validation", COLOURS["val"]))
)
LOSS_COLUMN, ACCURACY_COLUMN = "loss", "accuracy"
EPOCH_COLUMNS = ["epoch", "train loss", "val loss", "train accuracy", "val accuracy", "time"]
MAX_POINTS = 280  # of a line; the browser stalls above some 600 rows in all
MAX_CACHED = 32  # curves of a run on one scale, the least recently used are evicted

Point = tuple[float, float]


class CurveCache:
    """Both plots and the epoch table of recent runs, shared by all pages."""

    def __init__(self) -> None:
        # (log file, is the loss logarithmic) -> version and tables
        self.cached: LRU[tuple[str, bool], tuple[list[float], tuple[Any, ...]]] = LRU(MAX_CACHED)

    def __call__(self, view: RunView, log_loss: bool) -> tuple[Any, ...]:
        """Return loss plot, accuracy plot and epoch table; redrawn if the version has changed."""
        key, version = (str(view.log.path), log_loss), curve_version(view)
        entry = self.cached.get(key)
        if entry is None or entry[0] != version:
            entry = version, draw_curves(view, log_loss)
            self.cached[key] = entry
        return entry[1]


def curve_version(view: RunView) -> list[float]:
    """Return a value that changes when the curves of a run visibly change."""
    started = view.started.time if view.started else 0.0
    # A line is thinned to MAX_POINTS: in a long run, one more step moves none of its points.
    stride = 1 << max(0, (view.step // MAX_POINTS).bit_length() - 1)
    return [started, stride, view.step // stride, len(view.epochs), view.ended is not None]


def draw_curves(view: RunView, log_loss: bool) -> tuple[Any, ...]:
    """Return loss plot, accuracy plot and epoch table."""
    return loss_table(view, log_loss), accuracy_table(view), epoch_table(view)


def loss_table(view: RunView, log: bool = False) -> dict[str, Any]:
    """Return the loss of each logged batch and each validation, in nats, against epochs.

    log: return log10 of the loss. The column keeps its name, since gr.LinePlot cannot change it.
    """
    train = [(x, step.loss) for x, step in zip(step_positions(view), view.steps, strict=True)]
    val = [(float(epoch.epoch), epoch.val_loss) for epoch in view.epochs]
    if log:  # gr.LinePlot has no logarithmic axis
        train, val = log10_points(train), log10_points(val)
    return line_table(LOSS_COLUMN, {"train": train, "val": val})


def accuracy_table(view: RunView) -> dict[str, Any]:
    """Return top-1 in percent against epochs: a running mean of batches, and each validation."""
    per_epoch = view.started.steps_per_epoch if view.started else 1
    train = running_mean(
        [(x, 100 * step.top1) for x, step in zip(step_positions(view), view.steps, strict=True)],
        over=10 if per_epoch > 10 else 1,  # a mean over more than an epoch would lag behind
    )
    val = [(float(epoch.epoch), 100 * epoch.val_top1) for epoch in view.epochs]
    return line_table(ACCURACY_COLUMN, {"train": train, "val": val})


def epoch_table(view: RunView | None) -> dict[str, Any]:
    """Return a row for each epoch, newest first."""
    rows = [
        [
            epoch.epoch,
            f"{epoch.train_loss:.4f}",
            f"{epoch.val_loss:.4f}",
            f"{epoch.train_top1:.2%}",
            f"{epoch.val_top1:.2%}",
            duration_text(epoch.seconds),
        ]
        for epoch in reversed(view.epochs if view else [])
    ]
    return {"headers": EPOCH_COLUMNS, "data": rows, "metadata": None}


def step_positions(view: RunView) -> list[float]:
    """Return the position of each logged step on the axis, in epochs."""
    per_epoch = view.started.steps_per_epoch if view.started else 1
    return [step.step / per_epoch for step in view.steps]


def running_mean(points: list[Point], over: int) -> list[Point]:
    """Return the points with each y replaced by the mean of the last `over` values."""
    means, total = [], 0.0
    for i, (x, y) in enumerate(points):
        total += y - (points[i - over][1] if i >= over else 0.0)
        means.append((x, total / min(i + 1, over)))
    return means


def log10_points(points: list[Point]) -> list[Point]:
    """Return log10 of each y. Points at zero, or that are not a number, are left out."""
    return [(x, math.log10(y)) for x, y in points if y > 0]


def empty_curves() -> dict[str, dict[str, Any]]:
    """Return the tables of both plots without any point."""
    lines: dict[str, list[Point]] = {"train": [], "val": []}
    return {name: line_table(name, lines) for name in (LOSS_COLUMN, ACCURACY_COLUMN)}


def line_table(name: str, lines: dict[str, list[Point]]) -> dict[str, Any]:
    """Return the lines as one table of epoch, value and split."""
    rows: list[list[Any]] = []
    for split, points in lines.items():
        thin = thin_points(points, MAX_POINTS)
        if len(thin) == 1 and split == "val":  # a lone point would draw no line
            thin = [(thin[0][0] * 0.96, thin[0][1]), *thin]
        # Rounded, because open pages receive the whole table again and again.
        rows += [[round(x, 4), round(y, 5), split] for x, y in thin]
    # gr.LinePlot 6.31 fixes its colours on the first table: each split needs a row in each table.
    # Never None in place of a table: the plot would be removed, while an observer of its size that
    # an earlier redrawing left behind still reads its width.
    if rows:
        rows += [[rows[0][0], None, split] for split, points in lines.items() if not points]
    else:  # two positions, because an axis of one is labelled with six decimals
        rows = [[x, None, split] for split in lines for x in (0.0, 1.0)]
    return {
        "columns": ["epoch", name, "split"],
        "data": rows,
        "datatypes": {"epoch": "quantitative", name: "quantitative", "split": "nominal"},
        "mark": "line",
    }
