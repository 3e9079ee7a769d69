"""The files in a folder, a zip or a tar, read in memory one after another. No torch here.

Nothing is ever extracted: a member's name is only looked at, its bytes only handed on. What
could do harm (a way out of the folder, a link, a bomb) ends the reading with one sentence.
"""

import bz2
import gzip
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from resnet_demo.data.members import (
    Budget,
    Limits,
    Member,
    Parts,
    is_hidden,
    not_a_file,
    safe_parts,
)
from resnet_demo.data.tar import NoTarError, files_in_tar
from resnet_demo.errors import ConfigError, DamagedError, NotFoundError, shortened

OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
# What the standard library raises on foreign bytes.
BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    ValueError,
    RuntimeError,
    OverflowError,
)


def read_members(source: Path, limits: Limits | None = None) -> Iterator[Member]:
    """Every regular file of a folder, .zip or .tar (.gz, .xz, .bz2), hidden ones passed over.

    Raises NotFoundError, ConfigError for what is no archive, DamagedError for one that is cut
    short, damaged, beyond the limits, or holds links, devices or paths that lead out of it.
    """
    if not source.exists():
        raise NotFoundError(f"there is no file or folder {shortened(str(source))}")
    name, budget = shortened(source.name), Budget(limits or Limits())
    try:
        if source.is_dir():
            yield from _in_folder(source, budget)
        else:
            with open(source, "rb") as file:
                yield from _in_file(file, budget)
    except NoTarError:
        raise ConfigError(f"{name} is not a folder, a zip or a tar of images") from None
    except BROKEN as error:
        raise DamagedError(f"{name} is cut short or damaged") from error
    except OSError as error:
        reason = error.strerror or "it is cut short or damaged"
        raise DamagedError(f"{name} cannot be read: {reason}") from error


def _in_folder(folder: Path, budget: Budget) -> Iterator[Member]:
    paths = list(_walk(folder, ()))
    for done, parts in enumerate(paths, 1):
        path = folder.joinpath(*parts)
        size = path.stat().st_size
        budget.member("/".join(parts), size)
        budget.bytes(size)
        yield Member(parts, path.read_bytes(), done, len(paths))


def _walk(folder: Path, above: Parts) -> Iterator[Parts]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        parts = (*above, entry.name)
        if is_hidden(parts):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), parts)
        elif entry.is_file(follow_symlinks=False):
            yield parts
        else:
            raise not_a_file("/".join(parts))


def _in_file(file: BinaryIO, budget: Budget) -> Iterator[Member]:
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"PK"):
        yield from _in_zip(file, budget)
        return
    total = os.fstat(file.fileno()).st_size
    opener = next((OPENERS[magic] for magic in OPENERS if start.startswith(magic)), None)
    with opener(file) if opener else file as unpacked:
        for parts, data in files_in_tar(unpacked, budget):
            yield Member(parts, data, file.tell(), total)


def _in_zip(file: BinaryIO, budget: Budget) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        for done, info in enumerate(infos, 1):
            parts = safe_parts(info.filename)
            budget.member(info.filename, info.file_size)
            _check_zip_member(info, budget.limits)
            if info.is_dir() or is_hidden(parts):
                continue
            budget.bytes(info.file_size)
            with archive.open(info) as member:  # never gives more than the size it declares
                yield Member(parts, member.read(info.file_size), done, len(infos))


def _check_zip_member(info: zipfile.ZipInfo, limits: Limits) -> None:
    name, kind = shortened(info.filename), stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise not_a_file(info.filename)
    if info.flag_bits & 1:
        raise DamagedError(f"{name} is encrypted")
    # bzip2 and xz inside a zip unpack without a bound in the standard library
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DamagedError(f"{name} is packed by a method other than deflate")
    if info.file_size > limits.ratio * max(info.compress_size, 1):
        raise DamagedError(f"{name} unpacks to more than {limits.ratio:,} times its size")
