"""The original CIFAR-10 (Krizhevsky, 2009): pickled batches, read without trusting them.

Their order is kept, so that the split of seed 42 is the tutorial's own. No torch here.
"""

from pathlib import Path
from typing import Any

import numpy as np

from resnet_demo.data.cifar10.unpickle import load_untrusted_pickle
from resnet_demo.data.folder import (
    ProgressCallback,
    describe,
    new_dataset,
    write_info,
    write_split,
)
from resnet_demo.data.importer.archive import read_members
from resnet_demo.data.info import DatasetInfo
from resnet_demo.errors import DamagedError, shortened

FOLDER, ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"
BATCHES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
INFO = DatasetInfo(
    name="cifar10",
    classes=CLASSES,
    size=32,
    train=50000,
    test=10000,
    mean=(0.4914, 0.482158, 0.446531),
    std=(0.247032, 0.243485, 0.261588),
    per_image_std=(0.202301, 0.199413, 0.200962),
    synthetic=False,
    source="the original CIFAR-10 batches, in their own order",
)
Batch = tuple[np.ndarray, np.ndarray]


def find_original(root: Path) -> Path | None:
    """Return the original batches in a folder, unpacked or as an archive; None without them."""
    if (root / FOLDER / "data_batch_1").is_file():
        return root / FOLDER
    return root / ARCHIVE if (root / ARCHIVE).is_file() else None


def is_original(source: Path) -> bool:
    """Return True for the original batches: their folder, or an archive that begins with it."""
    if source.is_dir():
        return (source / "data_batch_1").is_file()
    first = next(read_members(source), None)
    return first is not None and first.parts[0] == FOLDER


def convert_batches(
    root: Path, source: Path, progress: ProgressCallback | None = None, name: str = INFO.name
) -> DatasetInfo:
    """Make a dataset of the original batches: their folder or cifar-10-python.tar.gz.

    progress: called with the number of batches read. Raises DamagedError for batches with other
    contents, ConfigError where there is already a dataset of that name.
    """
    with new_dataset(root, name) as folder:
        classes, batches = read_batches(source, progress or (lambda done, total, message: None))
        statistics = {}
        for split, names in BATCHES.items():
            images, labels = zip(*(batches[batch] for batch in names), strict=True)
            statistics[split] = write_split(
                folder, split, images, np.concatenate(labels), INFO.size
            )
        return write_info(folder, describe(name, classes, INFO.size, statistics, INFO.source))


def read_batches(
    source: Path, progress: ProgressCallback
) -> tuple[tuple[str, ...], dict[str, Batch]]:
    """Return class names, and images (N, 32, 32, 3) uint8 and labels (N,) int64 by batch name."""
    classes, batches = CLASSES, {}
    batch_names = [name for names in BATCHES.values() for name in names]
    for member in read_members(source):
        name = member.parts[-1]
        if name == "batches.meta":
            classes = _class_names(load_untrusted_pickle(member.data, name))
        elif name in batch_names:
            batches[name] = _parse_batch(load_untrusted_pickle(member.data, name), name)
            progress(len(batches), len(batch_names), f"read {name}")
    if missing := [name for name in batch_names if name not in batches]:
        raise DamagedError(f"{shortened(source.name)} lacks {missing[0]} of CIFAR-10")
    return classes, batches


def _parse_batch(values: dict[str, Any], name: str) -> Batch:
    data, labels = values.get("data"), values.get("labels")
    valid = (
        isinstance(data, np.ndarray)
        and isinstance(labels, list)
        and data.shape == (len(labels), 3 * INFO.size**2)
        and len(labels) > 0
        and all(type(label) is int and 0 <= label < len(CLASSES) for label in labels)
    )
    if not valid:
        raise DamagedError(
            f"{name} is not a batch of CIFAR-10: it must hold 3,072 bytes and a label from 0 to 9 "
            "for each image"
        )
    planes = data.reshape(-1, 3, INFO.size, INFO.size)  # red, green, blue
    return planes.transpose(0, 2, 3, 1), np.array(labels, dtype=np.int64)


def _class_names(values: dict[str, Any]) -> tuple[str, ...]:
    names = values.get("label_names")
    if not isinstance(names, list) or len(names) != len(CLASSES):
        raise DamagedError("batches.meta does not name ten classes")
    classes = tuple(name.decode() if isinstance(name, bytes) else name for name in names)
    if len(set(classes)) != len(CLASSES) or not all(type(name) is str for name in classes):
        raise DamagedError("batches.meta does not name ten classes")
    return classes
