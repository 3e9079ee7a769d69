"""The files in a folder, a zip or a tar, read in memory one after another. No torch here.

Nothing is ever extracted: a member's name is only looked at, its bytes only handed on. What
could do harm (a way out of the folder, a link, a bomb) ends the reading with one sentence.
"""

import bz2
import gzip
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from resnet_demo.errors import ConfigError, DamagedError, DemoError, NotFoundError, shortened

OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
CLUTTER = {"__MACOSX", "Thumbs.db", "desktop.ini"}  # and whatever starts with a dot
MOST_HEADER = 64 * 1024  # bytes of a tar's long name or attributes, held in memory
# What the standard library raises on foreign bytes; RuntimeError is an encrypted zip.
BROKEN = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, ValueError,
          RuntimeError, OverflowError)  # fmt: skip


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

    parts: tuple[str, ...]
    data: bytes
    done: int  # packed bytes, or files, read so far
    total: int


def read_members(source: Path, limits: Limits | None = None) -> Iterator[Member]:
    """Every regular file of a folder, .zip or .tar (.gz, .xz, .bz2), hidden ones passed over.

    Raises NotFoundError, ConfigError for what is no archive, DamagedError for one that is cut
    short, damaged, beyond the limits, or holds links, devices or paths that lead out of it.
    """
    if not source.exists():
        raise NotFoundError(f"there is no file or folder {shortened(str(source))}")
    name, budget = shortened(source.name), _Budget(limits or Limits())
    try:
        if source.is_dir():
            yield from _in_folder(source, budget)
        else:
            with open(source, "rb") as file:
                yield from _in_file(file, name, budget)
    except BROKEN as error:
        raise DamagedError(f"{name} is cut short or damaged") from error
    except OSError as error:
        reason = error.strerror or "it is cut short or damaged"
        raise DamagedError(f"{name} cannot be read: {reason}") from error


def safe_parts(name: str) -> tuple[str, ...]:
    """A member's name cut at its slashes. Raises DamagedError for one that leads elsewhere."""
    name = name.replace("\\", "/")  # as some Windows programs write them
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts or re.match("[A-Za-z]:", name):
        raise DamagedError(f"the archive holds a path that leads out of it: {shortened(name)}")
    return parts


class _Budget:
    """Counts what was read against the limits."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.members, self.unpacked = limits, 0, 0

    def member(self, name: str, size: int) -> None:
        """One more member of `size` bytes; asked before it is read."""
        self.members += 1
        if self.members > self.limits.members:
            raise DamagedError(f"there are more than {self.limits.members:,} files")
        if size > self.limits.member:
            raise DamagedError(
                f"{shortened(name)} has {size:,} bytes, the most for one file is "
                f"{self.limits.member:,}"
            )

    def bytes(self, count: int) -> None:
        """So many more unpacked bytes."""
        self.unpacked += count
        if self.unpacked > self.limits.unpacked:
            raise DamagedError(f"it unpacks to more than {self.limits.unpacked:,} bytes")


def _hidden(parts: tuple[str, ...]) -> bool:
    return any(part.startswith(".") or part in CLUTTER for part in parts)


def _in_file(file: BinaryIO, name: str, budget: _Budget) -> Iterator[Member]:
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"PK"):
        yield from _in_zip(file, budget)
        return
    opener = next((OPENERS[magic] for magic in OPENERS if start.startswith(magic)), None)
    try:
        with opener(file) if opener else file as unpacked:
            yield from _in_tar(_Counted(unpacked, budget), file, budget)
    except _NoTarError:
        raise ConfigError(f"{name} is not a folder, a zip or a tar of images") from None


def _in_folder(folder: Path, budget: _Budget) -> Iterator[Member]:
    paths = [path for path in _walk(folder, ()) if not _hidden(path)]
    for done, parts in enumerate(paths, 1):
        path = folder.joinpath(*parts)
        size = path.stat().st_size
        budget.member(parts[-1], size)
        budget.bytes(size)
        yield Member(parts, path.read_bytes(), done, len(paths))


def _walk(folder: Path, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        parts = (*above, entry.name)
        if _hidden(parts):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), parts)
        elif entry.is_file(follow_symlinks=False):
            yield parts
        else:
            raise _not_a_file("/".join(parts))


def _not_a_file(name: str) -> DemoError:
    return DamagedError(f"{shortened(name)} is a link or a device, not a file")


def _in_zip(file: BinaryIO, budget: _Budget) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        for done, info in enumerate(infos, 1):
            parts = safe_parts(info.filename)
            budget.member(info.filename, info.file_size)
            _check_zip_member(info, budget.limits)
            if info.is_dir() or _hidden(parts):
                continue
            budget.bytes(info.file_size)
            with archive.open(info) as member:  # never gives more than the size it declares
                yield Member(parts, member.read(info.file_size), done, len(infos))


def _check_zip_member(info: zipfile.ZipInfo, limits: Limits) -> None:
    name, kind = shortened(info.filename), stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _not_a_file(info.filename)
    if info.flag_bits & 1:
        raise DamagedError(f"{name} is encrypted")
    # bzip2 and xz inside a zip unpack without a bound in the standard library
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DamagedError(f"{name} is packed by a method other than deflate")
    if info.file_size > limits.ratio * max(info.compress_size, 1):
        raise DamagedError(f"{name} unpacks to more than {limits.ratio:,} times its size")


class _NoTarError(Exception):
    """The very first block is no tar header."""


class _Counted:
    """Unpacked bytes on their way to tarfile, counted."""

    def __init__(self, file: BinaryIO, budget: _Budget) -> None:
        self.file, self.budget = file, budget

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        self.budget.bytes(len(data))
        return data


class _StrictInfo(tarfile.TarInfo):
    """A header that must be one: tarfile takes a torn or altered header for the end."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> "_StrictInfo":
        if len(buf) == tarfile.BLOCKSIZE and not any(buf):
            return super().frombuf(buf, encoding, errors)  # the proper end
        try:
            info = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error
        if info.size < 0 or (info.type in _HEADERS and info.size > MOST_HEADER):
            raise tarfile.ReadError("a size that cannot be")
        return info


# Members that are not files but say more about the next one; tarfile reads them whole.
_HEADERS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE,
            tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)  # fmt: skip


def _in_tar(unpacked: _Counted, packed: BinaryIO, budget: _Budget) -> Iterator[Member]:
    total = os.fstat(packed.fileno()).st_size
    try:
        archive = tarfile.open(fileobj=unpacked, mode="r|", tarinfo=_StrictInfo)  # noqa: SIM115
    except tarfile.ReadError as error:
        raise _NoTarError from error
    with archive:
        while (info := archive.next()) is not None:
            archive.members.clear()  # tarfile keeps all it has seen
            parts = safe_parts(info.name)
            budget.member(info.name, info.size)
            if not info.isdir() and (not info.isreg() or info.issparse()):
                raise _not_a_file(info.name)
            if info.isreg() and not _hidden(parts):
                data = archive.extractfile(info).read()
                yield Member(parts, data, packed.tell(), total)
    while unpacked.read(2**20):  # to the end: a torn compressed file shows only there
        pass
