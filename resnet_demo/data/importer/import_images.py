"""Importing own pictures as a dataset: read once, decoded, made square. No torch here."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
from resnet_demo.data.importer.scan import SurveyedPictures, survey_batches, survey_images
from resnet_demo.data.importer.survey import MAX_SIZE, MIN_SIZE, Survey, default_size, space_text
from resnet_demo.data.info import DatasetInfo, PixelStatistics, check_name
from resnet_demo.data.pictures import check_fit, fit_to_square
from resnet_demo.errors import ConfigError

CHUNK_BYTES = 2**23  # of images in memory while the dataset is written; the statistics take more


def import_images(
    root: Path,
    name: str,
    source: Path,
    *,
    size: int | None = None,
    fit: str = "crop",
    progress: ProgressCallback | None = None,
    on_survey: Callable[[Survey], object] = lambda survey: None,
) -> DatasetInfo:
    """Make the dataset `name` from a folder, a .zip or a .tar (.gz, .xz, .bz2) of images.

    The source holds a folder for each class, of which a fifth becomes the test split; or folders
    for the splits too, in one of the layouts of `locate`; or labels in a table, as `label_tables`
    reads them; or the original batches of CIFAR-10 or CIFAR-100. Images are made square by `fit`,
    one of FITS, and resized to `size` pixels; None: `Survey.default_size`.
    progress: called now and then; an error from it ends the import. on_survey: called once with
    what the source held, as `scan_source` returns it, before writing. After any error nothing is
    left behind.
    Raises ConfigError for name, size, fit or a file that is no archive, NotFoundError,
    DamagedError for a harmful or torn archive, DemoError for images that cannot make a dataset.
    """
    check_import(name, size, fit)
    source = source.resolve()  # gives "." a name too
    progress = progress or (lambda done, total, message: None)
    if form := original_batches.original_format(source):
        original_size = original_batches.SIDE
        if size not in (None, original_size):
            rule = f"{original_size} for the original batches of {form.title}"
            raise ConfigError.rule("size", rule, size)

        # The original batches need no survey before they are read: their layout is known.
        def on_batches(*read: Any) -> None:
            on_survey(survey_batches(form, *read))

        return original_batches.convert_batches(root, source, progress, name, fit, on_batches)
    with new_dataset(root, name) as folder:
        scratch = folder / "scratch"
        # Read once where the first picture has the usual size, as in most sources; a second time
        # only otherwise.
        squares = _Squares(scratch, size, fit)
        plan, survey = squares.read(source, progress)
        if size is None and squares.size != survey.default_size:
            # The first picture has another size than most: the others are needed once more.
            squares = _Squares(scratch, survey.default_size, fit)
            progress(0, None, f"reading again at {squares.size} pixels")
            plan, survey = squares.read(source, progress)
        size = squares.size
        on_survey(survey)
        statistics = _write_splits(folder, plan, scratch, size, progress)
        # Before the description: what is in the folder then is the dataset.
        scratch.unlink()
        text, classes = f"imported from {source.name}", plan.assignment.classes
        skipped = sorted([*plan.skipped, *(name for name, _ in plan.unopened)])
        return write_info(folder, describe(name, classes, size, statistics, text, skipped, fit))


def check_import(name: str, size: int | None, fit: str = "crop") -> None:
    """Raise ConfigError for a name, a size or a fit that an import cannot have."""
    check_name(name, "name")
    check_fit(fit)
    if name == "shapes10":
        raise ConfigError("the name 'shapes10' is taken by the built-in dataset", "name")
    if size is not None and (type(size) is not int or not MIN_SIZE <= size <= MAX_SIZE):
        rule = f"a whole number from {MIN_SIZE} to {MAX_SIZE} pixels"
        raise ConfigError.rule("size", rule, size)


class _Squares:
    """The readable pictures of a source, written to a scratch file as squares as they are read.

    To disk, because neither their number nor their order is known before the end. size: of the
    squares, (size, size, 3) uint8; None: what the first picture alone would give.
    """

    def __init__(self, scratch: Path, size: int | None, fit: str) -> None:
        self.scratch, self.size, self.fit = scratch, size, fit
        self.pictures = SurveyedPictures()

    def read(self, source: Path, progress: ProgressCallback) -> tuple[DatasetPlan, Survey]:
        """Write the file. Raises as `import_images`."""
        with open(self.scratch, "wb") as self.file:
            files = read_pictures(source, self._write, progress)
        plan = plan_dataset(files)  # only now: a folder's role depends on all others
        check_readable(plan.skipped, plan.pictures, plan.reason)
        return plan, survey_images(files, plan, self.pictures)

    def _write(self, member: Member, pixels: np.ndarray | None) -> None:
        self.pictures.on_picture(member, pixels)
        if pixels is not None:
            self.size = self.size or default_size(min(pixels.shape[:2]))
            self.file.write(fit_to_square(pixels, self.size, self.fit).data)


def _write_splits(
    folder: Path, plan: DatasetPlan, scratch: Path, size: int, progress: ProgressCallback
) -> dict[str, PixelStatistics]:
    """Write all splits in order, from the scratch file."""
    splits = plan.assignment.splits
    total = sum(len(rows) for rows, _ in splits.values())
    message = f"writing: {space_text(total, size)}"
    done, statistics = 0, {}
    for split, (rows, labels) in splits.items():
        chunks = _chunks(
            scratch, rows, size, lambda n, done=done: progress(done + n, total, message)
        )
        statistics[split] = write_split(folder, split, chunks, labels, size)
        done += len(rows)
    return statistics


def _chunks(
    scratch: Path, rows: np.ndarray, size: int, on_chunk: Callable[[int], object]
) -> Iterator[np.ndarray]:
    """Yield the pixels of those rows in order. on_chunk: called with their number so far."""
    step = max(1, CHUNK_BYTES // (size * size * 3))  # rows, at least one
    for start in range(0, len(rows), step):
        on_chunk(start)
        # Mapped for each chunk: pages of one mapping stay in the process's memory.
        pixels = np.memmap(scratch, np.uint8, "c").reshape(-1, size, size, 3)
        yield pixels[rows[start : start + step]]
