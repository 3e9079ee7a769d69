"""The files inside a source of images, what their names may be, and how much there may be of it."""

import re
from dataclasses import dataclass

from resnet_demo.errors import DamagedError, shortened

CLUTTER = {"__MACOSX", "Thumbs.db", "desktop.ini"}  # and whatever starts with a dot
Parts = tuple[str, ...]


@dataclass(frozen=True)
class Limits:
    """How much one source may hold before it is taken for an attack or a mistake."""

    members: int = 1_000_000
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


class Budget:
    """Counts what was read against the limits; beyond them it raises DamagedError."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.members, self.unpacked = limits, 0, 0

    def member(self, name: str, size: int) -> None:
        """One more member of `size` bytes; asked before it is read."""
        self.members += 1
        if self.members > self.limits.members:
            raise DamagedError(f"there are more than {self.limits.members:,} files")
        if size > self.limits.member:
            most = f"the most for one file is {self.limits.member:,}"
            raise DamagedError(f"{shortened(name)} has {size:,} bytes, {most}")

    def bytes(self, count: int) -> None:
        """So many more unpacked bytes."""
        self.unpacked += count
        if self.unpacked > self.limits.unpacked:
            raise DamagedError(f"it unpacks to more than {self.limits.unpacked:,} bytes")


def safe_parts(name: str) -> Parts:
    """A member's name cut at its slashes. Raises DamagedError for one that leads elsewhere."""
    name = name.replace("\\", "/")  # as some Windows programs write them
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts or re.match("[A-Za-z]:", name):
        raise DamagedError(f"the archive holds a path that leads out of it: {shortened(name)}")
    return parts


def is_hidden(parts: Parts) -> bool:
    """True for what systems leave behind unseen: it is no picture of anybody's."""
    return any(part.startswith(".") or part in CLUTTER for part in parts)


def not_a_file(name: str) -> DamagedError:
    """The error for a link or a device, which are never followed."""
    return DamagedError(f"{shortened(name)} is a link or a device, not a file")
