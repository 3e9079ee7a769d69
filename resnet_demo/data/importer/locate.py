"""Splits and classes of a source's pictures, found from its folders.

Understood are class folders alone, and below or above them folders for the splits, by the names
that Kaggle, PyTorch's tutorials, Keras, Roboflow and Hugging Face use. docs/own-images.md lists
them. What can be read in two ways is refused.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from resnet_demo.data.importer.layout import PictureLocation
from resnet_demo.data.importer.members import Parts
from resnet_demo.data.importer.split_names import (
    is_generic_name,
    named_splits,
    split_of,
    strict_split,
)
from resnet_demo.errors import DemoError, shortened

# Folders side by side that are taken for splits if the same folders are in each.
FEW_TWINS = 10
ADVICE = "name the folders train, val and test, with the same class folders in each"


@dataclass
class Folder:
    """A folder with pictures in it or below it."""

    folders: dict[str, "Folder"] = field(default_factory=dict)
    files: int = 0  # pictures in the folder itself
    total: int = 0  # and in all folders below it


@dataclass(frozen=True)
class FolderLayout:
    """The reading of a source's folders: which are splits and which are classes.

    above: the folders above the splits or classes. splits: folder -> its split and the folders
    between it and its classes; empty without splits. left_out: folders without labels.
    class_first: the splits are inside the class folders. notes: sentences for the person.
    """

    above: Parts
    splits: dict[str, tuple[str, Parts]] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()
    class_first: bool = False
    notes: tuple[str, ...] = ()

    @property
    def has_test_split(self) -> bool:
        """Return True where folders hold a test split, so that none is held out."""
        return any(split == "test" for split, _ in self.splits.values())

    def locate(self, path: Parts) -> PictureLocation | None:
        """Return the location of a file; None outside the class folders."""
        depth = len(self.above)
        below = path[depth:]
        # Fewer than two parts: a file beside the class folders, such as a readme, has no class.
        if path[:depth] != self.above or len(below) < 2 or below[0] in self.left_out:
            return None
        if self.class_first:
            if len(below) < 3 or below[1] not in self.splits:
                return None
            return PictureLocation(self.splits[below[1]][0], below[0], "/".join(below[1:]))
        if not self.splits:
            return PictureLocation("", below[0], "/".join(below[1:]))
        split, inner = self.splits.get(below[0], ("", None))
        depth = 1 + len(inner or ())
        if inner is None or below[1:depth] != inner or len(below) < depth + 2:
            return None
        return PictureLocation(split, below[depth], "/".join(below[depth + 1 :]))

    def accounts_for(self, path: Parts) -> bool:
        """Return True for a file that `notes` speak of."""
        depth = len(self.above)
        return path[:depth] == self.above and not self.left_out.isdisjoint(path[depth : depth + 1])


def read_layout(pictures: Sequence[Parts]) -> FolderLayout:
    """Return the layout of the readable pictures of a source.

    Folders that hold nothing but one other folder are passed over.
    Raises DemoError, with the folders' names and what to do, for folders with two readings.
    """
    # From the outside in, until a folder decides: archives often hold one folder around everything.
    folder, above = _tree(pictures), ()
    while True:
        if layout := _split_layout(folder, above):
            return layout
        names = list(folder.folders)
        if len(names) != 1 or not folder.folders[names[0]].folders:
            return _class_layout(folder, above)
        folder, above = folder.folders[names[0]], (*above, names[0])


def _tree(pictures: Sequence[Parts]) -> Folder:
    root = Folder()
    for path in pictures:
        folder = root
        folder.total += 1
        for name in path[:-1]:
            folder = folder.folders.setdefault(name, Folder())
            folder.total += 1
        folder.files += 1
    return root


@dataclass(frozen=True)
class _Candidate:
    """A folder that its name makes a split. inner: the folders that were passed over in it."""

    split: str
    inner: Parts
    folder: Folder  # below inner

    def has_labels(self, classes: set[str]) -> bool:
        """Return True for a folder of class folders. classes: those of the training folder."""
        found = set(self.folder.folders)
        if len(found) == 1 and not found & classes and is_generic_name(*found):
            return False  # test/unknown: the one folder only holds the pictures together
        return bool(found) and self.split != "unlabelled"


def _split_layout(folder: Folder, above: Parts) -> FolderLayout | None:
    """Return the layout of a folder that holds split folders, None for any other folder."""
    candidates = {
        name: _open_split(folder.folders[name], split)
        for name, split in named_splits(folder.folders).items()
    }
    training = [c.folder for c in candidates.values() if c.split == "train"]
    classes = {label for candidate in training for label in candidate.folders}
    labelled = {name: c for name, c in candidates.items() if c.has_labels(classes)}
    if not any(candidate.split == "train" for candidate in labelled.values()):
        _check_no_train(folder, candidates, labelled)
        return None
    # Refused, not guessed: a wrong reading would only show in a bad accuracy.
    _check_beside(folder, candidates, labelled)
    left_out = [name for name in folder.folders if name not in labelled]
    splits = {name: (candidate.split, candidate.inner) for name, candidate in labelled.items()}
    for candidate in labelled.values():
        _check_twins(candidate.folder)
    nested = {
        label
        for candidate in labelled.values()
        for label, child in candidate.folder.folders.items()
        if child.folders
    }
    notes = (*_left_out_notes(folder, left_out), *_nested_notes(nested))
    return _with_test_split(FolderLayout(above, splits, frozenset(left_out), notes=notes))


def _open_split(folder: Folder, split: str) -> _Candidate:
    """Pass over folders like seg_train/seg_train and val/images."""
    inner: Parts = ()
    while len(folder.folders) == 1:
        ((name, child),) = folder.folders.items()
        # A folder of another name is a class, even the only one.
        if not is_generic_name(name) and (split_of(name) or ("", ""))[0] != split:
            break
        folder, inner = child, (*inner, name)
    return _Candidate(split, inner, folder)


def _check_no_train(
    folder: Folder, candidates: dict[str, _Candidate], labelled: dict[str, _Candidate]
) -> None:
    """Raise DemoError for folders that look like splits, without one to train on."""
    if len(folder.folders) < 2:
        return
    # Exact names only: a class may well have "test" as a part of its name.
    strict = {name for name in labelled if strict_split(name)}
    if strict:
        raise DemoError(
            f"{list_folders(strict)} {_hold(strict)} class folders, and no folder for training is "
            f"beside {'it' if len(strict) == 1 else 'them'}: {ADVICE}"
        )
    splits = {candidate.split for candidate in candidates.values()}
    if len(candidates) == len(folder.folders) and "train" in splits and len(splits) > 1:
        raise DemoError(
            f"{list_folders(candidates)} hold pictures but no class folders: put the pictures of "
            "each class into one folder, or add labels.csv with the columns file_name and label"
        )


def _check_beside(
    folder: Folder, candidates: dict[str, _Candidate], labelled: dict[str, _Candidate]
) -> None:
    """Raise DemoError for two folders of one split, or class folders that belong to no split."""
    seen: dict[str, str] = {}
    for name, candidate in labelled.items():
        other = seen.setdefault(candidate.split, name)
        if other != name:
            raise DemoError(
                f"{list_folders([other, name])} both look like the {candidate.split} split: merge "
                "them, or move one away"
            )
    for name, other in folder.folders.items():
        if name not in candidates and other.folders:
            raise DemoError(
                f"beside {list_folders(labelled)} there is another folder with folders in it, "
                f"{shortened(name)}: {ADVICE}, and move other folders away"
            )


def _class_layout(folder: Folder, above: Parts) -> FolderLayout:
    """Return the layout of a folder of class folders."""
    if splits := _splits_in_classes(folder):
        return _with_test_split(FolderLayout(above, splits, class_first=True))
    for name, child in folder.folders.items():
        others = [other for other in folder.folders if other != name]
        if others and _holds_splits(child):
            raise DemoError(
                f"the folder {shortened(name)} holds folders for training and testing, "
                f"beside {list_folders(others)}: import it alone, or move the others away"
            )
    _check_twins(folder)
    left_out = [
        name
        for name, child in folder.folders.items()
        if not child.folders and strict_split(name) in ("test", "unlabelled")
    ]
    # With three folders or more, one by that name is beside at least two classes, so it is no class
    # itself.
    if left_out and len(folder.folders) == 2:
        raise DemoError(
            f"{list_folders(folder.folders)} may be two classes, or one class and pictures to "
            f"test: rename {shortened(left_out[0])} if it is a class, else {ADVICE}"
        )
    nested = {name for name, child in folder.folders.items() if child.folders}
    notes = (
        *_left_out_notes(folder, left_out),
        *_nested_notes(nested),
        *_inner_dataset_notes(folder),
    )
    return FolderLayout(above, left_out=frozenset(left_out), notes=notes)


def _inner_dataset_notes(folder: Folder) -> Iterator[str]:
    """Yield a note on a class folder that holds folders with the names of other classes."""
    for name, child in folder.folders.items():
        common = _names_below(child) & (set(folder.folders) - {name})
        if len(common) > 1:
            yield (
                f"the folder {shortened(name)} holds folders with the names of other classes, "
                f"{_examples(common)}: it seems to be a dataset inside the dataset, and no class"
            )


def _check_twins(folder: Folder) -> None:
    """Raise DemoError for folders with the same folders in them, as splits by unknown names have.

    Many folders with a few equal ones in each, such as front and back, are classes.
    """
    inner = {name: _names_below(child) for name, child in folder.folders.items()}
    for labels in inner.values():
        twins = [
            other
            for other in inner
            # At least half in common: a class without pictures may be missing in one split.
            if 2 * len(labels & inner[other]) >= len(labels | inner[other]) > 0
        ]
        common = set.intersection(*(inner[other] for other in twins)) if len(twins) > 1 else set()
        # One folder in common says nothing, as "images" is in many.
        if len(common) > 1 and (len(twins) <= FEW_TWINS or len(twins) <= len(common)):
            raise DemoError(
                f"{list_folders(twins)} hold folders of the same names, {_examples(common)}: if "
                "these inner folders are the classes, name the outer ones train, val and test (or "
                "import one of them alone); if the outer ones are the classes, put their pictures "
                "directly into them"
            )


def _names_below(folder: Folder) -> set[str]:
    """Return the names of the folders in a folder, after folders that hold one folder only."""
    while len(folder.folders) == 1:
        ((_, folder),) = folder.folders.items()
    return set(folder.folders)


def _nested_notes(nested: set[str]) -> tuple[str, ...]:
    """Return a note on class folders with folders in them, which could be the classes."""
    if not nested:
        return ()
    plural = len(nested) > 1
    return (
        f"{list_folders(nested)} {'are classes' if plural else 'is a class'}, and the folders in "
        f"{'them' if plural else 'it'} are not",
    )


def _splits_in_classes(folder: Folder) -> dict[str, tuple[str, Parts]]:
    """Return the splits of cat/train, cat/test, dog/train …; {} for any other folders."""
    names = {name for child in folder.folders.values() for name in child.folders}
    splits = {name: (strict_split(name), ()) for name in names}
    whole = all(
        child.folders and not any(inner.folders for inner in child.folders.values())
        for child in folder.folders.values()
    )
    found = {split for split, _ in splits.values()}
    # Every class must be split, by exact names, or the inner folders could be parts of a class.
    return splits if whole and {"train"} < found and found <= {"train", "val", "test"} else {}


def _holds_splits(folder: Folder) -> bool:
    """Return True for a folder that is a whole dataset, with at least a training split."""
    while len(folder.folders) == 1 and not strict_split(next(iter(folder.folders))):
        (folder,) = folder.folders.values()
    splits = {name: strict_split(name) for name in folder.folders}
    training = [folder.folders[name] for name, split in splits.items() if split == "train"]
    several = len(set(splits.values()) - {""}) > 1
    return bool(training) and (several or any(child.folders for child in training))


def _with_test_split(layout: FolderLayout) -> FolderLayout:
    """Return the layout with a test split: `val` where there is no `test`.

    With a training split alone there are no splits: a part of it is held out.
    """
    splits = {split for split, _ in layout.splits.values()}
    names = [name for name, (split, _) in layout.splits.items() if split == "val"]
    if splits == {"train"}:
        changed = {name: ("", inner) for name, (_, inner) in layout.splits.items()}
        return replace(layout, splits=changed)
    # Scores need pictures that no choice was made by, so they go before validation.
    if "test" not in splits:
        changed = layout.splits | {name: ("test", layout.splits[name][1]) for name in names}
        note = f"{list_folders(names)} {_is(names)} the test split, since there is no other"
        return replace(layout, splits=changed, notes=(note, *layout.notes))
    if names:
        note = f"{list_folders(names)} {_is(names)} the validation split"
        return replace(layout, notes=(note, *layout.notes))
    return layout


def _left_out_notes(folder: Folder, names: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence for each folder whose pictures have no labels."""
    return tuple(
        f"the folder {shortened(name)} has no labelled class folders: "
        f"{count_pictures(folder.folders[name].total)} left out"
        for name in names
    )


def count_pictures(count: int) -> str:
    """Return the subject and verb of a sentence about so many pictures."""
    return "one picture is" if count == 1 else f"{count:,} pictures are"


def list_folders(names: Iterable[str]) -> str:
    """Return "the folder 'a'", or "the folders 'a' and 'b'"; the first four of them."""
    some = sorted(names)
    return f"the folder{'s' * (len(some) > 1)} {_examples(some)}"


def _examples(names: Iterable[str]) -> str:
    """Return "'a'", "'a' and 'b'", or "'a', 'b', 'c' and 7 more"."""
    some = [shortened(name) for name in sorted(names)]
    if len(some) > 4:  # not "1 more" for the fourth
        some = [*some[:3], f"{len(some) - 3} more"]
    return " and ".join(filter(None, [", ".join(some[:-1]), some[-1]]))


def _hold(names: Iterable[str]) -> str:
    return "holds" if len(set(names)) == 1 else "hold"


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
