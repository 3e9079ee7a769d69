"""Groups of runs as the tables that gr.LinePlot takes, an arm a colour."""

from collections.abc import Iterable
from statistics import mean
from typing import Any

import gradio as gr

from resnet_demo.architectures import CIFAR_DEPTHS
from resnet_demo.runs.text import escape_markdown
from resnet_demo.runs.view import RunView, thinned
from resnet_demo.tasks.snapshot import RunSnapshot
from resnet_demo.ui.learn.group_panel import GroupSnapshot
from resnet_demo.ui.plots import running_mean, step_positions

MAX_POINTS = 500  # points in all: the browser stalls above some 600
SMOOTH = 20  # logged steps
# Blues for residual, oranges for plain networks, the darker the deeper; the others after Okabe and
# Ito 2008. Depths that are compared lie far apart.
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
    """A line an arm; `legend` says which is which. options: of gr.LinePlot, in place of ours."""
    same = {"color": "arm", "color_map": COLOURS, "colors_in_legend": [], "color_title": " "}
    same |= {"y_title": " ", "height": 280}
    return gr.LinePlot(x=x, y=y, title=title, elem_id=elem_id, **{**same, **options})


def legend(seen: GroupSnapshot) -> str:
    """What the colours of its arms mean."""
    return legend_of(seen.looks)


def legend_of(arms: Iterable[str]) -> str:
    """What the colours mean. Only names of ours: nothing here is a person's text."""
    return "".join(
        f'<span><i style="background:{COLOURS[arm]}"></i>{arm}</span>'
        for arm in arms
        if arm in COLOURS
    )


def loss_lines(seen: GroupSnapshot) -> dict[str, Any] | None:
    """Training loss in nats against epochs: batch by batch of one seed, epoch by epoch of more."""
    return table("loss", {arm: loss_of(looks) for arm, looks in seen.looks.items()})


def loss_of(looks: list[RunSnapshot]) -> list[tuple[float, float]]:
    """One arm's curve."""
    if len(looks) == 1:
        view = looks[0].view
        steps = [(x, step.loss) for x, step in zip(step_positions(view), view.steps, strict=True)]
        return running_mean(steps, over=SMOOTH)
    return means(looks, lambda epoch: epoch.train_loss)


def accuracy_lines(seen: GroupSnapshot) -> dict[str, Any] | None:
    """Validation top-1 in percent against epochs, the mean over the seeds."""
    return table(
        "top-1",
        {
            arm: means(looks, lambda epoch: 100 * epoch.val_top1)
            for arm, looks in seen.looks.items()
        },
    )


def accuracy_by_minutes(seen: GroupSnapshot) -> dict[str, Any] | None:
    """Validation top-1 in percent against minutes of training, of each arm's first seed."""
    lines = {arm: by_minutes(looks[0].view) for arm, looks in seen.looks.items() if looks}
    return table("top-1", lines, x="minutes")


def by_minutes(view: RunView) -> list[tuple[float, float]]:
    """(minutes since the start, percent) after each epoch."""
    points, seconds = [], 0.0
    for epoch in view.epochs:
        seconds += epoch.seconds
        points.append((seconds / 60, 100 * epoch.val_top1))
    return points


def means(looks: list[RunSnapshot], value: Any) -> list[tuple[float, float]]:
    """(epoch, mean over the runs that are so far)."""
    by_epoch: dict[int, list[float]] = {}
    for look in looks:
        for epoch in look.view.epochs:
            by_epoch.setdefault(epoch.epoch, []).append(value(epoch))
    return [(float(epoch), mean(values)) for epoch, values in sorted(by_epoch.items())]


def table(
    name: str, lines: dict[str, list[tuple[float, float]]], x: str = "epoch"
) -> dict[str, Any] | None:
    """The lines as one long table of x, value and arm; None before there is a point."""
    most = max(8, MAX_POINTS // max(1, len(lines)))
    rows = [
        [round(at, 4), round(y, 5), arm]
        for arm, points in lines.items()
        for at, y in thinned(points, most)
    ]
    return table_of(rows, [x, name, "arm"]) if rows else None


def table_of(rows: list[list[Any]], columns: list[str]) -> dict[str, Any]:
    """Rows as gr.LinePlot takes them; the last column says which line."""
    kinds = ["quantitative", "quantitative", "nominal"]
    return {
        "columns": columns,
        "data": rows,
        "datatypes": dict(zip(columns, kinds, strict=True)),
        "mark": "line",
    }


def last_epoch(look: RunSnapshot, name: str) -> float:
    """A number of a run's last epoch."""
    return getattr(look.view.epochs[-1], name)


def bold_arm(arm: str) -> str:
    """An arm in a sentence (Markdown)."""
    return f"**{escape_markdown(arm)}**"
