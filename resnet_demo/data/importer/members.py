"""The files inside a source of images, what their names may be, and how much there may be of it."""

import re
from dataclasses import dataclass

from resnet_demo.errors import DamagedError, shortened

CLUTTER = {"__MACOSX", "Thumbs.db", "desktop.ini"}  # and whatever starts with a dot
Parts = tuple[str, ...]


@dataclass(frozen=True)
class ArchiveLimits:
    """How much one source may hold before it is taken for an attack or a mistake."""

    members: int = 250_000  # files and folders, hidden ones too
    empty: int = 25_000  # of them without a byte: no picture is, and millions fit into a small file
    path: int = 1024  # characters, the whole path of one member
    paths: int = 64 * 2**20  # characters, all paths together: they are held in memory
    unpacked: int = 20 * 2**30  # bytes, all members together
    member: int = 256 * 2**20  # bytes, one member: it is held in memory
    ratio: int = 1000  # unpacked to packed bytes of a zip member


@dataclass(frozen=True)
class Member:
    """One file: its path in the source, its bytes, and how far the reading is."""

    parts: Parts
    data: bytes
    done: int  # packed bytes, or files, read so far
    total: int


class LimitChecker:
    """Counts what was read against the limits; beyond them it raises DamagedError."""

    def __init__(self, limits: ArchiveLimits) -> None:
        self.limits = limits
        self.members = self.empty = self.paths = self.unpacked = 0

    def member(self, path: str, size: int) -> None:
        """One more file or folder of `size` bytes, whether or not it will be read."""
        self.members += 1
        self.empty += size == 0
        self.paths += len(path)
        if self.members > self.limits.members:
            raise too_many_files_error(self.limits)
        if self.empty > self.limits.empty:
            raise DamagedError(f"there are more than {self.limits.empty:,} empty files and folders")
        if len(path) > self.limits.path:
            most = f"the most is {self.limits.path:,}"
            raise DamagedError(f"{shortened(path)} is a path of {len(path):,} characters, {most}")
        if self.paths > self.limits.paths:
            raise DamagedError("the paths of all files are too long to be held in memory")

    def file(self, path: str, size: int) -> None:
        """A file of `size` bytes is about to be read at once."""
        if size > self.limits.member:
            most = f"the most for one file is {self.limits.member:,}"
            raise DamagedError(f"{shortened(path)} has {size:,} bytes, {most}")

    def bytes(self, count: int) -> None:
        """So many more unpacked bytes."""
        self.unpacked += count
        if self.unpacked > self.limits.unpacked:
            raise DamagedError(f"it unpacks to more than {self.limits.unpacked:,} bytes")


def too_many_files_error(limits: ArchiveLimits) -> DamagedError:
    """The error for what exceeds the number of members."""
    return DamagedError(f"there are more than {limits.members:,} files and folders")


def safe_parts(name: str) -> Parts:
    """A member's name cut at its slashes. Raises DamagedError for one that leads elsewhere."""
    name = name.replace("\\", "/")  # as some Windows programs write them
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts or re.match("[A-Za-z]:", name):
        raise DamagedError(f"the archive holds a path that leads out of it: {shortened(name)}")
    return parts


def is_hidden(parts: Parts) -> bool:
    """True for what systems leave behind unseen, or has no name: it is no picture of anybody's."""
    return not parts or any(part.startswith(".") or part in CLUTTER for part in parts)


def not_a_file_error(name: str) -> DamagedError:
    """The error for a link or a device, which are never followed."""
    return DamagedError(f"{shortened(name)} is a link or a device, not a file")
