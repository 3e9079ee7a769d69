"""Labels from a table beside the pictures: labels.csv, metadata.csv, train.csv, metadata.jsonl.

A row names a file and its class, in two columns whose usual names are known here, or in one column
a class (one-hot, as Roboflow's `_classes.csv`). Paths are below the table's folder; a bare name, or
a name without its ending, is found where only one picture has it.
"""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import PurePosixPath

from resnet_demo.data.importer.layout import PictureLocation
from resnet_demo.data.importer.locate import count_pictures
from resnet_demo.data.importer.members import Parts
from resnet_demo.data.importer.split_names import strict_split
from resnet_demo.errors import shortened
from resnet_demo.json_files import parse_json

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")
# What is kept in memory until all pictures are read.
MAX_TABLES, MAX_TABLE_BYTES, MAX_ROWS, MAX_COLUMNS = 20, 16 * 2**20, 250_000, 10_000
MIN_LABELLED = 0.5  # share of the pictures that tables must name, else the folders are the classes
# Usual names of columns, in small letters without spaces and underlines; the first found counts.
FILE_COLUMNS = (
    *("filename", "file", "filepath", "imagepath", "path", "image", "imagename", "imagefile"),
    *("imagefilename", "filenames", "fname", "imgpath", "imgname", "imgid", "relativepath"),
    *("imageid", "img", "picture", "photo", "name", "id"),
)
LABEL_COLUMNS = (
    *("label", "labelname", "class", "classname", "classlabel", "category", "categoryname"),
    *("target", "species", "breed", "diagnosis", "dx", "labels", "classid", "labelid"),
    *("type", "tag", "tags", "finding", "kind", "classification", "groundtruth", "annotation"),
)
SPLIT_COLUMNS = ("split", "subset", "partition", "dataset", "set", "usage")
Row = tuple[str, str, str]  # file, label, split or ""


@dataclass(frozen=True)
class LabelledFiles:
    """The locations of the pictures that tables name."""

    locations: dict[Parts, PictureLocation]
    left_out: frozenset[Parts]  # pictures without a label or outside the splits
    used: frozenset[Parts]  # the tables
    notes: tuple[str, ...]

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

    A name that fits no picture, or several, is passed over.
    """
    labels: dict[Parts, tuple[str, str]] = {}  # picture -> label, split
    used = set()
    finders: dict[Parts, _Finder] = {}
    for table, data in sorted(tables.items()):
        folder, own_split = table[:-1], strict_split(PurePosixPath(table[-1]).stem)
        for file, label, split in _read_rows(table[-1], data):
            if folder not in finders:
                finders[folder] = _Finder(folder, pictures)
            if picture := finders[folder].find(file, split or own_split):
                labels.setdefault(picture, (label, split or own_split))
                used.add(table)
    # A folder of pictures to predict may be larger than that of the pictures with labels.
    found_in = {_folder_split(picture) for picture in labels}
    in_question = [
        picture
        for picture in pictures
        if (split := _folder_split(picture)) not in ("test", "unlabelled") or split in found_in
    ]
    if not labels or len(labels) < MIN_LABELLED * len(in_question):
        return None
    names = _folder_names(labels)
    locations = {
        picture: PictureLocation(
            split or _folder_split(picture), names.get(label, label), "/".join(picture)
        )
        for picture, (label, split) in labels.items()
    }
    locations = _with_splits(locations)
    left_out = frozenset(picture for picture in pictures if picture not in locations)
    return LabelledFiles(locations, left_out, frozenset(used), _notes(used, sorted(left_out)))


class _Finder:
    """Finds pictures by the names in a table, which is in `folder`. Case does not matter."""

    def __init__(self, folder: Parts, pictures: Sequence[Parts]) -> None:
        self._found: dict[str, set[Parts]] = defaultdict(set)
        for picture in pictures:
            if picture[: len(folder)] == folder:
                path = PurePosixPath(*picture[len(folder) :])
                for name in (path, path.with_suffix(""), path.name, path.stem):
                    self._found[str(name)].add(picture)
                    self._found[str(name).lower()].add(picture)

    def find(self, name: str, split: str) -> Parts | None:
        """Return the picture of that name; None where there is not exactly one.

        Of several, the only one in a folder of that split counts; without a split, in one for
        training: train/1.png and test/1.png, as competitions have them.
        """
        path = PurePosixPath(name.replace("\\", "/"))
        for known in (str(path), path.name, str(path).lower(), path.name.lower()):
            found = self._found.get(known, set())
            if len(found) > 1:
                found = {each for each in found if _folder_split(each) == (split or "train")}
            if len(found) == 1:
                return next(iter(found))
        return None


def _read_rows(name: str, data: bytes) -> Iterator[Row]:
    """Yield the labelled rows of a table; none of a file that is no such table."""
    try:
        # UTF-16, as spreadsheets write "Unicode text", begins with a mark.
        is_utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        text = data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeError:
        text = data.decode("latin-1")
    try:
        cells = _read_jsonl(text) if name.lower().endswith(".jsonl") else _read_csv(text)
        rows = list(islice(cells, MAX_ROWS))
    except (csv.Error, ValueError):
        return  # another kind of file: the folders are the classes
    yield from _labelled_rows(rows)


def _read_csv(text: str) -> Iterator[list[str]]:
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)


def _read_jsonl(text: str) -> Iterator[list[str]]:
    """Yield the objects of a file as rows, the names of the first one's fields before them."""
    columns: list[str] = []
    for line in filter(str.strip, text.splitlines()):
        entry = parse_json(line)
        if not isinstance(entry, dict):
            raise ValueError("not an object")
        if not columns:
            columns = list(entry)
            yield columns
        yield [str(entry.get(column, "")) for column in columns]


def _labelled_rows(rows: list[list[str]]) -> Iterator[Row]:
    if not rows or len(rows[0]) > MAX_COLUMNS:
        return
    header = [re.sub("[^a-z0-9]", "", cell.lower()) for cell in rows[0]]
    file, label, split = (
        next((header.index(name) for name in names if name in header), None)
        for names in (FILE_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMNS)
    )
    one_hot = {} if file is None or len(header) < 3 else _one_hot(rows, file)
    if one_hot:
        label = None
    if label is None and not one_hot and len(header) == 2:
        file, label = 0, 1  # two columns without names, or with others
    for number, row in enumerate(rows):
        if len(row) < len(header) or file is None or (label is None and not one_hot):
            continue
        value = row[label].strip() if label is not None else one_hot.get(number, "")
        if row[file].strip() and value:
            yield row[file].strip(), value, strict_split(row[split]) if split is not None else ""


def _one_hot(rows: list[list[str]], file: int) -> dict[int, str]:
    """Return row number -> class of a table with a column of 0 and 1 for each class.

    Empty for any other table, and for one with several classes in a row.
    """
    labels = {}
    for number, row in enumerate(rows[1:], 1):
        cells = [cell.strip() for cell in row]
        marked = [i for i, cell in enumerate(cells) if i != file and cell in ("1", "1.0")]
        others = [cell for i, cell in enumerate(cells) if i != file and i not in marked]
        if len(row) != len(rows[0]) or len(marked) != 1 or not set(others) <= {"0", "0.0"}:
            return {}
        labels[number] = rows[0][marked[0]].strip()
    return labels


def _folder_names(labels: dict[Parts, tuple[str, str]]) -> dict[str, str]:
    """Return number -> folder where the labels are numbers and each has one folder."""
    folders: dict[str, set[str]] = defaultdict(set)
    for picture, (label, _) in labels.items():
        if len(picture) > 1 and not strict_split(picture[-2]):
            folders[label].add(picture[-2])
    names = {label: next(iter(found)) for label, found in folders.items() if len(found) == 1}
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
