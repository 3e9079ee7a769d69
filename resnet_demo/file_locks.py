"""Locks on files, released by the kernel however their holder ends; with fallbacks for odd disks.

`flock` is tried first. Some disks have none (Lustre without `-o flock`, some FUSE and network
disks). Then a lock of the open file description is tried (`F_OFD_SETLK`, Linux only), which
protects as much. Where there is neither, the file itself names the process that holds the lock.
That protects less: see `try_record`. A process that inherits the descriptor inherits a kernel lock;
a record is handed over by `hand_over`.
"""

import errno
import os
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path

from resnet_demo.errors import DemoError
from resnet_demo.files import warn_once

try:
    import fcntl
except ImportError:  # Windows: `check_system` refuses
    fcntl = None

SYSTEMS = "ResNet Demo runs on Linux, and on macOS, where it is not tested"
MACOS_NOTE = (
    "on macOS there is no /proc, so Kill is not available and a suspended worker is not noticed. "
    "Files are flushed without F_FULLFSYNC, so a power cut can lose the last checkpoint"
)
CONFLICT = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK)  # another process holds the lock
RECORD = 80  # bytes of a record, padded, so that a new one covers the old one
SETTLE_S = 0.05  # see `try_record`
POLL_S = 0.02
OFD_NOTE = "this disk has no flock: open file description locks are used, which protect as much"
RECORD_NOTE = (
    "this disk has no file locks: lock files with process numbers are used instead. They do not "
    "protect against runs that start on other machines or in other containers"
)


def check_system() -> None:
    """Raise DemoError where Python cannot lock files, as on Windows."""
    if fcntl is None:
        raise DemoError(
            f"{SYSTEMS}; this Python has no module `fcntl`, as on Windows: use WSL 2 or a Linux "
            "container there"
        )


def warn_of_system() -> None:
    """Log what is weaker on this system than on Linux."""
    if sys.platform == "darwin":
        warn_once(MACOS_NOTE)


def try_lock(path: Path) -> int | None:
    """Lock a file, creating it if needed; return the open descriptor, or None if it is locked."""
    check_system()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if lock_descriptor(descriptor):
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def wait_for_lock(path: Path) -> int:
    """Lock a file as `try_lock` does, and wait as long as another holds the lock."""
    check_system()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            while not lock_descriptor(descriptor):
                time.sleep(POLL_S)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of a file; False for a missing file."""
    check_system()
    try:
        # Not blocking: a pipe in its place must not hang the app.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    try:
        locked = not lock_descriptor(descriptor, shared=True)
    except BaseException:
        os.close(descriptor)
        raise
    if locked:
        os.close(descriptor)
    else:
        release_lock(descriptor)
    return locked


def lock_descriptor(descriptor: int, shared: bool = False) -> bool:
    """Lock an open file without waiting; return False if another process holds the lock.

    shared: only look; any number of processes may do so at once.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:  # this disk has no flock
        pass
    try:
        set_ofd_lock(descriptor, fcntl.F_RDLCK if shared else fcntl.F_WRLCK)
        warn_once(OFD_NOTE)
        return True
    except OSError as error:
        if error.errno in CONFLICT:
            return False
    warn_once(RECORD_NOTE)
    return holder(descriptor) is None if shared else try_record(descriptor)


def release_lock(lock: int) -> None:
    """Unlock and close a descriptor of `try_lock`.

    `os.close` alone is for a lock that a worker has inherited: it stays locked for the worker.
    """
    # A process that was forked meanwhile has a copy of the descriptor, which would keep the lock.
    try:
        fcntl.flock(lock, fcntl.LOCK_UN)
    except OSError:
        with suppress(OSError):
            set_ofd_lock(lock, fcntl.F_UNLCK)
        with suppress(OSError):  # opened to look only
            if holder(lock) == os.getpid():
                os.ftruncate(lock, 0)
    os.close(lock)


def hand_over(lock: int, pid: int) -> None:
    """Make a child process, which inherited the descriptor, the holder of the lock.

    A kernel lock belongs to every process with the descriptor; only a record has to be rewritten.
    """
    if holder(lock) == os.getpid():
        os.pwrite(lock, record_of(pid), 0)


def set_ofd_lock(descriptor: int, kind: int) -> None:
    """Lock or unlock an open file description. Raises OSError, also where there are no such."""
    if not hasattr(fcntl, "F_OFD_SETLK"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    # struct flock of Linux: type, whence, start, length (0: to the end), pid
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0))


def try_record(descriptor: int) -> bool:
    """Write this process into the lock file as its holder; return False if another holds it.

    Fischer's algorithm: write the own name, wait longer than another needs between reading and
    writing, and hold the lock if the name is still there (L. Lamport, "A Fast Mutual Exclusion
    Algorithm", 1987, algorithm 1). A process that is suspended just there can break it.
    """
    if holder(descriptor) is not None:
        return False
    own = record_of(os.getpid())
    os.pwrite(descriptor, own, 0)
    time.sleep(SETTLE_S)
    return os.pread(descriptor, RECORD, 0) == own


def record_of(pid: int) -> bytes:
    """Return a record: process number, start time, and a mark that no other record has."""
    text = f"{pid} {started_at(pid)} {time.monotonic_ns()}.{os.urandom(4).hex()}"
    return text.ljust(RECORD - 1).encode() + b"\n"


def holder(descriptor: int) -> int | None:
    """Return the living process that the record in a lock file names; None without one."""
    words = os.pread(descriptor, RECORD, 0).decode("ascii", "replace").split()
    if len(words) < 2 or not words[0].isdecimal():
        return None
    pid = int(words[0][:12])
    # The start time distinguishes a process from an older one of the same number.
    return pid if is_alive(pid) and words[1] in ("-", started_at(pid)) else None


def started_at(pid: int) -> str:
    """Return the start time of a process in ticks since the machine's start; `-` without /proc."""
    fields = process_fields(pid)
    return fields[19] if len(fields) > 19 else "-"


def is_alive(pid: int) -> bool:
    """Return whether a process exists and has not ended."""
    if (fields := process_fields(pid)) and fields[0] in "ZX":  # ended, and not yet reaped
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:  # it belongs to another user
        return True
    except (OSError, OverflowError):
        return False
    return True


def process_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name, the state first; [] if unknown."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return []
    return stat.rpartition(")")[2].split()
