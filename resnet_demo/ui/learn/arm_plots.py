"""Charts of a group of runs: one line and one colour per arm."""

from collections.abc import Callable, Iterable, Sequence
from statistics import mean
from typing import Any

from resnet_demo.architectures import CIFAR_DEPTHS
from resnet_demo.events import Epoch
from resnet_demo.runs.text import escape_markdown
from resnet_demo.runs.view import RunView, thin_points
from resnet_demo.tasks.snapshot import RunSnapshot
from resnet_demo.ui import plots
from resnet_demo.ui.learn.group_panel import GroupSnapshot
from resnet_demo.ui.plots import Point, step_positions

MAX_POINTS = 800  # in all lines of a plot
OTHER = "#808080"  # an arm of a name that this program does not give
SEED_BANDS = "Bands: from the lowest to the highest of the seeds."


def shades(light: tuple[int, int, int], dark: tuple[int, int, int], count: int) -> list[str]:
    """Return colours from light to dark, as `#rrggbb`."""
    return [
        "#"
        + "".join(
            f"{round(a + (b - a) * i / (count - 1)):02x}" for a, b in zip(light, dark, strict=True)
        )
        for i in range(count)
    ]


# Residual networks are blue and plain ones orange, darker with depth. Every colour has a contrast
# of 3 or more with the light and with the dark page.
RESIDUAL = shades((56, 152, 217), (40, 98, 200), len(CIFAR_DEPTHS))
PLAIN = shades((200, 130, 0), (186, 66, 16), len(CIFAR_DEPTHS))
COLOURS = {
    **{f"resnet{depth}": colour for depth, colour in zip(CIFAR_DEPTHS, RESIDUAL, strict=True)},
    **{f"plain{depth}": colour for depth, colour in zip(CIFAR_DEPTHS, PLAIN, strict=True)},
    "plain without BatchNorm": "#b0609c",
    "plain": "#ce5f0a",
    "residual": "#2b7fd0",
    "vgg16": "#ce5f0a",
    "resnet18": "#2b7fd0",
}


def no_chart() -> dict[str, Any]:
    """Return the value of a chart that shows nothing yet."""
    return plots.chart("", [])


def arm_lines(lines: dict[str, Sequence[Point]], **options: Any) -> list[dict[str, Any]]:
    """Return a line for each arm, thinned. options: of `plots.line`."""
    # The whole chart is sent at each change, so its lines share one number of points. With fewer
    # than 8 points a curve loses its shape.
    limit = max(8, MAX_POINTS // max(1, len(lines)))
    return [
        plots.line(arm, thin_points(points, limit), COLOURS.get(arm, OTHER), **options)
        for arm, points in lines.items()
    ]


def epoch_chart(snapshot: GroupSnapshot) -> dict[str, Any]:
    """Return training loss and validation accuracy by epoch.

    The loss is that of each step for one seed. For several, both are means over the seeds, with
    the range of the seeds.
    """
    steps = {arm: step_losses(runs) for arm, runs in snapshot.arms.items()}
    has_seeds = any(len(runs) > 1 for runs in snapshot.arms.values())
    if has_seeds:
        steps = epoch_lines(snapshot, lambda epoch: epoch.train_loss)
    accuracy = epoch_lines(snapshot, lambda epoch: 100 * epoch.val_top1)
    note = SEED_BANDS if has_seeds else ""
    return plots.chart(
        "epoch",
        [
            plots.plot(
                "learn-loss",
                "Training loss",
                arm_lines(steps, smooth=not has_seeds, marks=has_seeds),
                log=True,
                note=note,
            ),
            plots.plot(
                "learn-accuracy",
                "Validation accuracy",
                arm_lines(accuracy, marks=True),
                y=(0, 100),
                unit=" %",
                note=note,
            ),
        ],
        # The axis of the whole run: curves grow from left to right, and nothing is rescaled.
        x_max=last_epoch_number(snapshot),
    )


def last_epoch_number(snapshot: GroupSnapshot) -> int | None:
    """Return the number of epochs of the longest run that has started."""
    return max((run.view.started.epochs for run in snapshot.runs if run.view.started), default=None)


def step_losses(runs: Sequence[RunSnapshot]) -> list[Point]:
    """Return the loss of each logged step of an arm's first run."""
    if not runs:
        return []
    # The first run only: for several seeds, `epoch_chart` shows means by epoch instead.
    view = runs[0].view
    return [(x, step.loss) for x, step in zip(step_positions(view), view.steps, strict=True)]


def epoch_lines(
    snapshot: GroupSnapshot, value: Callable[[Epoch], float]
) -> dict[str, Sequence[Point]]:
    """Return for each arm: epoch, mean over the runs that have reached it, lowest, highest."""
    lines: dict[str, Sequence[Point]] = {}
    for arm, runs in snapshot.arms.items():
        by_epoch: dict[int, list[float]] = {}
        for run in runs:
            for epoch in run.view.epochs:
                by_epoch.setdefault(epoch.epoch, []).append(value(epoch))
        lines[arm] = [spread_point(x, values) for x, values in sorted(by_epoch.items())]
    return lines


def spread_point(x: float, values: Sequence[float]) -> Point:
    """Return x and the mean of the values; of several, also the lowest and the highest."""
    spread = (min(values), max(values)) if len(values) > 1 else ()
    return (float(x), mean(values), *spread)


def minutes_chart(snapshot: GroupSnapshot) -> dict[str, Any]:
    """Return validation accuracy by minutes of training, of the first run of each arm."""
    lines = {arm: points_by_minutes(runs[0].view) for arm, runs in snapshot.arms.items() if runs}
    title = "Validation accuracy by minutes of training"
    drawn = arm_lines(lines, marks=True)
    plot = plots.plot("learn-minutes", title, drawn, y=(0, 100), unit=" %")
    return plots.chart("minutes", [plot])


def points_by_minutes(view: RunView) -> list[Point]:
    """Return (minutes of training, accuracy in percent) after each epoch."""
    points, seconds = [], 0.0
    for epoch in view.epochs:
        seconds += epoch.seconds
        points.append((seconds / 60, 100 * epoch.val_top1))
    return points


def last_epoch(run: RunSnapshot, name: str) -> float:
    """Return a number of a run's last epoch."""
    return getattr(run.view.epochs[-1], name)


def bold_arm(arm: str) -> str:
    """Return the name of an arm for a sentence (Markdown)."""
    return f"**{escape_markdown(arm)}**"


def table_text(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table (Markdown); "" without rows. Cells are escaped."""
    # Some cells are names of arms, which come from files of runs. On a phone, a cell may be broken
    # at any space, and a sign must not stand alone on its line.
    lines = [
        [escape_markdown(str(cell)).replace(" %", "\N{NO-BREAK SPACE}%") for cell in row]
        for row in rows
    ]
    if not lines:
        return ""
    return "\n".join(
        f"| {' | '.join(cells)} |" for cells in [headers, ["---"] * len(headers), *lines]
    )
