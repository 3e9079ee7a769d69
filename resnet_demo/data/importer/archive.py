"""The files in a folder, a zip or a tar, read in memory one after another. No torch here.

Nothing is ever extracted: a member's name is only looked at, its bytes only handed on. What
could do harm (a way out of the folder, a link, a bomb) ends the reading with one sentence.
"""

import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from resnet_demo.data.importer.decompress import decompress, read_ahead
from resnet_demo.data.importer.members import (
    ArchiveLimits,
    LimitChecker,
    Member,
    Parts,
    is_hidden,
    not_a_file_error,
)
from resnet_demo.data.importer.tar import NoTarError, files_in_tar
from resnet_demo.data.importer.zip import files_in_zip
from resnet_demo.errors import ConfigError, DamagedError, NotFoundError, shortened

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


def read_members(source: Path, limits: ArchiveLimits | None = None) -> Iterator[Member]:
    """Every regular file of a folder, .zip or .tar (.gz, .xz, .bz2), hidden ones passed over.

    A tar is unpacked by a thread of its own, which ends when the iterator does or is closed.
    Raises NotFoundError, ConfigError for what is no archive, DamagedError for one that is cut
    short, damaged, beyond the limits, or holds links, devices or paths that lead out of it.
    """
    if not source.exists():
        raise NotFoundError(f"there is no file or folder {shortened(str(source), 300)}")
    name, budget = shortened(source.name), LimitChecker(limits or ArchiveLimits())
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


def _in_folder(folder: Path, budget: LimitChecker) -> Iterator[Member]:
    paths = list(_walk(folder, (), budget))
    for done, parts in enumerate(paths, 1):
        path = folder.joinpath(*parts)
        size = path.stat().st_size
        budget.file("/".join(parts), size)
        budget.bytes(size)
        yield Member(parts, path.read_bytes(), done, len(paths))


def _walk(folder: Path, above: Parts, budget: LimitChecker) -> Iterator[Parts]:
    for entry in sorted(_listed(folder, above, budget), key=lambda entry: entry.name):
        parts = (*above, entry.name)
        if is_hidden(parts):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), parts, budget)
        elif entry.is_file(follow_symlinks=False):
            yield parts
        else:
            raise not_a_file_error("/".join(parts))


def _listed(folder: Path, above: Parts, budget: LimitChecker) -> Iterator[os.DirEntry]:
    with os.scandir(folder) as entries:
        for entry in entries:
            size = entry.stat(follow_symlinks=False).st_size
            budget.member("/".join((*above, entry.name)), size)
            yield entry


def _in_file(file: BinaryIO, budget: LimitChecker) -> Iterator[Member]:
    start = file.read(2)
    file.seek(0)
    if start == b"PK":
        yield from files_in_zip(file, budget)
        return
    total = os.fstat(file.fileno()).st_size
    with read_ahead(decompress(file)) as tar:
        for parts, data in files_in_tar(tar, budget):
            # the system's place in the file: the file object's own is the thread's to touch
            done = os.lseek(file.fileno(), 0, os.SEEK_CUR)
            yield Member(parts, data, done, total)
