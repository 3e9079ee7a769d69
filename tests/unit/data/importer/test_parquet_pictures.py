"""Parquet files in the layout of the Hub's image datasets."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from resnet_demo.data.importer import parquet_pictures
from resnet_demo.data.importer.archive import read_members
from resnet_demo.data.importer.import_images import import_images
from resnet_demo.data.importer.members import ArchiveLimits
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DamagedError, DemoError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
CLASSES = ["oak tree", "elm/ash"]  # in the order of the labels, not of the alphabet


@pytest.fixture
def pictures(files) -> list[bytes]:
    return list(files.values())


def write(path: Path, pictures: list[bytes], labels: list, classes: list[str] | None = CLASSES):
    images = pa.array([{"bytes": data, "path": "x.png"} for data in pictures])
    table = pa.table({"image": images, "label": labels, "note": ["n"] * len(labels)})
    if classes:
        features = {"image": {"_type": "Image"}, "label": {"names": classes, "_type": "ClassLabel"}}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        table = table.replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=3)
    return path


def test_a_repository_of_the_hub_is_imported_with_its_splits_and_classes(tmp_path, pictures):
    folder = tmp_path / "repo"
    write(folder / "data/train-00000-of-00002.parquet", pictures[:4], [0, 1, 1, 0])
    write(folder / "data/train-00001-of-00002.parquet", pictures[4:6], [1, 0])
    write(folder / "data/validation-00000-of-00001.parquet", pictures[6:], [1, 0])
    write(folder / "data/test-00000-of-00001.parquet", pictures[:2], [-1, -1])
    (folder / "README.md").write_text("---")
    surveys = []
    info = import_images(tmp_path / "data", "trees", folder, size=8, on_survey=surveys.append)
    assert (info.classes, info.train, info.test) == (("elm/ash", "oak tree"), 6, 2)
    assert surveys[0].notes == (
        "the folder 'val' is the test split, since there is no other",
        "the folder 'test' has no labelled class folders: 2 pictures are left out",
    )
    images, labels = Datasets(tmp_path / "data").load("trees", "train")
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert len(np.unique(images.reshape(6, -1), axis=0)) == 6


@pytest.mark.parametrize("kind", ["zip", "tar", "xz"])
def test_parquet_files_in_an_archive_are_read(tmp_path, pictures, source_of, kind):
    files = {
        "repo/data/train-0.parquet": write(tmp_path / "a.parquet", pictures[:6], [0, 1] * 3),
        "repo/data/test-0.parquet": write(tmp_path / "b.parquet", pictures[6:], [1, 0]),
        "repo/other.parquet": tmp_path / "other.parquet",
    }
    pq.write_table(pa.table({"text": ["a"]}), files["repo/other.parquet"])
    source = source_of(kind, {name: path.read_bytes() for name, path in files.items()})
    surveys = []
    info = import_images(tmp_path / "data", "trees", source, size=8, on_survey=surveys.append)
    assert (info.classes, info.train, info.test) == (("elm/ash", "oak tree"), 6, 2)
    assert surveys[0].passed_over_names == ("repo/other.parquet",)
    images, _ = Datasets(tmp_path / "data").load("trees", "train")
    assert len(np.unique(images.reshape(6, -1), axis=0)) == 6


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_parquet_file_beside_pictures_in_an_archive_is_left_out(
    tmp_path, files, pictures, source_of, kind
):
    table = write(tmp_path / "a.parquet", pictures, [0, 1] * 4).read_bytes()
    source = source_of(kind, {**files, "zz.parquet": table})
    surveys = []
    info = import_images(tmp_path / "data", "pets", source, size=8, on_survey=surveys.append)
    assert (info.train, info.test) == (6, 2)
    assert surveys[0].passed_over_names == ("zz.parquet",)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archived_parquet_file_that_cannot_be_read_is_named_with_the_reason(
    tmp_path, pictures, source_of, kind, monkeypatch
):
    path = write(tmp_path / "a.parquet", pictures, [0, 1] * 4)
    source = source_of(kind, {"data/train.parquet": path.read_bytes()})
    monkeypatch.setattr(parquet_pictures, "MAX_BYTES", 1000)
    with pytest.raises(
        DemoError, match=r"left out: 'data/train\.parquet' \(.* bytes, the most for"
    ):
        import_images(tmp_path / "data", "trees", source)
    monkeypatch.setattr(parquet_pictures, "has_pyarrow", lambda: False)
    with pytest.raises(DemoError, match=r"\(reading it needs pyarrow: `pip install pyarrow`"):
        import_images(tmp_path / "data", "trees", source)
    monkeypatch.undo()
    source = source_of(kind, {"data/train.parquet": path.read_bytes()[:-40]})
    with pytest.raises(DemoError, match=r"'data/train\.parquet' is cut short or damaged"):
        import_images(tmp_path / "data", "trees", source)


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        (["b", "a", " a ", "b", "b", "a", "a", "b"], None, ("a", "b")),
        ([3, 12, 3, 12, 3, 12, 3, 12], None, ("12", "3")),
    ],
)
def test_a_single_file_without_listed_classes_is_imported(
    tmp_path, pictures, labels, classes, expected
):
    path = write(tmp_path / "0000.parquet", pictures, labels, classes)
    info = import_images(tmp_path / "data", "trees", path, size=8)
    assert (info.classes, info.train + info.test) == (expected, 8)


def test_without_pyarrow_the_sentence_says_how_to_install_it(tmp_path, pictures, monkeypatch):
    path = write(tmp_path / "0000.parquet", pictures, [0, 1] * 4)
    monkeypatch.setattr(parquet_pictures, "has_pyarrow", lambda: False)
    with pytest.raises(ConfigError, match="reading parquet files needs pyarrow: `pip install"):
        list(read_members(path))


def test_files_that_hold_no_labelled_pictures_are_refused(tmp_path, pictures):
    table = pa.table({"text": ["a"], "label": [1]})
    pq.write_table(table, tmp_path / "text.parquet")
    with pytest.raises(DamagedError, match="is no image dataset of the Hub"):
        list(read_members(tmp_path / "text.parquet"))
    path = write(tmp_path / "train.parquet", pictures, [0, 1] * 4)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DemoError, match=r"'train\.parquet' is cut short or damaged"):
        list(read_members(path))


def test_the_limits_of_archives_hold(tmp_path, pictures):
    path = write(tmp_path / "train.parquet", pictures, [0, 1] * 4)
    with pytest.raises(DamagedError, match="more than 5 files"):
        list(read_members(path, ArchiveLimits(members=5)))
    with pytest.raises(DamagedError, match="unpacks to more than 300 bytes"):
        list(read_members(path, ArchiveLimits(total_bytes=300)))


def test_has_pyarrow_says_whether_it_is_installed(monkeypatch):
    assert parquet_pictures.has_pyarrow()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not parquet_pictures.has_pyarrow()
