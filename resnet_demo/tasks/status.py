"""A task's state: the file, the table of legal moves, and who is alive.

A task is a directory with `status.json`. Its worker holds a kernel lock on `worker.lock` as long as
it lives: the kernel lets go of it however the worker ends, so no pid is ever trusted.

    state      moves on to                        Stop          Resume   Delete   Kill
    queued     preparing | stopping | failed      → stopping    no       no       no
    preparing  running | stopping | failed        → stopping    no       no       no
    running    finished | stopping | failed       → stopping    no       no       no
    stopping   stopped | failed                   as it is      no       no       ends the worker
    stopped    queued                             as it is      → queued trash    no
    failed     queued                             as it is      → queued trash    no
    finished                                      as it is      no       trash    no

Whoever looks at a live state whose worker is gone corrects it first: stopping → stopped, any other
→ failed. "No" is one sentence that names the run and its state; nothing is changed then.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from resnet_demo.errors import ConfigError, DamagedError, DiskFullError
from resnet_demo.files import full_told, mark, write_atomically
from resnet_demo.json_files import read_object

LEGAL: dict[str, tuple[str, ...]] = {
    "queued": ("preparing", "stopping", "failed"),
    "preparing": ("running", "stopping", "failed"),
    "running": ("finished", "stopping", "failed"),
    "stopping": ("stopped", "failed"),
    "stopped": ("queued",),
    "failed": ("queued",),
    "finished": (),
}
STATES = tuple(LEGAL)
LOCK = "worker.lock"
LIVE = ("queued", "preparing", "running", "stopping")
UNTOLD = "its worker ended without a word; Resume goes on"


@dataclass(frozen=True, kw_only=True)
class Status:
    """What `status.json` holds. Times in Unix seconds; progress in what `unit` says.

    A wall clock may be set: order and durations follow the clocks, seconds since the machine
    started, which only go forward and are the same in every process. They say nothing after a
    restart, and no worker lives then. total, rate (units a second): 0 where nobody knows.
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
        """Whether a worker should be there."""
        return self.state in LIVE

    @property
    def seconds_left(self) -> float | None:
        """At this rate; None where it is not known."""
        known = self.rate > 0 and self.total > self.done
        return (self.total - self.done) / self.rate if known else None


def new_task(folder: Path, files: dict[str, bytes]) -> int:
    """Make a task's directory, whole or not at all, queued; the lock of its worker to come.

    The lock is taken before anyone can see the task, so that nobody finds it without an owner.
    Raises ConfigError if the directory is there.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    status = Status(**now_queued(), message="waiting for a worker")
    making = folder.with_name(f".{folder.name}.{os.getpid()}.{time.monotonic_ns()}.new")
    making.mkdir()
    try:
        for name, content in {**files, "status.json": as_json(status)}.items():
            write_atomically(making / name, content)
        lock = take(making / LOCK)
        try:
            os.rename(making, folder)  # refuses a directory that is not empty
        except OSError as error:
            os.close(lock)
            raise ConfigError.rule("run_id", "new, or resumed", folder.name) from error
        return lock
    except BaseException:
        for name in making.iterdir():
            name.unlink()
        making.rmdir()
        raise


def now_in(state: str) -> dict[str, Any]:
    """The fields of a task that comes into a state at this moment."""
    return {"state": state, "changed_at": time.time(), "changed_clock": time.monotonic()}


def now_queued() -> dict[str, Any]:
    """The same for one that goes to the end of the queue."""
    now = now_in("queued")
    return {**now, "queued_at": now["changed_at"], "queued_clock": now["changed_clock"]}


def read_status(folder: Path) -> Status:
    """The status as it stands. Raises DamagedError."""
    status = read_object(folder / "status.json", Status)
    if status.state not in LEGAL:
        raise DamagedError(f"status.json of {folder.name} is damaged")
    return status


def change(folder: Path, state: str, *, unless: tuple[str, ...] = (), **values: Any) -> Status:
    """Move to a state, if the table allows. Raises ConfigError naming both states otherwise.

    unless: states in which nothing is done, looked at under the same lock.
    """
    with held(folder):
        old = read_status(folder)
        if old.state in unless:
            return old
        if state not in LEGAL[old.state]:
            raise ConfigError(f"{folder.name} is {old.state}: it cannot become {state}", "run")
        return write(folder, replace(old, **{**now_in(state), **values}))


def request_stop(folder: Path, message: str = "asked to stop") -> Status:
    """Ask a live task to end; the status after that. One that has ended stays as it is."""
    ended = tuple(state for state in STATES if state not in LIVE)
    return change(folder, "stopping", unless=("stopping", *ended), message=message)


def close(folder: Path, state: str, message: str = "") -> Status:
    """The end of the work. Finished just as a stop was asked for, it counts as stopped."""
    with held(folder):
        old = read_status(folder)
        if old.state == "stopping" and state == "finished":
            state = "stopped"
        if state not in LEGAL[old.state]:
            raise ConfigError(f"{folder.name} is {old.state}: it cannot become {state}", "run")
        return write(folder, replace(old, **now_in(state), message=message, pid=None))


def report(folder: Path, **values: Any) -> None:
    """Tell progress (done, total, unit) or the pid without changing the state."""
    with held(folder):
        write(folder, replace(read_status(folder), **values))


def write(folder: Path, status: Status) -> Status:
    """Replace status.json; for those who hold the lock. Raises DiskFullError, OSError."""
    content = as_json(status)
    with full_told(folder, len(content), "status.json"):
        write_atomically(folder / "status.json", content)
    return status


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """One process at a time between reading the status and writing it."""
    with open(folder / "status.lock", "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def as_json(status: Status) -> bytes:
    """The text of status.json."""
    return (json.dumps(asdict(status), indent=2) + "\n").encode()


def take(path: Path) -> int | None:
    """A kernel lock on a file, as an open descriptor; None when somebody holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
    except BlockingIOError:
        os.close(descriptor)
        return None


def let_go(lock: int) -> None:
    """Give a lock up, whoever has a copy of it: a process forked meanwhile got one unasked.

    A worker is handed its lock by `os.close` alone, which leaves it locked for the worker's copy.
    """
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)


def take_over(folder: Path, patience_s: float = 5.0) -> int:
    """The worker's lock of a task at rest. Raises ConfigError for one that has a worker.

    patience_s: for a worker on its way out, and for those who look and hold it for an instant.
    """
    until = time.monotonic() + patience_s
    while (lock := take(folder / LOCK)) is None:
        state = state_of(folder)
        if state in LIVE or time.monotonic() > until:
            raise ConfigError(f"{folder.name} is {state}: it has a worker", "run")
        time.sleep(0.005)
    return lock


def state_of(folder: Path) -> str:
    """The state in a word; `damaged` where nobody knows."""
    try:
        return read_status(folder).state
    except DamagedError:
        return "damaged"


def has_worker(folder: Path) -> bool:
    """Whether a worker lives for this task. Looks without taking: opens, never creates."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        let_go(descriptor)


def holder(folder: Path) -> int | None:
    """The pid of the task's living worker; None where there is none, or nobody can tell.

    What status.json says is believed only of a process that has the worker's lock open.
    """
    pid, lock = read_status(folder).pid, str((folder / LOCK).resolve())
    opened = set()
    with suppress(OSError):  # it ended meanwhile, belongs to somebody else, or there is no /proc
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):  # closed meanwhile
                opened.add(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
    return pid if lock in opened else None


def is_frozen(status: Status) -> bool:
    """Whether the worker's process is suspended by a signal, where the system can tell."""
    try:
        told = Path(f"/proc/{status.pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return False
    return status.is_live and told.rpartition(")")[2].split()[0] in ("T", "t")


def settle(folder: Path, reason: str = UNTOLD) -> Status:
    """The status, corrected where it names a worker that is gone. Raises DamagedError.

    reason: how the worker ended, from whoever waited for it; it counts even when somebody else
    came by before.
    """
    status = read_status(folder)
    if settled(folder, status, reason) == status:
        return status
    with held(folder):
        status = read_status(folder)
        right = settled(folder, status, reason)
        if right != status:
            with suppress(DiskFullError):  # true all the same, and told; written down later
                write(folder, right)
        return right


def settled(folder: Path, status: Status, reason: str) -> Status:
    """The status as it should be."""
    if status.is_live and not has_worker(folder):
        state = "stopped" if status.state == "stopping" else "failed"
        return replace(status, **now_in(state), message=reason, pid=None)
    if not status.is_live and status.message == UNTOLD:
        return replace(status, message=reason)
    return status


class StopSignal:
    """Whether a stop was asked for; cheap enough to ask before every step."""

    def __init__(self, folder: Path) -> None:
        self.file, self.seen, self.asked = folder / "status.json", None, False

    def __call__(self) -> bool:
        """Reads the file only when it was replaced since the last look."""
        now = mark(self.file)
        if now != self.seen:
            self.seen, self.asked = now, read_status(self.file.parent).state == "stopping"
        return self.asked
