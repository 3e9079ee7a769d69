"""Datasets by name: listing, loading, deleting, and the refusal of damaged ones."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from resnet_demo.config import make_config
from resnet_demo.data.importer.import_images import import_images
from resnet_demo.data.recipe_fit import check_data
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DamagedError, NotFoundError
from tests.unit.data.conftest import png


@pytest.fixture
def datasets(tmp_path: Path, folder_of, files) -> Datasets:
    import_images(tmp_path / "data", "pets", folder_of(files), size=8)
    return Datasets(tmp_path / "data")


def test_cifar10_comes_first_then_shapes10_then_the_others_by_name(datasets, folder_of, files):
    for name in ("zebras", "ants", "cifar10"):
        import_images(datasets.root, name, folder_of(files), size=8)
    names = [info.name for info in datasets.list()]
    assert names == ["cifar10", "shapes10", "ants", "pets", "zebras"]


def test_shapes10_exists_without_any_folder(tmp_path: Path):
    datasets = Datasets(tmp_path / "nowhere")
    assert [info.name for info in datasets.list()] == ["shapes10"]
    assert datasets.get("shapes10").synthetic


def test_an_unknown_dataset_is_refused_with_the_known_names(datasets):
    expected = "^dataset must be one of shapes10, pets, got 'cats'$"
    with pytest.raises(NotFoundError, match=expected) as caught:
        datasets.get("cats")
    assert caught.value.field == "dataset"
    with pytest.raises(NotFoundError, match=r"data get cifar10` downloads it$"):
        datasets.get("cifar10")


@pytest.mark.parametrize("name", ["..", "../data/pets", "/etc", "", "pets/", "x\0", None, 3, ["a"]])
def test_a_name_never_leads_outside_the_root(datasets, name):
    with pytest.raises(ConfigError):
        datasets.path(name)
    for method in (datasets.get, datasets.prepare, lambda name: datasets.load(name, "train")):
        with pytest.raises(NotFoundError):
            method(name)


def test_images_are_mapped_and_writing_to_them_does_not_change_the_files(datasets):
    images, labels = datasets.load("pets", "train")
    assert isinstance(images, np.memmap)
    assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
    before = images[0, 0, 0, 0]
    images[0, 0, 0, 0] = before + 1
    assert datasets.load("pets", "train")[0][0, 0, 0, 0] == before


@pytest.mark.parametrize("split", ["val", "", "../train", None])
def test_only_train_and_test_are_stored(datasets, split):
    with pytest.raises(ConfigError, match=r"^split must be one of train, test, got"):
        datasets.load("pets", split)


def test_a_validation_split_is_stored_and_used_as_such(tmp_path, folder_of, files):
    more = {name.replace("train/", "valid/"): files[name] for name in files if "/0" not in name}
    info = import_images(tmp_path / "data", "pets", folder_of({**files, **more}), size=8)
    datasets = Datasets(tmp_path / "data")
    assert datasets.get("pets") == info
    assert (info.train, info.val, info.test) == (6, 4, 2)
    assert datasets.class_counts("pets")["val"] == {"cat": 2, "dog": 2}
    config = make_config({"dataset": "pets", "val_share": 0.5, "batch_size": 6})
    assert check_data(config, datasets) == info  # all six are trained on
    images, labels, positions = datasets.load_split(config, "val")
    assert (images[positions] == datasets.load("pets", "val")[0]).all()
    assert labels[positions].tolist() == [0, 0, 1, 1]
    assert sorted(datasets.load_split(config, "train")[2].tolist()) == list(range(6))


def test_without_a_stored_validation_split_a_part_of_train_serves(datasets):
    config = make_config({"dataset": "pets", "val_share": 0.5, "batch_size": 2})
    images, _, train = datasets.load_split(config, "train")
    same, _, val = datasets.load_split(config, "val")
    assert len(images) == len(same) == 6
    assert sorted([*train, *val]) == list(range(6))
    assert "val" not in datasets.get("pets").to_dict()
    assert datasets.load_split(config, "test")[2].tolist() == [0, 1]


@pytest.mark.parametrize("name", ["uneven", "shapes10"])
def test_a_stratified_validation_split_holds_out_images_of_each_class(datasets, folder_of, name):
    numbers = {f"train/{label}/{n}.png": n for label, k in (("a", 3), ("b", 9)) for n in range(k)}
    source = folder_of({path: png(n) for path, n in numbers.items()} | {"test/a/0.png": png(1)})
    import_images(datasets.root, "uneven", source, size=8)
    config = make_config({"dataset": name, "val_share": 0.1, "stratify": True, "batch_size": 2})
    _, labels, train = datasets.load_split(config, "train")
    _, _, val = datasets.load_split(config, "val")
    assert datasets.split_sizes(config) == (len(train), len(val))
    assert sorted([*train, *val]) == list(range(len(labels)))
    expected = [1] * 4 if name == "uneven" else [100] * 10  # a, b, and the fixture's cat, dog
    assert np.bincount(labels[val]).tolist() == expected


def test_a_folder_without_its_description_is_no_dataset(datasets):
    (datasets.root / "pets/dataset.json").unlink()
    assert [info.name for info in datasets.list()] == ["shapes10"]
    with pytest.raises(NotFoundError):
        datasets.get("pets")


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ["cat"]},
        {"classes": ["cat", "cat"]},
        {"classes": "cd"},
        {"classes": [1, 2]},
        {"size": 0},
        {"size": 8.0},
        {"train": -6},
        {"train": True},
        {"test": None},
        {"mean": [0.1, 0.2]},
        {"mean": [0.1, 0.2, "x"]},
        {"std": [0.1, 0.0, 0.1]},
        {"std": [0.1, float("nan"), 0.1]},
        {"per_image_std": None},
        {"synthetic": "no"},
        {"name": "dogs"},
        {"source": None},
        {"skipped": [1]},
        {"skipped_count": "0"},
        {"size": 16},
        {"train": 5},
        {"test": 3},
        {"mean": [10**400, 0, 0]},
    ],
)
def test_a_description_with_invalid_values_is_damaged(datasets, change):
    path = datasets.root / "pets/dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert_damaged(datasets)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", "\xff", "[" * 100_000])
def test_a_description_that_is_no_object_is_damaged(datasets, text):
    (datasets.root / "pets/dataset.json").write_text(text, encoding="latin1")
    assert_damaged(datasets)


@pytest.mark.parametrize("part", ["train-images", "train-labels", "test-images", "test-labels"])
@pytest.mark.parametrize("length", [None, 0, 60, 129])
def test_an_array_that_is_missing_or_cut_is_damaged(datasets, part, length):
    path = datasets.root / f"pets/{part}.npy"
    data = path.read_bytes()
    path.unlink() if length is None else path.write_bytes(data[:length])
    assert_damaged(datasets)


def test_an_array_of_objects_is_never_unpickled(datasets):
    np.save(datasets.root / "pets/train-labels.npy", np.array([{}] * 6), allow_pickle=True)
    assert_damaged(datasets)


def assert_damaged(datasets: Datasets) -> None:
    with pytest.raises(DamagedError, match=r"^the dataset 'pets' is damaged: .*json|npy"):
        datasets.get("pets")
    with pytest.raises(DamagedError):
        datasets.load("pets", "train")
    assert [info.name for info in datasets.list()] == ["shapes10"]


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_without_a_class_is_damaged(datasets, label):
    np.save(datasets.root / "pets/train-labels.npy", np.array([0, 0, 0, 1, 1, label]))
    with pytest.raises(DamagedError, match="'pets' is damaged: its labels name a class that"):
        datasets.load("pets", "train")


def test_datasets_are_listed_without_torch():
    program = (
        "import sys, pathlib, resnet_demo.data, resnet_demo.data.importer.import_images as i\n"
        "from resnet_demo.data.store import Datasets\n"
        "Datasets(pathlib.Path('nowhere')).list()\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_class_counts_are_the_number_of_images_per_class(datasets):
    counts = datasets.class_counts("pets")
    labels = {split: datasets.load("pets", split)[1].tolist() for split in ("train", "test")}
    for split, per_class in counts.items():
        assert list(per_class) == list(datasets.get("pets").classes)
        assert list(per_class.values()) == [labels[split].count(n) for n in range(len(per_class))]


def test_a_deleted_dataset_leaves_no_files(datasets):
    datasets.delete("pets")
    assert list(datasets.names()) == ["shapes10"]
    assert list(datasets.root.iterdir()) == []
    with pytest.raises(NotFoundError, match="dataset must be one of shapes10, got 'pets'"):
        datasets.delete("pets")


def test_built_in_and_hand_placed_datasets_are_not_deleted(datasets):
    with pytest.raises(ConfigError, match="shapes10 is built in and cannot be deleted"):
        datasets.delete("shapes10")
    original = datasets.root / "cifar-10-python.tar.gz"
    original.write_bytes(b"")
    with pytest.raises(ConfigError, match="would be converted again from"):
        datasets.delete("cifar10")
    assert original.exists()


def test_a_damaged_dataset_is_named_and_can_be_deleted(datasets):
    (datasets.root / "pets" / "dataset.json").write_text("{")
    assert [info.name for info in datasets.list()] == ["shapes10"]
    assert list(datasets.names()) == ["shapes10", "pets"]
    datasets.delete("pets")
    assert list(datasets.names()) == ["shapes10"]
