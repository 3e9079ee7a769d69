"""Importing own pictures as a dataset: read once, decoded, made square. No torch here."""

from collections.abc import Callable, Iterator
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
from resnet_demo.data.importer.scan import SurveyedPictures, survey_images
from resnet_demo.data.importer.survey import Survey
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
    on_survey: Callable[[Survey], object] = lambda survey: None,
) -> DatasetInfo:
    """Make the dataset `name` from a folder, a .zip or a .tar (.gz, .xz, .bz2) of images.

    The source holds a folder for each class, of which a fifth becomes the test split; or folders
    for the splits too, in one of the layouts of `locate`; or labels in a table, as `label_tables`
    reads them; or the original batches of CIFAR-10 or CIFAR-100. Images are cut to a centred square
    and resized to `size` pixels. progress: called now and then; an error from it ends the import.
    on_survey: called once with what the source held, as `scan_source` returns it, before writing.
    After any error nothing is left behind.
    Raises ConfigError for the name, the size or a file that is no archive, NotFoundError,
    DamagedError for a harmful or torn archive, DemoError for images that cannot make a dataset.
    """
    check_import(name, size)
    source = source.resolve()  # gives "." a name too
    progress = progress or (lambda done, total, message: None)
    if form := original_batches.original_format(source):
        original_size = original_batches.SIDE
        if size != original_size:
            rule = f"{original_size} for the original batches of {form.title}"
            raise ConfigError.rule("size", rule, size)
        return original_batches.convert_batches(root, source, progress, name)
    with new_dataset(root, name) as folder:
        scratch = folder / "scratch"
        plan, survey = _read_squares(source, scratch, size, progress)
        on_survey(survey)
        progress(0, None, "writing the dataset")
        statistics = _write_splits(folder, plan, scratch, size)
        scratch.unlink()
        text, classes = f"imported from {source.name}", plan.assignment.classes
        skipped = sorted([*plan.skipped, *(name for name, _ in plan.unopened)])
        return write_info(folder, describe(name, classes, size, statistics, text, skipped))


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
) -> tuple[DatasetPlan, Survey]:
    """Write the readable pictures to a scratch file of (size, size, 3) uint8 as they are read.

    To disk, because neither their number nor their order is known before the end.
    """
    pictures = SurveyedPictures()
    with open(scratch, "wb") as file:

        def write_square(member: Member, pixels: np.ndarray | None) -> None:
            pictures.on_picture(member, pixels)
            if pixels is not None:
                file.write(crop_to_square(pixels, size).data)

        files = read_pictures(source, write_square, progress)
    plan = plan_dataset(files)
    check_readable(plan.skipped, plan.pictures, plan.reason)
    return plan, survey_images(files, plan, pictures)


def _write_splits(
    folder: Path, plan: DatasetPlan, scratch: Path, size: int
) -> dict[str, PixelStatistics]:
    """Write all splits in order, from the scratch file."""
    pixels = np.memmap(scratch, np.uint8, "r").reshape(-1, size, size, 3)
    return {
        split: write_split(folder, split, _chunks(pixels, rows), labels, size)
        for split, (rows, labels) in plan.assignment.splits.items()
    }


def _chunks(pixels: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), CHUNK):
        yield pixels[rows[start : start + CHUNK]]
