"""A person's own images become a dataset: read in one pass, decoded, squared, written. No torch."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from resnet_demo.data import cifar
from resnet_demo.data.archive import read_members
from resnet_demo.data.folder import Progress, describe, new_dataset, write_info, write_split
from resnet_demo.data.info import DatasetInfo, check_name
from resnet_demo.data.layout import Place, arrange, places
from resnet_demo.data.members import Parts
from resnet_demo.data.moments import Moments
from resnet_demo.data.pictures import decode_picture, to_square
from resnet_demo.errors import ConfigError, DamagedError, DemoError, shortened

LEAST_SIZE, MOST_SIZE = 8, 256  # pixels
MOST_UNREADABLE = 0.1  # share of the pictures
REPORT_EVERY = 250  # pictures
CHUNK = 2048  # images in memory while the dataset is put in order


@dataclass
class Found:
    """All files of a source in the order they came; the readable ones are in the scratch file."""

    paths: list[Parts] = field(default_factory=list)
    readable: list[bool] = field(default_factory=list)


def import_images(
    root: Path, name: str, source: Path, *, size: int = 32, progress: Progress | None = None
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
    if cifar.is_original(source):
        if size != cifar.INFO.size:
            rule = f"{cifar.INFO.size} for the original batches of CIFAR-10"
            raise ConfigError.rule("size", rule, size)
        return cifar.convert(root, source, progress, name)
    with new_dataset(root, name) as folder:
        scratch = folder / "scratch"
        found = read_pictures(source, scratch, size, progress)
        progress(0, None, "putting the pictures in order")
        classes, moments, skipped = _write(folder, found, scratch, size)
        scratch.unlink()
        source_words = f"imported from {source.name}"
        return write_info(folder, describe(name, classes, size, moments, source_words, skipped))


def check_import(name: str, size: int) -> None:
    """Raises ConfigError for a name or a size that no import may have."""
    check_name(name, "name")
    if name == "shapes10":
        raise ConfigError("the name 'shapes10' belongs to the dataset that is built in", "name")
    if type(size) is not int or not LEAST_SIZE <= size <= MOST_SIZE:
        rule = f"a whole number from {LEAST_SIZE} to {MOST_SIZE} pixels"
        raise ConfigError.rule("size", rule, size)


def read_pictures(source: Path, scratch: Path, size: int, progress: Progress) -> Found:
    """Decode every picture of a source into one file of (size, size, 3) uint8, as they come.

    On disk, since nobody knows how many there will be. A file without a folder is passed over.
    """
    found = Found()
    with open(scratch, "wb") as file:
        for member in read_members(source):
            if len(member.parts) < 2:
                continue
            pixels = _squared(member.data, "/".join(member.parts), size)
            found.paths.append(member.parts)
            found.readable.append(pixels is not None)
            if pixels is not None:
                file.write(pixels.data)
            if len(found.paths) % REPORT_EVERY == 0:
                progress(member.done, member.total, f"{len(found.paths):,} pictures read")
    return found


def _squared(data: bytes, name: str, size: int) -> np.ndarray | None:
    try:
        return to_square(decode_picture(io.BytesIO(data), name=name), size)
    except DamagedError:
        return None


def _write(
    folder: Path, found: Found, scratch: Path, size: int
) -> tuple[tuple[str, ...], dict[str, Moments], list[str]]:
    """Both splits from the scratch file, in order: classes, moments, unreadable files."""
    placed = places(found.paths)
    skipped = _skipped(found, placed)
    _check_readable(skipped, len(placed) - placed.count(None))
    kept = [place for place, good in zip(placed, found.readable, strict=True) if good]
    arrangement = arrange(kept)
    pixels = np.memmap(scratch, np.uint8, "r", shape=(len(kept), size, size, 3))
    moments = {
        split: write_split(folder, split, _chunks(pixels, rows), labels, size)
        for split, (rows, labels) in (("train", arrangement.train), ("test", arrangement.test))
    }
    return arrangement.classes, moments, skipped


def _skipped(found: Found, placed: list[Place | None]) -> list[str]:
    """Names of the unreadable files in class folders, sorted."""
    rows = zip(found.paths, found.readable, placed, strict=True)
    return sorted("/".join(parts) for parts, good, place in rows if place and not good)


def _check_readable(skipped: list[str], placed: int) -> None:
    if len(skipped) > MOST_UNREADABLE * placed:
        first = ", ".join(shortened(name) for name in skipped[:3])
        raise DemoError(f"{len(skipped):,} of {placed:,} pictures cannot be read, such as {first}")


def _chunks(pixels: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), CHUNK):
        yield pixels[rows[start : start + CHUNK]]
