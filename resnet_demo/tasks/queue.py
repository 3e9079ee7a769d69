"""The queue: one run trains at a time on a device."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from resnet_demo.errors import DamagedError, DemoError, StoppedError
from resnet_demo.file_locks import release_lock, try_lock
from resnet_demo.tasks.locks import DEVICE_LOCK, has_worker
from resnet_demo.tasks.status import Status, read_status

POLL_S = 0.3  # the kernel cannot report that another process has ended


def runs_ahead(folder: Path) -> list[Path]:
    """Return the live runs that were queued before this one, the next one first."""
    own = queue_key(folder, read_status(folder))
    return [other for key, other in sorted(live_runs_with_keys(folder.parent)) if key < own]


def live_runs(root: Path) -> list[Path]:
    """Return all live runs under a root, the one that is or will be next first."""
    return [folder for _, folder in sorted(live_runs_with_keys(root))]


def live_runs_with_keys(root: Path) -> Iterator[tuple[tuple[float, str], Path]]:
    """Yield the live runs under a root, each with its sort key in the queue."""
    for folder in root.iterdir() if root.is_dir() else ():
        # Hidden: tasks, trash.
        if folder.name.startswith(".") or not (folder / "status.json").is_file():
            continue
        try:
            status = read_status(folder)
        except DamagedError:
            continue
        # A live state alone may be that of a worker that was killed.
        if status.is_live and has_worker(folder):
            yield queue_key(folder, status), folder


def queue_key(folder: Path, status: Status) -> tuple[float, str]:
    """Return the sort key in the queue; a wall clock that is set does not change it."""
    return status.queued_clock, folder.name  # the name: two runs may be queued within one tick


def wait_for_device(
    folder: Path,
    should_stop: Callable[[], bool],
    on_wait: Callable[[int], None] = lambda place: None,
) -> int | None:
    """Block until no live run is ahead; return the device's lock, or None when stopped.

    on_wait: called with the place in the queue (1: next) whenever it changes. The kernel releases
    the lock when its holder ends, however it ends.
    """
    last_place = 0
    while not should_stop():
        ahead = runs_ahead(folder)
        # Only the first in the queue tries the lock: otherwise the process that happens to poll
        # next would overtake it.
        if not ahead:
            lock = try_lock(folder.parent / DEVICE_LOCK)
            if lock is not None:
                return lock
        # At least 1: with no run ahead, one that is ending or a speed test still holds the device.
        place = max(1, len(ahead))
        if place != last_place:
            on_wait(place)
            last_place = place
        time.sleep(POLL_S)
    return None


@contextmanager
def hold_idle_device(root: Path) -> Iterator[None]:
    """Hold the device while no run wants it; a run that comes meanwhile waits.

    Raises: StoppedError if a run is live, DemoError if something else uses the device.
    """
    # The lock before the check: a run that is queued in between waits for the lock.
    lock = try_lock(root / DEVICE_LOCK)
    try:
        if runs := live_runs(root):
            raise StoppedError(f"{runs[0].name} is training")
        if lock is None:
            raise DemoError("the device is busy")
        yield
    finally:
        if lock is not None:
            release_lock(lock)
