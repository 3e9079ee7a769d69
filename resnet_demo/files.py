"""Atomic writes, disk-full errors, versions and digests of files; free space and free memory."""

import errno
import hashlib
import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from resnet_demo.errors import DiskFullError, ReadOnlyError

FileVersion = tuple[int, int] | None
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # disk, quota of the user, file size limit
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
# How disks answer to what they cannot do: CIFS, drvfs, exFAT, FUSE.
UNSUPPORTED = (
    errno.EINVAL,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.ENOTTY,
    errno.EBADF,
    errno.EISDIR,
    errno.EPERM,
    errno.EACCES,
)
NO_FOLDER_SYNC = (
    "this disk cannot flush folders: after a power cut, a file may have its previous content, or a "
    "new one may be missing"
)
# numpy reads the header of an array with Python's parser of literals. Two threads in it at once can
# end in a SystemError (seen in Python 3.11), so np.load is called under this lock.
ARRAY_HEADERS = Lock()
NO_LINKS = "this disk has no hard links: files are copied instead, which takes time and space"


def write_atomically(path: Path, write: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file so that a kill or power cut leaves the old content or the new, never a part.

    The content goes to a temporary file, is flushed to disk and renamed, which is atomic.
    write: the bytes, or a function that writes to the open file.
    Raises OSError; the old file then stays.
    """
    # In the same folder, hence on the same disk: only then is a rename atomic. With the process id,
    # so that two writers never share a temporary file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(write) if isinstance(write, bytes) else write(file)
            file.flush()
            # Before the rename: after a power cut the name could else point to an empty file.
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def reporting_disk_full(folder: Path, needed: int, what: str) -> Iterator[None]:
    """Turn the OSError of a full disk into DiskFullError; let others pass.

    needed: size of the file in bytes. what: its name for the message.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise DiskFullError.needing(needed, free_bytes(folder), what) from error


def free_bytes(folder: Path) -> int:
    """Return the free bytes on the disk of a folder, which may not exist yet."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free


def free_memory() -> float:
    """Return the bytes that a new process could use, also within a container; infinite if unknown.

    The page cache counts as free: the kernel gives it up.
    """
    free = [float("inf")]
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free += [1024 * int(row.split()[1]) for row in lines if row.startswith("MemAvailable:")]
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):  # no limit reads `max`
        used = int((group / "memory.current").read_text())
        rows = (row.split() for row in (group / "memory.stat").read_text().splitlines())
        cache = next((int(row[1]) for row in rows if row[0] == "inactive_file"), 0)
        free.append(int((group / "memory.max").read_text()) - used + cache)
    return min(free)


@contextmanager
def reporting_read_only(folder: Path) -> Iterator[None]:
    """Turn the OSError of a folder that is read-only into ReadOnlyError; let others pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
        reason = (error.strerror or str(error)).lower()
        raise ReadOnlyError(
            f"the folder {folder.name} cannot be written to ({reason}): make it writable, or name "
            "another one in RESNET_DEMO_RUNS or RESNET_DEMO_DATA"
        ) from error


def is_new_or_empty(folder: Path) -> bool:
    """Return whether the path is free for a new folder: missing, or a folder without files."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def sync_folder(folder: Path) -> None:
    """Write a folder's entries to disk: a rename is durable only after that.

    Where a disk cannot do that, log it once: only a power cut or a crash of the system is then
    worse, since a killed process loses nothing that it has renamed.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        warn_once(NO_FOLDER_SYNC)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, at once if the disk has hard links; else copy it, durably."""
    try:
        os.link(source, target)
        return
    except OSError as error:
        # Also for two disks, or too many links: the copy raises what really hinders it.
        if error.errno in UNSUPPORTED:
            warn_once(NO_LINKS)
    with open(source, "rb") as content, open(target, "wb") as copy:
        shutil.copyfileobj(content, copy, 2**20)  # in megabytes: checkpoints are large
        copy.flush()
        os.fsync(copy.fileno())


def open_file(path: Path, append: bool = False) -> BinaryIO:
    """Open a file for reading, or for appending, which makes it if it is missing.

    Raises OSError, with errno EINVAL for a pipe, a device or a folder.
    """
    # Opening a pipe without O_NONBLOCK would wait for its other end, perhaps for ever.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT if append else os.O_RDONLY
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EISDIR):  # a pipe that nobody reads, or a folder
            raise OSError(errno.EINVAL, "not a file", str(path)) from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a file", str(path))
        return open(descriptor, "ab" if append else "rb")
    except BaseException:
        os.close(descriptor)
        raise


@cache
def warn_once(message: str) -> None:
    """Log a warning, once in the life of a process: in worker.log, or on standard error."""
    logging.getLogger("resnet_demo").warning(message)


def file_version(path: Path) -> FileVersion:
    """Return a value that changes when a file is replaced or a folder's entries change.

    None for a missing path. This is cheaper than reading the file.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError:  # a link to itself: whoever reads it gets the error
        return 0, 0
    # The inode too, which every atomic write changes: the time of two quick writes may be equal.
    return found.st_ino, found.st_mtime_ns


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file's content. Raises OSError."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bytes_text(count: float) -> str:
    """Return an amount of bytes: 812 kB, 4.2 MB, 171 MB, 1.5 GB."""
    for size, unit in ((1e9, "GB"), (1e6, "MB")):
        if count >= 0.9995 * size:  # 999,600 bytes are 1.0 MB, not 1000 kB
            return f"{count / size:.{1 if count < 9.95 * size else 0}f} {unit}"
    return f"{count / 1e3:.0f} kB"
