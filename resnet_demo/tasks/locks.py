"""The locks of tasks: who works on a task, and who uses the device.

A worker holds its task's lock as long as it lives. The kernel releases the lock however the worker
ends, so a pid alone is never trusted. How files are locked is in `file_locks.py`.
"""

import os
from contextlib import suppress
from pathlib import Path

from resnet_demo.file_locks import is_locked, process_fields

WORKER_LOCK = "worker.lock"  # in a task's folder
DEVICE_LOCK = ".device.lock"  # beside the runs: one run trains at a time


def has_worker(folder: Path) -> bool:
    """Return whether a worker lives for this task. Creates no lock file."""
    return is_locked(folder / WORKER_LOCK)


def is_worker(pid: int | None, folder: Path) -> bool:
    """Return whether that process has the lock of the task's worker open; False without /proc."""
    lock = str((folder / WORKER_LOCK).resolve())
    with suppress(OSError):  # it ended, belongs to another user, or there is no /proc
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):  # closed meanwhile
                if os.readlink(f"/proc/{pid}/fd/{descriptor}") == lock:
                    return True
    return False


def is_suspended(pid: int | None) -> bool:
    """Return whether a signal has suspended the process; False without /proc."""
    return process_fields(pid)[:1] in (["T"], ["t"])
