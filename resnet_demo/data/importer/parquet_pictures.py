"""Pictures in parquet files, as the Hugging Face Hub stores image datasets. No torch here.

A row holds a picture's file in a column of `bytes` and `path`, and its label. pyarrow, which reads
the files, is an optional extra: it is imported when it is needed.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from resnet_demo.data.importer.members import LimitChecker, Member, Parts
from resnet_demo.data.importer.split_names import SPLIT_WORDS, words_of
from resnet_demo.errors import ConfigError, DamagedError, DemoError, shortened
from resnet_demo.json_files import parse_json

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

INSTALL = "`pip install pyarrow` in the app's environment (`make` has it in .venv/bin)"
MAGIC = b"PAR1"
ROWS = 64  # pictures in memory at a time
MAX_BYTES = 4 * 2**30  # of a parquet file in an archive
BLOCK_BYTES = 2**20  # of it, in memory at a time
LABEL_COLUMNS = ("label", "fine_label", "labels", "class", "category")  # the first that is there


class Readable(Protocol):
    """A file in an archive, which can only be read from its start to its end."""

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, b"" at the end."""


class _OtherTableError(DamagedError):
    """A parquet file without pictures and labels."""


def has_pyarrow() -> bool:
    """Return whether pyarrow is installed."""
    return importlib.util.find_spec("pyarrow") is not None


def pictures_in_parquet(
    files: Sequence[tuple[Path, Parts]], checker: LimitChecker
) -> Iterator[Member]:
    """Yield the pictures of parquet files as members `split/label/name`.

    files: with their paths in the source, which name the splits. A row without a label is yielded
    as `split/name`, a file without a split as `label/name`.
    Raises ConfigError without pyarrow, DamagedError for other files and beyond the limits.
    """
    if not has_pyarrow():
        raise ConfigError(f"reading parquet files needs pyarrow: {INSTALL}")
    for done, (path, parts) in enumerate(files, 1):
        yield from _read_file(path, parts, checker, done, len(files))


def is_parquet_name(name: str) -> bool:
    """Return True for the name of a parquet file."""
    return name.lower().endswith(".parquet")


def pictures_in_member(
    member: Readable,
    size: int,
    parts: Parts,
    checker: LimitChecker,
    done: int = 0,
    total: int = 0,
) -> Iterator[Member]:
    """Yield the pictures of a parquet file of `size` bytes in an archive, as `pictures_in_parquet`.

    A file that cannot be read is yielded with its `problem`, one without pictures without bytes.
    It is copied to a temporary file without a name, because it is read from its end.
    """
    problem = ""
    if not has_pyarrow():
        problem = f"reading it needs pyarrow: {INSTALL}"
    elif size > MAX_BYTES:
        problem = f"{size:,} bytes, the most for a parquet file is {MAX_BYTES:,}"
    if problem:
        yield Member(parts, b"", done, total, problem)
        return
    with TemporaryFile() as file:
        left = size
        while block := member.read(min(BLOCK_BYTES, left)):
            left -= file.write(block)
        file.seek(0)
        try:
            yield from _read_file(file, parts, checker, done, total)
        except _OtherTableError:
            yield Member(parts, b"", done, total)


def _read_file(
    source: Path | BinaryIO, parts: Parts, checker: LimitChecker, done: int, total: int
) -> Iterator[Member]:
    """Yield the pictures of one file. Raises as `pictures_in_parquet`."""
    try:
        yield from _read_rows(source, parts, checker, done, total)
    except (DemoError, OSError, GeneratorExit):
        raise
    except Exception as error:  # pyarrow raises many types on foreign bytes
        raise DamagedError(f"{shortened('/'.join(parts))} is cut short or damaged") from error


def _read_rows(
    source: Path | BinaryIO, parts: Parts, checker: LimitChecker, done: int, total: int
) -> Iterator[Member]:
    from pyarrow.parquet import ParquetFile

    split, stem = _split_in(parts), Path(parts[-1]).stem.replace(".", "-")
    with ParquetFile(source) as file:
        picture, label, classes = _find_columns(file, "/".join(parts))
        row = 0
        # Only these columns: others may be large, and are not needed.
        for batch in file.iter_batches(ROWS, columns=[f"{picture}.bytes", label]):
            encoded = batch.column(picture).field("bytes").to_pylist()
            for data, value in zip(encoded, batch.column(label).to_pylist(), strict=True):
                # Numbered: the path in a row may be missing, or the same in several.
                name, data = f"{stem}-{row:06}", data or b""
                checker.add_member(name, len(data))
                checker.size_problem(name, len(data))  # raises for a picture that is too large
                checker.add_bytes(len(data))
                found = _class_of(value, classes)
                above = (split, found) if found else (split or "unlabelled",)
                yield Member((*filter(None, above), name), data, done, total)
                row += 1


def _split_in(parts: Parts) -> str:
    """Return the split that a file's name or a folder above it means, "" without one."""
    for part in reversed(parts):  # the file's own name goes before its folders
        for word in words_of(part):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
    return ""


def _find_columns(file: "ParquetFile", name: str) -> tuple[str, str, list[str]]:
    """Return the columns of pictures and labels, and the names of the classes if they are listed.

    Raises DamagedError for a file without such columns.
    """
    import pyarrow as pa

    schema = file.schema_arrow
    pictures = [
        column.name
        for column in schema
        if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0
    ]
    metadata = parse_json((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = metadata.get("info", {}).get("features", {})
    listed = {
        column: feature["names"]
        for column, feature in features.items()
        if isinstance(feature, dict) and isinstance(feature.get("names"), list)
    }
    labels = [column for column in (*LABEL_COLUMNS, *listed) if column in schema.names]
    if not pictures or not labels:
        raise _OtherTableError(
            f"{shortened(name)} is no image dataset of the Hub: it needs a column of pictures "
            "(image) and one of labels (label)"
        )
    return pictures[0], labels[0], [str(label) for label in listed.get(labels[0], ())]


def _class_of(value: Any, classes: list[str]) -> str:
    """Return the name of a row's class, "" for a row without a label."""
    if value is None or value == -1:  # -1: the Hub's mark of a test set without labels
        return ""
    if classes and isinstance(value, int):
        return classes[value] if 0 <= value < len(classes) else ""
    return str(value).strip()
