"""One pass over the pictures of a source, for an import and for the scan before it. No torch here.

Both use these functions, so that the scan finds what the import will do, and refuses what it would.
"""

import io
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from resnet_demo.data.folder import ProgressCallback
from resnet_demo.data.importer.archive import read_members
from resnet_demo.data.importer.layout import SplitAssignment, assign_splits, locate_pictures
from resnet_demo.data.importer.members import Member, Parts
from resnet_demo.data.pictures import decode_picture
from resnet_demo.errors import DamagedError, DemoError, shortened

MAX_UNREADABLE = 0.1  # share of the pictures
REPORT_EVERY = 250  # pictures
PictureCallback = Callable[[Member, np.ndarray | None], None]


@dataclass
class SourceFiles:
    """The files of a source in the order of reading, without the `loose` ones in no folder."""

    paths: list[Parts] = field(default_factory=list)
    readable: list[bool] = field(default_factory=list)
    loose: int = 0
    total_bytes: int = 0  # of all files, unpacked


@dataclass(frozen=True)
class DatasetPlan:
    """The dataset that a source would make. The assignment's rows count readable files only."""

    assignment: SplitAssignment
    skipped: list[str]  # unreadable files in class folders, sorted
    pictures: int  # files in class folders, readable or not
    own_split: bool  # False: a fifth of each class is held out for testing


def read_pictures(
    source: Path, on_picture: PictureCallback, progress: ProgressCallback
) -> SourceFiles:
    """Decode every picture of a source in turn; a file in no folder is only counted.

    on_picture: called with each file and its (H, W, 3) uint8 pixels, None for an unreadable one.
    progress: called every 250 pictures. An error from either ends the reading.
    Raises as `read_members`.
    """
    files = SourceFiles()
    with closing(read_members(source)) as members:
        for member in members:
            files.total_bytes += len(member.data)
            if len(member.parts) < 2:
                files.loose += 1
                continue
            pixels = _decode(member)
            on_picture(member, pixels)
            files.paths.append(member.parts)
            files.readable.append(pixels is not None)
            if len(files.paths) % REPORT_EVERY == 0:
                progress(member.done, member.total, f"{len(files.paths):,} pictures read")
    return files


def _decode(member: Member) -> np.ndarray | None:
    try:
        return decode_picture(io.BytesIO(member.data), name="/".join(member.parts))
    except DamagedError:
        return None


def plan_dataset(files: SourceFiles) -> DatasetPlan:
    """Return splits, classes and order of a source's files.

    Raises DemoError for files that cannot make a dataset.
    """
    locations = locate_pictures(files.paths)
    rows = list(zip(files.paths, files.readable, locations, strict=True))
    skipped = sorted(
        "/".join(parts) for parts, readable, location in rows if location and not readable
    )
    pictures = len(locations) - locations.count(None)
    try:
        assignment = assign_splits([location for _, readable, location in rows if readable])
    except DemoError:
        check_readable(skipped, pictures)  # unreadable pictures are the likely reason
        raise
    own_split = any(location.split for location in locations if location)
    return DatasetPlan(assignment, skipped, pictures, own_split)


def check_readable(skipped: list[str], pictures: int) -> None:
    """Raise DemoError where too many pictures are unreadable, with the names of some."""
    if len(skipped) > MAX_UNREADABLE * pictures:
        first = ", ".join(shortened(name) for name in skipped[:3])
        raise DemoError(
            f"{len(skipped):,} of {pictures:,} pictures cannot be read, such as {first}"
        )
