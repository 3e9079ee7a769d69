"""Atomic writes, disk-full errors, versions and digests of files."""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from resnet_demo.errors import DiskFullError

FileVersion = tuple[int, int] | None
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # disk, quota of the user, file size limit


def write_atomically(path: Path, write: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file so that a kill or power cut leaves the old content or the new, never a part.

    The content goes to a temporary file, is flushed to disk and renamed, which is atomic.
    write: the bytes, or a function that writes to the open file.
    Raises OSError; the old file then stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(write) if isinstance(write, bytes) else write(file)
            file.flush()
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


def sync_folder(folder: Path) -> None:
    """Write a folder's entries to disk: a rename is durable only after that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_version(path: Path) -> FileVersion:
    """Return a value that changes when a file is replaced or a folder's entries change.

    None for a missing path. This is cheaper than reading the file.
    """
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
