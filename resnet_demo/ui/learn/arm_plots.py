"""Line plots of a group of runs, one line and one colour per arm, as tables for gr.LinePlot."""

from collections.abc import Callable, Iterable
from statistics import mean
from typing import Any

import gradio as gr

from resnet_demo.architectures import CIFAR_DEPTHS
from resnet_demo.events import Epoch
from resnet_demo.runs.text import escape_markdown
from resnet_demo.runs.view import RunView, thin_points
from resnet_demo.tasks.snapshot import RunSnapshot
from resnet_demo.ui.learn.group_panel import GroupSnapshot
from resnet_demo.ui.plots import running_mean, step_positions

Points = list[tuple[float, float]]

MAX_POINTS = 500  # in all lines; the browser stalls above some 600
SMOOTH = 20  # logged steps
# Residual networks are blue and plain ones orange, darker with depth; the other colours are from
# Okabe and Ito 2008.
RESIDUAL = ("#7db8e0", "#5fa8d8", "#56B4E9", "#3a96d0", "#0072B2", "#08519c", "#08306b")
PLAIN = ("#f2b56b", "#eda13f", "#E69F00", "#e0811a", "#D55E00", "#a63603", "#6b2a04")
COLOURS = {
    **{f"resnet{depth}": colour for depth, colour in zip(CIFAR_DEPTHS, RESIDUAL, strict=True)},
    **{f"plain{depth}": colour for depth, colour in zip(CIFAR_DEPTHS, PLAIN, strict=True)},
    "plain without BatchNorm": "#CC79A7",
    "plain": "#D55E00",
    "residual": "#0072B2",
    "vgg16": "#D55E00",
    "resnet18": "#0072B2",
}


def arm_plot(
    elem_id: str, title: str, x: str = "epoch", y: str = "top-1", **options: Any
) -> gr.LinePlot:
    """Build a plot with one line per arm. options: of gr.LinePlot, they replace the defaults."""
    defaults = {
        "color": "arm",
        "color_map": COLOURS,
        "colors_in_legend": [],  # the chapter shows `legend` instead
        "color_title": " ",
        "y_title": " ",
        "height": 280,
    }
    return gr.LinePlot(x=x, y=y, title=title, elem_id=elem_id, **(defaults | options))


def legend(arms: Iterable[str]) -> str:
    """Return the legend of these arms as HTML."""
    # Names that are not in COLOURS could come from a file: they must not reach HTML.
    return "".join(
        f'<span><i style="background:{COLOURS[arm]}"></i>{arm}</span>'
        for arm in arms
        if arm in COLOURS
    )


def loss_lines(snapshot: GroupSnapshot) -> dict[str, Any]:
    """Return the training loss by epoch: per step for one seed, per epoch for several."""
    return lines_table("loss", {arm: loss_points(runs) for arm, runs in snapshot.arms.items()})


def loss_points(runs: list[RunSnapshot]) -> Points:
    """Return the loss curve of one arm."""
    if len(runs) == 1:
        view = runs[0].view
        steps = [(x, step.loss) for x, step in zip(step_positions(view), view.steps, strict=True)]
        return running_mean(steps, over=SMOOTH)
    return epoch_means(runs, lambda epoch: epoch.train_loss)


def accuracy_lines(snapshot: GroupSnapshot) -> dict[str, Any]:
    """Return the validation accuracy in percent by epoch, the mean over the seeds."""
    lines = {
        arm: epoch_means(runs, lambda epoch: 100 * epoch.val_top1)
        for arm, runs in snapshot.arms.items()
    }
    return lines_table("top-1", lines)


def accuracy_by_minutes(snapshot: GroupSnapshot) -> dict[str, Any]:
    """Return the validation accuracy in percent by minutes, of the first seed of each arm."""
    lines = {arm: points_by_minutes(runs[0].view) for arm, runs in snapshot.arms.items() if runs}
    return lines_table("top-1", lines, x="minutes")


def points_by_minutes(view: RunView) -> Points:
    """Return (minutes of training, accuracy in percent) after each epoch."""
    points, seconds = [], 0.0
    for epoch in view.epochs:
        seconds += epoch.seconds
        points.append((seconds / 60, 100 * epoch.val_top1))
    return points


def epoch_means(runs: list[RunSnapshot], value: Callable[[Epoch], float]) -> Points:
    """Return (epoch, mean over the runs that have reached it)."""
    by_epoch: dict[int, list[float]] = {}
    for run in runs:
        for epoch in run.view.epochs:
            by_epoch.setdefault(epoch.epoch, []).append(value(epoch))
    return [(float(epoch), mean(values)) for epoch, values in sorted(by_epoch.items())]


def lines_table(y: str, lines: dict[str, Points], x: str = "epoch") -> dict[str, Any]:
    """Return the lines, thinned, as one table of x, y and arm."""
    # MAX_POINTS counts all lines together; with fewer than 8 points a curve loses its shape.
    limit = max(8, MAX_POINTS // max(1, len(lines)))
    rows = [
        [round(x_value, 4), round(y_value, 5), arm]
        for arm, points in lines.items()
        for x_value, y_value in thin_points(points, limit)
    ]
    return line_table(rows, [x, y, "arm"])


def line_table(
    rows: list[list[Any]], columns: list[str], names: Iterable[str] = COLOURS
) -> dict[str, Any]:
    """Return rows of x, y and line name in the form that gr.LinePlot takes.

    names: of all lines that the plot can ever show.
    """
    # gr.LinePlot fixes its colours on the first table: a line that comes later has no stroke, so
    # each line needs a row in each table. A table, never None: see plots.line_table.
    drawn = {name for _, _, name in rows}
    positions = (rows[0][0],) if rows else (0.0, 1.0)
    rows = rows + [[x, None, name] for name in names if name not in drawn for x in positions]
    kinds = ["quantitative", "quantitative", "nominal"]
    return {
        "columns": columns,
        "data": rows,
        "datatypes": dict(zip(columns, kinds, strict=True)),
        "mark": "line",
    }


def last_epoch(run: RunSnapshot, name: str) -> float:
    """Return a number of a run's last epoch."""
    return getattr(run.view.epochs[-1], name)


def bold_arm(arm: str) -> str:
    """Return the name of an arm for a sentence (Markdown)."""
    return f"**{escape_markdown(arm)}**"
