"""Notes on the content of a source: contradicting labels, look-alike class names, deep grey.

Each note is a sentence without a full stop, shown before an import. No torch here.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from unicodedata import category, normalize

from resnet_demo.data.importer.layout import MIN_PER_CLASS, SplitAssignment
from resnet_demo.errors import shortened

EXAMPLES = 3
NESTED_SHARE = 0.9  # of a class's pictures that other classes have too: a copy of the dataset
# Characters without a shape, besides category Cf: fillers, joiners and variation selectors.
INVISIBLE = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10)}
INVISIBLE |= {*range(0x180B, 0x1810), *range(0xE0100, 0xE01F0)}
# Letters that look like Latin ones, after NFKC and in small letters: Cyrillic, then Greek.
LOOK_ALIKE = str.maketrans(
    dict(zip("авсԁеһіјӏкмнорԛѕтуԝхѵ", "abcdehijlkmhopqstywxv", strict=True))
    | dict(zip("αεικνορτυχγ", "aeiknoptuxy", strict=True))
)


def content_notes(
    assignment: SplitAssignment,
    digests: Sequence[bytes],
    name_of: Callable[[int], str],
    deep_grey: Mapping[int, int],
) -> tuple[str, ...]:
    """Return the notes on pictures and classes, the most serious first.

    digests: of the pixels of each row. name_of: a row's name. deep_grey: bits -> pictures.
    """
    # By the pixels of the decoded picture: a copy may be saved in another format.
    labels = _labels_by_digest(assignment, digests)
    return (
        *_contradictions(assignment.classes, labels, name_of),
        *_merged_names(assignment.merged),
        *_similar_names(assignment.classes),
        *_untested_classes(assignment),
        *_deep_grey(deep_grey),
    )


def _labels_by_digest(
    assignment: SplitAssignment, digests: Sequence[bytes]
) -> dict[bytes, dict[int, list[int]]]:
    """Return digest -> label -> rows, of all splits."""
    found: dict[bytes, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for rows, labels in assignment.splits.values():
        for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
            found[digests[row]][label].append(row)
    return found


def _contradictions(
    classes: Sequence[str],
    found: Mapping[bytes, Mapping[int, list[int]]],
    name_of: Callable[[int], str],
) -> Iterator[str]:
    """Yield notes on the same pixels under two labels, and on a dataset inside itself."""
    mixed = [labels for labels in found.values() if len(labels) > 1]
    if not mixed:
        return
    pairs = [[name_of(rows[0]) for rows in labels.values()][:2] for labels in mixed[:EXAMPLES]]
    examples = ", ".join(f"{shortened(a)} = {shortened(b)}" for a, b in pairs)
    subject = "one picture has" if len(mixed) == 1 else f"{len(mixed):,} pictures have"
    yield (
        f"{subject} copies under different labels, which contradict each other: "
        f"{'' if len(mixed) <= EXAMPLES else 'such as '}{examples}; keep each picture in one class"
    )
    pictures = Counter(label for labels in found.values() for label in labels)
    others: dict[int, set[int]] = defaultdict(set)
    copied: Counter[int] = Counter()
    for labels in mixed:
        copied.update(labels.keys())
        for label in labels:
            others[label].update(labels.keys() - {label})
    for label, count in sorted(copied.items()):
        # Copies of a single class may be a mistake in labels; of several, it is a second dataset.
        if len(others[label]) > 1 and count >= NESTED_SHARE * pictures[label]:
            yield (
                f"the class {shortened(classes[label])} holds copies of {len(others[label])} other "
                "classes: it seems to be a second copy of the dataset inside itself, to be removed"
            )


def _merged_names(merged: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a note for folders that were read as one class."""
    for labels in merged:
        # ascii: shows the code points of names that look the same.
        names = " and ".join(ascii(label) for label in labels)
        yield f"the folders {names} are one name in two encodings, and are read as one class"


def _similar_names(classes: Sequence[str]) -> Iterator[str]:
    """Yield a note for class names that look the same, or nearly so, to a person."""
    alike = defaultdict(list)
    for label in classes:
        alike[name_skeleton(label)].append(label)
    for labels in alike.values():
        if len(labels) > 1:
            # ascii: shows the code points of names that look the same.
            names = " and ".join(ascii(label) for label in labels)
            yield (
                f"the class names {names} differ only in case, spaces or characters that look "
                "alike or are invisible: rename one folder, or merge them if they are one class"
            )


def name_skeleton(label: str) -> str:
    """Return a class name without what a person hardly sees: equal for names that look alike."""
    # Twice: folding case can bring up characters that NFKC changes once more.
    folded = normalize("NFKC", normalize("NFKC", label).casefold())
    visible = (
        char
        for char in folded
        if category(char) != "Cf" and ord(char) not in INVISIBLE and not char.isspace()
    )
    # Dots at the end, which Windows cuts off, and what people write for a space.
    return "".join(visible).translate(LOOK_ALIKE).rstrip(".").replace("_", "")


def _untested_classes(assignment: SplitAssignment) -> Iterator[str]:
    """Yield a note on classes without test pictures."""
    tested = set(assignment.test[1].tolist())
    names = [label for number, label in enumerate(assignment.classes) if number not in tested]
    if not tested:
        yield (
            f"no pictures are held out for testing, as there are fewer than {MIN_PER_CLASS} a "
            "class: Evaluate can use the validation images only, and its figures mean little"
        )
    elif names:
        subject = "one class has" if len(names) == 1 else f"{len(names):,} classes have"
        yield (
            f"{subject} no test pictures{_first(names)}; the test accuracy says nothing about "
            f"{'it' if len(names) == 1 else 'them'}"
        )


def _deep_grey(deep_grey: Mapping[int, int]) -> Iterator[str]:
    """Yield a note on grey pictures of more than 8 bits."""
    if deep_grey:
        counts = ", ".join(f"{count:,} from {bits}" for bits, count in sorted(deep_grey.items()))
        yield f"grey of more than 8 bits is scaled to 8 bits, by its depth in bits: {counts}"


def _first(names: Iterable[str]) -> str:
    names = [shortened(name) for name in names]
    return (": " if len(names) <= EXAMPLES else ", such as ") + ", ".join(names[:EXAMPLES])
