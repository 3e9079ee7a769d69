"""Importing pictures: the dataset that results, and what is refused."""

import io
import json
import os
import subprocess
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_demo.data.importer.import_images import import_images
from resnet_demo.data.pictures import FITS, fit_to_square
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DamagedError, DemoError, NotFoundError, StoppedError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def entries(root: Path) -> list[str]:
    return sorted(os.listdir(root)) if root.exists() else []


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "gz", "xz", "bz2"])
def test_an_import_keeps_every_pixel_of_pictures_of_the_right_size(kind, root, files, source_of):
    info = import_images(root, "pets", source_of(kind, files), size=8)
    assert (info.classes, info.size, info.train, info.test) == (("cat", "dog"), 8, 6, 2)
    assert not info.synthetic
    assert info.source.startswith("imported from source")
    images, labels = Datasets(root).load("pets", "train")
    expected = [pixels_of(data) for name, data in files.items() if name.startswith("train")]
    np.testing.assert_array_equal(images, expected)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert Datasets(root).load("pets", "test")[1].tolist() == [0, 1]
    assert entries(root) == ["pets"]
    assert entries(root / "pets") == [
        "dataset.json",
        "test-digests.npy",
        "test-images.npy",
        "test-labels.npy",
        "train-digests.npy",
        "train-images.npy",
        "train-labels.npy",
    ]


def test_mean_and_deviations_are_those_of_the_training_pixels(root, files, zip_of):
    info = import_images(root, "pets", zip_of(files), size=8)
    pixels = Datasets(root).load("pets", "train")[0] / 255
    np.testing.assert_allclose(info.mean, pixels.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(info.std, pixels.std((0, 1, 2)), atol=1e-6)
    each = pixels.std((1, 2), ddof=1).mean(0)
    np.testing.assert_allclose(info.per_image_std, each, atol=1e-6)


def test_pictures_of_other_sizes_are_cropped_to_the_centre_and_resized(root, zip_of):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = (10, 20, 30)
    file = io.BytesIO()
    Image.fromarray(wide).save(file, "PNG")
    names = ("train/a/1", "train/b/1", "test/a/2", "test/b/2")
    source = zip_of(dict.fromkeys(names, file.getvalue()))
    import_images(root, "wide", source, size=32)
    images, _ = Datasets(root).load("wide", "train")
    assert images.shape == (2, 32, 32, 3)
    assert (images == (10, 20, 30)).all()


def noise(height: int, width: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("sizes", "side"),
    [
        ([(32, 32)] * 4, 32),
        ([(20, 90), (40, 30), (30, 30), (300, 400)], 30),  # the first is not the median
        ([(400, 300), (20, 20), (19, 25), (18, 40)], 20),
        ([(300, 260), (240, 500), (9, 9), (230, 231)], 224),
    ],
)
def test_the_default_side_is_the_median_short_side_up_to_224_pixels(root, zip_of, sizes, side):
    names = ("test/a/1.png", "test/b/1.png", "train/a/1.png", "train/b/2.png")
    source = zip_of({name: noise(*size) for name, size in zip(names, sizes, strict=True)})
    surveys = []
    info = import_images(root, "default", source, on_survey=surveys.append)
    assert info.size == surveys[0].default_size == side
    assert len(surveys) == 1
    import_images(root, "chosen", source, size=side)
    for split in ("train", "test"):
        images, _ = Datasets(root).load("default", split)
        np.testing.assert_array_equal(images, Datasets(root).load("chosen", split)[0])


@pytest.mark.parametrize("fit", FITS)
def test_pictures_are_made_square_as_chosen(root, zip_of, fit):
    names = ("train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png")
    source = zip_of(dict.fromkeys(names, noise(20, 50)))
    assert import_images(root, "wide", source, fit=fit).fit == fit
    assert Datasets(root).get("wide").fit == fit
    expected = fit_to_square(pixels_of(noise(20, 50)), 20, fit)
    np.testing.assert_array_equal(Datasets(root).load("wide", "train")[0], [expected] * 2)


@pytest.mark.parametrize("each", [1, 2, 4])
def test_a_tiny_import_has_no_test_split_and_says_so(root, zip_of, each):
    tiny = {f"{label}/{n}.png": noise(9 + n, 9) for label in "ab" for n in range(each)}
    surveys = []
    info = import_images(root, "tiny", zip_of(tiny), on_survey=surveys.append)
    assert (info.train, info.val, info.test, info.splits) == (2 * each, 0, 0, ("train",))
    assert any("no pictures are held out for testing" in note for note in surveys[0].warnings())
    datasets = Datasets(root)
    assert datasets.get("tiny") == info
    assert datasets.class_counts("tiny") == {"train": {"a": each, "b": each}}
    assert datasets.fingerprint("tiny").images == {"train": 2 * each}
    with pytest.raises(ConfigError, match=r"^the dataset tiny has no test images, as it was made"):
        datasets.load("tiny", "test")


def test_another_way_to_make_pictures_square_is_refused(root, folder_of, files):
    with pytest.raises(ConfigError, match=r"^fit must be one of crop, squash, pad, got 'fill'"):
        import_images(root, "pets", folder_of(files), fit="fill")
    assert entries(root) == []


def test_a_few_unreadable_pictures_are_skipped_and_named(root, zip_of, files):
    many = {f"train/cat/{n}.png": files["train/cat/0.png"] for n in range(30)}
    bad = {"train/cat/bad.png": b"GIF89a?", "test/dog/bad.png": b""}
    info = import_images(root, "pets", zip_of({**files, **many, **bad}), size=8)
    assert info.skipped_count == 2
    assert info.skipped == ("test/dog/bad.png", "train/cat/bad.png")
    assert json.loads((root / "pets/dataset.json").read_text())["skipped"] == list(info.skipped)
    assert (info.train, info.test) == (33, 2)


def test_many_unreadable_pictures_are_refused_with_some_names(root, zip_of, files):
    rule = r"^1 of 9 pictures cannot be read, such as 'train/cat/x'; 'train/cat/x' is not a PNG, JP"
    with pytest.raises(DemoError, match=rule):
        import_images(root, "pets", zip_of({**files, "train/cat/x": b"?"}), size=8)
    assert entries(root) == []


def test_class_folders_without_a_readable_picture_are_named(root, folder_of, files):
    more = {f"train/cat/more{n}.png": files["train/cat/0.png"] for n in range(5)}
    source, surveys = folder_of(files | more), []
    for split in ("train", "test"):
        (source / split / "empty").mkdir()
        (source / split / "broken").mkdir()
    (source / "train/broken/1.png").write_bytes(b"<html>")
    info = import_images(root, "pets", source, size=8, on_survey=surveys.append)
    assert "empty" not in info.classes
    expected = (
        "the folders 'broken' and 'empty' have no picture that can be read, and are no classes"
    )
    assert expected in surveys[0].notes


def test_a_readme_beside_the_class_folders_is_ignored(root, zip_of, files):
    files = {f"pets/{name}": data for name, data in files.items()}
    info = import_images(root, "pets", zip_of({**files, "pets/README": b"hi", "x": b"y"}), size=8)
    assert (info.train, info.skipped_count) == (6, 0)


@pytest.mark.parametrize(
    "name", ["", "Pets", "-pets", "a/b", "../x", ".x", "x" * 65, "ä", "a\n", 7]
)
def test_an_invalid_name_is_refused(root, name, folder_of, files):
    with pytest.raises(ConfigError, match=r"^name must be at most 64 lowercase letters, digits"):
        import_images(root, name, folder_of(files))
    assert entries(root) == []


def test_the_built_in_name_is_refused(root, folder_of, files):
    with pytest.raises(ConfigError, match="'shapes10' is taken by the built-in dataset"):
        import_images(root, "shapes10", folder_of(files))


@pytest.mark.parametrize("size", [7, 257, 32.0, True])
def test_a_size_out_of_range_is_refused(root, size, folder_of, files):
    with pytest.raises(
        ConfigError, match=r"^size must be a whole number from 8 to 256 pixels, got"
    ):
        import_images(root, "pets", folder_of(files), size=size)


def test_a_dataset_is_never_overwritten(root, folder_of, files):
    source = folder_of(files)
    import_images(root, "pets", source, size=8)
    with pytest.raises(ConfigError, match=r"^there is already a dataset named 'pets'$"):
        import_images(root, "pets", source, size=16)
    assert Datasets(root).get("pets").size == 8


def test_an_incomplete_dataset_is_replaced(root, folder_of, files):
    (root / "pets").mkdir(parents=True)
    (root / "pets/train-images.npy").write_bytes(b"half of it")
    assert import_images(root, "pets", folder_of(files), size=8).train == 6


def test_a_folder_with_other_files_is_never_removed(root, files):
    for name, data in files.items():
        (root / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "pets" / name).write_bytes(data)
    with pytest.raises(ConfigError, match="exists and holds other files: choose another name"):
        import_images(root, "pets", root / "pets", size=8)
    assert (root / "pets/train/cat/0.png").exists()
    assert import_images(root, "cats", root / "pets", size=8).train == 6


def test_a_table_of_the_training_pictures_alone_costs_no_labelled_test_folder(root, files, zip_of):
    rows = [f"{name},{name.split('/')[1]}" for name in files if name.startswith("train")]
    table = "\n".join(["path,label", *rows]).encode()
    info = import_images(root, "pets", zip_of({**files, "train.csv": table}), size=8)
    assert (info.train, info.test) == (6, 2)


def test_flat_pictures_are_imported_by_their_table(root, files, zip_of):
    flat = {f"{n}.png": data for n, data in enumerate(files.values())}
    rows = [f"{name},{'ab'[n % 2]}" for n, name in enumerate(flat)]
    flat["metadata.csv"] = "\n".join(["file_name,label", *rows]).encode()
    surveys = []
    info = import_images(root, "pets", zip_of(flat), size=8, on_survey=surveys.append)
    assert (info.classes, info.train + info.test) == (("a", "b"), 8)
    assert surveys[0].passed_over == 0


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_hostile_archive_leaves_nothing_behind(kind, root, files, source_of, tmp_path):
    source = source_of(kind, {**files, "../evil.png": b"x"})
    with pytest.raises(DamagedError, match="points outside it"):
        import_images(root, "pets", source, size=8)
    assert entries(root) == []
    assert entries(tmp_path) == ["data", source.name]


def test_a_missing_source_leaves_nothing_behind(root, tmp_path):
    with pytest.raises(NotFoundError):
        import_images(root, "pets", tmp_path / "gone")
    assert entries(root) == []


def test_an_error_of_progress_ends_the_import_and_leaves_nothing_behind(root, zip_of, files):
    def stop(done: int, total: int | None, message: str) -> None:
        raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        import_images(root, "pets", zip_of(files), size=8, progress=stop)
    assert entries(root) == []


def test_a_stopped_import_leaves_no_thread(root, tar_of, files):
    def stop(done: int, total: int | None, message: str) -> None:
        assert threading.active_count() == before + 1
        raise StoppedError("stopped")

    many = {f"train/cat/big{n}": b"junk" * 4000 for n in range(700)}
    source, before = tar_of({**many, **files}), threading.active_count()
    with pytest.raises(StoppedError):
        import_images(root, "pets", source, size=8, progress=stop)
    assert threading.active_count() == before
    assert entries(root) == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_a_link_or_a_device_among_the_pictures_is_refused(root, tmp_path, files, kind):
    with tarfile.open(tmp_path / "odd.tar", "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo("train/cat/9.png")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(DamagedError, match=r"^'train/cat/9.png' is a link or a device, not a file"):
        import_images(root, "pets", tmp_path / "odd.tar", size=8)
    assert entries(root) == []
    assert entries(tmp_path) == ["data", "odd.tar"]


@pytest.mark.parametrize("kind", ["zip", "gz", "xz", "bz2"])
def test_a_torn_archive_leaves_nothing_behind(root, tmp_path, source_of, files, kind):
    source = source_of(kind, files)
    source.write_bytes(source.read_bytes()[:-30])
    with pytest.raises(DamagedError, match="cut short or damaged"):
        import_images(root, "pets", source, size=8)
    assert entries(root) == []
    assert entries(tmp_path)[-1:] == [source.name]


def test_progress_counts_the_pictures(root, zip_of, files, monkeypatch):
    monkeypatch.setattr("resnet_demo.data.importer.read_pictures.REPORT_EVERY_S", 1e9)
    reports = []
    many = {f"train/cat/{n}.png": files["train/cat/0.png"] for n in range(600)}
    import_images(
        root,
        "pets",
        zip_of({**files, **many}),
        size=8,
        progress=lambda *now: reports.append(now),
    )
    assert reports[:2] == [(250, 605, "250 pictures read"), (500, 605, "500 pictures read")]
    message = "writing: 605 pictures of 8 × 8 pixels take 116 kB"
    assert reports[2:] == [(0, 605, message), (603, 605, message)]


def test_progress_comes_while_a_few_large_pictures_are_read(root, zip_of, files, monkeypatch):
    monkeypatch.setattr("resnet_demo.data.importer.read_pictures.REPORT_EVERY_S", 0)
    reports = []
    import_images(root, "pets", zip_of(files), size=8, progress=lambda *now: reports.append(now[2]))
    assert reports[:3] == ["1 picture read", "2 pictures read", "3 pictures read"]


def test_leftovers_of_a_killed_import_are_removed_but_not_those_of_a_live_one(
    root, folder_of, files
):
    ended = subprocess.Popen(["true"])
    ended.wait()
    dead, alive = (root / f".pets.partial-{pid}" for pid in (ended.pid, os.getppid()))
    dead.mkdir(parents=True)
    alive.mkdir()
    import_images(root, "pets", folder_of(files), size=8)
    assert entries(root) == [alive.name, "pets"]


def test_a_write_error_is_reported_in_one_sentence(tmp_path, folder_of, files):
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(DemoError, match=r"^the dataset could not be written to .*data: "):
        import_images(tmp_path / "data", "pets", folder_of(files), size=8)


def test_the_current_folder_is_named_in_the_source(root, folder_of, files, monkeypatch):
    monkeypatch.chdir(folder_of(files))
    assert import_images(root, "pets", Path("."), size=8).source == "imported from source"
