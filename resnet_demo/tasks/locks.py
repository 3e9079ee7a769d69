"""Kernel locks (`flock`) on files: who works on a task, and who uses the device.

A worker holds its task's lock as long as it lives. The kernel releases the lock however the worker
ends, so a pid alone is never trusted.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

WORKER_LOCK = "worker.lock"  # in a task's folder
DEVICE_LOCK = ".device.lock"  # beside the runs: one run trains at a time


def try_lock(path: Path) -> int | None:
    """Lock a file, creating it if needed; return the open descriptor, or None if it is locked."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
    except BlockingIOError:
        os.close(descriptor)
        return None


def release_lock(lock: int) -> None:
    """Unlock and close a descriptor of `try_lock`.

    `os.close` alone is for a lock that a worker has inherited: it stays locked for the worker.
    """
    # A process that was forked meanwhile has a copy of the descriptor, which would keep the lock.
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)


def has_worker(folder: Path) -> bool:
    """Return whether a worker lives for this task. Creates no lock file."""
    try:
        descriptor = os.open(folder / WORKER_LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        release_lock(descriptor)


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
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in ("T", "t")
