"""Slices of GPU time on ZeroGPU: training for one, the run's owner, and what slices cost.

The platform forks the process that has the GPU from the app, forbids it to start others, and kills
it without warning when its time is over. A slice therefore takes a stopped run, resumes it from its
last checkpoint, saves every few seconds and ends in time. After a kill the next slice repeats what
was lost. Between slices a run is `stopped`, and no process belongs to it. No torch here.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from resnet_demo.config import TrainConfig
from resnet_demo.data.info import DatasetInfo
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DamagedError, DemoError
from resnet_demo.events import Event
from resnet_demo.file_locks import release_lock
from resnet_demo.files import open_file, write_atomically
from resnet_demo.json_files import parse_json, read_json
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run, Runs
from resnet_demo.tasks.base import requeue_task
from resnet_demo.tasks.estimate import estimate_from_runs, read_speed
from resnet_demo.tasks.run_session import RunSession
from resnet_demo.tasks.status import StopSignal, request_stop, update_status

SPARE_S = 6.0  # of a slice, for what comes before its first event and after its last step
SAVE_EVERY_S = 10.0  # a kill costs at most this much work, and a step
TIME_IS_UP = "the slice of GPU time is over"
PAGE_CLOSED = "the page was closed"
OWNER, SLICES = "visitor.json", "slices.jsonl"  # files beside a run


class SliceError(DemoError):
    """There was no GPU, or it was taken away; the message says why."""


class SliceStopSignal(StopSignal):
    """A stop signal that requests a stop itself when the slice's time is nearly over.

    end: when the slice ends, in seconds of `time.monotonic`. What took longest between two calls,
    be it a step, a checkpoint or the end of an epoch, may come once more, with a checkpoint after
    it: twice that time is kept free. The first step is not counted, because it sets things up.
    """

    def __init__(self, folder: Path, end: float) -> None:
        super().__init__(folder)
        self.end, self.calls, self.longest = end, 0, 0.0
        self.last = time.monotonic()

    def __call__(self) -> bool:
        """Return whether to stop; cheap enough for every step."""
        now = time.monotonic()
        if self.calls > 1:
            # From the second step on: the first one sets things up and takes much longer.
            self.longest = max(self.longest, now - self.last)
        self.calls, self.last = self.calls + 1, now
        if not self.requested and now + 2 * self.longest > self.end:
            request_stop(self.file.parent, TIME_IS_UP)
        return super().__call__()


def train_slice(
    folder: Path,
    paths: Paths,
    seconds: float,
    spare_s: float = SPARE_S,
    save_every_s: float = SAVE_EVERY_S,
) -> Iterator[Event | str]:
    """Train a stopped run for one slice; yield its events, or a message why there are none.

    Runs in the process with the GPU. A caller that closes it early gets a checkpoint first.
    """
    run, should_stop = Run(folder), SliceStopSignal(folder, time.monotonic() + seconds - spare_s)
    if not read_owner(run).should_continue:
        yield f"{run.id} was stopped before its slice began"
        return
    try:
        lock = requeue_task(folder)
    except ConfigError as error:
        yield str(error)
        return
    try:
        with RunSession(run) as session:
            # This process, and not the app's: a run is alive as long as it is.
            update_status(folder, pid=os.getpid())
            session.prepare("a GPU is ready: loading the images")
            from resnet_demo.training.fit import fit

            is_page_open = True
            for event in fit(
                run.config(),
                Datasets(paths.data),
                folder,
                should_stop,
                save_every_s=save_every_s,
                paths=paths,
            ):
                session.record(event)
                if is_page_open:
                    try:
                        yield event
                    except GeneratorExit:  # the loop goes on to the checkpoint, with no listener
                        is_page_open = False
                        request_stop(folder, PAGE_CLOSED)
        if session.failure and is_page_open:
            yield session.failure
    finally:
        release_lock(lock)


@dataclass(frozen=True)
class RunOwner:
    """The visitor that a run belongs to, as a digest; empty for no visitor.

    should_continue: whether the run goes on when its next slice of GPU time is due.
    """

    visitor: str = ""
    should_continue: bool = False


def visitor_digest(visitor: str) -> str:
    """Return what is stored of a visitor's name: its reader cannot pass for the visitor."""
    return hashlib.sha256(visitor.encode("utf-8", "replace")).hexdigest()


def write_owner(run: Run, owner: RunOwner) -> None:
    """Store the run's owner."""
    content = {"visitor": owner.visitor, "wanted": owner.should_continue}
    write_atomically(run.path / OWNER, (json.dumps(content) + "\n").encode())


def read_owner(run: Run) -> RunOwner:
    """Return the run's owner; no visitor if the file is missing or damaged."""
    try:
        content = read_json(run.path / OWNER)
        return RunOwner(str(content["visitor"]), content["wanted"] is True)
    except (DamagedError, TypeError, KeyError):
        return RunOwner()


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

    ZeroGPU does not report what a visitor has left: everything comes from slices that ran here.
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
    # The names in the file are those that recorded slices already have.
    row = {
        "asked": use.requested_s,
        "used": use.used_s,
        "worked": use.trained_s,
        "killed": use.killed,
    }
    # Appended, not rewritten: a kill costs this line at most, and `parse_slice` skips a torn one.
    with open_file(folder / SLICES, append=True) as file:
        file.write(json.dumps(row).encode() + b"\n")


def recorded_slices(run: Run) -> list[SliceUse]:
    """Return the slices of a run that have ended, without damaged lines."""
    try:
        with open_file(run.path / SLICES) as file:
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
        return (run.path / SLICES).exists()

    known = estimate_from_runs(config, info, runs, has_slices, speed_of)
    if known is None:
        return None
    overhead = median_overhead(runs.get(known.run_id))
    # At least a second, so that a slice that is too short does not divide by zero.
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
