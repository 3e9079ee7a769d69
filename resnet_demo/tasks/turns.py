"""One run trains at a time on a device: waiting for one's turn, and telling the place."""

import time
from collections.abc import Callable
from pathlib import Path

from resnet_demo.errors import DamagedError
from resnet_demo.tasks.status import Status, has_worker, read_status, take

LOOK_EVERY_S = 0.3


def ahead(folder: Path) -> list[Path]:
    """Live runs beside this one that were queued before it, first in line first."""
    own = key(folder, read_status(folder))
    earlier = []
    for other in folder.parent.iterdir():
        if other == folder or other.name.startswith(".") or not (other / "status.json").is_file():
            continue
        try:
            status = read_status(other)
        except DamagedError:  # no state, no turn
            continue
        if status.is_live and key(other, status) < own and has_worker(other):
            earlier.append((key(other, status), other))
    return [other for _, other in sorted(earlier)]


def key(folder: Path, status: Status) -> tuple[float, str]:
    """The order of the queue."""
    return status.queued_at, folder.name


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
            lock = take(folder.parent / ".device.lock")
            if lock is not None:
                return lock
        place = max(1, len(earlier))
        if place != told:
            on_wait(place)
            told = place
        time.sleep(LOOK_EVERY_S)
    return None
