"""Scanning a folder or an archive before it is imported. Nothing is written. No torch here."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path

import numpy as np

from resnet_demo.data.cifar10 import original_batches
from resnet_demo.data.folder import NAMED_SKIPPED, ProgressCallback
from resnet_demo.data.importer.content_notes import content_notes
from resnet_demo.data.importer.layout import SplitAssignment
from resnet_demo.data.importer.members import Member, Parts
from resnet_demo.data.importer.read_pictures import (
    DatasetPlan,
    SourceFiles,
    plan_dataset,
    read_pictures,
)
from resnet_demo.data.importer.survey import SAMPLE_SIDE, Survey
from resnet_demo.data.pictures import crop_to_square

SAMPLES_PER_CLASS, SAMPLED_CLASSES = 4, 24
# Which classes are the first is known only at the end. Until then the first pictures of so many
# folders are kept, 25 MB.
SAMPLED_FOLDERS = 512
NAMED_PAIRS = 5


def scan_source(source: Path, *, progress: ProgressCallback | None = None) -> Survey:
    """Read a source once, as `import_images` would, and return what it holds.

    Memory is bounded by `members.ArchiveLimits`. progress: called now and then; an error from it
    ends the scan. Raises what an import of the same source would raise, except for too many
    unreadable pictures, which the survey reports.
    """
    source = source.resolve()  # gives "." a name too
    progress = progress or (lambda done, total, message: None)
    if form := original_batches.original_format(source):
        return survey_batches(form, *original_batches.read_batches(source, form, progress))
    pictures = SurveyedPictures()
    files = read_pictures(source, pictures.on_picture, progress)
    progress(0, None, "looking for duplicates")
    return survey_images(files, plan_dataset(files), pictures)


def survey_images(files: SourceFiles, plan: DatasetPlan, pictures: "SurveyedPictures") -> Survey:
    """Return the survey of what was read. pictures: the readable ones, in the same order."""
    readable = [parts for parts, good in zip(files.paths, files.readable, strict=True) if good]
    return _make_survey(
        plan,
        pictures,
        lambda row: "/".join(readable[row]),
        "images",
        files.total_bytes,
        files.deep_grey,
    )


class SurveyedPictures:
    """Digest and size of each readable picture, by row; small squares of a few."""

    def __init__(self) -> None:
        self.digests: list[bytes] = []
        self.sizes: list[tuple[int, int]] = []  # width, height
        self.squares: dict[int, np.ndarray] = {}  # row -> (64, 64, 3) uint8
        self._sampled: Counter[Parts] = Counter()  # folder -> squares

    def on_picture(self, member: Member, pixels: np.ndarray | None) -> None:
        """Add the next file of a source, unless it is unreadable."""
        if pixels is not None:
            self.add(pixels, member.parts[:-1])

    def add(self, pixels: np.ndarray, folder: Parts) -> None:
        """Add a picture, (H, W, 3) uint8."""
        known = folder in self._sampled or len(self._sampled) < SAMPLED_FOLDERS
        if known and self._sampled[folder] < SAMPLES_PER_CLASS:
            self._sampled[folder] += 1
            self.squares[len(self.digests)] = crop_to_square(pixels, SAMPLE_SIDE)
        # Of the pixels, not of the file: a copy may be saved in another format.
        # With the shape: a picture and its transpose may have the same bytes.
        digest = blake2b(str(pixels.shape).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(pixels).data)
        self.digests.append(digest.digest())
        self.sizes.append((pixels.shape[1], pixels.shape[0]))


def _make_survey(
    plan: DatasetPlan,
    pictures: SurveyedPictures,
    name_of: Callable[[int], str],
    kind: str,
    total_bytes: int,
    deep_grey: Mapping[int, int],
) -> Survey:
    """Return the survey of pictures in their splits. name_of: the name of a row's picture."""
    assignment = plan.assignment
    splits = {split: rows.tolist() for split, (rows, _) in assignment.splits.items()}
    counts = _count_classes(assignment)
    every = [row for rows in splits.values() for row in rows]
    # By the shorter side, which an import cuts its squares from.
    sizes = sorted((pictures.sizes[row] for row in every), key=lambda size: sorted(size))
    pairs = _duplicate_pairs(pictures.digests, splits["train"], splits.get("test"))
    distinct = sum(len({pictures.digests[row] for row in rows}) for rows in splits.values())
    return Survey(
        kind=kind,
        own_split=plan.own_split,
        classes=tuple(zip(assignment.classes, counts["train"], counts["test"], strict=True)),
        val=sum(counts["val"]),
        val_classes=counts["val"] if sum(counts["val"]) else (),
        val_duplicates=len(_duplicate_pairs(pictures.digests, splits["train"], splits.get("val"))),
        sizes=(sizes[0], sizes[len(sizes) // 2], sizes[-1]),
        unreadable=len(plan.skipped),
        unreadable_names=tuple(plan.skipped[:NAMED_SKIPPED]),
        unopened=len(plan.unopened),
        unopened_files=tuple(plan.unopened[:NAMED_SKIPPED]),
        duplicates=len(pairs),
        duplicate_pairs=tuple((name_of(a), name_of(b)) for a, b in pairs[:NAMED_PAIRS]),
        repeated=len(every) - distinct,
        passed_over=len(plan.passed_over),
        passed_over_names=tuple(plan.passed_over[:NAMED_SKIPPED]),
        notes=(
            *plan.notes,
            *content_notes(assignment, pictures.digests, name_of, deep_grey),
            *([f"for example, {plan.reason}"] if plan.reason else ()),
        ),
        bytes=total_bytes,
        samples=_choose_samples(assignment, pictures.squares),
    )


def _count_classes(assignment: SplitAssignment) -> dict[str, tuple[int, ...]]:
    """Return split -> pictures of each class, in label order."""
    n = len(assignment.classes)
    counts = dict.fromkeys(("train", "val", "test"), (0,) * n)
    for split, (_, labels) in assignment.splits.items():
        counts[split] = tuple(np.bincount(labels, minlength=n).tolist())
    return counts


def _duplicate_pairs(
    digests: list[bytes], train: list[int], held_out: list[int] | None
) -> list[tuple[int, int]]:
    """Return (train row, row) for each held-out picture that is in train, its first copy there."""
    first: dict[bytes, int] = {}
    for row in train:
        first.setdefault(digests[row], row)
    return [(first[digests[row]], row) for row in held_out or () if digests[row] in first]


def _choose_samples(
    assignment: SplitAssignment, squares: dict[int, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return class -> (n, 64, 64, 3) of the first classes, training pictures first."""
    samples = defaultdict(list)
    for rows, labels in assignment.splits.values():
        for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
            if row in squares and len(samples[label]) < SAMPLES_PER_CLASS:
                samples[label].append(squares[row])
    chosen = sorted(samples)[:SAMPLED_CLASSES]  # more would not fit on a page
    return {assignment.classes[label]: np.stack(samples[label]) for label in chosen}


def survey_batches(
    form: original_batches.OriginalFormat,
    classes: tuple[str, ...],
    batches: Mapping[str, original_batches.Batch],
) -> Survey:
    """Return the survey of the original batches, as `original_batches.read_batches` reads them."""
    pictures, names, splits = SurveyedPictures(), [], {}
    for split, batch_names in form.batches.items():
        start, split_labels = len(names), []
        for batch in batch_names:
            images, labels = batches[batch]
            split_labels.append(labels)
            for number, (pixels, label) in enumerate(zip(images, labels.tolist(), strict=True)):
                pictures.add(pixels, (split, classes[label]))
                names.append(f"{batch}/{number}")
        splits[split] = np.arange(start, len(names)), np.concatenate(split_labels)
    assignment = SplitAssignment(classes, splits["train"], splits["test"])
    return _make_survey(
        DatasetPlan(assignment=assignment, pictures=len(names), own_split=True),
        pictures,
        names.__getitem__,
        form.kind,
        sum(images.nbytes for images, _ in batches.values()),
        {},
    )
