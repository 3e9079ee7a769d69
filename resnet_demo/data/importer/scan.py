"""What is in a person's folder or archive, before it is imported. Nothing is written. No torch."""

from collections import Counter, defaultdict
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import numpy as np

from resnet_demo.data.cifar10 import original_batches
from resnet_demo.data.folder import NAMED_SKIPPED, SPLITS, ProgressCallback
from resnet_demo.data.importer.layout import SplitAssignment
from resnet_demo.data.importer.members import Member, Parts
from resnet_demo.data.importer.read_pictures import plan_dataset, read_pictures
from resnet_demo.data.importer.survey import SAMPLE_SIDE, Survey
from resnet_demo.data.pictures import crop_to_square

SAMPLED, SAMPLED_CLASSES = 4, 24  # pictures of a class, classes
SAMPLED_FOLDERS = 512  # whose first pictures are kept until their classes are known: 25 MB
NAMED_PAIRS = 5
Nameable = Callable[[int], str]  # the name of the picture in a row


def scan_source(source: Path, *, progress: ProgressCallback | None = None) -> Survey:
    """Look through a source as `import_images` would read it, once.

    Memory is bounded by the limits of `members.Limits`. progress: called now and then; what it
    raises ends the survey. Raises what an import of the same source would raise, but for
    unreadable pictures: they are told.
    """
    source = source.resolve()
    progress = progress or (lambda done, total, message: None)
    if original_batches.is_original(source):
        return _of_batches(source, progress)
    seen = _Seen()
    found = read_pictures(source, seen.see, progress)
    progress(0, None, "comparing the pictures")
    ordered = plan_dataset(found)
    readable = [parts for parts, good in zip(found.paths, found.readable, strict=True) if good]
    return Survey(
        kind="images",
        own_split=ordered.own_split,
        unreadable=len(ordered.skipped),
        unreadable_names=tuple(ordered.skipped[:NAMED_SKIPPED]),
        passed_over=found.loose + len(found.paths) - ordered.pictures,
        bytes=found.bytes,
        **_told(ordered.arrangement, seen, lambda row: "/".join(readable[row])),
    )


class _Seen:
    """What is kept of each readable picture, by its row; of a few, what they look like."""

    def __init__(self) -> None:
        self.digests: list[bytes] = []
        self.sizes: list[tuple[int, int]] = []  # width, height
        self.squares: dict[int, np.ndarray] = {}
        self._sampled: Counter[Parts] = Counter()

    def see(self, member: Member, pixels: np.ndarray | None) -> None:
        """The next file of a source."""
        if pixels is not None:
            self.add(member.data, pixels, member.parts[:-1])

    def add(self, data: bytes, pixels: np.ndarray, folder: Parts) -> None:
        """pixels: (H, W, 3) uint8. folder: of which the first few pictures are kept."""
        known = folder in self._sampled or len(self._sampled) < SAMPLED_FOLDERS
        if known and self._sampled[folder] < SAMPLED:
            self._sampled[folder] += 1
            self.squares[len(self.digests)] = crop_to_square(pixels, SAMPLE_SIDE)
        self.digests.append(blake2b(data, digest_size=16).digest())
        self.sizes.append((pixels.shape[1], pixels.shape[0]))


def _told(arrangement: SplitAssignment, seen: _Seen, name: Nameable) -> dict:
    """Fields of a Survey that follow from the rows of both splits."""
    train, test = arrangement.train[0].tolist(), arrangement.test[0].tolist()
    sizes = sorted((seen.sizes[row] for row in train + test), key=lambda size: sorted(size))
    pairs = _pairs(seen.digests, train, test)
    distinct = (len({seen.digests[row] for row in rows}) for rows in (train, test))
    return {
        "classes": _counts(arrangement),
        "sizes": (sizes[0], sizes[len(sizes) // 2], sizes[-1]),
        "duplicates": len(pairs),
        "duplicate_pairs": tuple((name(one), name(two)) for one, two in pairs[:NAMED_PAIRS]),
        "repeated": len(train) + len(test) - sum(distinct),
        "samples": _samples(arrangement, seen.squares),
    }


def _counts(arrangement: SplitAssignment) -> tuple[tuple[str, int, int], ...]:
    n = len(arrangement.classes)
    train, test = (np.bincount(getattr(arrangement, s)[1], minlength=n).tolist() for s in SPLITS)
    return tuple(zip(arrangement.classes, train, test, strict=True))


def _pairs(digests: list[bytes], train: list[int], test: list[int]) -> list[tuple[int, int]]:
    """Each test row whose content is in train, and the first such row there."""
    first: dict[bytes, int] = {}
    for row in train:
        first.setdefault(digests[row], row)
    return [(first[digests[row]], row) for row in test if digests[row] in first]


def _samples(arrangement: SplitAssignment, squares: dict[int, np.ndarray]) -> dict[str, np.ndarray]:
    """Class -> (n, 64, 64, 3): of training pictures first."""
    some = defaultdict(list)
    for rows, labels in (arrangement.train, arrangement.test):
        for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
            if row in squares and len(some[label]) < SAMPLED:
                some[label].append(squares[row])
    chosen = sorted(some)[:SAMPLED_CLASSES]
    return {arrangement.classes[label]: np.stack(some[label]) for label in chosen}


def _of_batches(source: Path, progress: ProgressCallback) -> Survey:
    """The original CIFAR-10: read by the unpickler that trusts nothing, so that it is told what
    the import will find, and what it will refuse.
    """
    classes, batches = original_batches.read_batches(source, progress)
    seen, names, parts = _Seen(), [], {}
    for split, wanted in original_batches.BATCHES.items():
        start, labels = len(names), []
        for batch in wanted:
            images, of_batch = batches[batch]
            labels.append(of_batch)
            for number, (pixels, label) in enumerate(zip(images, of_batch.tolist(), strict=True)):
                seen.add(pixels.tobytes(), pixels, (split, classes[label]))
                names.append(f"{batch}/{number}")
        parts[split] = np.arange(start, len(names)), np.concatenate(labels)
    return Survey(
        kind="cifar10",
        own_split=True,
        unreadable=0,
        unreadable_names=(),
        passed_over=0,
        bytes=sum(images.nbytes for images, _ in batches.values()),
        **_told(SplitAssignment(classes, parts["train"], parts["test"]), seen, names.__getitem__),
    )
