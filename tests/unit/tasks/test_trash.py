"""The trash folder: what goes in, how much it holds, and when it is emptied."""

import os
import time

import pytest

from resnet_demo.cli import main
from resnet_demo.tasks.trash import KEEP_DAYS, empty_trash, put_in_trash, trash_size, trash_text

DAY_S = 24 * 3600


@pytest.fixture
def delete(tmp_path):
    """Return a function that deletes a run of that size, some days ago."""

    def run(name, size=1000, days=0.0):
        folder = tmp_path / name
        (folder / "evaluations").mkdir(parents=True)
        (folder / "evaluations" / "result").write_bytes(b"x" * size)
        os.utime(folder, (1, 1))  # an old run, deleted now
        put_in_trash(folder)
        moved = tmp_path / ".trash" / name
        at = time.time() - days * DAY_S
        os.utime(moved, (at, at))
        return moved

    return run


def test_a_disk_that_refuses_to_set_times_still_dates_a_deletion(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(1, "Operation not permitted")

    (tmp_path / "old").mkdir()
    os.utime(tmp_path / "old", (1, 1))
    monkeypatch.setattr(os, "utime", refuse)
    moved = put_in_trash(tmp_path / "old")
    assert (moved.exists(), os.listdir(moved)) == (True, [])
    assert time.time() - moved.stat().st_mtime < DAY_S


def test_a_deleted_run_is_removed_after_thirty_days(tmp_path, delete):
    old, young = delete("old", days=KEEP_DAYS + 1), delete("young", days=KEEP_DAYS - 1)
    assert not old.exists()  # by the next deletion
    assert young.exists()
    assert empty_trash(tmp_path, KEEP_DAYS) == 0
    assert empty_trash(tmp_path, KEEP_DAYS - 2) == 1


def test_the_age_of_a_run_does_not_count(tmp_path):
    (tmp_path / "run").mkdir()
    os.utime(tmp_path / "run", (1, 1))
    put_in_trash(tmp_path / "run")
    assert (tmp_path / ".trash" / "run").exists()


def test_the_size_of_the_trash_is_shown(tmp_path, delete):
    assert trash_text(tmp_path).startswith("The trash is empty.")
    delete("one", 1_500_000)
    delete("two", 1_500_000)
    assert trash_size(tmp_path) == (2, 3_000_000)
    assert trash_text(tmp_path).startswith("The trash holds 2 runs, 3.0 MB. ")


def test_links_in_the_trash_are_not_followed(tmp_path, delete):
    folder = delete("one")
    outside = tmp_path / "precious"
    outside.mkdir()
    (outside / "file").write_bytes(b"keep")
    (folder.parent / "link").symlink_to(outside)
    (folder / "inner").symlink_to(outside)
    assert empty_trash(tmp_path) == 1
    assert (outside / "file").read_bytes() == b"keep"


def test_the_command_line_shows_and_empties_the_trash(tmp_path, delete, monkeypatch, capsys):
    monkeypatch.setenv("RESNET_DEMO_RUNS", str(tmp_path))
    delete("one", 2_000_000)
    assert main(["runs", "trash"]) == 0
    assert "1 run, 2.0 MB" in capsys.readouterr().out
    assert main(["runs", "trash", "--empty", "--json"]) == 0
    assert capsys.readouterr().out == '{"runs": 0, "bytes": 0, "removed": 1}\n'
    assert main(["runs", "list", "--empty"]) == 2
