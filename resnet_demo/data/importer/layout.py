"""Which picture belongs to which split and class, told by the paths in a folder or an archive."""

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
MOST_LABEL = 255  # characters, as in a folder's name
UNSHOWN = {"Cc", "Cs", "Zl", "Zp"}  # control characters, halves of characters, line ends
TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}  # writing directions


@dataclass(frozen=True)
class PictureLocation:
    """Where one picture belongs. `split` is empty where the source has class folders alone."""

    split: str
    label: str
    name: str


@dataclass(frozen=True)
class SplitAssignment:
    """Class names in label order; for train and test, (rows, labels): int64, same length.

    Rows number the pictures as they came; their order is by class, then by name.
    """

    classes: tuple[str, ...]
    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def locate_pictures(paths: Sequence[Parts]) -> list[PictureLocation | None]:
    """The place of each path: `train/<class>/*` and `test/<class>/*`, or `<class>/*`.

    A common top folder is passed over, and so is a file outside every class folder (None).
    Raises DemoError for a third folder beside train and test.
    """
    depth = _common_folders(paths)
    tops = {path[depth] for path in paths if len(path) > depth + 1}
    if not any(path[depth] == "train" for path in paths if len(path) > depth + 2):
        return [_place("", path[depth:]) for path in paths]  # "train" may well be a class
    if others := sorted(tops - {"train", "test"}):
        raise DemoError(f"beside train and test there is a folder {shortened(others[0])}")
    return [_place(path[depth], path[depth + 1 :]) for path in paths]


def _common_folders(paths: Sequence[Parts]) -> int:
    """How many folders all pictures share above their classes."""
    depth = 0
    while True:
        below = [path for path in paths if len(path) > depth + 2]
        if not below or len({path[depth] for path in paths if len(path) > depth + 1}) > 1:
            return depth
        depth += 1


def _place(split: str, parts: Parts) -> PictureLocation | None:
    return PictureLocation(split, parts[0], "/".join(parts[1:])) if len(parts) > 1 else None


def assign_splits(found: Sequence[PictureLocation | None]) -> SplitAssignment:
    """Classes, rows and labels of the pictures. Raises DemoError for what is no dataset."""
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, place in enumerate(found):
        if place:
            rows[place.split, place.label].append(row)
    classes = tuple(sorted({label for split, label in rows if split != "test"}))
    _check_classes(classes, {label for split, label in rows if split == "test"})
    ordered = {key: _by_name(found, members) for key, members in rows.items()}
    if any(split == "" for split, _ in rows):
        ordered = _cut(ordered)
    train, test = _joined(ordered, "train", classes), _joined(ordered, "test", classes)
    if not len(test[0]):
        raise DemoError("there are too few pictures to keep some aside for the test")
    return SplitAssignment(classes, train, test)


def _check_classes(train: tuple[str, ...], test: set[str]) -> None:
    if len(train) < 2:
        raise DemoError(
            f"a dataset needs at least two class folders with pictures, found {len(train)}"
        )
    for label in sorted({*train, *test}):
        if not _can_be_shown(label):
            raise DemoError(f"the class {shortened(label)} has a name that cannot be shown")
    _check_lookalikes(sorted({*train, *test}))
    if unknown := sorted(test.difference(train)):
        raise DemoError(f"the class {shortened(unknown[0])} is in test but not in train")


def _can_be_shown(label: str) -> bool:
    """False for what would steer a terminal or turn the text after it round, or is no Unicode.

    Not `isprintable`: it refuses joined emoji, wide spaces, and letters newer than Python's tables.
    """
    return len(label) <= MOST_LABEL and not any(
        category(char) in UNSHOWN or bidirectional(char) in TURNING for char in label
    )


def _check_lookalikes(labels: list[str]) -> None:
    """One letter in two encodings (é, or e and an accent, as macOS has it) is not two classes."""
    seen: dict[str, str] = {}
    for label in labels:
        other = seen.setdefault(normalize("NFC", label), label)
        if other != label:
            pair = f"{other!a} and {label!a}"  # the letters would tell nothing
            raise DemoError(f"the classes {pair} look the same: give them one name")


def _by_name(found: Sequence[PictureLocation | None], rows: list[int]) -> np.ndarray:
    """Rows of one class by member name. Raises DemoError where a name comes twice."""
    rows = sorted(rows, key=lambda row: found[row].name)
    for one, next_one in pairwise(rows):
        if found[one].name == found[next_one].name:
            place = found[one]
            raise DemoError(f"{shortened(place.label + '/' + place.name)} is there twice")
    return np.array(rows, dtype=np.int64)


def _cut(ordered: dict[tuple[str, str], np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    """A fifth of each class to test, always the same ones."""
    cut = {}
    for (_, label), rows in ordered.items():
        train, test = split_indices(len(rows), TEST_SHARE, TEST_SEED)
        cut["train", label], cut["test", label] = rows[np.sort(train)], rows[np.sort(test)]
    return cut


def _joined(
    ordered: dict[tuple[str, str], np.ndarray], split: str, classes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    empty = np.empty(0, np.int64)
    rows = [ordered.get((split, label), empty) for label in classes]
    labels = np.repeat(np.arange(len(classes)), [len(part) for part in rows])
    return np.concatenate(rows), labels.astype(np.int64)
