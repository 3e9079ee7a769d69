"""Scanning a source before its import."""

import hashlib
import io
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_demo.data.importer.import_images import import_images
from resnet_demo.data.importer.scan import scan_source
from resnet_demo.data.importer.survey import Survey, read_survey, write_survey
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DamagedError, DemoError, NotFoundError, StoppedError

KINDS = ["folder", "zip", "tar", "gz", "xz", "bz2"]


def picture(number: int, width: int = 8, height: int = 8) -> bytes:
    """Return a PNG of noise that follows from its number."""
    pixels = np.random.RandomState(number).randint(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pets(train: int = 25, test: int = 5) -> dict[str, bytes]:
    names = [f"train/{label}/{n:02}.png" for label in ("cat", "dog") for n in range(train)]
    names += [f"test/{label}/{n:02}.png" for label in ("cat", "dog") for n in range(test)]
    return {name: picture(number) for number, name in enumerate(names)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_source_gives_the_same_survey(kind: str, source_of):
    files = pets()
    found = scan_source(source_of(kind, files))
    assert found == Survey(
        kind="images",
        own_split=True,
        classes=(("cat", 25, 5), ("dog", 25, 5)),
        sizes=((8, 8), (8, 8), (8, 8)),
        unreadable=0,
        unreadable_names=(),
        duplicates=0,
        duplicate_pairs=(),
        repeated=0,
        passed_over=0,
        bytes=sum(map(len, files.values())),
    )


@pytest.mark.parametrize("own_split", [True, False])
def test_a_survey_counts_what_the_import_makes(tmp_path: Path, zip_of, own_split: bool):
    files = pets()
    if not own_split:
        files = {
            name.split("/", 1)[1].replace("/", f"/{n}"): data
            for n, (name, data) in enumerate(files.items())
        }
    files["notes.txt"] = files["cat/bad.png" if not own_split else "test/cat/bad.png"] = b"no"
    source = zip_of(files)
    found = scan_source(source)
    info = import_images(tmp_path / "data", "pets", source, size=8)
    assert found.own_split is own_split
    assert tuple(name for name, _, _ in found.classes) == info.classes
    for column, split in ((1, "train"), (2, "test")):
        labels = Datasets(tmp_path / "data").load("pets", split)[1]
        assert [row[column] for row in found.classes] == np.bincount(labels).tolist()
    assert (found.unreadable, found.unreadable_names) == (info.skipped_count, info.skipped)


def test_sizes_are_of_the_smallest_the_median_and_the_largest_by_the_shorter_side(folder_of):
    sides = [(9, 300), (10, 11), (12, 10), (40, 30), (50, 30)]
    files = {f"{label}/{n}": picture(n, *size) for label in "ab" for n, size in enumerate(sides)}
    assert scan_source(folder_of(files)).sizes == ((9, 300), (12, 10), (50, 30))


def test_test_pictures_that_are_also_in_train_are_counted_and_named(zip_of):
    files = pets()
    files["test/cat/00.png"] = files["train/dog/03.png"]
    files["test/dog/01.png"] = files["train/dog/03.png"]
    files["train/cat/07.png"] = files["train/cat/08.png"]
    files["train/dog/99.png"] = files["train/dog/03.png"]
    found = scan_source(zip_of(files))
    names = sorted(files)
    digests = {name: hashlib.sha256(files[name]).digest() for name in names}
    train = {digests[name] for name in names if name.startswith("train")}
    both = [name for name in names if name.startswith("test") and digests[name] in train]
    assert (found.duplicates, found.repeated) == (len(both), 2 + 1) == (2, 3)
    assert found.duplicate_pairs == tuple(("train/dog/03.png", name) for name in both)
    assert found.warnings(8) == [
        "one picture has copies under different labels, which contradict each other: "
        "'train/dog/03.png' = 'test/cat/00.png'; keep each picture in one class",
        "2 test pictures are also in train: the test accuracy will be too high",
    ]


def test_validation_pictures_are_counted_by_class_and_their_copies_in_train_are_named(zip_of):
    files = pets()
    files |= {f"val/{label}/{n}.png": picture(900 + n) for n, label in enumerate(("cat", "dog"))}
    files["val/dog/7.png"] = files["train/dog/03.png"]
    found = scan_source(zip_of(files))
    assert (found.val, found.val_classes, found.val_duplicates) == (3, (1, 2), 1)
    assert found.duplicates == 0
    assert (
        "one validation picture is also in train: the validation accuracy will be too high"
    ) in found.warnings()


def test_duplicates_are_found_across_the_split_that_an_import_makes(zip_of):
    same = {f"cat/{n}.png": picture(0) for n in range(20)}
    other = {f"dog/{n}.png": picture(n + 1) for n in range(20)}
    found = scan_source(zip_of({**same, **other}))
    assert (found.classes, found.own_split) == ((("cat", 16, 4), ("dog", 16, 4)), False)
    assert (found.duplicates, found.repeated) == (4, 15 + 3)
    assert all(train.startswith("cat/") for train, _ in found.duplicate_pairs)


def test_files_outside_the_class_folders_are_counted_as_passed_over(zip_of):
    files = {f"top/{name}": data for name, data in pets().items()}
    found = scan_source(zip_of({**files, "README": b"x", "top/LICENSE": b"y", "top/train/z": b"z"}))
    assert (found.passed_over, found.unreadable) == (3, 0)
    assert found.bytes == sum(map(len, files.values())) + 3


def test_the_first_pictures_of_each_class_are_kept_as_small_squares(zip_of):
    files = pets()
    files["train/cat/00.png"] = picture(500, 64, 64)
    samples = scan_source(zip_of(files)).samples
    assert {name: some.shape for name, some in samples.items()} == {
        "cat": (4, 64, 64, 3),
        "dog": (4, 64, 64, 3),
    }
    original = np.asarray(Image.open(io.BytesIO(files["train/cat/00.png"])))
    np.testing.assert_array_equal(samples["cat"][0], original)
    second = Image.open(io.BytesIO(files["train/cat/01.png"]))
    enlarged = np.asarray(second.resize((64, 64), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(samples["cat"][1], enlarged)


def test_samples_are_bounded_for_any_number_of_folders(zip_of, monkeypatch):
    monkeypatch.setattr("resnet_demo.data.importer.scan.SAMPLED_FOLDERS", 30)
    files = {f"{n:02}/{m}": picture(n * 2 + m) for n in range(40) for m in range(2)}
    samples = scan_source(zip_of(files)).samples
    assert list(samples) == [f"{n:02}" for n in range(24)]
    assert {len(some) for some in samples.values()} == {2}


ODD = ["ein Hund", "🐕‍🦺 & 👨‍👩‍👧", 'it\'s "quoted"', "日本語　犬", "né"]


@pytest.mark.parametrize("kind", KINDS)
def test_class_names_are_kept_unchanged(tmp_path: Path, kind: str, source_of):
    files = {f"{label}/“{n}” a.png": picture(n) for label in ODD for n in range(2)}
    source = source_of(kind, files)
    found = scan_source(source)
    assert sorted(name for name, _, _ in found.classes) == sorted(ODD)
    assert import_images(tmp_path / "data", "odd", source, size=8).classes == tuple(sorted(ODD))
    write_survey(tmp_path, found)
    assert read_survey(tmp_path) == found


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"a/1": 0, "a/2": 1}, "at least two class folders with pictures, found 1"),
        ({"train/a/1": 0, "train/b/1": 1, "test/c/1": 2}, "'c' is in test but not in train"),
        ({"train/a/1": 0, "train/b/1": 1, "old/a/1": 2}, "there is another folder with folders"),
        ({"a/1": None, "a/2": 1, "b/1": None}, r"^2 of 3 pictures cannot be read, such as 'a/1'"),
        ({"a/1": 0, "../b/1": 1}, "points outside it"),
        ({}, "found 0"),
    ],
)
def test_a_scan_refuses_what_an_import_refuses_with_the_same_sentence(
    tmp_path: Path, zip_of, files, reason: str
):
    source = zip_of({name: b"" if n is None else picture(n) for name, n in files.items()})
    with pytest.raises(DemoError, match=reason) as surveyed:
        scan_source(source)
    with pytest.raises(DemoError, match=reason) as imported:
        import_images(tmp_path / "data", "pets", source)
    assert str(surveyed.value) == str(imported.value)
    assert type(surveyed.value) is type(imported.value)


def test_a_file_that_is_no_source_is_refused(tmp_path: Path):
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(ConfigError, match="is not a folder, a zip or a tar of images"):
        scan_source(tmp_path / "a.txt")
    with pytest.raises(NotFoundError):
        scan_source(tmp_path / "gone")


def test_many_unreadable_pictures_are_reported(zip_of):
    bad = {f"train/cat/bad{n:02}": b"junk" for n in range(25)}
    found = scan_source(zip_of({**pets(), **bad}))
    assert found.unreadable == 25
    assert found.unreadable_names == tuple(sorted(bad)[:20])
    assert found.classes == (("cat", 25, 5), ("dog", 25, 5))
    assert (
        "25 of 85 pictures cannot be read, more than a tenth, so the import will fail, such as "
        "'train/cat/bad00', 'train/cat/bad01', 'train/cat/bad02'"
    ) in found.warnings()


def test_nothing_is_written(tmp_path: Path, zip_of, monkeypatch):
    source = zip_of(pets())
    before = sorted(tmp_path.rglob("*"))
    scan_source(source)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_error_of_progress_ends_the_scan_and_its_thread(tar_of, monkeypatch):
    monkeypatch.setattr("resnet_demo.data.importer.read_pictures.REPORT_EVERY_S", 1e9)
    source = tar_of({f"{label}/{n}": b"junk" * 5000 for label in "ab" for n in range(500)})
    reports, before = [], threading.active_count()

    def stop(done: int, total: int | None, message: str) -> None:
        reports.append((0 < done <= total, message))
        if len(reports) == 2:
            raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        scan_source(source, progress=stop)
    assert reports == [(True, "250 pictures read"), (True, "500 pictures read")]
    assert threading.active_count() == before


@pytest.fixture
def batches(tmp_path: Path) -> Path:
    """Write small batches of CIFAR-10: ten pictures each, one of them in train and test."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        data = np.random.RandomState(number).randint(0, 256, (10, 3072)).astype(np.uint8)
        if name == "test_batch":
            data[4] = np.random.RandomState(2).randint(0, 256, (10, 3072))[7]
        values = {b"data": data, b"labels": list(range(10))}
        (folder / name).write_bytes(pickle.dumps(values, 2))
    names = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse"]
    meta = {b"label_names": [*names, b"ship", b"truck"]}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, 2))
    return folder


def test_an_import_of_the_original_batches_gives_the_survey_of_the_scan(batches: Path, tmp_path):
    surveys = []
    import_images(tmp_path / "data", "cifar10", batches, on_survey=surveys.append)
    assert surveys == [scan_source(batches)]
    assert "one test picture is also in train" in " ".join(surveys[0].warnings())


def test_the_original_batches_are_recognized(batches: Path):
    found = scan_source(batches)
    assert (found.kind, found.own_split, found.sizes) == ("cifar10", True, ((32, 32),) * 3)
    assert found.classes[0] == ("airplane", 5, 1)
    assert len(found.classes) == 10
    assert found.duplicate_pairs == (("data_batch_3/7", "test_batch/4"),)
    first = pickle.loads((batches / "data_batch_1").read_bytes(), encoding="bytes")[b"data"][0]  # noqa: S301
    image = Image.fromarray(first.reshape(3, 32, 32).transpose(1, 2, 0))
    enlarged = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(found.samples["airplane"][0], enlarged)


def test_original_batches_that_an_import_refuses_are_refused(batches: Path):
    (batches / "data_batch_4").unlink()
    with pytest.raises(DamagedError, match="lacks data_batch_4 of CIFAR-10"):
        scan_source(batches)


def test_a_scan_needs_no_torch():
    program = "import sys, resnet_demo.data.importer.scan; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
