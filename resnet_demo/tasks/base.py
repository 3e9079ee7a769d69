"""The life of every task: create, claim, restart, remove; and, in its worker, progress and the end.

A task is a folder with `status.json`. Every task but a run also has `task.json`, its request: what
to do, as the page, the API or the command line asked for it.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from resnet_demo.errors import ConfigError, DamagedError, DemoError, StoppedError
from resnet_demo.file_locks import release_lock
from resnet_demo.files import reporting_read_only
from resnet_demo.json_files import read_json
from resnet_demo.tasks.locks import has_worker
from resnet_demo.tasks.status import (
    LIVE,
    Status,
    StopSignal,
    acquire_worker_lock,
    change_state,
    create_task,
    end_task,
    queued_fields,
    reconcile_status,
    state_of,
    try_worker_lock,
    update_status,
)

REPORT_EVERY_S = 0.3  # each report flushes a file to the disk


def create_request(folder: Path, request: Mapping[str, Any]) -> int:
    """Create a queued task for a request; return the lock for its worker. Raises ConfigError."""
    return create_task(folder, {"task.json": json.dumps(request, indent=2).encode()})


def read_request(folder: Path) -> dict[str, Any]:
    """Return what the task was asked to do. Raises DamagedError, also if it is missing."""
    request = read_json(folder / "task.json")
    if not isinstance(request, dict):
        raise DamagedError(f"task.json of {folder.name} is damaged")
    return request


def claim_task(folder: Path, request: Mapping[str, Any]) -> int | None:
    """Queue a task that is missing, stopped or failed; return the lock for its worker.

    Return None for a task that is live or finished. Raises ConfigError.
    """
    try:
        if not folder.exists():
            return create_request(folder, request)
        if reconcile_status(folder).state in ("stopped", "failed"):
            return requeue_task(folder)
    except ConfigError:
        if state_of(folder) not in (*LIVE, "finished"):
            raise  # else another process claimed it a moment ago
    return None


def requeue_task(folder: Path) -> int:
    """Queue a stopped or failed task again; return the lock for its worker. Raises ConfigError."""
    # The file still says `running` if the worker died and nothing has read the status since.
    reconcile_status(folder)
    # The lock first: of two processes that resume a task, one is refused here.
    lock = acquire_worker_lock(folder)
    try:
        message = "Starting…"
        change_state(folder, **queued_fields(), pid=None, message=message, done=0)
    except ConfigError:
        release_lock(lock)
        raise
    return lock


def remove_task(folder: Path, only_if: Callable[[Path], bool] = lambda folder: True) -> bool:
    """Remove a task's folder unless it has a worker; return whether there is room for a new task.

    only_if: checked again under the worker's lock, when no other process can start the task.
    """
    with suppress(FileNotFoundError):  # another process was faster
        if folder.exists() and only_if(folder):
            # Without this lock a worker may be starting in the folder that is about to be removed.
            lock = try_worker_lock(folder)
            if lock is None:
                return False
            if only_if(folder):
                remove_locked(folder, lock)
            else:
                release_lock(lock)
    return not folder.exists()


def remove_locked(folder: Path, lock: int) -> None:
    """Remove the folder of a task whose worker's lock is held, and release the lock."""
    try:
        trash = folder.with_name(f".{folder.name}.{time.monotonic_ns()}.old")
        with reporting_read_only(folder.parent):
            folder.rename(trash)  # at once, so that no reader finds half of a task
        shutil.rmtree(trash)
    finally:
        release_lock(lock)


def check_finished(status: Status, name: str) -> None:
    """Raise StoppedError or DemoError for a task that stopped or failed. name: for the message."""
    if status.state == "stopped":
        raise StoppedError(f"{name} was stopped")
    if status.state == "failed":
        raise DemoError(status.message)


def reap_worker(process: subprocess.Popen, folder: Path) -> None:
    """Wait for a worker that this process started; if it died, write how into the status."""
    # In a thread of the launcher's process: only a parent learns how a process ended.
    code = process.wait()
    if not folder.exists() or has_worker(folder):  # deleted, or resumed meanwhile
        return
    if code < 0:
        # Linux ends a process with SIGKILL when the memory is used up.
        hint = ", probably out of memory" if code == -9 else ""
        if state_of(folder) == "stopping":
            hint = " after it was asked to stop"
        reason = f"the worker was killed by signal {-code}{hint}"
    else:
        reason = f"the worker ended with exit code {code}: see its log"
    with suppress(DamagedError, FileNotFoundError):  # deleted at this moment
        reconcile_status(folder, reason)


class Progress:
    """Writes a task's progress to its status, and raises StoppedError when a stop is requested."""

    def __init__(self, folder: Path) -> None:
        # 0: the first report is written.
        self.folder, self.should_stop, self.last = folder, StopSignal(folder), 0.0

    def __call__(self, done: int, total: int | None, **values: Any) -> None:
        """Report progress, seldom enough to be cheap. values: other fields of Status.

        Raises: StoppedError.
        """
        self.check()
        # The end is always written: the page would else stop short of 100 %.
        if done == total or time.monotonic() - self.last > REPORT_EVERY_S:
            self.last = time.monotonic()
            update_status(self.folder, done=done, total=total or 0, **values)

    def check(self) -> None:
        """Raise StoppedError if a stop was requested."""
        if self.should_stop():
            raise StoppedError("stopped")


def run_task(folder: Path, preparing: str, work: Callable[[Progress], str]) -> None:
    """Run a queued task to its end and write how it ended; re-raise what `work` raises.

    preparing: the message until `work` enters the state `running`. work: returns the last message.
    """
    update_status(folder, pid=os.getpid())
    progress = Progress(folder)
    try:
        # A stop that came while the process started must end it before the work begins.
        enter_state(folder, "preparing", preparing)
        progress.check()
        message = work(progress)
    except StoppedError as error:
        end_task(folder, "stopped", str(error))
        raise
    except DemoError as error:
        end_task(folder, "failed", str(error))
        raise
    except Exception as error:  # a bug: the page must show it too
        end_task(folder, "failed", short_error(error))
        raise
    end_task(folder, "finished", message)


def enter_state(folder: Path, state: str, message: str) -> None:
    """Enter a state unless the task is stopping; then the next check of the signal ends it."""
    change_state(folder, state, unless=("stopping",), message=message)


def short_error(error: Exception) -> str:
    """Return the type and the first line of an unexpected error, short enough for a status."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
