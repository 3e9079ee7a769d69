"""Splits and classes of the pictures of a source, found from their paths.

`locate_pictures` reads the folder layout; `assign_splits` makes a dataset of what it found.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from unicodedata import bidirectional, category, normalize

import numpy as np

from resnet_demo.data.importer.members import Parts
from resnet_demo.data.splits import split_indices
from resnet_demo.errors import DemoError, shortened

TEST_SHARE, TEST_SEED = 0.2, 42
MAX_LABEL = 255  # characters, as in a folder's name
# Characters that a class name must not have: control characters, halves of surrogate pairs and line
# ends; and marks of writing direction, which would reorder the text after them.
UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
DIRECTION_MARKS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
RowsAndLabels = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class PictureLocation:
    """Split, class and name of one picture. `split` is empty where there are only class folders."""

    split: str
    label: str
    name: str


@dataclass(frozen=True)
class SplitAssignment:
    """Class names in label order, and for train and test (rows, labels), int64, same length.

    A row is a picture's number in the order of reading. Within a split the rows are ordered by
    class, then by name.
    """

    classes: tuple[str, ...]
    train: RowsAndLabels
    test: RowsAndLabels


def locate_pictures(paths: Sequence[Parts]) -> list[PictureLocation | None]:
    """Return the location of each path: `train/<class>/*` and `test/<class>/*`, or `<class>/*`.

    Common top folders are passed over. A file outside every class folder gives None.
    Raises DemoError for a third folder beside train and test.
    """
    depth = _common_depth(paths)
    tops = {path[depth] for path in paths if len(path) > depth + 1}
    # Only a `train` that holds folders is a split: there may be a class called train.
    if not any(path[depth] == "train" for path in paths if len(path) > depth + 2):
        return [_location("", path[depth:]) for path in paths]
    if others := sorted(tops - {"train", "test"}):
        raise DemoError(f"beside train and test there is another folder, {shortened(others[0])}")
    return [_location(path[depth], path[depth + 1 :]) for path in paths]


def _common_depth(paths: Sequence[Parts]) -> int:
    """Return the number of folders that all pictures share above their class folders."""
    depth = 0
    while True:
        below = [path for path in paths if len(path) > depth + 2]
        if not below or len({path[depth] for path in paths if len(path) > depth + 1}) > 1:
            return depth
        depth += 1


def _location(split: str, parts: Parts) -> PictureLocation | None:
    return PictureLocation(split, parts[0], "/".join(parts[1:])) if len(parts) > 1 else None


def assign_splits(locations: Sequence[PictureLocation | None]) -> SplitAssignment:
    """Return classes, rows and labels of the pictures.

    Where the source has no splits, a fifth of each class becomes the test split.
    Raises DemoError for pictures that cannot make a dataset.
    """
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, location in enumerate(locations):
        if location:
            rows[location.split, location.label].append(row)
    classes = tuple(sorted({label for split, label in rows if split != "test"}))
    _check_classes(classes, {label for split, label in rows if split == "test"})
    ordered = {key: _sort_by_name(locations, members) for key, members in rows.items()}
    if any(split == "" for split, _ in rows):
        ordered = _hold_out_test(ordered)
    train, test = (_concatenate(ordered, split, classes) for split in ("train", "test"))
    if not len(test[0]):
        raise DemoError("there are too few pictures to hold some out for testing")
    return SplitAssignment(classes, train, test)


def _check_classes(train: tuple[str, ...], test: set[str]) -> None:
    if len(train) < 2:
        raise DemoError(
            f"a dataset needs at least two class folders with pictures, found {len(train)}"
        )
    for label in sorted({*train, *test}):
        if not _is_displayable(label):
            raise DemoError(
                f"a class name must have at most {MAX_LABEL} characters and no control "
                f"characters, got {shortened(label)}"
            )
    _check_encodings(sorted({*train, *test}))
    if unknown := sorted(test.difference(train)):
        raise DemoError(f"the class {shortened(unknown[0])} is in test but not in train")


def _is_displayable(label: str) -> bool:
    # Not `isprintable`: it refuses joined emoji, wide spaces, and letters newer than Python's
    # tables. Refused is only what could control a terminal, reorder text, or is not Unicode.
    return len(label) <= MAX_LABEL and not any(
        category(char) in UNPRINTABLE or bidirectional(char) in DIRECTION_MARKS for char in label
    )


def _check_encodings(labels: list[str]) -> None:
    """Raise DemoError for two labels that are one text in two encodings.

    macOS writes é as e and an accent, other systems as one character.
    """
    seen: dict[str, str] = {}
    for label in labels:
        other = seen.setdefault(normalize("NFC", label), label)
        if other != label:
            # !a shows the code points, since the two look the same.
            raise DemoError(
                f"the class names {other!a} and {label!a} are one name in two encodings: "
                "rename one folder"
            )


def _sort_by_name(locations: Sequence[PictureLocation | None], rows: list[int]) -> np.ndarray:
    """Return the rows of one class by picture name. Raises DemoError for a name that repeats."""
    rows = sorted(rows, key=lambda row: locations[row].name)
    for row, next_row in pairwise(rows):
        if locations[row].name == locations[next_row].name:
            location = locations[row]
            raise DemoError(f"{shortened(location.label + '/' + location.name)} occurs twice")
    return np.array(rows, dtype=np.int64)


def _hold_out_test(ordered: dict[tuple[str, str], np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    """Move a fifth of each class to test, the same pictures in every import."""
    split_rows = {}
    for (_, label), rows in ordered.items():
        train, test = split_indices(len(rows), TEST_SHARE, TEST_SEED)
        split_rows["train", label] = rows[np.sort(train)]
        split_rows["test", label] = rows[np.sort(test)]
    return split_rows


def _concatenate(
    ordered: dict[tuple[str, str], np.ndarray], split: str, classes: tuple[str, ...]
) -> RowsAndLabels:
    empty = np.empty(0, np.int64)
    rows = [ordered.get((split, label), empty) for label in classes]
    labels = np.repeat(np.arange(len(classes)), [len(part) for part in rows])
    return np.concatenate(rows), labels.astype(np.int64)
