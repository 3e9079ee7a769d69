"""The original CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): batches, read without trusting them.

Both come as pickles and as plain binary files. A pickle is a program: it imports functions by name
and calls them. Here each allowed name leads to a harmless replacement, also numpy's own functions,
and any other name ends the reading before anything is called (`load_untrusted_pickle`).

Their order is kept, so that the split of seed 42 is the tutorial's own. No torch here.
"""

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

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
SIDE = INFO.size
COUNTS = {10: "ten", 100: "a hundred"}
Batch = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class OriginalFormat:
    """The files of one of the original archives."""

    title: str
    kind: str
    folder: str
    batches: dict[str, tuple[str, ...]]  # split -> the names of its files
    meta: str  # the file of class names
    count: int  # classes
    labels_key: str = ""  # in the pickles
    names_key: str = ""
    label_bytes: int = 0  # before each image of a binary file, the last one counts; 0: pickles
    classes: tuple[str, ...] = ()  # where the file of class names is missing

    @property
    def source(self) -> str:
        """Return the text about the dataset's source."""
        return f"the original {self.title} batches, in their own order"

    @property
    def names(self) -> list[str]:
        """Return the names of all batches."""
        return [name for names in self.batches.values() for name in names]


_NUMBERED = tuple(f"data_batch_{number}" for number in range(1, 6))
CIFAR10 = OriginalFormat(
    title="CIFAR-10",
    kind="cifar10",
    folder=FOLDER,
    batches={"train": _NUMBERED, "test": ("test_batch",)},
    meta="batches.meta",
    count=10,
    labels_key="labels",
    names_key="label_names",
    classes=CLASSES,
)
CIFAR100 = OriginalFormat(
    title="CIFAR-100",
    kind="cifar100",
    folder="cifar-100-python",
    batches={"train": ("train",), "test": ("test",)},
    meta="meta",
    count=100,
    labels_key="fine_labels",
    names_key="fine_label_names",
)
CIFAR10_BINARY = replace(
    CIFAR10,
    folder="cifar-10-batches-bin",
    batches={"train": tuple(f"{name}.bin" for name in _NUMBERED), "test": ("test_batch.bin",)},
    meta="batches.meta.txt",
    label_bytes=1,
)
CIFAR100_BINARY = replace(
    CIFAR100,
    folder="cifar-100-binary",
    batches={"train": ("train.bin",), "test": ("test.bin",)},
    meta="fine_label_names.txt",
    label_bytes=2,  # of the twenty coarse classes, then of the hundred
)
FORMATS = (CIFAR10, CIFAR100, CIFAR10_BINARY, CIFAR100_BINARY)


def find_original(root: Path) -> Path | None:
    """Return the original batches in a folder, unpacked or as an archive; None without them."""
    if (root / FOLDER / "data_batch_1").is_file():
        return root / FOLDER
    return root / ARCHIVE if (root / ARCHIVE).is_file() else None


def original_format(source: Path) -> OriginalFormat | None:
    """Return the format of a source of original batches, None for any other source.

    It is their folder, or an archive that begins with that folder.
    """
    if source.is_dir():
        return next((f for f in FORMATS if _is_folder_of(source, f)), None)
    first = next(read_members(source), None)  # one member is enough; the rest stays unread
    return next((f for f in FORMATS if first is not None and first.parts[0] == f.folder), None)


def _is_folder_of(folder: Path, form: OriginalFormat) -> bool:
    # CIFAR-10's batches are recognized by the first, so that a missing one can be named. The files
    # of CIFAR-100 are called train and test, as a folder without endings may have them too.
    needed = form.names[:1] if form.kind == "cifar10" else [*form.names, form.meta]
    return all((folder / name).is_file() for name in needed)


def convert_batches(
    root: Path,
    source: Path,
    progress: ProgressCallback | None = None,
    name: str = INFO.name,
    fit: str = "crop",
    on_batches: Callable[[tuple[str, ...], dict[str, Batch]], object] = lambda *_: None,
) -> DatasetInfo:
    """Make a dataset of the original batches: their folder or their archive.

    progress: called with the number of batches read. fit: for pictures to classify, which need not
    be square as these are. on_batches: called with what `read_batches` returned.
    Raises DamagedError for batches with other contents, ConfigError where there is already a
    dataset of that name.
    """
    with new_dataset(root, name) as folder:
        form = original_format(source) or CIFAR10
        classes, batches = read_batches(source, form, progress or (lambda *_: None))
        on_batches(classes, batches)
        statistics = {}
        for split, names in form.batches.items():
            images, labels = zip(*(batches[batch] for batch in names), strict=True)
            statistics[split] = write_split(folder, split, images, np.concatenate(labels), SIDE)
        description = describe(name, classes, SIDE, statistics, form.source, fit=fit)
        return write_info(folder, description)


def read_batches(
    source: Path, form: OriginalFormat, progress: ProgressCallback
) -> tuple[tuple[str, ...], dict[str, Batch]]:
    """Return class names, and images (N, 32, 32, 3) uint8 and labels (N,) int64 by batch name."""
    classes, batches = form.classes, {}
    for member in read_members(source):
        name = member.parts[-1]
        if name == form.meta:
            classes = _class_names(_read_names(member.data, form), form)
        elif name in form.names:
            batches[name] = _parse_batch(member.data, name, form)
            progress(len(batches), len(form.names), f"read {name}")
    needed = form.names if classes else [*form.names, form.meta]
    if missing := [name for name in needed if name not in batches]:
        raise DamagedError(f"{shortened(source.name)} lacks {missing[0]} of {form.title}")
    return classes, batches


def _parse_batch(data: bytes, name: str, form: OriginalFormat) -> Batch:
    if form.label_bytes:
        images, labels = _split_records(data, form)
    else:
        values = load_untrusted_pickle(data, name)
        images, labels = values.get("data"), values.get(form.labels_key)
    valid = (
        isinstance(images, np.ndarray)
        and isinstance(labels, list)
        and images.shape == (len(labels), 3 * SIDE**2)
        and len(labels) > 0
        and all(type(label) is int and 0 <= label < form.count for label in labels)
    )
    if not valid:
        raise DamagedError(
            f"{name} is not a batch of {form.title}: it must hold 3,072 bytes and a label from 0 "
            f"to {form.count - 1} for each image"
        )
    planes = images.reshape(-1, 3, SIDE, SIDE)  # red, green, blue
    return planes.transpose(0, 2, 3, 1), np.array(labels, dtype=np.int64)


def _split_records(data: bytes, form: OriginalFormat) -> tuple[np.ndarray | None, list[int]]:
    """Return images (N, 3072) uint8 and labels of a binary batch; None for a torn one."""
    length = form.label_bytes + 3 * SIDE**2
    if len(data) % length:
        return None, []
    records = np.frombuffer(data, np.uint8).reshape(-1, length)
    # The last of the label bytes: for CIFAR-100 the fine class.
    return records[:, form.label_bytes :], records[:, form.label_bytes - 1].tolist()


def _read_names(data: bytes, form: OriginalFormat) -> Any:
    if form.label_bytes:
        return data.split()
    return load_untrusted_pickle(data, form.meta).get(form.names_key)


def _class_names(names: Any, form: OriginalFormat) -> tuple[str, ...]:
    fault = DamagedError(f"{form.meta} does not name {COUNTS[form.count]} classes")
    if not isinstance(names, list) or len(names) != form.count:
        raise fault
    try:
        classes = tuple(name.decode() if isinstance(name, bytes) else name for name in names)
    except UnicodeDecodeError as error:
        raise fault from error
    if not all(type(name) is str for name in classes) or len(set(classes)) != form.count:
        raise fault
    return classes


def load_untrusted_pickle(data: bytes, name: str) -> dict[str, Any]:
    """Return the dict in a pickle of Python 2 or 3, its keys as text, its arrays as uint8.

    name: the file's name in messages. Raises DamagedError.
    """
    try:
        # encoding: the original is a pickle of Python 2, whose text is bytes.
        values = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        return {_to_text(key): _to_array(value) for key, value in values.items()}
    except DamagedError as error:
        raise DamagedError(f"{name} is refused: {error}") from error
    except Exception as error:  # a torn or altered pickle raises many types
        raise DamagedError(f"{name} is cut short or damaged") from error


class _Array:
    """Replaces numpy's array: accepts the state that numpy writes, of bytes only."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, _, column_first, raw = state
        order = "F" if column_first else "C"
        self.values = np.frombuffer(raw, np.uint8).reshape(shape, order=order)


class _ByteType:
    """Replaces numpy's dtype: only uint8. Arrays of objects would hold further pickles."""

    def __init__(self, code: str | bytes, *_: Any) -> None:
        if code not in ("u1", b"u1"):
            raise DamagedError(f"its arrays have the type {shortened(code)}, not bytes")

    def __setstate__(self, state: tuple) -> None:
        pass  # byte order and alignment, which bytes do not have


def _reconstruct(*_: Any) -> _Array:
    return _Array()  # numpy passes an empty shape here; the real one comes with the state


def _encode(text: str, encoding: str) -> bytes:
    # Python 3 writes bytes for Python 2 as text to encode. The codec's name is ignored: a pickle
    # cannot choose another one.
    return text.encode("latin1")


REPLACEMENTS = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,  # since numpy 2
    ("numpy", "ndarray"): "only used as an argument",
    ("numpy", "dtype"): _ByteType,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return the replacement of a name. Raises DamagedError for any other name."""
        if (module, name) not in REPLACEMENTS:
            raise DamagedError(f"it uses {shortened(f'{module}.{name}')}, which is not allowed")
        return REPLACEMENTS[module, name]


def _to_text(key: Any) -> str:
    return key.decode() if isinstance(key, bytes) else key


def _to_array(value: Any) -> Any:
    return value.values if isinstance(value, _Array) else value
