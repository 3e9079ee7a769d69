"""CIFAR-10 as Hugging Face keeps it: two parquet files of PNGs and labels. No torch here.

pyarrow, which reads them, is an optional extra: it is imported when it is needed.
"""

import importlib.util
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resnet_demo.data.cifar10 import original_batches
from resnet_demo.data.folder import ProgressCallback, describe, new_dataset, write_info, write_split
from resnet_demo.data.info import DatasetInfo
from resnet_demo.data.pictures import decode_picture
from resnet_demo.errors import DamagedError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

INSTALL = "`pip install pyarrow` in the app's environment (`make` has it in .venv/bin)"
BLOCK = 10_000  # pictures in one of the original batches
CHUNK = 500  # pictures decoded at a time
OTHER_ORDER_SOURCE = "the parquet files of CIFAR-10, not in the order of the original batches"
# The first labels of data_batch_1 to data_batch_5, by which each is known.
FIRST_LABELS = (
    (6, 9, 9, 4, 1, 1, 2, 7, 8, 3, 4, 7, 7, 2, 9, 9, 9, 3, 2, 6),
    (1, 6, 6, 8, 8, 3, 4, 6, 0, 6, 0, 3, 6, 6, 5, 4, 8, 3, 2, 6),
    (8, 5, 0, 6, 9, 2, 8, 3, 6, 2, 7, 4, 6, 9, 0, 0, 7, 3, 7, 2),
    (0, 6, 0, 2, 7, 2, 1, 2, 4, 1, 5, 6, 6, 3, 1, 3, 5, 5, 8, 1),
    (1, 8, 5, 1, 5, 7, 4, 3, 8, 2, 7, 2, 0, 1, 5, 9, 6, 2, 0, 8),
)


def has_pyarrow() -> bool:
    """Whether pyarrow is installed."""
    return importlib.util.find_spec("pyarrow") is not None


def convert_parquet(
    root: Path,
    train: Path,
    test: Path,
    progress: ProgressCallback | None = None,
    name: str = original_batches.INFO.name,
    block: int = BLOCK,
) -> DatasetInfo:
    """Make a dataset of both files, the training pictures in the order of the original batches.

    Where the file's blocks (of `block` pictures) are not those batches, its own order is kept, and
    the dataset's source says so. progress: called with pictures done and their number. Raises
    DamagedError for what the files should not hold, ConfigError where `name` is there already.
    """
    with new_dataset(root, name) as folder:
        read = {split: _Pictures(path) for split, path in (("train", train), ("test", test))}
        order = original_order(read["train"].labels, block)
        blocks = [(n * block, (n + 1) * block) for n in order] or [read["train"].all]
        rows = {"train": blocks, "test": [read["test"].all]}
        count = _Count(sum(len(pictures.labels) for pictures in read.values()), progress)
        moments = {}
        for split, pictures in read.items():
            labels = np.concatenate([pictures.labels[slice(*part)] for part in rows[split]])
            chunks = (chunk for part in rows[split] for chunk in pictures.rows(*part))
            moments[split] = write_split(
                folder, split, map(count, chunks), labels, original_batches.INFO.size
            )
        source = original_batches.INFO.source if order else OTHER_ORDER_SOURCE
        return write_info(
            folder,
            describe(name, original_batches.CLASSES, original_batches.INFO.size, moments, source),
        )


def original_order(labels: np.ndarray, block: int = BLOCK) -> list[int]:
    """Which block of a file is data_batch_1, which data_batch_2 and so on; [] if any is unknown."""
    known = len(FIRST_LABELS[0])
    starts = [tuple(labels[n : n + known].tolist()) for n in range(0, len(labels), block)]
    if len(labels) != block * len(FIRST_LABELS) or sorted(starts) != sorted(FIRST_LABELS):
        return []
    return [starts.index(first) for first in FIRST_LABELS]


class _Count:
    """Passes chunks on and tells how many pictures they were."""

    def __init__(self, total: int, progress: ProgressCallback | None) -> None:
        self.done, self.total, self.progress = 0, total, progress

    def __call__(self, chunk: np.ndarray) -> np.ndarray:
        self.done += len(chunk)
        if self.progress:
            self.progress(self.done, self.total, f"{self.done:,} pictures read")
        return chunk


class _Pictures:
    """One parquet file: labels (N,) int64 at once, pictures when they are asked for."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        with _reading(self.name):
            from pyarrow.parquet import ParquetFile

            self.file = ParquetFile(path)
            _check_classes(self.file, self.name)
            labels = self.file.read(["label"])["label"].to_numpy()
        if labels.dtype != np.int64 or not len(labels) or not _are_classes(labels):
            raise DamagedError(f"{self.name} has labels that CIFAR-10 has not")
        self.labels, self.all = labels, (0, len(labels))

    def rows(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Pictures of these rows in turn: (n, 32, 32, 3) uint8, of one row group at a time."""
        first = 0
        for group in range(self.file.num_row_groups):
            last = first + self.file.metadata.row_group(group).num_rows
            if first < stop and last > start:
                yield from self._group(group, max(start - first, 0), min(stop, last) - first)
            first = last

    def _group(self, group: int, start: int, stop: int) -> Iterator[np.ndarray]:
        with _reading(self.name):
            encoded = self.file.read_row_group(group, ["img.bytes"])["img"].combine_chunks()
        for place in range(start, stop, CHUNK):
            with _reading(self.name):
                chunk = encoded[place : min(place + CHUNK, stop)].field("bytes").to_pylist()
            yield np.stack([self._picture(data) for data in chunk])

    def _picture(self, data: bytes) -> np.ndarray:
        pixels = decode_picture(io.BytesIO(data or b""), name=f"a picture in {self.name}")
        if pixels.shape != (original_batches.INFO.size, original_batches.INFO.size, 3):
            raise DamagedError(f"{self.name} has a picture of another size than CIFAR-10's")
        return pixels


def _are_classes(labels: np.ndarray) -> bool:
    return labels.min() >= 0 and labels.max() < len(original_batches.CLASSES)


def _check_classes(file: "ParquetFile", name: str) -> None:
    """Where the file tells its classes, they must be ours and in this order."""
    told = (file.schema_arrow.metadata or {}).get(b"huggingface")
    if told:
        names = json.loads(told)["info"]["features"]["label"]["names"]
        if tuple(names) != original_batches.CLASSES:
            raise DamagedError(f"{name} has other classes than CIFAR-10")


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """pyarrow raises ValueError, OSError, KeyError and others for a file that is not right."""
    try:
        yield
    except (DamagedError, ImportError):
        raise
    except Exception as error:  # pyarrow and PIL raise what they like on foreign bytes
        raise DamagedError(f"{name} is damaged, or not what Hugging Face keeps") from error
