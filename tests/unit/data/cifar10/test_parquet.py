"""CIFAR-10's parquet files: their order, and the refusal of wrong ones."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from resnet_demo.data.cifar10 import original_batches, parquet
from resnet_demo.data.store import Datasets
from resnet_demo.errors import DamagedError, DemoError, StoppedError

BLOCK = 24  # pictures
AS_IT_COMES = (4, 3, 2, 5, 1)  # the batches in the order of Hugging Face's file
FEATURES = {
    "img": {"_type": "Image"},
    "label": {"names": original_batches.CLASSES, "_type": "ClassLabel"},
}


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pixels_of(seed: int, count: int, size: int = 32) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def labels_of(batch: int) -> list[int]:
    first = parquet.FIRST_LABELS[batch - 1]
    return [*first, *first[: BLOCK - len(first)]]


def write(path: Path, images, labels, features=FEATURES, label_type=None, group: int = 7) -> Path:
    """Write a file in the schema of Hugging Face, in small row groups."""
    rows = [{"bytes": image, "path": f"{n}.png"} for n, image in enumerate(images)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"img": pa.array(rows, kind), "label": pa.array(labels, label_type or pa.int64())}
    table = pa.table(columns)
    if features:
        metadata = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, path, row_group_size=group)
    return path


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """Write five small batches in the order of Hugging Face's file."""
    images = [png(image) for batch in AS_IT_COMES for image in pixels_of(batch, BLOCK)]
    labels = [label for batch in AS_IT_COMES for label in labels_of(batch)]
    return write(tmp_path / "train.parquet", images, labels)


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    return write(tmp_path / "test.parquet", map(png, pixels_of(6, 11)), [*range(10), 3])


def original() -> np.ndarray:
    """Return the training pictures in the order of data_batch_1 to data_batch_5."""
    return np.concatenate([pixels_of(batch, BLOCK) for batch in range(1, 6)])


def convert(root: Path, train: Path, test: Path, **options):
    return parquet.convert_parquet(root / "data", train, test, block=BLOCK, **options)


def assert_nothing(root: Path) -> None:
    assert not (root / "data").exists() or list((root / "data").iterdir()) == []


def test_the_batches_are_put_back_into_their_original_order(tmp_path, train, tests):
    info = convert(tmp_path, train, tests)
    images, labels = Datasets(tmp_path / "data").load("cifar10", "train")
    np.testing.assert_array_equal(images, original())
    assert labels.tolist() == [label for n in range(1, 6) for label in labels_of(n)]
    assert (info.train, info.test, info.size) == (5 * BLOCK, 11, 32)
    assert (info.classes, info.source) == (original_batches.CLASSES, original_batches.INFO.source)


def test_the_test_pictures_keep_their_order(tmp_path, train, tests):
    convert(tmp_path, train, tests)
    images, labels = Datasets(tmp_path / "data").load("cifar10", "test")
    np.testing.assert_array_equal(images, pixels_of(6, 11))
    assert labels.tolist() == [*range(10), 3]


def test_mean_and_deviation_are_those_of_the_training_pixels(tmp_path, train, tests):
    info = convert(tmp_path, train, tests)
    pixels = Datasets(tmp_path / "data").load("cifar10", "train")[0] / 255
    np.testing.assert_allclose(info.mean, pixels.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(info.std, pixels.std((0, 1, 2)), atol=1e-6)


@pytest.mark.parametrize("group", [1, BLOCK, 50, 1000])
def test_row_groups_of_any_length_give_the_same(tmp_path, train, tests, group):
    table = pq.read_table(train)
    pq.write_table(table, train, row_group_size=group)
    convert(tmp_path, train, tests)
    images, _ = Datasets(tmp_path / "data").load("cifar10", "train")
    np.testing.assert_array_equal(images, original())


def test_no_chunk_is_larger_than_it_should_be(tmp_path, train, monkeypatch):
    monkeypatch.setattr(parquet, "CHUNK", 5)
    read = parquet._ParquetSplit(train)
    assert [len(chunk) for chunk in read.read_rows(3, 22)] == [4, 5, 2, 5, 2, 1]
    expected = pixels_of(AS_IT_COMES[0], BLOCK)[3:22]
    np.testing.assert_array_equal(np.concatenate(list(read.read_rows(3, 22))), expected)


@pytest.mark.parametrize("change", ["a label", "a batch twice", "longer", "shorter"])
def test_an_unknown_order_is_kept_and_stated(tmp_path, tests, change):
    batches = [labels_of(n) for n in AS_IT_COMES]
    if change == "a label":
        batches[2][19] = 9 - batches[2][19]
    elif change == "a batch twice":
        batches[3] = batches[1]
    labels = [label for batch in batches for label in batch]
    labels = {"longer": [*labels, 6], "shorter": labels[:-1]}.get(change, labels)
    images = pixels_of(0, len(labels))
    file = write(tmp_path / "train.parquet", map(png, images), labels)
    info = convert(tmp_path, file, tests)
    assert info.source == "the parquet files of CIFAR-10, not in the order of the original batches"
    kept = Datasets(tmp_path / "data").load("cifar10", "train")
    np.testing.assert_array_equal(kept[0], images)
    assert kept[1].tolist() == labels


def test_the_first_labels_distinguish_the_batches():
    assert len({first[:2] for first in parquet.FIRST_LABELS}) == 5
    assert {len(first) for first in parquet.FIRST_LABELS} == {20}


def test_progress_counts_pictures_to_the_last(tmp_path, train, tests):
    reports = []
    convert(tmp_path, train, tests, progress=lambda *now: reports.append(now))
    assert {total for _, total, _ in reports} == {131}
    assert sorted(reports) == reports
    assert reports[-1] == (131, 131, "131 pictures read")


def test_stopping_leaves_nothing(tmp_path, train, tests):
    def stop(*_):
        raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        convert(tmp_path, train, tests, progress=stop)
    assert_nothing(tmp_path)


def test_a_file_without_class_names_is_read(tmp_path, train):
    test = write(tmp_path / "test.parquet", map(png, pixels_of(6, 2)), [0, 9], features=None)
    assert convert(tmp_path, train, test).test == 2


def test_other_classes_are_refused(tmp_path, train):
    features = {"label": {"names": original_batches.CLASSES[::-1]}}
    test = write(tmp_path / "test.parquet", map(png, pixels_of(6, 2)), [0, 9], features)
    with pytest.raises(DamagedError, match=r"^test.parquet has other classes than CIFAR-10$"):
        convert(tmp_path, train, test)
    assert_nothing(tmp_path)


@pytest.mark.parametrize(
    ("labels", "kind"),
    [([0, 10], None), ([-1, 0], None), ([0.0, 1.0], pa.float64()), ([None, 1], None)],
)
def test_labels_without_a_class_are_refused(tmp_path, train, labels, kind):
    test = write(tmp_path / "test.parquet", map(png, pixels_of(6, 2)), labels, label_type=kind)
    with pytest.raises(DamagedError, match=r"^test.parquet must have labels from 0 to 9$"):
        convert(tmp_path, train, test)
    assert_nothing(tmp_path)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (png(pixels_of(0, 1, 33)[0]), "test.parquet has a picture that is not 32 x 32 pixels"),
        (b"GIF87a", "'a picture in test.parquet' is cut short"),
        (None, "'a picture in test.parquet' is empty"),
    ],
)
def test_a_picture_of_another_kind_is_refused(tmp_path, train, image, message):
    test = write(tmp_path / "test.parquet", [*map(png, pixels_of(6, 1)), image], [0, 1])
    with pytest.raises(DamagedError, match=message):
        convert(tmp_path, train, test)
    assert_nothing(tmp_path)


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def damaged_inside(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4:60] = bytes(56)  # the header of the first page
    path.write_bytes(data)


def without_labels(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop(["label"]), path)


def without_images(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop(["img"]), path)


def of_another_kind(path: Path) -> None:
    path.write_bytes(b"<html>")


@pytest.mark.parametrize(
    "damage", [torn, damaged_inside, without_labels, without_images, of_another_kind]
)
def test_a_damaged_file_is_named(tmp_path, train, tests, damage):
    damage(tests)
    with pytest.raises(DamagedError, match=r"^test.parquet is damaged, or not the file"):
        convert(tmp_path, train, tests)
    assert_nothing(tmp_path)


def test_a_full_disk_is_not_reported_as_a_damaged_file(tmp_path, train, tests, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet, "write_split", full)
    with pytest.raises(DemoError, match=r"could not be written .* No space left") as caught:
        convert(tmp_path, train, tests)
    assert not isinstance(caught.value, DamagedError)
