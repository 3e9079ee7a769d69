"""What a survey found in a person's pictures, what to mind about it, and its files. No torch."""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from resnet_demo.data.importer.read_pictures import MOST_UNREADABLE
from resnet_demo.errors import DamagedError, shortened
from resnet_demo.files import write_atomically
from resnet_demo.json_files import build, read_json

KINDS = ("images", "cifar10")  # cifar10: the original batches
SAMPLE_SIDE = 64  # pixels
FEW = 20  # pictures; a class of fewer is little to learn from
UNEVEN = 10  # times as many pictures in one class as in another
NAMED = 3  # classes or files in one sentence
SURVEY, SAMPLES = "survey.json", "samples.npz"
# What numpy raises on foreign bytes, and a damaged JSON file.
UNREADABLE = (
    DamagedError,
    OSError,
    ValueError,
    LookupError,
    EOFError,
    TypeError,
    zipfile.BadZipFile,
)


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Counts are of readable pictures, in the splits that an import would make."""

    kind: str
    own_split: bool  # false: a fifth of each class becomes the test
    classes: tuple[tuple[str, int, int], ...]  # name, train, test, in label order
    # Width and height of the smallest, the median and the largest by their shorter side, which
    # the square that is cut out has.
    sizes: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    unreadable: int  # files in class folders
    unreadable_names: tuple[str, ...]  # the first of them
    duplicates: int  # test pictures that are in train too, byte for byte
    duplicate_pairs: tuple[tuple[str, str], ...]  # the first of them: names in train and in test
    repeated: int  # pictures that are in their own split already
    passed_over: int  # files outside the class folders
    bytes: int  # of all files, unpacked
    # class -> (n, 64, 64, 3) uint8, the first pictures of the first classes
    samples: dict[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    def warnings(self, size: int = 32) -> list[str]:
        """What to mind before importing at `size` pixels: a plain sentence each, without a stop."""
        parts = (
            _few(self),
            _uneven(self),
            _duplicated(self),
            _unreadable(self),
            _small(self, size),
        )
        return [sentence for part in parts for sentence in part]

    def to_dict(self) -> dict[str, Any]:
        """Field name -> value, ready for JSON; without the samples."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "samples"}

    @classmethod
    def from_dict(cls, values: Any) -> "Survey":
        """The opposite of `to_dict`. Raises DamagedError for what it never wrote."""
        try:
            found = build(cls, values)
        except ValueError as error:
            raise DamagedError("the survey is incomplete") from error
        if not _is_sound(found):
            raise DamagedError("the survey makes no sense")
        return found


def write_survey(folder: Path, found: Survey) -> None:
    """`samples.npz` and then `survey.json`: where this is, both are. Raises OSError."""
    (folder / SURVEY).unlink(missing_ok=True)
    names = [name for name, _, _ in found.classes]
    labels = [names.index(name) for name, some in found.samples.items() for _ in some]
    empty = np.empty((0, SAMPLE_SIDE, SAMPLE_SIDE, 3), np.uint8)
    pictures = np.concatenate([empty, *found.samples.values()])
    write_atomically(
        folder / SAMPLES,
        lambda file: np.savez(file, pictures=pictures, labels=np.array(labels, np.int64)),
    )
    write_atomically(folder / SURVEY, (json.dumps(found.to_dict(), indent=2) + "\n").encode())


def read_survey(folder: Path) -> Survey:
    """What `write_survey` wrote, samples too. Raises DamagedError."""
    try:
        found = Survey.from_dict(read_json(folder / SURVEY))
        with np.load(folder / SAMPLES, allow_pickle=False) as arrays:
            pictures, labels = arrays["pictures"], arrays["labels"]
        sound = pictures.shape == (len(labels), SAMPLE_SIDE, SAMPLE_SIDE, 3)
        for label in dict.fromkeys(labels.tolist()):
            found.samples[found.classes[label][0]] = pictures[labels == label]
    except UNREADABLE as error:
        raise DamagedError("the survey is damaged") from error
    if not sound:
        raise DamagedError("the survey is damaged")
    return found


def _is_sound(found: Survey) -> bool:
    counts = [found.unreadable, found.duplicates, found.repeated, found.passed_over, found.bytes]
    counts += [count for _, train, test in found.classes for count in (train, test)]
    return (
        found.kind in KINDS
        and len(found.classes) >= 2
        and min(counts) >= 0
        and min(side for size in found.sizes for side in size) > 0
    )


def _few(found: Survey) -> Iterator[str]:
    few = [(name, a + b) for name, a, b in found.classes if a + b < FEW]
    named = _such_as([f"{shortened(name)} ({count})" for name, count in few])
    if few:
        who = "one class has" if len(few) == 1 else f"{len(few):,} classes have"
        yield f"{who} fewer than {FEW} pictures{named}"


def _uneven(found: Survey) -> Iterator[str]:
    counts = [(a + b, name) for name, a, b in found.classes]
    (least, small), (most, large) = min(counts), max(counts)
    if most > UNEVEN * least:
        yield (
            f"the classes are uneven: {shortened(large)} has {most:,} pictures, "
            f"{shortened(small)} {least:,}"
        )


def _duplicated(found: Survey) -> Iterator[str]:
    if found.duplicates == 1:
        yield "one test picture is also in train: the test score will flatter"
    elif found.duplicates:
        yield f"{found.duplicates:,} test pictures are also in train: the test score will flatter"


def _unreadable(found: Survey) -> Iterator[str]:
    if not found.unreadable:
        return
    total = found.unreadable + sum(a + b for _, a, b in found.classes)
    named = _such_as([shortened(name) for name in found.unreadable_names], found.unreadable)
    what = f"{found.unreadable:,} of {total:,} pictures cannot be read"
    if found.unreadable > MOST_UNREADABLE * total:
        yield f"{what}, more than a tenth: the import will refuse{named}"
    else:
        yield f"{what} and will be left out{named}"


def _small(found: Survey, size: int) -> Iterator[str]:
    width, height = found.sizes[0]
    if min(width, height) < size:
        yield (
            f"pictures smaller than {size} pixels are enlarged: the smallest has {width} × {height}"
        )


def _such_as(names: list[str], count: int | None = None) -> str:
    """`: a, b` for a few names, `, such as a, b, c` for the first of many."""
    count = len(names) if count is None else count
    return (": " if count <= NAMED else ", such as ") + ", ".join(names[:NAMED])
