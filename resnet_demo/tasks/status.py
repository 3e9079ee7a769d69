"""A task's state: `status.json` and the table of legal transitions.

    state      next                               Stop          Resume   Delete   Kill
    queued     preparing | stopping | failed      → stopping    no       no       no
    preparing  running | stopping | failed        → stopping    no       no       no
    running    finished | stopping | failed       → stopping    no       no       no
    stopping   stopped | failed                   unchanged     no       no       ends the worker
    stopped    queued                             unchanged     → queued trash    no
    failed     queued                             unchanged     → queued trash    no
    finished                                      unchanged     no       trash    no

A live state whose worker is gone is corrected when it is read: stopping → stopped, any other
→ failed. "No" is a ConfigError that names the run and its state; nothing changes.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from resnet_demo.errors import ConfigError, DamagedError, DiskFullError, ReadOnlyError
from resnet_demo.file_locks import release_lock, try_lock, wait_for_lock
from resnet_demo.files import (
    file_version,
    reporting_disk_full,
    reporting_read_only,
    write_atomically,
)
from resnet_demo.json_files import read_object
from resnet_demo.tasks.locks import WORKER_LOCK, has_worker

TRANSITIONS: dict[str, tuple[str, ...]] = {
    "queued": ("preparing", "stopping", "failed"),
    "preparing": ("running", "stopping", "failed"),
    "running": ("finished", "stopping", "failed"),
    "stopping": ("stopped", "failed"),
    "stopped": ("queued",),
    "failed": ("queued",),
    "finished": (),
}
STATES = tuple(TRANSITIONS)
LIVE = ("queued", "preparing", "running", "stopping")
ENDED = ("stopped", "failed", "finished")
UNEXPECTED_EXIT = "the worker exited unexpectedly"


@dataclass(frozen=True, kw_only=True)
class Status:
    """The content of `status.json`.

    *_at: Unix seconds. *_clock: seconds of the monotonic clock, the same in every process until the
    machine restarts, and no worker survives that; order and durations follow it, since the wall
    clock may be set. done, total: progress, in `unit`. rate: units a second. total and rate are 0
    when unknown.
    """

    state: str
    pid: int | None = None
    message: str = ""
    queued_at: float = 0.0
    changed_at: float = 0.0
    queued_clock: float = 0.0
    changed_clock: float = 0.0
    done: int = 0
    total: int = 0
    unit: str = ""
    rate: float = 0.0

    @property
    def is_live(self) -> bool:
        """Return whether the state needs a worker."""
        return self.state in LIVE

    @property
    def seconds_left(self) -> float | None:
        """Return the remaining seconds at this rate; None if unknown."""
        if self.rate > 0 and self.total > self.done:
            return (self.total - self.done) / self.rate
        return None


def create_task(folder: Path, files: dict[str, bytes]) -> int:
    """Create a queued task's folder, complete or not at all; return the lock for its worker.

    Raises: ConfigError if the folder exists.
    """
    status = Status(**queued_fields(), message="Starting…")
    # Hidden by its dot until it is complete: lists of runs and the queue skip such names.
    new = folder.with_name(f".{folder.name}.{os.getpid()}.{time.monotonic_ns()}.new")
    with reporting_read_only(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        new.mkdir()
    try:
        for name, content in {**files, "status.json": status_json(status)}.items():
            write_atomically(new / name, content)
        # Locked before the task is visible, else a reader would find it without a worker. The lock
        # is on the open file and survives the rename.
        lock = try_lock(new / WORKER_LOCK)
        try:
            os.rename(new, folder)  # refuses a folder that is not empty
        except OSError as error:
            release_lock(lock)
            raise ConfigError.rule("run_id", "new, or resumed", folder.name) from error
        return lock
    except BaseException:
        for name in new.iterdir():
            name.unlink()
        new.rmdir()
        raise


def state_fields(state: str) -> dict[str, Any]:
    """Return the fields of a task that enters a state now."""
    return {"state": state, "changed_at": time.time(), "changed_clock": time.monotonic()}


def queued_fields() -> dict[str, Any]:
    """Return the fields of a task that enters the queue now, at its end."""
    now = state_fields("queued")
    return {**now, "queued_at": now["changed_at"], "queued_clock": now["changed_clock"]}


def read_status(folder: Path) -> Status:
    """Return the status as written. Raises DamagedError."""
    status = read_object(folder / "status.json", Status)
    if status.state not in TRANSITIONS:
        raise DamagedError(f"status.json of {folder.name} is damaged")
    return status


def state_of(folder: Path) -> str:
    """Return the state as written, or `damaged`."""
    try:
        return read_status(folder).state
    except DamagedError:
        return "damaged"


def change_state(
    folder: Path, state: str, *, unless: tuple[str, ...] = (), **values: Any
) -> Status:
    """Enter a state and return the status. values: other fields to set.

    unless: states in which nothing is done. Raises: ConfigError for an illegal transition.
    """
    with status_lock(folder):
        old = read_status(folder)
        if old.state in unless:
            return old
        check_transition(folder, old.state, state)
        fields = state_fields(state) | values
        return write_status(folder, replace(old, **fields))


def end_task(folder: Path, state: str, message: str = "") -> Status:
    """Enter an ended state; a task that finishes while it is stopping counts as stopped.

    Raises: ConfigError for an illegal transition.
    """
    with status_lock(folder):
        old = read_status(folder)
        if old.state == "stopping" and state == "finished":
            state = "stopped"
        check_transition(folder, old.state, state)
        return write_status(folder, replace(old, **state_fields(state), message=message, pid=None))


def check_transition(folder: Path, old: str, new: str) -> None:
    """Raise ConfigError, naming both states, unless the transition is legal."""
    if new not in TRANSITIONS[old]:
        raise ConfigError(f"{folder.name} is {old}: it cannot become {new}", "run")


def request_stop(folder: Path, message: str = "stopping") -> Status:
    """Ask a live task to end; return the status. A task that is ending or ended is unchanged."""
    return change_state(folder, "stopping", unless=("stopping", *ENDED), message=message)


def update_status(folder: Path, **values: Any) -> None:
    """Set fields, such as the progress or the pid, without changing the state."""
    with status_lock(folder):
        write_status(folder, replace(read_status(folder), **values))


def write_status(folder: Path, status: Status) -> Status:
    """Replace status.json; the caller holds `status_lock`. Raises DiskFullError, OSError."""
    content = status_json(status)
    full = reporting_disk_full(folder, len(content), "status.json")
    with full, reporting_read_only(folder):
        write_atomically(folder / "status.json", content)
    return status


@contextmanager
def status_lock(folder: Path) -> Iterator[None]:
    """Keep other processes from changing the status between reading and writing it.

    Raises ReadOnlyError where the folder cannot be written to.
    """
    with reporting_read_only(folder):
        # A file of its own: status.json is replaced at each write, and a lock on it would be lost
        # with it.
        lock = wait_for_lock(folder / "status.lock")
    try:
        yield
    finally:
        release_lock(lock)


def status_json(status: Status) -> bytes:
    """Return the content of status.json."""
    return (json.dumps(asdict(status), indent=2) + "\n").encode()


def acquire_worker_lock(folder: Path, patience_s: float = 5.0) -> int:
    """Return the worker's lock of an ended task. Raises ConfigError if it has a worker.

    patience_s: how long to wait for a worker that is exiting, or for a `has_worker` elsewhere,
    which holds the lock for an instant.
    """
    until = time.monotonic() + patience_s
    while (lock := try_worker_lock(folder)) is None:
        state = state_of(folder)
        if state in LIVE or time.monotonic() > until:  # a live task's worker will not go away soon
            raise ConfigError(f"{folder.name} is {state}: it has a worker", "run")
        time.sleep(0.005)
    return lock


def try_worker_lock(folder: Path) -> int | None:
    """Return the worker's lock; None if it is held. Raises ReadOnlyError for a read-only folder."""
    with reporting_read_only(folder):
        return try_lock(folder / WORKER_LOCK)


def reconcile_status(folder: Path, reason: str = UNEXPECTED_EXIT) -> Status:
    """Return the status, corrected and rewritten if its worker is gone. Raises DamagedError.

    reason: how the worker ended, if the caller knows. It also replaces the default reason that
    another reader has written before.
    """
    status = read_status(folder)
    if corrected(folder, status, reason) == status:
        return status
    right = corrected(folder, status, reason)
    # Where it cannot be written it is still correct; a later reader writes it.
    with suppress(DiskFullError, ReadOnlyError), status_lock(folder):
        # Read again under the lock: the worker may have ended the task since, or another reader
        # corrected it.
        status = read_status(folder)
        right = corrected(folder, status, reason)
        if right != status:
            write_status(folder, right)
    return right


def corrected(folder: Path, status: Status, reason: str) -> Status:
    """Return the status that is right for a task, given whether its worker lives."""
    if status.is_live and not has_worker(folder):
        state = "stopped" if status.state == "stopping" else "failed"
        return replace(status, **state_fields(state), message=reason, pid=None)
    # Another reader was faster and wrote the default reason; the caller knows the real one.
    if not status.is_live and status.message == UNEXPECTED_EXIT:
        return replace(status, message=reason)
    return status


class StopSignal:
    """A callable that returns whether a stop was requested; cheap enough for every step."""

    def __init__(self, folder: Path) -> None:
        self.file, self.last_mark, self.requested = folder / "status.json", None, False

    def __call__(self) -> bool:
        """Return whether a stop was requested; reads the file only if it was replaced."""
        # One stat call a step; the version is taken before reading, so that no replacement is
        # missed.
        now = file_version(self.file)
        if now != self.last_mark:
            self.last_mark = now
            self.requested = read_status(self.file.parent).state == "stopping"
        return self.requested
