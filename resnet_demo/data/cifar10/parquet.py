"""CIFAR-10 as Hugging Face serves it: two parquet files of PNGs and labels. No torch here.

pyarrow, which reads them, is an optional extra: it is imported when it is needed.
"""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resnet_demo.data.cifar10.original_batches import CLASSES
from resnet_demo.data.cifar10.original_batches import INFO as CIFAR10
from resnet_demo.data.folder import (
    ProgressCallback,
    describe,
    new_dataset,
    write_info,
    write_split,
)
from resnet_demo.data.info import DatasetInfo
from resnet_demo.data.pictures import decode_picture
from resnet_demo.errors import DamagedError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

BLOCK = 10_000  # pictures in one of the original batches
CHUNK = 500  # pictures decoded at a time
OTHER_ORDER_SOURCE = "the parquet files of CIFAR-10, not in the order of the original batches"
# The first labels of data_batch_1 to data_batch_5. They identify a block of the file.
# Twenty of each: two blocks begin alike by a chance of one in 10^20.
FIRST_LABELS = (
    (6, 9, 9, 4, 1, 1, 2, 7, 8, 3, 4, 7, 7, 2, 9, 9, 9, 3, 2, 6),
    (1, 6, 6, 8, 8, 3, 4, 6, 0, 6, 0, 3, 6, 6, 5, 4, 8, 3, 2, 6),
    (8, 5, 0, 6, 9, 2, 8, 3, 6, 2, 7, 4, 6, 9, 0, 0, 7, 3, 7, 2),
    (0, 6, 0, 2, 7, 2, 1, 2, 4, 1, 5, 6, 6, 3, 1, 3, 5, 5, 8, 1),
    (1, 8, 5, 1, 5, 7, 4, 3, 8, 2, 7, 2, 0, 1, 5, 9, 6, 2, 0, 8),
)


def convert_parquet(
    root: Path,
    train: Path,
    test: Path,
    progress: ProgressCallback | None = None,
    name: str = CIFAR10.name,
    block: int = BLOCK,
) -> DatasetInfo:
    """Make a dataset of both files, the training pictures in the order of the original batches.

    If the file's blocks (of `block` pictures) are not those batches, its own order is kept, and
    the dataset's source says so. progress: called with the number of pictures read.
    Raises DamagedError for files with other contents, ConfigError where there is already a dataset
    of that name.
    """
    with new_dataset(root, name) as folder:
        files = {"train": _ParquetSplit(train), "test": _ParquetSplit(test)}
        order = original_order(files["train"].labels, block)
        blocks = [(n * block, (n + 1) * block) for n in order] or [files["train"].all_rows]
        rows = {"train": blocks, "test": [files["test"].all_rows]}
        count = _ProgressCounter(sum(len(file.labels) for file in files.values()), progress)
        statistics = {}
        for split, file in files.items():
            labels = np.concatenate([file.labels[slice(*part)] for part in rows[split]])
            chunks = (count(chunk) for part in rows[split] for chunk in file.read_rows(*part))
            statistics[split] = write_split(folder, split, chunks, labels, CIFAR10.size)
        source = CIFAR10.source if order else OTHER_ORDER_SOURCE
        info = describe(name, CLASSES, CIFAR10.size, statistics, source)
        return write_info(folder, info)


def original_order(labels: np.ndarray, block: int = BLOCK) -> list[int]:
    """Return which block of a file is data_batch_1, data_batch_2 and so on; [] if one is unknown.

    Hugging Face's file has the batches in another order. The order decides which pictures the
    split of seed 42 takes for validation, so it must be the tutorial's.
    """
    known = len(FIRST_LABELS[0])
    starts = [tuple(labels[n : n + known].tolist()) for n in range(0, len(labels), block)]
    if len(labels) != block * len(FIRST_LABELS) or sorted(starts) != sorted(FIRST_LABELS):
        return []
    return [starts.index(first) for first in FIRST_LABELS]


class _ProgressCounter:
    """A pass-through for chunks that reports the number of pictures so far."""

    def __init__(self, total: int, progress: ProgressCallback | None) -> None:
        self.done, self.total, self.progress = 0, total, progress

    def __call__(self, chunk: np.ndarray) -> np.ndarray:
        self.done += len(chunk)
        if self.progress:
            self.progress(self.done, self.total, f"{self.done:,} pictures read")
        return chunk


class _ParquetSplit:
    """One parquet file. Its labels (N,) int64 are read at once, its pictures on request."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        with _wrap_errors(self.name):
            from pyarrow.parquet import ParquetFile

            self.file = ParquetFile(path)
            _check_classes(self.file, self.name)
            # Without the pictures, which are large.
            labels = self.file.read(["label"])["label"].to_numpy()
        if labels.dtype != np.int64 or not len(labels) or not _are_classes(labels):
            raise DamagedError(f"{self.name} must have labels from 0 to 9")
        self.labels, self.all_rows = labels, (0, len(labels))

    def read_rows(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield the pictures of these rows, (n, 32, 32, 3) uint8, one row group in memory."""
        first = 0
        for group in range(self.file.num_row_groups):
            last = first + self.file.metadata.row_group(group).num_rows
            if first < stop and last > start:
                yield from self._read_group(group, max(start - first, 0), min(stop, last) - first)
            first = last

    def _read_group(self, group: int, start: int, stop: int) -> Iterator[np.ndarray]:
        with _wrap_errors(self.name):
            encoded = self.file.read_row_group(group, ["img.bytes"])["img"].combine_chunks()
        for row in range(start, stop, CHUNK):
            with _wrap_errors(self.name):
                chunk = encoded[row : min(row + CHUNK, stop)].field("bytes").to_pylist()
            yield np.stack([self._decode(data) for data in chunk])

    def _decode(self, data: bytes) -> np.ndarray:
        # None stands for a missing picture, which is then refused as empty.
        pixels = decode_picture(io.BytesIO(data or b""), name=f"a picture in {self.name}")
        if pixels.shape != (CIFAR10.size, CIFAR10.size, 3):
            raise DamagedError(
                f"{self.name} has a picture that is not {CIFAR10.size} x {CIFAR10.size} pixels"
            )
        return pixels


def _are_classes(labels: np.ndarray) -> bool:
    return labels.min() >= 0 and labels.max() < len(CLASSES)


def _check_classes(file: "ParquetFile", name: str) -> None:
    """Raise DamagedError if the file names its classes and they are not ours in our order."""
    metadata = (file.schema_arrow.metadata or {}).get(b"huggingface")
    if metadata:
        names = json.loads(metadata)["info"]["features"]["label"]["names"]
        if tuple(names) != CLASSES:
            raise DamagedError(f"{name} has other classes than CIFAR-10")


@contextmanager
def _wrap_errors(name: str) -> Iterator[None]:
    """Raise DamagedError for what pyarrow raises on a wrong file: ValueError, OSError, KeyError…"""
    try:
        yield
    except (DamagedError, ImportError):
        raise
    except Exception as error:  # pyarrow and PIL raise many types on foreign bytes
        raise DamagedError(f"{name} is damaged, or not the file of Hugging Face") from error
