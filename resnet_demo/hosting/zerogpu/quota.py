"""What a run costs of a visitor's GPU time: what its slices used, and what another would. No torch.

Known only from slices that ran here: what a visitor has left, ZeroGPU tells nobody beforehand.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from resnet_demo.config import TrainConfig
from resnet_demo.data.store import DatasetInfo
from resnet_demo.hosting.zerogpu.slice import SPARE_S
from resnet_demo.json_files import build, parse_json
from resnet_demo.runs.store import Run, Runs
from resnet_demo.tasks.estimate import estimate_from_runs, read_speed

FILE = "slices.jsonl"


@dataclass(frozen=True)
class Used:
    """A slice that is over: seconds asked for, used, and of these trained; killed: cut off."""

    asked: float
    used: float
    worked: float
    killed: bool


@dataclass(frozen=True)
class Cost:
    """slices, seconds of GPU time in all, epochs that one slice is good for; known from a run.

    overhead_s: what a slice spends on beginning and ending; None where no slice of that run is over
    yet, and the cost is then the least that it can be.
    """

    slices: int
    seconds: float
    epochs_a_slice: float
    run_id: str
    overhead_s: float | None


def put_down(folder: Path, used: Used) -> None:
    """Keep what a slice used, beside its run."""
    with open(folder / FILE, "a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(used)) + "\n")


def used_by(run: Run) -> list[Used]:
    """The slices of a run that are over; a damaged line is passed over."""
    try:
        lines = (run.path / FILE).read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
    return [used for used in map(from_line, lines) if used is not None]


def from_line(line: str) -> Used | None:
    """What a line tells; None for a torn or damaged one."""
    try:
        return build(Used, parse_json(line))
    except ValueError:
        return None


def cost_of(
    config: TrainConfig,
    info: DatasetInfo,
    runs: Runs,
    slice_s: float,
    speed_of: Callable[[Run], float | None] = read_speed,
) -> Cost | None:
    """What a run would cost in slices of so many seconds; None before such work ran in slices."""
    known = estimate_from_runs(config, info, runs, lambda run: (run.path / FILE).exists(), speed_of)
    if known is None:
        return None
    overhead = overhead_of(runs.get(known.run_id))
    each = useful_s(slice_s, overhead)
    slices = max(1, math.ceil(known.seconds / each))
    return Cost(
        slices=slices,
        seconds=known.seconds + slices * (overhead or 0.0),
        epochs_a_slice=each * config.epochs / known.seconds,
        run_id=known.run_id,
        overhead_s=overhead,
    )


def useful_s(slice_s: float, overhead: float | None) -> float:
    """Seconds of a slice in which it trains, 1 at least."""
    return max(1.0, slice_s - SPARE_S - (overhead or 0.0))


def overhead_of(run: Run) -> float | None:
    """Seconds that the median slice did not train; None where none ended by itself."""
    spent = [used.used - used.worked for used in used_by(run) if not used.killed]
    return max(0.0, median(spent)) if spent else None
