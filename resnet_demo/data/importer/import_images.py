"""A person's own images become a dataset: read in one pass, decoded, squared, written. No torch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from resnet_demo.data.cifar10 import original_batches
from resnet_demo.data.folder import ProgressCallback, describe, new_dataset, write_info, write_split
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

LEAST_SIZE, MOST_SIZE = 8, 256  # pixels
CHUNK = 2048  # images in memory while the dataset is put in order


def import_images(
    root: Path, name: str, source: Path, *, size: int = 32, progress: ProgressCallback | None = None
) -> DatasetInfo:
    """Make the dataset `name` from a folder, a .zip or a .tar (.gz, .xz, .bz2) of images.

    The source holds `train/<class>/*` and `test/<class>/*`, or `<class>/*` alone, of which a
    fifth becomes the test, or the original batches of CIFAR-10. Images are cut to a centred
    square and resized to `size` pixels. progress: called now and then; what it raises ends the
    import. After any error nothing is left behind.
    Raises ConfigError for the name, the size or what is no archive, NotFoundError, DamagedError
    for a harmful or torn archive, DemoError for images that make no dataset.
    """
    check_import(name, size)
    source = source.resolve()  # "." has a name too
    progress = progress or (lambda done, total, message: None)
    if original_batches.is_original(source):
        if size != original_batches.INFO.size:
            rule = f"{original_batches.INFO.size} for the original batches of CIFAR-10"
            raise ConfigError.rule("size", rule, size)
        return original_batches.convert_batches(root, source, progress, name)
    with new_dataset(root, name) as folder:
        scratch = folder / "scratch"
        ordered = _read(source, scratch, size, progress)
        progress(0, None, "putting the pictures in order")
        moments = _write(folder, ordered, scratch, size)
        scratch.unlink()
        words, classes = f"imported from {source.name}", ordered.arrangement.classes
        return write_info(folder, describe(name, classes, size, moments, words, ordered.skipped))


def check_import(name: str, size: int) -> None:
    """Raises ConfigError for a name or a size that no import may have."""
    check_name(name, "name")
    if name == "shapes10":
        raise ConfigError("the name 'shapes10' belongs to the dataset that is built in", "name")
    if type(size) is not int or not LEAST_SIZE <= size <= MOST_SIZE:
        rule = f"a whole number from {LEAST_SIZE} to {MOST_SIZE} pixels"
        raise ConfigError.rule("size", rule, size)


def _read(source: Path, scratch: Path, size: int, progress: ProgressCallback) -> DatasetPlan:
    """The readable pictures into one file of (size, size, 3) uint8, as they come.

    On disk, since nobody knows how many there will be.
    """
    with open(scratch, "wb") as file:

        def keep(_: Member, pixels: np.ndarray | None) -> None:
            if pixels is not None:
                file.write(crop_to_square(pixels, size).data)

        ordered = plan_dataset(read_pictures(source, keep, progress))
    check_readable(ordered.skipped, ordered.pictures)
    return ordered


def _write(
    folder: Path, ordered: DatasetPlan, scratch: Path, size: int
) -> dict[str, PixelStatistics]:
    """Both splits from the scratch file, in order."""
    pixels = np.memmap(scratch, np.uint8, "r").reshape(-1, size, size, 3)
    splits = {"train": ordered.arrangement.train, "test": ordered.arrangement.test}
    return {
        split: write_split(folder, split, _chunks(pixels, rows), labels, size)
        for split, (rows, labels) in splits.items()
    }


def _chunks(pixels: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), CHUNK):
        yield pixels[rows[start : start + CHUNK]]
