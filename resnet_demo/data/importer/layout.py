"""The classes and splits of a dataset, made from the locations of its pictures.

`locate` and `label_tables` find the locations.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from unicodedata import normalize

import numpy as np

from resnet_demo.data.splits import split_indices
from resnet_demo.errors import DemoError, is_displayable, shortened

TEST_SHARE, TEST_SEED = 0.2, 42
MIN_PER_CLASS = 5  # pictures, on average; with fewer no test split is held out
MAX_LABEL = 255  # characters, as in a folder's name
RowsAndLabels = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class PictureLocation:
    """Split, class and name of one picture. `split` is empty where there are only class folders."""

    split: str
    label: str
    name: str


@dataclass(frozen=True)
class SplitAssignment:
    """Class names in label order, and for each split (rows, labels), int64, same length.

    A row is a picture's number in the order of reading. Within a split the rows are ordered by
    class, then by name. test is empty where there are too few pictures to hold some out. merged:
    the folder names of each class that has several, which are one name in two encodings.
    """

    classes: tuple[str, ...]
    train: RowsAndLabels
    test: RowsAndLabels
    val: RowsAndLabels | None = None  # None: a part of train serves for validation
    merged: tuple[tuple[str, ...], ...] = ()

    @property
    def splits(self) -> dict[str, RowsAndLabels]:
        """Return split -> (rows, labels) of those with pictures, in the order of writing."""
        splits = {"train": self.train, "val": self.val, "test": self.test}
        return {split: rows for split, rows in splits.items() if rows is not None and len(rows[0])}


def assign_splits(locations: Sequence[PictureLocation | None]) -> SplitAssignment:
    """Return classes, rows and labels of the pictures.

    Where the source has no splits, a fifth of each class becomes the test split, but none of fewer
    than MIN_PER_CLASS pictures a class.
    Raises DemoError for pictures that cannot make a dataset.
    """
    locations, merged = _merge_encodings(locations)
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, location in enumerate(locations):
        if location:
            rows[location.split, location.label].append(row)
    held_out = {label: split for split, label in rows if split in ("test", "val")}
    # Of the training pictures only: a class that cannot be learned is a mistake.
    classes = tuple(sorted({label for split, label in rows if split in ("train", "")}))
    _check_classes(classes, held_out, bool(merged))
    ordered = {key: _sort_by_name(locations, members) for key, members in rows.items()}
    if any(split == "" for split, _ in rows):
        ordered = _hold_out_test(ordered)
    train, val, test = (_concatenate(ordered, split, classes) for split in ("train", "val", "test"))
    return SplitAssignment(classes, train, test, val if len(val[0]) else None, merged)


def _check_classes(train: tuple[str, ...], held_out: dict[str, str], merged: bool) -> None:
    """Raise DemoError for classes that cannot make a dataset.

    held_out: class -> its split. merged: some folders are one class.
    """
    if len(train) < 2:
        raise DemoError(
            f"a dataset needs at least two class folders with pictures, found {len(train)}"
            f"{' (folders whose names differ in encoding only are one)' if merged else ''}: put the"
            " pictures of each class into one folder, or add labels.csv with the columns "
            "file_name and label"
        )
    for label in sorted({*train, *held_out}):
        if any("\ud800" <= char <= "\udfff" for char in label):  # bytes that are no UTF-8
            raise DemoError(
                f"the name of the class folder {shortened(label)} is not UTF-8 text: rename it"
            )
        if len(label) > MAX_LABEL or not is_displayable(label):
            raise DemoError(
                f"a class name must have at most {MAX_LABEL} characters and no control "
                f"characters, got {shortened(label)}"
            )
    if unknown := sorted(held_out.keys() - set(train)):
        label, split = unknown[0], held_out[unknown[0]]
        alike = [other for other in train if other.casefold().strip() == label.casefold().strip()]
        raise DemoError(
            f"the class {shortened(label)} is in {split} but not in train"
            + (f", where it is {shortened(alike[0])}: give both one name" if alike else "")
        )


def _merge_encodings(
    locations: Sequence[PictureLocation | None],
) -> tuple[list[PictureLocation | None], tuple[tuple[str, ...], ...]]:
    """Return the locations with one label for labels that are one text, and the merged ones.

    macOS writes é as e and an accent, other systems as one character. Unicode defines the two as
    equal; a class with one encoding keeps it.
    """
    encodings: dict[str, set[str]] = defaultdict(set)
    for label in {location.label for location in locations if location}:
        encodings[normalize("NFC", label)].add(label)
    several = {text: sorted(labels) for text, labels in encodings.items() if len(labels) > 1}
    text_of = {label: text for text, labels in several.items() for label in labels}

    def merged(location: PictureLocation | None) -> PictureLocation | None:
        if location is None or location.label not in text_of:
            return location
        # The folder stays part of the name: both may have a picture of the same name.
        name = f"{location.label}/{location.name}"
        return PictureLocation(location.split, text_of[location.label], name)

    return [merged(location) for location in locations], tuple(map(tuple, several.values()))


def _sort_by_name(locations: Sequence[PictureLocation | None], rows: list[int]) -> np.ndarray:
    """Return the rows of one class by picture name. Raises DemoError for a name that repeats."""
    # By name, not by the order of reading, which differs between a folder and its archive.
    rows = sorted(rows, key=lambda row: locations[row].name)
    for row, next_row in pairwise(rows):
        if locations[row].name == locations[next_row].name:
            location = locations[row]
            raise DemoError(f"{shortened(location.label + '/' + location.name)} occurs twice")
    return np.array(rows, dtype=np.int64)


def _hold_out_test(ordered: dict[tuple[str, str], np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    """Move a fifth of each class to test, the same pictures in every import."""
    if sum(map(len, ordered.values())) < MIN_PER_CLASS * len(ordered):
        return {("train", label): rows for (_, label), rows in ordered.items()}
    split_rows = {}
    for (_, label), rows in ordered.items():
        # Class by class, so that another class's pictures do not change this one's split.
        train, test = split_indices(len(rows), TEST_SHARE, TEST_SEED)
        # Sorted again: within a split, pictures are ordered by name.
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
