"""Reading the files of a person's own folder, one after another. No torch here.

Unlike an archive, the folder is the person's own work: its links are followed, and what cannot be
opened is left out with the reason.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from resnet_demo.data.importer.members import (
    EMPTY_FOLDER,
    LimitChecker,
    Member,
    Parts,
    has_picture_suffix,
    hidden_picture_problem,
    is_hidden,
)
from resnet_demo.data.importer.parquet_pictures import is_parquet_name, pictures_in_parquet

Identity = tuple[int, int]  # device and inode


@dataclass(frozen=True)
class _Entry:
    """A file of the folder, or what cannot be opened; then `problem` says why."""

    parts: Parts
    size: int = 0
    problem: str = ""


def files_in_folder(folder: Path, checker: LimitChecker) -> Iterator[Member]:
    """Yield the files of a folder and of its subfolders, sorted by name.

    Where it has parquet files and no pictures, yield the pictures in those files. A dangling link,
    a device, or a file or subfolder without permission has a `problem` and no bytes. Raises
    DamagedError beyond the limits, OSError for the folder itself.
    """
    entries = list(_walk(folder, (), checker, (_identity(folder.stat()),)))
    if tables := _parquet_files(folder, entries):
        yield from pictures_in_parquet(tables, checker)
        return
    for done, entry in enumerate(entries, 1):
        data, problem = b"", entry.problem
        if not problem:
            data, problem = _read_file(folder, entry, checker)
        yield Member(entry.parts, data, done, len(entries), problem)


def _parquet_files(folder: Path, entries: list[_Entry]) -> list[tuple[Path, Parts]]:
    """Return the parquet files of a folder, with their paths in it; none beside pictures."""
    if any(has_picture_suffix(entry.parts[-1]) for entry in entries):
        return []
    return [
        (folder.joinpath(*entry.parts), entry.parts)
        for entry in entries
        if not entry.problem and is_parquet_name(entry.parts[-1])
    ]


def _read_file(folder: Path, entry: _Entry, checker: LimitChecker) -> tuple[bytes, str]:
    """Return the bytes of a file and "", or no bytes and the reason. Raises DamagedError."""
    path = "/".join(entry.parts)
    if problem := checker.size_problem(path, entry.size):
        return b"", problem
    checker.add_bytes(entry.size)
    try:
        # As text: a Path for each of many small files takes longer than reading it.
        with open(os.path.join(folder, *entry.parts), "rb") as file:
            # Never more than was counted: a link may lead to a file that has no end.
            return file.read(entry.size), ""
    except OSError as error:
        return b"", error.strerror or "it cannot be read"


def _walk(
    folder: Path, above: Parts, checker: LimitChecker, ancestors: tuple[Identity, ...]
) -> Iterator[_Entry]:
    """Yield the files in and below a folder, sorted by name, or the problem of what has none.

    above: the path of the folder from the person's folder. ancestors: the folder itself and those
    above it, which a link must not lead back to.
    """
    names = sorted(_list_names(folder, above, checker))
    if all(is_hidden((name,)) for name in names) and above:
        yield _Entry(above, problem=EMPTY_FOLDER)
    for name in names:
        parts, path = (*above, name), os.path.join(folder, name)
        if is_hidden(parts):
            yield from _hidden_pictures(Path(path), parts)
            continue
        try:
            found = os.stat(path)
            if not stat.S_ISDIR(found.st_mode):
                yield _describe(parts, found)
            elif (identity := _identity(found)) in ancestors:
                yield _Entry(parts, problem="a link to a folder above it")
            else:
                yield from _walk(Path(path), parts, checker, (*ancestors, identity))
        except FileNotFoundError:
            yield _Entry(parts, problem="a link to nothing")
        except OSError as error:  # no permission, or a link to itself
            yield _Entry(parts, problem=error.strerror or "it cannot be opened")


def _list_names(folder: Path, above: Parts, checker: LimitChecker) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            size = entry.stat(follow_symlinks=False).st_size
            checker.add_member("/".join((*above, entry.name)), size)
            yield entry.name


def _hidden_pictures(path: Path, parts: Parts) -> Iterator[_Entry]:
    """Yield a hidden picture, or a hidden folder with pictures, that a person may have meant."""
    with suppress(OSError):
        name = (
            next((n for n in os.listdir(path) if has_picture_suffix(n)), "")
            if path.is_dir()
            else ""
        )
        if problem := hidden_picture_problem((*parts, name) if name else parts):
            yield _Entry(parts, problem=problem)


def _describe(parts: Parts, found: os.stat_result) -> _Entry:
    # Opening a pipe would wait for ever, reading a device could change it.
    if not stat.S_ISREG(found.st_mode):
        return _Entry(parts, problem="a device or a pipe, not a file")
    return _Entry(parts, found.st_size)


def _identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino
