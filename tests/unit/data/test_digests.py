"""Digests of pictures and fingerprints of datasets: what changes them, and when they are made."""

import os
from dataclasses import replace

import numpy as np
import pytest

from resnet_demo.data import digests as digests_module
from resnet_demo.data.digests import count_known, picture_digests, split_digests
from resnet_demo.data.importer.import_images import import_images
from resnet_demo.data.store import Datasets
from resnet_demo.fingerprint import Fingerprint

PETS = Fingerprint(("cat", "dog"), {"train": 6, "test": 2}, "0123")


@pytest.fixture
def import_as(tmp_path, zip_of):
    """Return a function that imports files under a name and returns the dataset's fingerprint."""

    def import_files(name, files):
        root = tmp_path / "data"
        import_images(root, name, zip_of(files), size=8)
        return Datasets(root).fingerprint(name)

    return import_files


@pytest.fixture
def pets(tmp_path, files, import_as):
    """Return the folder of an imported dataset."""
    import_as("pets", files)
    return tmp_path / "data/pets"


@pytest.fixture
def hashed(monkeypatch):
    """Return a list that grows by the number of pictures of each later hashing."""
    counts, original = [], digests_module.picture_digests

    def counting(images):
        counts.append(len(images))
        return original(images)

    monkeypatch.setattr(digests_module, "picture_digests", counting)
    return counts


def test_only_equal_pixels_have_equal_digests():
    images = np.random.default_rng(1).integers(0, 256, (5000, 4, 4, 3), np.uint8)
    images[4999] = images[3]
    digests = picture_digests(images)
    assert (digests.shape, digests.dtype) == ((5000, 16), np.uint8)
    assert len(np.unique(digests, axis=0)) == 4999
    assert np.array_equal(digests, picture_digests(np.asfortranarray(images)))
    assert count_known(digests[:10], digests[4990:]) == 1


def test_an_import_writes_the_digests_of_its_pictures(pets, hashed):
    datasets = Datasets(pets.parent)
    for split, count in (("train", 6), ("test", 2)):
        images, _ = datasets.load("pets", split)
        assert np.array_equal(datasets.digests("pets", split), picture_digests(images))
        assert len(images) == count
    assert hashed == []


@pytest.mark.parametrize("state", ["missing", "torn", "of fewer pictures", "older than the images"])
def test_digests_are_made_once_where_the_file_does_not_fit(pets, hashed, state):
    path, images = pets / "train-digests.npy", np.load(pets / "train-images.npy")
    expected = np.load(path)
    if state == "missing":
        path.unlink()
    elif state == "torn":
        path.write_bytes(path.read_bytes()[:-1])
    elif state == "of fewer pictures":
        np.save(path, expected[:5])
    else:
        np.save(path, expected[::-1])
        os.utime(path, (1, 1))
    for _ in range(2):
        assert np.array_equal(split_digests(pets, "train", images), expected)
    assert hashed == [6]
    assert np.array_equal(np.load(path), expected)


def test_a_disk_that_cannot_be_written_still_gives_digests(pets, monkeypatch):
    (pets / "test-digests.npy").unlink()

    def refuse(*_):
        raise OSError("read-only")

    monkeypatch.setattr(digests_module, "write_atomically", refuse)
    assert len(Datasets(pets.parent).digests("pets", "test")) == 2
    assert not (pets / "test-digests.npy").exists()


def test_the_same_files_imported_twice_have_one_fingerprint(files, import_as):
    first = import_as("one", files)
    assert import_as("two", files) == first
    assert first.classes == ("cat", "dog")
    assert first.images == {"train": 6, "test": 2}


@pytest.mark.parametrize("change", ["a label", "a class name", "a picture", "one picture more"])
def test_every_change_of_the_content_changes_the_fingerprint(files, import_as, change):
    first, changed = import_as("one", files), dict(files)
    if change == "a label":
        changed["train/dog/9.png"] = changed.pop("train/cat/0.png")
        changed["train/cat/9.png"] = changed.pop("train/dog/0.png")
    elif change == "a class name":
        changed = {name.replace("cat", "cow"): data for name, data in files.items()}
    elif change == "a picture":
        changed["test/dog/0.png"] = files["train/dog/1.png"]
    else:
        changed["test/dog/1.png"] = files["train/dog/1.png"]
    assert import_as("two", changed).digest != first.digest


def test_shapes10_has_a_fingerprint_without_being_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr("resnet_demo.data.shapes.make_shapes10", None)
    fingerprint = Datasets(tmp_path).fingerprint("shapes10")
    assert fingerprint.images == {"train": 10_000, "test": 2_000}
    assert fingerprint.digest == "73863b4a20bef0624ecd7e2ed382e34b"


def test_an_archive_to_be_converted_has_no_fingerprint_yet(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    assert Datasets(tmp_path).fingerprint("cifar10") is None


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (
            replace(PETS, classes=("hen", "pig", "cow", "ox", "bee", "ant", "fly")),
            "its classes were cat, dog and are hen, pig, cow, ox, bee and 2 more",
        ),
        (
            replace(PETS, images={"train": 1200, "val": 3, "test": 2}),
            "it had 6 training, 2 test images and has 1,200 training, 3 validation, 2 test",
        ),
        (replace(PETS, digest="4567"), "its pictures or their labels are others"),
    ],
)
def test_a_difference_names_what_changed(now, expected):
    assert PETS.difference(now) == expected


def test_a_fingerprint_is_read_from_its_json_and_from_no_other():
    assert Fingerprint.from_dict(PETS.to_dict()) == PETS
    for values in (None, [], {}, {**PETS.to_dict(), "images": {"train": "six"}}):
        with pytest.raises(ValueError, match=r"\w"):
            Fingerprint.from_dict(values)
