"""One pass over the pictures of a source, for an import and for the scan before it. No torch here.

Both use these functions, so that the scan finds what the import will do, and refuses what it would.
"""

import io
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from resnet_demo.data.folder import ProgressCallback
from resnet_demo.data.importer.archive import read_members
from resnet_demo.data.importer.label_tables import (
    MAX_TABLES,
    LabelledFiles,
    is_table,
    named_by_tables,
    read_labels,
)
from resnet_demo.data.importer.layout import SplitAssignment, assign_splits
from resnet_demo.data.importer.locate import FolderLayout, list_folders, read_layout
from resnet_demo.data.importer.members import EMPTY_FOLDER, Member, Parts, is_picture_name
from resnet_demo.data.pictures import decode_picture
from resnet_demo.errors import DamagedError, DemoError, shortened

MAX_REASONS = 100  # kept, of unreadable pictures
MAX_UNREADABLE = 0.1  # share of the pictures
REPORT_EVERY, REPORT_EVERY_S = 250, 0.5  # pictures, or seconds where they are large
PictureCallback = Callable[[Member, np.ndarray | None], None]


@dataclass
class SourceFiles:
    """The files of a source in the order of reading, without tables and what cannot be opened."""

    paths: list[Parts] = field(default_factory=list)
    readable: list[bool] = field(default_factory=list)
    tables: dict[Parts, bytes] = field(default_factory=dict)  # that may hold labels
    unopened: dict[Parts, str] = field(default_factory=dict)  # -> why
    empty_folders: list[Parts] = field(default_factory=list)
    total_bytes: int = 0  # of all files, unpacked
    deep_grey: Counter[int] = field(default_factory=Counter)  # bits -> pictures of such a grey
    reasons: dict[str, str] = field(default_factory=dict)  # the first unreadable pictures -> why


@dataclass(frozen=True, kw_only=True)
class DatasetPlan:
    """The dataset that a source would make. The assignment's rows count readable files only."""

    assignment: SplitAssignment
    pictures: int  # in class folders, readable or not
    own_split: bool  # False: a fifth of each class is held out for testing, if there are enough
    skipped: Sequence[str] = ()  # unreadable pictures in class folders, sorted
    unopened: Sequence[tuple[str, str]] = ()  # files that could not be opened, and why, sorted
    passed_over: Sequence[str] = ()  # all other files that are not imported, sorted
    notes: tuple[str, ...] = ()  # sentences on how the folders were read
    reason: str = ""  # why one of the skipped pictures is unreadable, a sentence


def read_pictures(
    source: Path, on_picture: PictureCallback, progress: ProgressCallback
) -> SourceFiles:
    """Decode every picture of a source in turn.

    on_picture: called with each file and its (H, W, 3) uint8 pixels, None for an unreadable one.
    progress: called every 250 pictures or half second. An error from either ends the reading.
    Raises as `read_members`.
    """
    files, reported = SourceFiles(), time.monotonic()
    # Closed at once after an error: a tar is unpacked in a thread.
    with closing(read_members(source)) as members:
        for member in members:
            files.total_bytes += len(member.data)
            if member.problem == EMPTY_FOLDER:
                files.empty_folders.append(member.parts)
                continue
            if member.problem:
                files.unopened[member.parts] = member.problem
                continue
            # Kept until the end: which pictures a table names is known only then.
            if len(files.tables) < MAX_TABLES and is_table(member.parts[-1], member.data):
                files.tables[member.parts] = member.data
                continue
            pixels = _decode(member, files)
            on_picture(member, pixels)
            files.paths.append(member.parts)
            files.readable.append(pixels is not None)
            now = time.monotonic()
            if len(files.paths) % REPORT_EVERY == 0 or now - reported > REPORT_EVERY_S:
                reported = now
                count = len(files.paths)
                message = f"{count:,} picture{'s' * (count != 1)} read"
                progress(member.done, member.total, message)
    return files


def _decode(member: Member, files: SourceFiles) -> np.ndarray | None:
    name = "/".join(member.parts)

    def count_depth(bits: int) -> None:
        files.deep_grey[bits] += 1

    try:
        return decode_picture(io.BytesIO(member.data), name=name, on_deep_grey=count_depth)
    except DamagedError as error:
        # The first reasons are enough for a message; all of them could be a quarter of a million.
        if len(files.reasons) < MAX_REASONS and is_picture_name(member.parts[-1]):
            files.reasons[name] = str(error)
        return None


def plan_dataset(files: SourceFiles) -> DatasetPlan:
    """Return splits, classes and order of a source's files.

    Raises DemoError for files that cannot make a dataset.
    """
    unopened = sorted(("/".join(parts), why) for parts, why in files.unopened.items())
    try:
        return _plan_readable(files, unopened)
    except DemoError as error:
        if not unopened:
            raise
        raise DemoError(f"{error}; {unopened_text(unopened)}") from error


def _plan_readable(files: SourceFiles, unopened: Sequence[tuple[str, str]]) -> DatasetPlan:
    readable = [parts for parts, good in zip(files.paths, files.readable, strict=True) if good]
    damaged = [
        parts
        for parts, good in zip(files.paths, files.readable, strict=True)
        if not good and is_picture_name(parts[-1])
    ]
    # Only readable pictures decide: a folder of notes beside the pictures is no class.
    layout = _choose_layout(files, readable or damaged)
    locations = [layout.locate(parts) for parts in readable]
    skipped = sorted("/".join(parts) for parts in damaged if layout.locate(parts))
    try:
        assignment = assign_splits(locations)
    except DemoError as error:
        # Unreadable pictures are the likely reason.
        pictures = len(locations) - locations.count(None) + len(skipped)
        check_readable(skipped, pictures, _first_reason(files, skipped))
        if isinstance(layout, FolderLayout) and (fact := named_by_tables(files.tables, readable)):
            raise DemoError(f"{error}; {fact}") from error
        raise
    imported = [parts for parts, location in zip(readable, locations, strict=True) if location]
    others = {*files.paths, *files.tables}.difference(imported)
    others = {"/".join(parts) for parts in others if not layout.accounts_for(parts)}
    return DatasetPlan(
        assignment=assignment,
        pictures=len(imported) + len(skipped),
        own_split=any(location.split for location in locations if location),
        skipped=skipped,
        unopened=unopened,
        passed_over=sorted(others.difference(skipped)),
        notes=(*layout.notes, *_lost_classes(files, damaged, layout, assignment.classes)),
        reason=_first_reason(files, skipped),
    )


def _lost_classes(
    files: SourceFiles,
    damaged: Sequence[Parts],
    layout: FolderLayout | LabelledFiles,
    classes: Sequence[str],
) -> Iterator[str]:
    """Yield a note on class folders without a readable picture, which are no classes."""
    inside = [*damaged, *((*folder, "") for folder in files.empty_folders)]
    lost = {location.label for parts in inside if (location := layout.locate(parts))}
    if lost := lost.difference(classes):
        yield (
            f"{list_folders(lost)} {'has' if len(lost) == 1 else 'have'} no picture that can be "
            f"read, and {'is no class' if len(lost) == 1 else 'are no classes'}"
        )


def _first_reason(files: SourceFiles, skipped: Sequence[str]) -> str:
    """Return why the first of these pictures that has a reason is unreadable; "" for none."""
    return next((files.reasons[name] for name in skipped if name in files.reasons), "")


def _choose_layout(files: SourceFiles, pictures: Sequence[Parts]) -> FolderLayout | LabelledFiles:
    """Return what names more pictures: the tables, or else the folders."""
    labels = read_labels(files.tables, pictures)
    if labels is None:
        return read_layout(pictures)
    try:
        folders = read_layout(pictures)
    except DemoError:
        return labels
    # Without splits any folders could be taken for classes, those of a flat data set too.
    found = [location for path in pictures if (location := folders.locate(path))]
    if labels.guessed and len({location.label for location in found}) > 1:
        return folders
    located = len(found) if folders.has_test_split else 0
    return folders if located >= len(labels.locations) else labels


def unopened_text(files: Sequence[tuple[str, str]], count: int | None = None) -> str:
    """Return the sentence about files that could not be opened. files: at least the first three."""
    count = len(files) if count is None else count
    subject = "one file is" if count == 1 else f"{count:,} files are"
    first = ", ".join(f"{shortened(name)} ({why})" for name, why in files[:3])
    return f"{subject} left out{': ' if count <= 3 else ', such as '}{first}"


def check_readable(skipped: Sequence[str], pictures: int, reason: str = "") -> None:
    """Raise DemoError where too many pictures are unreadable, with names and one's reason."""
    if len(skipped) > MAX_UNREADABLE * pictures:
        first = ", ".join(shortened(name) for name in skipped[:3])
        raise DemoError(
            f"{len(skipped):,} of {pictures:,} pictures cannot be read, such as {first}"
            + (f"; {reason}" if reason else "")
        )
