"""Labels from a table beside the pictures: labels.csv, metadata.csv, train.csv, metadata.jsonl.

`table_rows` reads the rows, each the name of a file and its class. Paths are below the table's
folder, or else the source's; a bare name, or one without its ending, is found where only one
picture has it.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from resnet_demo.data.importer.layout import PictureLocation
from resnet_demo.data.importer.locate import count_pictures
from resnet_demo.data.importer.members import Parts, has_picture_suffix
from resnet_demo.data.importer.split_names import strict_split
from resnet_demo.data.importer.table_rows import read_rows
from resnet_demo.errors import shortened

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")
# What is kept in memory until all pictures are read.
MAX_TABLES, MAX_TABLE_BYTES = 20, 16 * 2**20
MIN_LABELLED = 0.5  # share of the pictures that tables must name, else the folders are the classes


@dataclass(frozen=True)
class LabelledFiles:
    """The locations of the pictures that tables name."""

    locations: dict[Parts, PictureLocation]
    left_out: frozenset[Parts]  # pictures without a label or outside the splits
    used: frozenset[Parts]  # the tables
    notes: tuple[str, ...]
    guessed: bool = False  # the column of labels has no usual name: class folders go before it

    def locate(self, path: Parts) -> PictureLocation | None:
        """Return the location of a file; None without a label."""
        return self.locations.get(path)

    def accounts_for(self, path: Parts) -> bool:
        """Return True for a file that `notes` speak of."""
        return path in self.left_out or path in self.used


def is_table(name: str, data: bytes) -> bool:
    """Return True for a file that may hold labels."""
    name = name.lower()
    # sample_submission.csv, as competitions have it, names invented labels.
    known = name.endswith(TABLE_SUFFIXES) and "submission" not in name
    return known and len(data) <= MAX_TABLE_BYTES


def read_labels(tables: dict[Parts, bytes], pictures: Sequence[Parts]) -> LabelledFiles | None:
    """Return the labels in the tables, None if they name less than half of the pictures.

    A row whose name fits no picture, or several, is passed over, and so is a picture to which one
    table gives two labels. With fewer than two labels, or one for each picture, there are none.
    """
    labels: dict[Parts, tuple[str, str]] = {}  # picture -> label, split
    used, lost, contradicting, guessed = set(), [], [], True
    finders: dict[Parts, _Finder] = {}
    for table, data in sorted(tables.items()):
        own_split = strict_split(PurePosixPath(table[-1]).stem)
        named, missing, known = _read_table(table, data, own_split, pictures, finders)
        # The first table that names a picture counts: a copy of a table changes nothing.
        new = {picture: rows for picture, rows in named.items() if picture not in labels}
        if new:
            used.add(table)
            lost += missing
            # One usual name in any table is enough to trust them.
            guessed = guessed and not known
        for picture, rows in new.items():
            if len({label for label, _ in rows}) > 1:
                contradicting.append((picture, [label for label, _ in rows]))
            else:
                labels[picture] = rows[0]
    # A folder of pictures to predict may be larger than that of the pictures with labels.
    found_in = {_folder_split(picture) for picture in labels}
    in_question = [
        picture
        for picture in pictures
        if (split := _folder_split(picture)) not in ("test", "unlabelled") or split in found_in
    ]
    kinds = len({label for label, _ in labels.values()})
    # As many labels as pictures are no classes: names, or sizes of a regression.
    if not 2 <= kinds < max(3, len(labels)) or len(labels) < MIN_LABELLED * len(in_question):
        return None
    # A table of numbers beside folders with names: the names say more.
    names = _folder_names(labels)
    locations = {
        picture: PictureLocation(
            split or _folder_split(picture), names.get(label, label), "/".join(picture)
        )
        for picture, (label, split) in labels.items()
    }
    locations = _with_splits(locations)
    left_out = frozenset(picture for picture in pictures if picture not in locations)
    without = sorted(left_out.difference(picture for picture, _ in contradicting))
    notes = (
        *_notes(used, without),
        *_contradiction_note(contradicting),
        *_missing_note(lost),
        *_folder_note(locations),
    )
    return LabelledFiles(locations, left_out, frozenset(used), notes, guessed)


def named_by_tables(tables: dict[Parts, bytes], pictures: Sequence[Parts]) -> str:
    """Return a sentence on how many pictures the tables name, "" where there are no tables."""
    if not tables:
        return ""
    finders: dict[Parts, _Finder] = {}
    named: set[Parts] = set()
    for table, data in tables.items():
        named.update(_read_table(table, data, "", pictures, finders)[0])
    names = ", ".join(shortened("/".join(table)) for table in sorted(tables)[:3])
    return (
        f"in {names} {len(named):,} of {len(pictures):,} pictures have a class: at least half need "
        "one, and a class needs several; docs/own-images.md lists columns and file names"
    )


def _read_table(
    table: Parts,
    data: bytes,
    own_split: str,
    pictures: Sequence[Parts],
    finders: dict[Parts, "_Finder"],
) -> tuple[dict[Parts, list[tuple[str, str]]], list[str], bool]:
    """Return what a table says.

    Picture -> the labels and splits of its rows; the names without a picture; and whether the
    column of labels has a usual name.
    finders: folder -> finder, filled here.
    """
    named: dict[Parts, list[tuple[str, str]]] = defaultdict(list)
    missing: list[str] = []
    is_known = False
    for folder in dict.fromkeys([table[:-1], ()]):  # the table's own folder, else the source
        if folder not in finders:
            finders[folder] = _Finder(folder, pictures)
        finder, missing = finders[folder], []
        rows, is_known = read_rows(table[-1], data, finder.has)
        for file, label, split in rows:
            if picture := finder.find(file, split or own_split):
                named[picture].append((label, split or own_split))
            else:
                missing.append(file)
        if named:
            break
    return named, missing, is_known


class _Finder:
    """Finds pictures by the names in a table, which is in `folder`. Case does not matter."""

    def __init__(self, folder: Parts, pictures: Sequence[Parts]) -> None:
        self._found: dict[str, set[Parts]] = defaultdict(set)
        for picture in pictures:
            if picture[: len(folder)] == folder:
                path = PurePosixPath(*picture[len(folder) :])
                # Tables name files with their folders or without, with their endings or without.
                for name in (path, path.with_suffix(""), path.name, path.stem):
                    self._found[str(name)].add(picture)
                    self._found[str(name).lower()].add(picture)

    def find(self, name: str, split: str) -> Parts | None:
        """Return the picture of that name; None where there is not exactly one.

        Of several, the only one in a folder of that split counts; without a split, in one for
        training: train/1.png and test/1.png, as competitions have them.
        """
        # From the most exact spelling to the loosest: an exact name must not lose to a like one.
        for known in _spellings(name):
            found = self._found.get(known, set())
            if len(found) > 1:
                found = {each for each in found if _folder_split(each) == (split or "train")}
            if len(found) == 1:
                return next(iter(found))
        return None

    def has(self, name: str) -> bool:
        """Return True for a name that fits a picture, or several."""
        return any(known in self._found for known in _spellings(name))


def _spellings(name: str) -> Iterator[str]:
    """Yield the names under which a picture may be known: ../img/1.JPG, 1.JPG, 1, img/1.jpg …"""
    path = PurePosixPath(name.strip().replace("\\", "/"))
    while path.parts[:1] == ("..",):
        path = PurePosixPath(*path.parts[1:])
    paths = [path, PurePosixPath(path.name)]
    if has_picture_suffix(path.name):  # saved in another format
        paths += [each.with_suffix("") for each in paths]
    yield from map(str, paths)
    yield from (str(each).lower() for each in paths)


def _folder_names(labels: dict[Parts, tuple[str, str]]) -> dict[str, str]:
    """Return number -> folder where the labels are numbers and each has one folder."""
    folders: dict[str, set[str]] = defaultdict(set)
    for picture, (label, _) in labels.items():
        if len(picture) > 1 and not strict_split(picture[-2]):
            folders[label].add(picture[-2])
    names = {label: next(iter(found)) for label, found in folders.items() if len(found) == 1}
    # one name each, all different.
    whole = len(names) == len(folders) == len(set(names.values())) > 1
    return names if whole and all(label.isdecimal() for label in folders) else {}


def _folder_split(picture: Parts) -> str:
    """Return the split that a folder above a picture names, "" without one."""
    return next((split for part in picture[:-1] if (split := strict_split(part))), "")


def _with_splits(locations: dict[Parts, PictureLocation]) -> dict[Parts, PictureLocation]:
    """Return the locations with splits that make a dataset: all of them, or none."""
    splits = {location.split for location in locations.values()} - {"unlabelled"}
    if splits & {"train", ""} and splits & {"val", "test"}:
        # Beside a training split, what has no split is something else: icons, examples.
        renamed = {"": "unlabelled" if "train" in splits else "train"}
        if "test" not in splits:
            renamed["val"] = "test"
    else:
        renamed = dict.fromkeys(splits, "")
    named = {
        picture: replace(location, split=renamed.get(location.split, location.split))
        for picture, location in locations.items()
    }
    return {
        picture: location for picture, location in named.items() if location.split != "unlabelled"
    }


def _notes(used: set[Parts], left_out: list[Parts]) -> tuple[str, ...]:
    names = ", ".join(shortened("/".join(table)) for table in sorted(used)[:3])
    notes = [f"the classes are read from {names}"]
    if left_out:
        count, first = count_pictures(len(left_out)), shortened("/".join(left_out[0]))
        notes.append(f"{count} left out, having no class in a table or no split, such as {first}")
    return tuple(notes)


def _contradiction_note(found: list[tuple[Parts, list[str]]]) -> Iterator[str]:
    """Yield a note on pictures to which a table gives several labels."""
    if found:
        picture, labels = min(found)  # the first by name: the note is the same each time
        several = " and ".join(shortened(label) for label in sorted(set(labels))[:3])
        yield (
            f"{count_pictures(len(found))} left out, having labels in a table that contradict each "
            f"other, such as {shortened('/'.join(picture))} ({several})"
        )


def _missing_note(names: list[str]) -> Iterator[str]:
    """Yield a note on rows whose picture is not there."""
    if names:
        subject = "one row of a table names" if len(names) == 1 else f"{len(names):,} rows name"
        yield f"{subject} no picture that is here, or several, such as {shortened(names[0])}"


def _folder_note(locations: dict[Parts, PictureLocation]) -> Iterator[str]:
    """Yield a note on pictures in the folder of another class than that of their row."""
    labels = {location.label for location in locations.values()}
    other = [
        (picture, location.label)
        for picture, location in sorted(locations.items())
        if location.label not in picture[:-1] and labels.intersection(picture[:-1])
    ]
    if other:
        subject = "one picture is" if len(other) == 1 else f"{len(other):,} pictures are"
        picture, label = other[0]
        yield (
            f"{subject} in the folder of another class than the table names, such as "
            f"{shortened('/'.join(picture))} ({shortened(label)}): the table counts"
        )
