"""Reading a person's own folder: links are followed, what cannot be opened is left out."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from resnet_demo.data.importer import own_folder
from resnet_demo.data.importer.archive import read_members
from resnet_demo.data.importer.import_images import import_images
from resnet_demo.data.importer.members import EMPTY_FOLDER, ArchiveLimits


def read(folder: Path, **limits: int) -> dict[str, bytes | str]:
    """Return the bytes, or the problem, of each file by its path."""
    members = read_members(folder, ArchiveLimits(**limits))
    return {"/".join(m.parts): m.problem or m.data for m in members}


@pytest.fixture
def folder(folder_of: Callable) -> Path:
    return folder_of({"a/1.png": b"one", "b/2.png": b"two"})


def test_links_to_files_and_folders_are_followed(folder: Path, tmp_path: Path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store/x").write_bytes(b"three")
    os.symlink(tmp_path / "store/x", folder / "a/3.png")
    os.symlink(tmp_path / "store", folder / "c")
    os.link(folder / "a/1.png", folder / "a/4.png")
    assert read(folder) == {
        "a/1.png": b"one",
        "a/3.png": b"three",
        "a/4.png": b"one",
        "b/2.png": b"two",
        "c/x": b"three",
    }


def test_a_link_to_nothing_to_itself_or_to_a_folder_above_is_left_out(folder: Path):
    os.symlink("/nowhere/9.png", folder / "a/9.png")
    os.symlink("self.png", folder / "a/self.png")
    os.symlink("..", folder / "b/up")
    found = read(folder)
    assert found["a/9.png"] == "a link to nothing"
    assert found["b/up"] == "a link to a folder above it"
    assert "symbolic links" in found["a/self.png"]
    assert (found["a/1.png"], found["b/2.png"], len(found)) == (b"one", b"two", 5)


def test_a_pipe_is_left_out_and_never_opened(folder: Path):
    os.mkfifo(folder / "a/pipe.png")
    os.symlink("/dev/zero", folder / "b/zero.png")
    found = read(folder)
    assert found["a/pipe.png"] == found["b/zero.png"] == "a device or a pipe, not a file"


def test_files_and_folders_without_permission_are_left_out(folder: Path, monkeypatch):
    def open_all_but_one(path: str, mode: str):
        if Path(path).name == "1.png":
            raise PermissionError(13, "Permission denied")
        return open(path, mode)

    def scan_all_but_one(path: Path):
        if path.name == "b":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    scan = os.scandir
    monkeypatch.setattr(own_folder, "open", open_all_but_one, raising=False)
    monkeypatch.setattr(own_folder.os, "scandir", scan_all_but_one)
    assert read(folder) == {"a/1.png": "Permission denied", "b": "Permission denied"}


def test_a_hidden_picture_a_person_may_have_meant_is_left_out_with_the_reason(folder: Path):
    for name in ("a/.mine.png", ".oak/1.png", ".git/1.png", "b/.trash-7/1.png", ".notes/x.txt"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    reason = "hidden, as a name begins with a dot"
    assert read(folder) == {
        "a/1.png": b"one",
        "b/2.png": b"two",
        "a/.mine.png": reason,
        ".oak": reason,
    }


def test_an_empty_folder_is_named_as_one(folder: Path):
    (folder / "elm/.ds_store").mkdir(parents=True)
    assert read(folder)["elm"] == EMPTY_FOLDER


def test_what_cannot_be_opened_is_counted_and_named_and_ends_no_import(
    tmp_path: Path, folder_of, files
):
    source, surveys = folder_of(files), []
    for number in range(4):  # more than a tenth: that rule is for damaged pictures
        os.symlink("/nowhere", source / f"train/cat/gone{number}.png")
    info = import_images(tmp_path / "data", "pets", source, size=8, on_survey=surveys.append)
    assert (info.train, info.test, info.skipped_count) == (6, 2, 4)
    assert info.skipped[0] == "train/cat/gone0.png"
    assert any(
        note.startswith("4 files are left out, such as 'train/cat/gone0.png'")
        for note in surveys[0].warnings(8)
    )
