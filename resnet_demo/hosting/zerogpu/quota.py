"""The GPU time that a run's slices used, and an estimate of what another run would need. No torch.

ZeroGPU does not report what a visitor has left: everything comes from slices that ran here.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from resnet_demo.config import TrainConfig
from resnet_demo.data.info import DatasetInfo
from resnet_demo.files import open_file
from resnet_demo.hosting.zerogpu.slice import SPARE_S
from resnet_demo.json_files import parse_json
from resnet_demo.runs.store import Run, Runs
from resnet_demo.tasks.estimate import estimate_from_runs, read_speed

SLICES_FILE = "slices.jsonl"


@dataclass(frozen=True)
class SliceUse:
    """The seconds that a slice requested, used and trained. killed: the platform cut it off."""

    requested_s: float
    used_s: float
    trained_s: float
    killed: bool


@dataclass(frozen=True)
class Cost:
    """An estimate of the GPU time that a run needs, from an earlier run.

    seconds: over all slices. overhead_s: seconds of a slice without training; None if no slice of
    the earlier run has ended, and the cost is then a lower bound.
    """

    slices: int
    seconds: float
    epochs_per_slice: float
    run_id: str
    overhead_s: float | None


def record_slice(folder: Path, use: SliceUse) -> None:
    """Append what a slice used to a file beside its run."""
    row = {
        "asked": use.requested_s,
        "used": use.used_s,
        "worked": use.trained_s,
        "killed": use.killed,
    }
    # Appended, not rewritten: a kill costs this line at most, and `parse_slice` skips a torn one.
    with open_file(folder / SLICES_FILE, append=True) as file:
        file.write(json.dumps(row).encode() + b"\n")


def recorded_slices(run: Run) -> list[SliceUse]:
    """Return the slices of a run that have ended, without damaged lines."""
    try:
        with open_file(run.path / SLICES_FILE) as file:
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:  # missing, or a pipe in its place
        return []
    return [use for use in map(parse_slice, lines) if use is not None]


def parse_slice(line: str) -> SliceUse | None:
    """Return the slice of a line; None if the line is torn or damaged."""
    try:
        row = parse_json(line)
        seconds = [float(row[name]) for name in ("asked", "used", "worked")]
        return SliceUse(*seconds, bool(row["killed"])) if math.isfinite(sum(seconds)) else None
    except (ValueError, TypeError, KeyError, OverflowError):
        return None


def estimate_cost(
    config: TrainConfig,
    info: DatasetInfo,
    runs: Runs,
    slice_s: float,
    speed_of: Callable[[Run], float | None] = read_speed,
) -> Cost | None:
    """Return the cost of a run in slices of so many seconds; None before such a run had slices."""

    def has_slices(run: Run) -> bool:
        return (run.path / SLICES_FILE).exists()

    known = estimate_from_runs(config, info, runs, has_slices, speed_of)
    if known is None:
        return None
    overhead = median_overhead(runs.get(known.run_id))
    training_s = max(1.0, slice_s - SPARE_S - (overhead or 0.0))  # in a slice
    slices = max(1, math.ceil(known.seconds / training_s))
    return Cost(
        slices=slices,
        seconds=known.seconds + slices * (overhead or 0.0),
        epochs_per_slice=training_s * config.epochs / known.seconds,
        run_id=known.run_id,
        overhead_s=overhead,
    )


def median_overhead(run: Run) -> float | None:
    """Return the seconds that the median slice did not train; None if all were killed."""
    spent = [use.used_s - use.trained_s for use in recorded_slices(run) if not use.killed]
    return max(0.0, median(spent)) if spent else None
