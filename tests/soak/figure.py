"""Draws what a soak saw: `python -m tests.soak.figure build/soak/samples.json docs/soak.png`."""

import json
import sys
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnet_demo.evaluation.figures import BLUE, GREY, VERMILLION

BIN_S = 15.0


def draw(told: dict[str, Any]) -> Figure:
    """Memory, descriptors, waiting time over minutes; a dotted line where the worker was killed."""
    figure = Figure(figsize=(9, 8), layout="constrained", dpi=110)
    memory, descriptors, waiting = figure.subplots(3, sharex=True, height_ratios=(4, 3, 4))
    for name, colour, style, marker in (("app", BLUE, "-", "o"), ("worker", VERMILLION, "--", "s")):
        at = [sample["at"] / 60 for sample in told["samples"]]
        for axes, what in ((memory, "mb"), (descriptors, "fds")):
            values = [s[name][what] if s[name] else float("nan") for s in told["samples"]]
            every = max(1, len(at) // 12)
            axes.plot(at, values, style, color=colour, marker=marker, markevery=every, label=name)
    at, mid, slow = waits(told["looks"])
    waiting.plot(at, mid, "-", color=BLUE, marker="o", markevery=8, label="median")
    waiting.plot(at, slow, "--", color=VERMILLION, marker="s", markevery=8, label="95th percentile")
    finish(memory, "memory (MB)")
    finish(descriptors, "open descriptors")
    finish(waiting, f"a look's wait (s), {BIN_S:.0f} s bins")
    for axes in (memory, descriptors, waiting):
        for kill in told["kills"]:
            axes.axvline(kill["at"] / 60, color=GREY, linestyle=":", zorder=0)
    waiting.set_xlabel("minutes (dotted: the worker is killed, then resumed)")
    memory.set_title(
        f"{told['summary']['viewers']} viewers of one run, {len(told['kills'])} kills of its worker"
    )
    return figure


def waits(looks: list[tuple[float, float]]) -> tuple[list[float], list[float], list[float]]:
    """Of each stretch of BIN_S: its middle in minutes, median and 95th percentile of the waits."""
    bins: dict[int, list[float]] = {}
    for at, seconds in looks:
        bins.setdefault(int(at // BIN_S), []).append(seconds)
    full = sorted((number, some) for number, some in bins.items() if len(some) > 1)
    return (
        [(number + 0.5) * BIN_S / 60 for number, _ in full],
        [median(some) for _, some in full],
        [quantiles(some, n=20)[-1] for _, some in full],
    )


def finish(axes: Axes, label: str) -> None:
    """From zero, with a grid and a key."""
    axes.set_ylim(bottom=0)
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text())).savefig(sys.argv[2])
