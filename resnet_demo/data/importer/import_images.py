"""Importing own pictures as a dataset: read once, decoded, made square. No torch here."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from resnet_demo.data.cifar10 import original_batches
from resnet_demo.data.folder import (
    ProgressCallback,
    describe,
    new_dataset,
    write_info,
    write_split,
)
from resnet_demo.data.importer.members import Member
from resnet_demo.data.importer.read_pictures import (
    DatasetPlan,
    check_readable,
    plan_dataset,
    read_pictures,
)
from resnet_demo.data.info import DatasetInfo, PixelStatistics, check_name
from resnet_demo.data.pictures import crop_to_square
from resnet_demo.errors import ConfigError

MIN_SIZE, MAX_SIZE = 8, 256  # pixels
CHUNK = 2048  # images in memory while the dataset is written


def import_images(
    root: Path,
    name: str,
    source: Path,
    *,
    size: int = 32,
    progress: ProgressCallback | None = None,
) -> DatasetInfo:
    """Make the dataset `name` from a folder, a .zip or a .tar (.gz, .xz, .bz2) of images.

    The source holds `train/<class>/*` and `test/<class>/*`; or `<class>/*` alone, of which a fifth
    becomes the test split; or the original batches of CIFAR-10. Images are cut to a centred square
    and resized to `size` pixels. progress: called now and then; an error from it ends the import.
    After any error nothing is left behind.
    Raises ConfigError for the name, the size or a file that is no archive, NotFoundError,
    DamagedError for a harmful or torn archive, DemoError for images that cannot make a dataset.
    """
    check_import(name, size)
    source = source.resolve()  # gives "." a name too
    progress = progress or (lambda done, total, message: None)
    if original_batches.is_original(source):
        original_size = original_batches.INFO.size
        if size != original_size:
            rule = f"{original_size} for the original batches of CIFAR-10"
            raise ConfigError.rule("size", rule, size)
        return original_batches.convert_batches(root, source, progress, name)
    with new_dataset(root, name) as folder:
        scratch = folder / "scratch"
        plan = _read_squares(source, scratch, size, progress)
        progress(0, None, "writing the dataset")
        statistics = _write_splits(folder, plan, scratch, size)
        scratch.unlink()
        text, classes = f"imported from {source.name}", plan.assignment.classes
        return write_info(folder, describe(name, classes, size, statistics, text, plan.skipped))


def check_import(name: str, size: int) -> None:
    """Raise ConfigError for a name or a size that an import cannot have."""
    check_name(name, "name")
    if name == "shapes10":
        raise ConfigError("the name 'shapes10' is taken by the built-in dataset", "name")
    if type(size) is not int or not MIN_SIZE <= size <= MAX_SIZE:
        rule = f"a whole number from {MIN_SIZE} to {MAX_SIZE} pixels"
        raise ConfigError.rule("size", rule, size)


def _read_squares(
    source: Path, scratch: Path, size: int, progress: ProgressCallback
) -> DatasetPlan:
    """Write the readable pictures to a scratch file of (size, size, 3) uint8 as they are read.

    To disk, because neither their number nor their order is known before the end.
    """
    with open(scratch, "wb") as file:

        def write_square(_: Member, pixels: np.ndarray | None) -> None:
            if pixels is not None:
                file.write(crop_to_square(pixels, size).data)

        plan = plan_dataset(read_pictures(source, write_square, progress))
    check_readable(plan.skipped, plan.pictures)
    return plan


def _write_splits(
    folder: Path, plan: DatasetPlan, scratch: Path, size: int
) -> dict[str, PixelStatistics]:
    """Write both splits in order, from the scratch file."""
    pixels = np.memmap(scratch, np.uint8, "r").reshape(-1, size, size, 3)
    splits = {"train": plan.assignment.train, "test": plan.assignment.test}
    return {
        split: write_split(folder, split, _chunks(pixels, rows), labels, size)
        for split, (rows, labels) in splits.items()
    }


def _chunks(pixels: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), CHUNK):
        yield pixels[rows[start : start + CHUNK]]
