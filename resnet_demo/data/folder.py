"""A dataset on disk: `dataset.json`, and images and labels of its splits as .npy. No torch here.

A dataset is built in a hidden folder and renamed at the end, `dataset.json` written last. So a
dataset that has its name is complete, and a killed process leaves nothing that looks like one.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from resnet_demo.data.digests import digests_path, picture_digests
from resnet_demo.data.info import DatasetInfo, PixelStatistics, check_name
from resnet_demo.errors import ConfigError, DamagedError, DemoError
from resnet_demo.files import ARRAY_HEADERS, sync_folder, write_atomically
from resnet_demo.json_files import read_json

SPLITS = ("train", "val", "test")  # of them, only `train` is always there
INFO = "dataset.json"
PARTS = ("images", "labels", "digests")
FILES = {INFO, *(f"{split}-{part}.npy" for split in SPLITS for part in PARTS)}
NAMED_SKIPPED = 20  # so many unreadable files are named in dataset.json
ProgressCallback = Callable[[int, int | None, str], None]  # done, total, message


def is_complete(folder: Path) -> bool:
    """Return True for a dataset that was finished, even if it is damaged since."""
    return (folder / INFO).exists()


@contextmanager
def new_dataset(root: Path, name: str) -> Iterator[Path]:
    """Yield a hidden folder to build in; at the end it becomes `root/name`.

    After any error the folder is removed. Raises ConfigError where there is already a dataset of
    that name, DemoError for a full or read-only disk.
    """
    target = root / check_name(name, "name")
    # On the same disk as the target: only then is the rename atomic. The process number says who
    # owns it.
    partial = root / f".{name}.partial-{os.getpid()}"
    _check_free(target)
    try:
        root.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(root, name)
        partial.mkdir()
        yield partial
        _check_free(target)  # again: another process may have finished meanwhile
        shutil.rmtree(target, ignore_errors=True)  # only an incomplete dataset gets here
        partial.rename(target)
        sync_folder(root)
    except OSError as error:
        reason = error.strerror or error
        raise DemoError(f"the dataset could not be written to {root}: {reason}") from error
    finally:
        # Where all went well it has been renamed, and there is nothing left to remove.
        shutil.rmtree(partial, ignore_errors=True)


def _check_free(target: Path) -> None:
    if is_complete(target):
        raise ConfigError(f"there is already a dataset named {target.name!r}", "name")
    if target.exists() and not (target.is_dir() and FILES.issuperset(os.listdir(target))):
        # Files that are not ours are never removed: they may be the very pictures to import.
        raise ConfigError(
            f"the folder {target} exists and holds other files: choose another name", "name"
        )


def _remove_abandoned(root: Path, name: str) -> None:
    """Remove the hidden folders of dead processes, and of earlier attempts of this one."""
    for folder in root.glob(f".{name}.partial-*"):
        pid = folder.name.rpartition("-")[2]
        # A live process of another number is at work on the same name; it is left alone.
        if not pid.isdigit() or int(pid) == os.getpid() or not _is_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # signal 0 only checks that the process exists
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's process
    return True


def write_split(
    folder: Path, split: str, chunks: Iterable[np.ndarray], labels: np.ndarray, size: int
) -> PixelStatistics:
    """Write one split. chunks: (n, size, size, 3) uint8 in order; labels: (N,) for all of them."""
    statistics, shape = PixelStatistics(), (len(labels), size, size, 3)
    digests = []
    # Plain writes instead of a memory map: a full disk then raises OSError and is no SIGBUS.
    with _open_durable(folder / f"{split}-images.npy") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        # The header first: np.save would need the whole array in memory.
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in chunks:
            file.write(np.ascontiguousarray(chunk).data)
            statistics.add(chunk)
            digests.append(picture_digests(chunk))
    with _open_durable(folder / f"{split}-labels.npy") as file:
        np.save(file, labels.astype(np.int64), allow_pickle=False)
    with _open_durable(digests_path(folder, split)) as file:
        np.save(file, np.concatenate(digests), allow_pickle=False)
    return statistics


@contextmanager
def _open_durable(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing and sync it to disk at the end."""
    with open(path, "wb") as file:
        yield file
        file.flush()
        # Before the rename: a dataset that has its name must survive a power cut.
        os.fsync(file.fileno())


def describe(
    name: str,
    classes: tuple[str, ...],
    size: int,
    statistics: dict[str, PixelStatistics],
    source: str,
    skipped: Sequence[str] = (),
    fit: str = "crop",
) -> DatasetInfo:
    """Return the description of a dataset that `write_split` wrote.

    statistics: of all its splits. skipped: the names of all unreadable files.
    """
    train = statistics["train"]
    images = {split: written.images for split, written in statistics.items()}
    return DatasetInfo(
        name=name,
        classes=classes,
        size=size,
        train=train.images,
        test=images.get("test", 0),
        mean=train.mean(),
        std=train.std(),
        per_image_std=train.per_image_std(),
        synthetic=False,
        source=source,
        skipped_count=len(skipped),
        skipped=tuple(skipped[:NAMED_SKIPPED]),
        val=images.get("val", 0),
        fit=fit,
    )


def write_info(folder: Path, info: DatasetInfo) -> DatasetInfo:
    """Write dataset.json, the last file of a dataset, and return info."""
    write_atomically(folder / INFO, (json.dumps(info.to_dict(), indent=2) + "\n").encode())
    return info


def read_info(folder: Path) -> DatasetInfo:
    """Read dataset.json and check the shapes of the arrays. Raises DamagedError."""
    try:
        info = DatasetInfo.from_dict(read_json(folder / INFO))
    except DamagedError as error:
        raise DamagedError(f"the dataset {folder.name!r} is damaged: {INFO}") from error
    # A folder that was renamed by hand: runs refer to a dataset by its name.
    if info.name != folder.name:
        raise DamagedError(f"the dataset {folder.name!r} is damaged: {INFO} is of {info.name!r}")
    for split in info.splits:
        # Only the headers are read here: the arrays are mapped.
        open_split(folder, info, split)
    return info


def open_split(folder: Path, info: DatasetInfo, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, size, size, 3) uint8, mapped from disk, and labels (N,) int64.

    Writing to the images changes the caller's copy only. Raises DamagedError.
    """
    count = getattr(info, split)
    images = _map_array(folder / f"{split}-images.npy", (count, info.size, info.size, 3), np.uint8)
    labels = _map_array(folder / f"{split}-labels.npy", (count,), np.int64)
    return images, labels


def _map_array(path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    try:
        if not path.is_file():  # opening a pipe would wait for a writer
            raise OSError("not a file")
        # "c", copy on write: a caller that changes its images cannot damage the dataset.
        with ARRAY_HEADERS:
            array = np.load(path, mmap_mode="c", allow_pickle=False)  # a pickle could run code
    except (OSError, ValueError, EOFError) as error:
        raise DamagedError(f"the dataset {path.parent.name!r} is damaged: {path.name}") from error
    if array.shape != shape or array.dtype != dtype:
        message = f"the dataset {path.parent.name!r} is damaged: {path.name} has another shape"
        raise DamagedError(message)
    return array


def check_labels(info: DatasetInfo, labels: np.ndarray) -> np.ndarray:
    """Return the labels, copied to memory. Raises DamagedError for a label without a class."""
    labels = np.array(labels)  # labels are small and all of them are needed: not mapped
    if labels.min() < 0 or labels.max() >= len(info.classes):
        message = f"the dataset {info.name!r} is damaged: its labels name a class that is not there"
        raise DamagedError(message)
    return labels
