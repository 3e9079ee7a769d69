"""The result of scanning a person's pictures: counts, warnings, and its files. No torch here."""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from resnet_demo.data.importer.read_pictures import MAX_UNREADABLE, unopened_text
from resnet_demo.errors import DamagedError, shortened
from resnet_demo.files import ARRAY_HEADERS, bytes_text, write_atomically
from resnet_demo.json_files import build, read_json

MIN_SIZE, MAX_SIZE = 8, 256  # pixels, side of the stored squares
# The default side is at most this. Networks pretrained on ImageNet expect 224 pixels.
LARGEST_DEFAULT = 224
KINDS = ("images", "cifar10", "cifar100")  # the last two: the original batches
SAMPLE_SIDE = 64  # pixels
FEW = 20  # pictures; a class with fewer gets a warning
UNEVEN = 10  # times as many pictures in one class as in another: a warning
NAMED = 3  # classes or files named in one sentence
SURVEY, SAMPLES = "survey.json", "samples.npz"
# numpy raises these on foreign bytes, and `read_json` the first.
DAMAGE_ERRORS = (
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
    """Content of a source. Counts are of readable pictures, in the splits of an import."""

    kind: str
    own_split: bool  # False: a fifth of each class becomes the test split, if there are enough
    classes: tuple[tuple[str, int, int], ...]  # name, train, test, in label order
    # Width and height of the smallest, the median and the largest picture, by the shorter side,
    # since an import cuts out a square of that side.
    sizes: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    unreadable: int  # files in class folders
    unreadable_names: tuple[str, ...]  # the first of them
    duplicates: int  # test pictures that are in train too, pixel for pixel
    duplicate_pairs: tuple[tuple[str, str], ...]  # the first of them: names in train and in test
    repeated: int  # pictures that occur again in their own split
    passed_over: int  # files that are no pictures, or outside the class folders
    bytes: int  # of all files, unpacked
    val: int = 0  # pictures of a validation split, besides those in `classes`
    val_classes: tuple[int, ...] = ()  # of them in each class; empty without such a split
    val_duplicates: int = 0  # validation pictures that are in train too, pixel for pixel
    unopened: int = 0  # files and links that could not be opened
    unopened_files: tuple[tuple[str, str], ...] = ()  # the first of them, and why
    passed_over_names: tuple[str, ...] = ()  # the first of them
    notes: tuple[str, ...] = ()  # how the folders were read, each a sentence
    # class -> (n, 64, 64, 3) uint8, the first pictures of the first classes
    samples: dict[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    @property
    def default_size(self) -> int:
        """Return the side of the stored squares, in pixels, unless a person chooses another."""
        return default_size(min(self.sizes[1]))

    @property
    def pictures(self) -> int:
        """Return the number of pictures in all splits."""
        return self.val + sum(train + test for _, train, test in self.classes)

    def warnings(self, size: int | None = None) -> list[str]:
        """Return warnings for an import at `size` pixels, each a sentence without a full stop.

        size: None for the default. What is left out is among them. The page, the command line and
        its JSON show the same.
        """
        parts = (
            self.notes,
            _few_pictures(self),
            _uneven_classes(self),
            _duplicates(self),
            _unreadable_pictures(self),
            _unopened_files(self),
            _other_files(self),
            _small_pictures(self, size or self.default_size),
        )
        return [sentence for part in parts for sentence in part]

    def to_dict(self) -> dict[str, Any]:
        """Return field name -> value, ready for JSON, without the samples."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "samples"}

    @classmethod
    def from_dict(cls, values: Any) -> "Survey":
        """Return the survey from the JSON of `to_dict`. Raises DamagedError for anything else."""
        try:
            survey = build(cls, values)
        except ValueError as error:
            raise DamagedError("the survey is incomplete") from error
        if not _is_valid(survey):
            raise DamagedError("the survey has invalid values")
        return survey


def default_size(median: int) -> int:
    """Return the side of the stored squares for pictures with that median of their short sides."""
    return min(LARGEST_DEFAULT, max(MIN_SIZE, median))


def space_text(pictures: int, size: float) -> str:
    """Return the space of so many squares of `size` pixels a side: on disk, and in training."""
    space = bytes_text(pictures * size * size * 3)
    return f"{pictures:,} pictures of {size:g} × {size:g} pixels take {space}"


def write_survey(folder: Path, survey: Survey) -> None:
    """Write samples.npz and then survey.json: where the second exists, both are whole.

    Raises OSError.
    """
    (folder / SURVEY).unlink(missing_ok=True)
    # By number: class names are no safe names for the arrays of a file.
    names = [name for name, _, _ in survey.classes]
    labels = [names.index(name) for name, images in survey.samples.items() for _ in images]
    empty = np.empty((0, SAMPLE_SIDE, SAMPLE_SIDE, 3), np.uint8)
    pictures = np.concatenate([empty, *survey.samples.values()])
    write_atomically(
        folder / SAMPLES,
        lambda file: np.savez(file, pictures=pictures, labels=np.array(labels, np.int64)),
    )
    write_atomically(folder / SURVEY, (json.dumps(survey.to_dict(), indent=2) + "\n").encode())


def read_survey(folder: Path) -> Survey:
    """Read the files of `write_survey`. Raises DamagedError."""
    try:
        survey = Survey.from_dict(read_json(folder / SURVEY))
        # a pickle could run code
        with ARRAY_HEADERS, np.load(folder / SAMPLES, allow_pickle=False) as arrays:
            pictures, labels = arrays["pictures"], arrays["labels"]
        valid = pictures.shape == (len(labels), SAMPLE_SIDE, SAMPLE_SIDE, 3)
        for label in dict.fromkeys(labels.tolist()):
            survey.samples[survey.classes[label][0]] = pictures[labels == label]
    except DAMAGE_ERRORS as error:
        raise DamagedError("the survey is damaged") from error
    if not valid:
        raise DamagedError("the survey is damaged")
    return survey


def _is_valid(survey: Survey) -> bool:
    counts = [survey.unreadable, survey.duplicates, survey.repeated]
    counts += [survey.passed_over, survey.bytes, survey.val, survey.unopened]
    counts += [survey.val_duplicates, *survey.val_classes]
    counts += [count for _, train, test in survey.classes for count in (train, test)]
    return (
        survey.kind in KINDS
        and len(survey.classes) >= 2
        and len(survey.val_classes) in (0, len(survey.classes))
        and min(counts) >= 0
        and min(side for size in survey.sizes for side in size) > 0
    )


def _few_pictures(survey: Survey) -> Iterator[str]:
    few = [(name, train + test) for name, train, test in survey.classes if train + test < FEW]
    names = _examples([f"{shortened(name)} ({count})" for name, count in few])
    if few:
        subject = "one class has" if len(few) == 1 else f"{len(few):,} classes have"
        yield f"{subject} fewer than {FEW} pictures{names}"


def _uneven_classes(survey: Survey) -> Iterator[str]:
    counts = [(train + test, name) for name, train, test in survey.classes]
    (low, smallest), (high, largest) = min(counts), max(counts)
    if high > UNEVEN * low:
        yield (
            f"the classes are uneven: {shortened(largest)} has {high:,} pictures, "
            f"{shortened(smallest)} {low:,}"
        )


def _duplicates(survey: Survey) -> Iterator[str]:
    for split, count in (("test", survey.duplicates), ("validation", survey.val_duplicates)):
        effect = f"in train: the {split} accuracy will be too high"
        if count == 1:
            yield f"one {split} picture is also {effect}"
        elif count:
            yield f"{count:,} {split} pictures are also {effect}"


def _unreadable_pictures(survey: Survey) -> Iterator[str]:
    if not survey.unreadable:
        return
    total = survey.unreadable + survey.pictures
    names = _examples([shortened(name) for name in survey.unreadable_names], survey.unreadable)
    fact = f"{survey.unreadable:,} of {total:,} pictures cannot be read"
    if survey.unreadable > MAX_UNREADABLE * total:
        yield f"{fact}, more than a tenth, so the import will fail{names}"
    else:
        yield f"{fact} and {'is' if survey.unreadable == 1 else 'are'} left out{names}"


def _unopened_files(survey: Survey) -> Iterator[str]:
    if survey.unopened:
        yield unopened_text(survey.unopened_files, survey.unopened)


def _other_files(survey: Survey) -> Iterator[str]:
    if survey.passed_over:
        subject = "one file is" if survey.passed_over == 1 else f"{survey.passed_over:,} files are"
        names = _examples([shortened(n) for n in survey.passed_over_names], survey.passed_over)
        yield f"{subject} left out, being no picture or outside the class folders{names}"


def _small_pictures(survey: Survey, size: int) -> Iterator[str]:
    width, height = survey.sizes[0]
    if min(width, height) < size:
        yield (
            f"pictures smaller than {size} pixels will be enlarged: the smallest is "
            f"{width} × {height}"
        )


def _examples(names: list[str], count: int | None = None) -> str:
    """Return `: a, b` for a few names, `, such as a, b, c` for the first of `count`."""
    count = len(names) if count is None else count
    return (": " if count <= NAMED else ", such as ") + ", ".join(names[:NAMED])
