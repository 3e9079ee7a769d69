"""One run trains at a time on a device: waiting for one's turn, and telling the place."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from resnet_demo.errors import DamagedError, DemoError, StoppedError
from resnet_demo.tasks.status import Status, has_worker, read_status, take

LOOK_EVERY_S = 0.3
DEVICE_LOCK = ".device.lock"


def ahead(folder: Path) -> list[Path]:
    """Live runs beside this one that were queued before it, first in line first."""
    own = key(folder, read_status(folder))
    return [other for place, other in sorted(waiting(folder.parent)) if place < own]


def in_line(root: Path) -> list[Path]:
    """All live runs under a root, first in line first."""
    return [folder for _, folder in sorted(waiting(root))]


def waiting(root: Path) -> Iterator[tuple[tuple[float, str], Path]]:
    """Live runs under a root, each with its place in the order of the queue."""
    for folder in root.iterdir() if root.is_dir() else ():
        if folder.name.startswith(".") or not (folder / "status.json").is_file():
            continue
        try:
            status = read_status(folder)
        except DamagedError:  # no state, no turn
            continue
        if status.is_live and has_worker(folder):
            yield key(folder, status), folder


def key(folder: Path, status: Status) -> tuple[float, str]:
    """The order of the queue, which a clock that is set does not change."""
    return status.queued_clock, folder.name


def wait_for_turn(
    folder: Path,
    should_stop: Callable[[], bool],
    on_wait: Callable[[int], None] = lambda place: None,
) -> int | None:
    """Block until no earlier live run is left; the device's lock, or None when stopped.

    on_wait is told the place in line (1: next) whenever it changes. The kernel frees the lock when
    its holder ends, however it ends.
    """
    told = 0
    while not should_stop():
        earlier = ahead(folder)
        if not earlier:
            lock = take(folder.parent / DEVICE_LOCK)
            if lock is not None:
                return lock
        place = max(1, len(earlier))
        if place != told:
            on_wait(place)
            told = place
        time.sleep(LOOK_EVERY_S)
    return None


@contextmanager
def between_runs(root: Path) -> Iterator[None]:
    """The device, where no run wants it; one that comes meanwhile waits.

    Raises StoppedError where a run is live, DemoError where something else has the device.
    """
    lock = take(root / DEVICE_LOCK)
    try:
        if runs := in_line(root):
            raise StoppedError(f"{runs[0].name} is training")
        if lock is None:
            raise DemoError("the device is busy")
        yield
    finally:
        if lock is not None:
            os.close(lock)
