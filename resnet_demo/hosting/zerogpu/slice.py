"""One slice of GPU time, as ZeroGPU lends it: what runs where the GPU is.

A slice is a process that the platform forks from the app. It may start no other process, and is
killed at its time without warning. So it takes a run that rests, goes on from its last checkpoint,
saves every few seconds and ends in time; after a kill the next slice does what was lost again.
Between slices a run is `stopped`, with nobody to look after it. No torch here.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from resnet_demo.errors import ConfigError, DemoError
from resnet_demo.events import Event
from resnet_demo.hosting.zerogpu.owners import owner_of
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.tasks.launcher import queue_again
from resnet_demo.tasks.progress import begin
from resnet_demo.tasks.run_session import logged, to_the_end
from resnet_demo.tasks.status import StopSignal, let_go, report, request_stop

SPARE_S = 6.0  # of a slice, for what comes before its first line and after its last step
SAVE_EVERY_S = 10.0  # a kill costs at most this much work, and a step
OVER = "its slice of GPU time is over"
LEFT = "its page was closed"


class SliceError(DemoError):
    """There was no GPU, or it was taken away; the sentence says why."""


class SliceStopSignal(StopSignal):
    """Whether a stop was asked for; asks for one itself when the slice's time is nearly over.

    end: seconds of the steady clock. What took longest between two questions, be it a step, a
    checkpoint or an epoch's end, may come once more and a checkpoint after it: twice that is kept
    free. The first step, which sets up what is set up once, does not count.
    """

    def __init__(self, folder: Path, end: float) -> None:
        super().__init__(folder)
        self.end, self.times, self.longest = end, 0, 0.0
        self.last = time.monotonic()

    def __call__(self) -> bool:
        """Cheap enough to ask before every step."""
        now = time.monotonic()
        if self.times > 1:
            self.longest = max(self.longest, now - self.last)
        self.times, self.last = self.times + 1, now
        if not self.asked and now + 2 * self.longest > self.end:
            request_stop(self.file.parent, OVER)
        return super().__call__()


def train_slice(
    folder: Path,
    paths: Paths,
    seconds: float,
    spare_s: float = SPARE_S,
    save_every_s: float = SAVE_EVERY_S,
) -> Iterator[Event | str]:
    """One slice of the run in that folder, which rests: its events, or why there are none.

    To be run where the GPU is. Closed before its end, it saves a checkpoint first.
    """
    until, run = SliceStopSignal(folder, time.monotonic() + seconds - spare_s), Run(folder)
    if not owner_of(run).wanted:
        yield f"{run.id} was stopped before its slice began"
        return
    try:
        lock = queue_again(folder)
    except ConfigError as error:
        yield str(error)
        return

    def work() -> Iterator[Event]:
        report(folder, pid=os.getpid())
        begin(folder, "preparing", "a GPU is there: loading the images")
        yield from logged(run, paths, until, save_every_s=save_every_s)

    events = to_the_end(run, work)
    try:
        for event in events:
            try:
                yield event
            except GeneratorExit:
                request_stop(folder, LEFT)
                for _ in events:
                    pass  # to the checkpoint, with nobody to tell
                raise
    finally:
        let_go(lock)
