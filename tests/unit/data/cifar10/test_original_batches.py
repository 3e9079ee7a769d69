"""The original batches of CIFAR-10: their order, and the refusal of hostile pickles."""

import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from resnet_demo.data.cifar10 import original_batches as cifar
from resnet_demo.data.cifar10.original_batches import load_untrusted_pickle
from resnet_demo.data.importer.import_images import import_images
from resnet_demo.data.splits import split_indices
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DamagedError

EACH = 6  # images a batch


def batch(number: int) -> dict[bytes, object]:
    data = np.random.RandomState(number).randint(0, 256, (EACH, 3072)).astype(np.uint8)
    return {b"data": data, b"labels": [(number + n) % 10 for n in range(EACH)], b"filenames": []}


@pytest.fixture
def batches() -> dict[str, dict]:
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    meta = {b"label_names": [name.encode() for name in cifar.CLASSES], b"num_vis": 3072}
    return {**{name: batch(n) for n, name in enumerate(names)}, "batches.meta": meta}


def write(root: Path, batches: dict[str, dict], protocol: int = 2) -> Path:
    """Write the batches to a folder, as the original archive has them."""
    folder = root / cifar.FOLDER
    folder.mkdir(parents=True)
    for name, values in batches.items():
        (folder / name).write_bytes(pickle.dumps(values, protocol))
    return folder


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_the_original_batches_are_read_in_their_own_order(tmp_path, batches, protocol):
    write(tmp_path, batches, protocol)
    datasets = Datasets(tmp_path)
    images, labels = datasets.load("cifar10", "train")
    numbers = range(5)
    assert labels.tolist() == [label for number in numbers for label in batch(number)[b"labels"]]
    planes = np.concatenate([batch(number)[b"data"] for number in numbers])
    np.testing.assert_array_equal(images[:, 3, 5, 1], planes[:, 1024 + 3 * 32 + 5])
    np.testing.assert_array_equal(
        images, planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    )  # red, green, blue planes become pixels
    assert len(datasets.load("cifar10", "test")[0]) == EACH
    info = datasets.get("cifar10")
    assert (info.train, info.test, info.classes) == (5 * EACH, EACH, cifar.CLASSES)


def test_listing_does_not_convert_and_preparing_converts_once(tmp_path, batches):
    write(tmp_path, batches)
    datasets, reports = Datasets(tmp_path), []
    assert [info.name for info in datasets.list()] == ["cifar10", "shapes10"]
    assert (datasets.get("cifar10").train, datasets.get("cifar10").test) == (50_000, 10_000)
    assert not (tmp_path / "cifar10").exists()
    datasets.prepare("cifar10", lambda *now: reports.append(now))
    assert reports[-1][:2] == (6, 6)
    assert datasets.get("cifar10").train == 5 * EACH
    reports.clear()
    datasets.prepare("cifar10", lambda *now: reports.append(now))
    assert reports == []


def test_the_archive_is_read_without_unpacking_it(tmp_path, batches):
    folder = write(tmp_path / "elsewhere", batches)
    with tarfile.open(tmp_path / cifar.ARCHIVE, "w:gz") as archive:
        archive.add(folder, cifar.FOLDER)
    assert len(Datasets(tmp_path).load("cifar10", "train")[0]) == 5 * EACH
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        cifar.ARCHIVE,
        "cifar10",
        "elsewhere",
    ]


@pytest.mark.parametrize("packed", [True, False])
def test_the_original_can_be_imported_like_any_archive(tmp_path, batches, packed):
    source = write(tmp_path, batches)
    if packed:
        with tarfile.open(tmp_path / "some.tar.gz", "w:gz") as archive:
            archive.add(source, cifar.FOLDER)
        source = tmp_path / "some.tar.gz"
    root = tmp_path / "data"
    assert import_images(root, "cifar10", source).train == 5 * EACH
    again = import_images(root, "again", source, size=32, fit="pad")
    assert again == Datasets(root).get("again")
    assert (again.name, again.fit) == ("again", "pad")
    with pytest.raises(ConfigError, match="size must be 32 for the original batches"):
        import_images(root, "large", source, size=64)


def test_a_pickle_of_python_2_is_read():
    raw = bytes(range(6))
    array = b"".join(
        [
            b"cnumpy.core.multiarray\n_reconstruct\n",
            b"cnumpy\nndarray\n",
            b"K\0\x85",
            b"U\x01b",
            b"\x87R",
            b"(",
            b"K\x01",
            b"K\x02K\x03\x86",
            b"cnumpy\ndtype\n",
            b"U\x02u1K\0K\x01\x87R",
            b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb",
            b"I00\n",
            b"U" + struct.pack("B", len(raw)) + raw,
            b"tb",
        ]
    )
    values = load_untrusted_pickle(b"\x80\x02}U\x04data" + array + b"s.", "data_batch_1")
    assert values["data"].tolist() == [[0, 1, 2], [3, 4, 5]]


class Hostile:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("call", "named"),
    [
        ((exec, ("raise SystemExit('it ran')",)), "exec"),
        ((getattr, ("", "join")), "getattr"),
        ((np.load, ("x",)), "load"),
        ((np.fromfile, ("/etc/passwd",)), "fromfile"),
    ],
)
def test_a_hostile_pickle_is_refused_without_running_it(tmp_path, batches, protocol, call, named):
    batches["data_batch_3"][b"data"] = Hostile(*call)
    write(tmp_path, batches, protocol)
    with pytest.raises(
        DamagedError, match=f"^data_batch_3 is refused: it uses '.*{named}', which is"
    ):
        Datasets(tmp_path).load("cifar10", "train")
    assert not (tmp_path / "cifar10").exists()


def test_a_pickle_cannot_choose_another_codec():
    import _codecs

    data = pickle.dumps({"x": Hostile(_codecs.encode, ("é", "utf-16"))})
    assert load_untrusted_pickle(data, "x") == {"x": b"\xe9"}


def test_arrays_of_other_types_than_bytes_are_refused():
    with pytest.raises(DamagedError, match=r"^x is refused: its arrays have the type 'f8'"):
        load_untrusted_pickle(pickle.dumps({"data": np.zeros(3)}, 2), "x")


@pytest.mark.parametrize("data", [b"", b"junk", pickle.dumps([1, 2]), pickle.dumps({b"\xff": 1})])
def test_anything_but_a_pickled_dict_is_damaged(data: bytes):
    with pytest.raises(DamagedError, match=r"^x is cut short or damaged$"):
        load_untrusted_pickle(data, "x")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"data", np.zeros((EACH, 3071), np.uint8)),
        (b"data", np.zeros((EACH + 1, 3072), np.uint8)),
        (b"data", [[0] * 3072] * EACH),
        (b"labels", [0, 1, 2, 3, 4, 10]),
        (b"labels", [0, 1, 2, 3, 4, -1]),
        (b"labels", ["0"] * EACH),
        (b"labels", None),
    ],
)
def test_a_batch_of_another_shape_is_damaged(tmp_path, batches, key, value):
    batches["test_batch"][key] = value
    write(tmp_path, batches)
    with pytest.raises(DamagedError, match=r"^test_batch is not a batch of CIFAR-10: it must hold"):
        Datasets(tmp_path).prepare("cifar10")


def test_a_missing_batch_is_named(tmp_path, batches):
    del batches["data_batch_4"]
    write(tmp_path, batches)
    with pytest.raises(DamagedError, match="lacks data_batch_4 of CIFAR-10"):
        Datasets(tmp_path).prepare("cifar10")


@pytest.mark.parametrize("names", [None, ["a"] * 10, list("abc"), list(range(10))])
def test_class_names_are_checked(tmp_path, batches, names):
    batches["batches.meta"] = {"label_names": names}
    write(tmp_path, batches)
    with pytest.raises(DamagedError, match=r"batches.meta does not name ten classes"):
        Datasets(tmp_path).prepare("cifar10")


def test_without_a_meta_file_the_known_ten_names_are_used(tmp_path, batches):
    del batches["batches.meta"]
    write(tmp_path, batches)
    assert Datasets(tmp_path).prepare("cifar10").classes == cifar.CLASSES


def test_the_original_order_gives_the_tutorials_split():
    first = split_indices(50_000, 0.1, 42)[1][:3].tolist()
    assert first == [33553, 9427, 199]  # of np.random.seed(42), shuffle(list(range(50000)))


def write_cifar100(folder: Path) -> list[str]:
    """Write the pickles of CIFAR-100 with six images each; return the names of the classes."""
    names = [f"class {n:02}" for n in range(100)]
    for number, name in enumerate(("train", "test")):
        values = {b"data": batch(number)[b"data"], b"fine_labels": [99, 0, 3, 50, 7, 98]}
        values |= {b"coarse_labels": [1] * EACH, b"batch_label": b"x", b"filenames": [b"a"] * EACH}
        (folder / name).write_bytes(pickle.dumps(values, 2))
    meta = {b"fine_label_names": [name.encode() for name in names], b"coarse_label_names": []}
    (folder / "meta").write_bytes(pickle.dumps(meta, 2))
    return names


@pytest.mark.parametrize("packed", [False, True])
def test_cifar100_is_imported_from_its_folder_or_archive(tmp_path, packed):
    source = tmp_path / "cifar-100-python"
    source.mkdir()
    names = write_cifar100(source)
    if packed:
        with tarfile.open(tmp_path / "cifar-100-python.tar.gz", "w:gz") as archive:
            archive.add(source, source.name)
        source = tmp_path / "cifar-100-python.tar.gz"
    info = import_images(tmp_path / "data", "hundred", source)
    assert (info.classes, info.train, info.test) == (tuple(names), EACH, EACH)
    assert info.source == "the original CIFAR-100 batches, in their own order"
    images, labels = Datasets(tmp_path / "data").load("hundred", "train")
    assert labels.tolist() == [99, 0, 3, 50, 7, 98]
    planes = batch(0)[b"data"].reshape(-1, 3, 32, 32)
    np.testing.assert_array_equal(images, planes.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("form", [cifar.CIFAR10_BINARY, cifar.CIFAR100_BINARY])
def test_the_binary_files_are_imported_like_the_pickles(tmp_path, form):
    pixels = batch(3)[b"data"]
    labels = np.full((EACH, form.label_bytes), 9, np.uint8)
    labels[:, -1] = np.arange(EACH) + 2
    for name in form.names:
        (tmp_path / name).write_bytes(np.hstack([labels, pixels]).tobytes())
    classes = [f"c{n}" for n in range(form.count)]
    (tmp_path / form.meta).write_text("\n".join(classes) + "\n\n")
    info = import_images(tmp_path / "data", "binary", tmp_path)
    images, stored = Datasets(tmp_path / "data").load("binary", "test")
    assert (list(info.classes), stored.tolist()) == (classes, [2, 3, 4, 5, 6, 7])
    np.testing.assert_array_equal(images[:, 0, 0, 2], pixels[:, 2048])
    (tmp_path / form.names[-1]).write_bytes(pixels.tobytes()[:-1])
    with pytest.raises(DamagedError, match=f"{form.names[-1]} is not a batch of {form.title}"):
        import_images(tmp_path / "data", "torn", tmp_path)


def test_folders_called_train_and_test_are_not_cifar100(tmp_path):
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
    (tmp_path / "meta").write_text("x")
    assert cifar.original_format(tmp_path) is None
