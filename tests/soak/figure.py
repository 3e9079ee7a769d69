"""Draw the measurements of a soak.

python -m tests.soak.figure build/soak/samples.json docs/soak.png
"""

import json
import sys
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnet_demo.evaluation.figures import BLUE, GREY, VERMILLION

BIN_S = 15.0


def draw(results: dict[str, Any]) -> Figure:
    """Draw memory, descriptors and waiting times over minutes; a dotted line marks each kill."""
    figure = Figure(figsize=(9, 8), layout="constrained", dpi=110)
    memory, descriptors, waiting = figure.subplots(3, sharex=True, height_ratios=(4, 3, 4))
    for name, colour, style, marker in (("app", BLUE, "-", "o"), ("worker", VERMILLION, "--", "s")):
        at = [sample["at"] / 60 for sample in results["samples"]]
        for axes, what in ((memory, "mb"), (descriptors, "fds")):
            values = [s[name][what] if s[name] else float("nan") for s in results["samples"]]
            every = max(1, len(at) // 12)
            axes.plot(at, values, style, color=colour, marker=marker, markevery=every, label=name)
    at, mid, slow = waits(results["looks"])
    waiting.plot(at, mid, "-", color=BLUE, marker="o", markevery=8, label="median")
    waiting.plot(at, slow, "--", color=VERMILLION, marker="s", markevery=8, label="95th percentile")
    finish(memory, "memory (MB)")
    finish(descriptors, "open descriptors")
    finish(waiting, f"wait of a page (s), {BIN_S:.0f} s bins")
    for axes in (memory, descriptors, waiting):
        for kill in results["kills"]:
            axes.axvline(kill["at"] / 60, color=GREY, linestyle=":", zorder=0)
    waiting.set_xlabel("minutes (dotted: the worker is killed, then resumed)")
    viewers, kills = results["summary"]["viewers"], len(results["kills"])
    memory.set_title(f"{viewers} viewers of one run, {kills} kills of its worker")
    return figure


def waits(looks: list[tuple[float, float]]) -> tuple[list[float], list[float], list[float]]:
    """Return the middle of each BIN_S in minutes, and median and 95th percentile of its waits."""
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
    """Start the axis at zero; add label, grid and legend."""
    axes.set_ylim(bottom=0)
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text())).savefig(sys.argv[2])
