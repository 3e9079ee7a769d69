"""Writing a file so that a kill or a power cut leaves the old one or the new one, never half."""

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
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room, none for this user, none for this file


def write_atomically(path: Path, write: bytes | Callable[[BinaryIO], object]) -> None:
    """Write beside `path`, flush to disk, then take its name (rename is atomic on one file system).

    write: the bytes, or a function that is given the open file. Raises OSError; the old file stays.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            file.write(write) if isinstance(write, bytes) else write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def reporting_disk_full(folder: Path, needed: int, what: str) -> Iterator[None]:
    """A disk that runs full within is told as DiskFullError; any other OSError goes through.

    needed: bytes, for what, in words.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise DiskFullError.needing(needed, free_bytes(folder), what) from error


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder that need not be there yet."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(there).free


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: a rename is on disk only after its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_version(path: Path) -> FileVersion:
    """Differs as soon as a file was replaced or a folder has other entries; None: not there.

    Cheaper to ask than a file is to read.
    """
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
