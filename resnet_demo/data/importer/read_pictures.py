"""One pass over a source of pictures, for an import and for the survey before it. No torch here.

Both read, place and refuse by what stands here, so that they agree.
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

MOST_UNREADABLE = 0.1  # share of the pictures
REPORT_EVERY = 250  # pictures
PictureCallback = Callable[[Member, np.ndarray | None], None]


@dataclass
class SourceFiles:
    """The files of a source in the order they came; `loose` ones lie in no folder at all."""

    paths: list[Parts] = field(default_factory=list)
    readable: list[bool] = field(default_factory=list)
    loose: int = 0
    bytes: int = 0  # of all files, unpacked


@dataclass(frozen=True)
class DatasetPlan:
    """Where everything goes. Rows of the arrangement number the readable files as they came."""

    arrangement: SplitAssignment
    skipped: list[str]  # unreadable files in class folders, by name
    pictures: int  # files in class folders, readable or not
    own_split: bool  # false: a fifth of each class was cut off for the test


def read_pictures(source: Path, see: PictureCallback, progress: ProgressCallback) -> SourceFiles:
    """Decode every picture of a source, one after another; a file without a folder is passed over.

    see: called with each file and its (H, W, 3) uint8 pixels, None for an unreadable one.
    progress: called now and then. What either raises ends the reading. Raises as `read_members`.
    """
    found = SourceFiles()
    with closing(read_members(source)) as members:
        for member in members:
            found.bytes += len(member.data)
            if len(member.parts) < 2:
                found.loose += 1
                continue
            pixels = _decoded(member)
            see(member, pixels)
            found.paths.append(member.parts)
            found.readable.append(pixels is not None)
            if len(found.paths) % REPORT_EVERY == 0:
                progress(member.done, member.total, f"{len(found.paths):,} pictures read")
    return found


def _decoded(member: Member) -> np.ndarray | None:
    try:
        return decode_picture(io.BytesIO(member.data), name="/".join(member.parts))
    except DamagedError:
        return None


def plan_dataset(found: SourceFiles) -> DatasetPlan:
    """Splits, classes and order of what was found. Raises DemoError for what makes no dataset."""
    placed = locate_pictures(found.paths)
    rows = list(zip(found.paths, found.readable, placed, strict=True))
    skipped = sorted("/".join(parts) for parts, good, place in rows if place and not good)
    pictures = len(placed) - placed.count(None)
    try:
        arrangement = assign_splits([place for _, good, place in rows if good])
    except DemoError:
        check_readable(skipped, pictures)  # likely the reason
        raise
    own_split = any(place.split for place in placed if place)
    return DatasetPlan(arrangement, skipped, pictures, own_split)


def check_readable(skipped: list[str], pictures: int) -> None:
    """Raises DemoError where too many pictures are unreadable, naming some of them."""
    if len(skipped) > MOST_UNREADABLE * pictures:
        first = ", ".join(shortened(name) for name in skipped[:3])
        raise DemoError(
            f"{len(skipped):,} of {pictures:,} pictures cannot be read, such as {first}"
        )
