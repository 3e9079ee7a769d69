"""A dataset on disk: `dataset.json`, and images and labels of both splits as .npy. No torch here.

A dataset is built in a hidden folder beside its place, `dataset.json` last, and then takes its
name: what is there is complete, and a kill leaves nothing that looks like it.
"""

import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from resnet_demo.data.moments import Moments, Triple
from resnet_demo.errors import ConfigError, DamagedError, DemoError, shortened
from resnet_demo.files import sync_folder, write_atomically

NAME = re.compile("[a-z0-9][a-z0-9-]{0,63}")
SPLITS = ("train", "test")
INFO = "dataset.json"
FILES = {INFO, *(f"{split}-{part}.npy" for split in SPLITS for part in ("images", "labels"))}
NAMED_SKIPPED = 20  # this many unreadable files are named in dataset.json


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """What is known about a dataset without opening its images.

    mean and std: of the training pixels, per channel, on the 0..1 scale; per_image_std: the mean
    of each training image's own deviation. skipped: the first unreadable files of an import.
    """

    name: str
    classes: tuple[str, ...]  # in label order
    size: int  # pixels, side of the stored square images
    train: int  # images
    test: int  # images
    mean: Triple
    std: Triple
    per_image_std: Triple
    synthetic: bool
    source: str  # where it came from, in words
    skipped_count: int = 0
    skipped: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Field name -> value, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> "DatasetInfo":
        """The opposite of `to_dict`. Raises DamagedError for what it never wrote."""
        try:
            given = {field.name: values[field.name] for field in fields(cls)}
            tuples = {name: tuple(value) for name, value in given.items() if type(value) is list}
            info = cls(**{**given, **tuples})
            sound = _is_sound(info)
        except (KeyError, TypeError) as error:
            raise DamagedError("the description of the dataset is incomplete") from error
        if not sound:
            raise DamagedError("the description of the dataset makes no sense")
        return info


def _is_sound(info: DatasetInfo) -> bool:
    words = (info.name, info.source, *info.classes, *info.skipped)
    counts = (info.size, info.train, info.test)
    triples = (info.mean, info.std, info.per_image_std)
    return (
        all(type(word) is str for word in words)
        and all(type(count) is int and count > 0 for count in counts)
        and all(len(triple) == 3 and all(map(math.isfinite, triple)) for triple in triples)
        and min(info.mean) >= 0 < min(*info.std, *info.per_image_std)
        and len(set(info.classes)) == len(info.classes) >= 2
        and type(info.synthetic) is bool
        and type(info.skipped_count) is int
    )


def check_name(name: object, field: str = "dataset") -> str:
    """The name, if it may become a folder's. Raises ConfigError."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        rule = "at most 64 small letters, digits and dashes, no dash first"
        raise ConfigError.rule(field, rule, name)
    return name


def is_complete(folder: Path) -> bool:
    """True where a dataset was finished, be it damaged since."""
    return (folder / INFO).exists()


@contextmanager
def new_dataset(root: Path, name: str) -> Iterator[Path]:
    """A hidden folder to build in; it becomes `root/name` at the end, or vanishes on any error.

    Raises ConfigError where there is already a dataset, DemoError for a full or read-only disk.
    """
    target = root / check_name(name, "name")
    partial = root / f".{name}.partial-{os.getpid()}"
    _check_free(target)
    try:
        root.mkdir(parents=True, exist_ok=True)
        _clear_abandoned(root, name)
        partial.mkdir()
        yield partial
        _check_free(target)
        shutil.rmtree(target, ignore_errors=True)  # only an incomplete one gets here
        partial.rename(target)
        sync_folder(root)
    except OSError as error:
        reason = error.strerror or error
        raise DemoError(f"the dataset could not be written to {root}: {reason}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_free(target: Path) -> None:
    if is_complete(target):
        raise ConfigError(f"there is already a dataset named {target.name!r}", "name")
    if target.exists() and not (target.is_dir() and FILES.issuperset(os.listdir(target))):
        # somebody's own files, perhaps the very pictures to import: never removed
        raise ConfigError(f"the folder {target} is in the way: choose another name", "name")


def _clear_abandoned(root: Path, name: str) -> None:
    """Remove what builders left that are dead or were this process."""
    for folder in root.glob(f".{name}.partial-*"):
        pid = folder.name.rpartition("-")[2]
        if not pid.isdigit() or int(pid) == os.getpid() or not Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)


def write_split(folder: Path, split: str, chunks: Iterable[np.ndarray], labels: np.ndarray,
                size: int) -> Moments:  # fmt: skip
    """Write one split. chunks: (n, size, size, 3) uint8 in turn, as many images as labels (N,).

    Plain writes, not a memory map: a full disk is then an error and not a signal.
    """
    moments, shape = Moments(), (len(labels), size, size, 3)
    with open(folder / f"{split}-images.npy", "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in chunks:
            file.write(np.ascontiguousarray(chunk).data)
            moments.add(chunk)
        file.flush()
        os.fsync(file.fileno())
    with open(folder / f"{split}-labels.npy", "wb") as file:
        np.save(file, labels.astype(np.int64), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    return moments


def write_info(folder: Path, info: DatasetInfo) -> DatasetInfo:
    """Write dataset.json, the last file of a dataset. Returns info."""
    write_atomically(folder / INFO, (json.dumps(info.to_dict(), indent=2) + "\n").encode())
    return info


def read_info(folder: Path) -> DatasetInfo:
    """The dataset in a folder, the shapes of its arrays checked. Raises DamagedError."""
    try:
        info = DatasetInfo.from_dict(json.loads((folder / INFO).read_bytes()))
    except (OSError, ValueError, DamagedError) as error:
        raise DamagedError(f"the dataset {folder.name!r} is damaged: {INFO}") from error
    if info.name != folder.name:
        raise DamagedError(f"the dataset {folder.name!r} is damaged: {INFO} is of {info.name!r}")
    for split in SPLITS:
        open_split(folder, info, split)
    return info


def open_split(folder: Path, info: DatasetInfo, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, size, size, 3) uint8, mapped from disk, and labels (N,) int64, both as written.

    Writing to the images changes the caller's view only. Raises DamagedError.
    """
    count = getattr(info, split)
    images = _mapped(folder / f"{split}-images.npy", (count, info.size, info.size, 3), np.uint8)
    labels = _mapped(folder / f"{split}-labels.npy", (count,), np.int64)
    return images, labels


def _mapped(path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DamagedError(f"the dataset {path.parent.name!r} is damaged: {path.name}") from error
    if array.shape != shape or array.dtype != dtype:
        message = f"the dataset {path.parent.name!r} is damaged: {path.name} has another shape"
        raise DamagedError(message)
    return array


def check_labels(info: DatasetInfo, labels: np.ndarray) -> np.ndarray:
    """The labels in memory. Raises DamagedError for one that is no class."""
    labels = np.array(labels)
    if labels.min() < 0 or labels.max() >= len(info.classes):
        raise DamagedError(f"the dataset {info.name!r} is damaged: {shortened(labels.max())}")
    return labels
