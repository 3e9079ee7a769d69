"""The rows of a table of labels, CSV or JSON lines: each names a file and its class.

They stand in two columns whose usual names are known here, or there is a column for each class
(one-hot, as Roboflow's `_classes.csv`). The column of files may have any name.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator
from itertools import islice

from resnet_demo.data.importer.split_names import strict_split
from resnet_demo.json_files import parse_json

MAX_ROWS, MAX_COLUMNS = 250_000, 10_000
# Usual names of columns, in small letters without spaces and underlines; the first found counts.
FILE_COLUMNS = (
    *("filename", "file", "filepath", "imagepath", "path", "image", "imagename", "imagefile"),
    *("imagefilename", "filenames", "fname", "imgpath", "imgname", "imgid", "relativepath"),
    *("imageid", "img", "picture", "photo", "name", "id"),
)
LABEL_COLUMNS = (
    *("labelname", "classname", "categoryname", "label", "class", "classlabel", "category"),
    *("target", "species", "breed", "diagnosis", "dx", "labels", "classid", "labelid"),
    *("type", "tag", "tags", "finding", "kind", "classification", "groundtruth", "annotation"),
)
SPLIT_COLUMNS = ("split", "subset", "partition", "dataset", "set", "usage")
ABOVE = re.compile("#|sep=", re.IGNORECASE)  # lines above the header: comments, Excel's separator
NO_LABEL = ("", "nan")  # pandas writes the second for an empty cell
SAMPLED_CELLS = 2000  # looked at to find the column of files, or one row
Row = tuple[str, str, str]  # file, label, split or ""


def read_rows(name: str, data: bytes, is_file: Callable[[str], bool]) -> tuple[list[Row], bool]:
    """Return the labelled rows of a table, and whether its column of labels has a usual name.

    There are no rows in a file that is no such table. is_file: returns True for the name of a
    picture.
    """
    try:
        # UTF-16, as spreadsheets write "Unicode text", begins with a mark.
        is_utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        text = data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeError:
        # Never fails: a table of another encoding has its labels, if perhaps with odd letters.
        text = data.decode("latin-1")
    try:
        cells = _read_jsonl(text) if name.lower().endswith(".jsonl") else _read_csv(text)
        rows = list(islice(cells, MAX_ROWS))
    except (csv.Error, ValueError):
        return [], False  # another kind of file: the folders are the classes
    # Blank lines and comments may stand above the header.
    start = next((i for i, row in enumerate(rows) if row and not ABOVE.match(row[0])), 0)
    return _labelled_rows(rows[start:], is_file)


def _read_csv(text: str) -> Iterator[list[str]]:
    # The header decides; a megabyte surely holds it.
    lines = (line for line in text[: 2**20].splitlines() if line.strip() and line[0] != "#")
    delimiter = max(",;\t|", key=next(lines, "").count)  # the one that the header has most of
    file = io.StringIO(text, newline="")
    return csv.reader(file, delimiter=delimiter, skipinitialspace=True)


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


def _labelled_rows(rows: list[list[str]], is_file: Callable[[str], bool]) -> tuple[list[Row], bool]:
    if not rows or len(rows[0]) > MAX_COLUMNS:
        return [], False
    header = [re.sub("[^a-z0-9]", "", cell.lower()) for cell in rows[0]]
    file, label, split = (
        next((header.index(name) for name in names if name in header), None)
        for names in (FILE_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMNS)
    )
    found = _file_columns(rows, is_file)
    if found and file not in found:  # the column has no name, or another
        file = found[0]
    known = label not in (None, file)
    one_hot = {} if file is None or len(header) < 3 else _one_hot(rows, file)
    if one_hot:
        label = None
    if not known and not one_hot and len(header) == 2 and file is not None:
        label = 1 - file  # two columns without names, or with others
    if file is None or (label is None and not one_hot):
        return [], False
    labelled = []
    for number, row in enumerate(rows):
        # A torn last line, or a note below the table.
        if len(row) < len(header):
            continue
        if number == 0 and not is_file(row[file]):
            continue  # the names of the columns
        value = row[label].strip() if label is not None else one_hot.get(number, "")
        if row[file].strip() and value.lower() not in NO_LABEL:
            named_split = strict_split(row[split]) if split is not None else ""
            labelled.append((row[file].strip(), value, named_split))
    return labelled, known or bool(one_hot)


def _file_columns(rows: list[list[str]], is_file: Callable[[str], bool]) -> list[int]:
    """Return the columns that name pictures, the best first. The first row may be the header."""
    columns = len(rows[0])
    sample = [row for row in rows[: 1 + SAMPLED_CELLS // columns] if len(row) == columns]
    hits = [sum(is_file(row[i]) for row in sample) for i in range(columns)]
    return sorted((i for i in range(columns) if hits[i]), key=lambda i: -hits[i])


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
