"""What the live plots show, as the plain tables that gr.LinePlot takes: no pandas on every tick."""

import math
from typing import Any

from resnet_demo.runs.view import RunView, thinned

COLOURS = {"train": "#0072B2", "val": "#D55E00"}  # Okabe & Ito 2008: apart for every eye
LEGEND = "".join(
    f'<span><i style="background:{colour}"></i>{split}</span>'
    for split, colour in (("training batches", COLOURS["train"]), ("validation", COLOURS["val"]))
)
MOST_POINTS = 280  # a line; the browser stalls above some 600 rows in all


def loss_table(view: RunView, log: bool = False) -> dict[str, Any]:
    """Loss of each logged batch and of each validation, in nats, against epochs.

    log: its decimal logarithm, in the same column: gr.LinePlot keeps the one it began with.
    """
    train = [(x, step.loss) for x, step in zip(epochs_done(view), view.steps, strict=True)]
    val = [(float(epoch.epoch), epoch.val_loss) for epoch in view.epochs]
    if log:
        train, val = log10(train), log10(val)
    return table("loss", {"train": train, "val": val})


def accuracy_table(view: RunView) -> dict[str, Any]:
    """Top-1 in percent against epochs: mean of recent batches, and of each validation."""
    per_epoch = view.started.steps_per_epoch if view.started else 1
    train = running_mean(
        [(x, 100 * step.top1) for x, step in zip(epochs_done(view), view.steps, strict=True)],
        over=10 if per_epoch > 10 else 1,
    )
    val = [(float(epoch.epoch), 100 * epoch.val_top1) for epoch in view.epochs]
    return table("top-1", {"train": train, "val": val})


def epochs_done(view: RunView) -> list[float]:
    """Where each logged step stands on the axis."""
    per_epoch = view.started.steps_per_epoch if view.started else 1
    return [step.step / per_epoch for step in view.steps]


def running_mean(points: list[tuple[float, float]], over: int) -> list[tuple[float, float]]:
    """Each y the mean of it and of up to `over` - 1 before it."""
    means, total = [], 0.0
    for i, (x, y) in enumerate(points):
        total += y - (points[i - over][1] if i >= over else 0.0)
        means.append((x, total / min(i + 1, over)))
    return means


def log10(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A loss of zero, which a logarithm has no place for, is left out."""
    return [(x, math.log10(y)) for x, y in points if y > 0]


def table(name: str, lines: dict[str, list[tuple[float, float]]]) -> dict[str, Any] | None:
    """The lines as one long table of epoch, value and split; None before there is a point.

    gr.LinePlot settles its colours on the first table it gets: every split is in each of them, with
    an empty row where it has no point yet. A lone point draws no line, so it gets a short one.
    """
    rows: list[list[Any]] = []
    for split, points in lines.items():
        thin = thinned(points, MOST_POINTS)
        if len(thin) == 1 and split == "val":
            thin = [(thin[0][0] * 0.96, thin[0][1]), *thin]
        rows += [[round(x, 4), round(y, 5), split] for x, y in thin]
    if not rows:
        return None
    rows += [[rows[0][0], None, split] for split, points in lines.items() if not points]
    return {
        "columns": ["epoch", name, "split"],
        "data": rows,
        "datatypes": {"epoch": "quantitative", name: "quantitative", "split": "nominal"},
        "mark": "line",
    }
