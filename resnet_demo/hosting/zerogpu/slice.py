"""One slice of GPU time on ZeroGPU: the code that runs in the process with the GPU.

The platform forks that process from the app, forbids it to start others, and kills it without
warning when its time is over. A slice therefore takes a stopped run, resumes it from its last
checkpoint, saves every few seconds and ends in time. After a kill the next slice repeats what was
lost. Between slices a run is `stopped`, and no process belongs to it. No torch here.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DamagedError, DemoError
from resnet_demo.events import Event
from resnet_demo.file_locks import release_lock
from resnet_demo.files import write_atomically
from resnet_demo.json_files import read_json
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.tasks.base import requeue_task
from resnet_demo.tasks.run_session import RunSession
from resnet_demo.tasks.status import StopSignal, request_stop, update_status

SPARE_S = 6.0  # of a slice, for what comes before its first event and after its last step
SAVE_EVERY_S = 10.0  # a kill costs at most this much work, and a step
TIME_IS_UP = "the slice of GPU time is over"
PAGE_CLOSED = "the page was closed"


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


OWNER = "visitor.json"


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
