"""Disk space: the estimate, the reserve, and real full disks."""

import os
import re
from contextlib import suppress

import pytest

from resnet_demo.config import make_config
from resnet_demo.errors import DiskFullError
from resnet_demo.files import free_bytes
from resnet_demo.tasks import disk_space
from resnet_demo.tasks.disk_space import (
    RESERVE,
    RESERVE_BYTES,
    check_disk_space,
    create_reserve,
    release_reserve,
)
from resnet_demo.tasks.status import read_status
from resnet_demo.tasks.worker import train
from resnet_demo.training.checkpoint import load_last
from tests.faults import file_size_limit, small_disk


def test_a_run_without_disk_space_is_refused_and_no_files_are_created(
    launcher, tiny, owner, monkeypatch
):
    monkeypatch.setattr(disk_space, "free_bytes", lambda folder: 3_400_000)
    with pytest.raises(DiskFullError, match=r"^disk full: \d+ MB needed .* resnet20, 3 MB free$"):
        launcher.start(tiny(), owner)
    assert not launcher.paths.runs.exists() or not list(launcher.runs.list())


@pytest.mark.parametrize(
    "knobs",
    [{"optimizer": "sgd"}, {"optimizer": "muon", "ema_decay": 0.9}, {"optimizer": "adamw"}],
    ids=str,
)
def test_the_needed_bytes_are_those_of_real_checkpoints_and_weights(
    knobs, launcher, tiny, monkeypatch
):
    config = tiny(**knobs)
    run, lock = launcher.make(config, "whole")
    train(run, launcher.paths)
    os.close(lock)
    assert not (run.path / RESERVE).exists()
    checkpoint = (run.path / "last.pt").stat().st_size
    weights = (run.path / "model.safetensors").stat().st_size
    monkeypatch.setattr(disk_space, "OTHER_BYTES", 0)
    # Headers and buffers come on top: OTHER_BYTES is for them.
    assert disk_space.needed_bytes(config, 3) == pytest.approx(
        3 * checkpoint + 2 * weights, rel=0.1
    )


def test_checkpoints_that_will_be_replaced_count_as_free_space(tmp_path, monkeypatch):
    config = make_config({})
    needed = disk_space.needed_bytes(config, 10)
    monkeypatch.setattr(disk_space, "free_bytes", lambda folder: needed - 1000)
    with pytest.raises(DiskFullError):
        check_disk_space(config, 10, tmp_path)
    (tmp_path / "last.pt").write_bytes(bytes(1000))
    check_disk_space(config, 10, tmp_path)


def test_the_free_space_of_a_missing_folder_is_that_of_its_disk(tmp_path):
    disk = os.statvfs(tmp_path)
    free = free_bytes(tmp_path / "not" / "yet")
    assert free == pytest.approx(disk.f_bavail * disk.f_frsize, rel=0.05)


def test_the_reserve_occupies_space_until_it_is_released(tmp_path):
    create_reserve(tmp_path)
    assert (tmp_path / RESERVE).stat().st_blocks * 512 >= RESERVE_BYTES  # not sparse
    release_reserve(tmp_path)
    release_reserve(tmp_path)
    assert not list(tmp_path.iterdir())


def test_files_that_a_kill_left_half_written_are_removed_on_resume(launcher, tiny):
    run, lock = launcher.make(tiny(), "killed")
    partial = [".model.safetensors.7.tmp", ".last.pt.sha256.7.tmp", ".last.pt.new"]
    others = [".status.json.7.tmp"]  # the app may be writing that
    for name in (*partial, *others):
        (run.path / name).write_bytes(b"half")
    train(run, launcher.paths)
    os.close(lock)
    assert {path.name for path in run.path.glob(".*")} == {*others}


def test_a_full_disk_stops_the_run_and_it_can_be_resumed_with_more_space(launcher, tiny, tmp_path):
    run, lock = launcher.make(tiny(epochs=2, peak_lr=0.02), "full")
    with file_size_limit(400_000):  # the log has room, a checkpoint has none
        train(run, launcher.paths)
    status = read_status(run.path)
    assert status.state == "stopped"
    assert status.message.startswith("disk full: 2 MB needed for the kept weights, ")
    assert status.message.endswith("make room, then Resume continues")
    last = list(run.log())[-1]
    assert (last.kind, last.message) == ("stopped", status.message)
    assert not (run.path / RESERVE).exists()
    assert not list(run.path.glob(".*.new")) + list(run.path.glob(".*.tmp"))

    os.close(lock)
    lock = launcher.requeue(run)
    train(run, launcher.paths)
    os.close(lock)
    assert read_status(run.path).state == "finished"


@pytest.mark.parametrize(("left", "what"), [(0, "the log"), (1_800_000, "a checkpoint")])
def test_on_a_full_disk_the_last_checkpoint_is_whole_and_the_reason_is_written(
    launchers, tiny, tmp_path, left, what
):
    with small_disk(tmp_path / "disk", 40_000_000) as disk:
        launcher = launchers(disk)
        run, lock = launcher.make(tiny(epochs=3), "full")

        def fill(event):  # the whole disk, once the first epoch is saved
            if event.kind == "step" and event.epoch == 2 and not (disk / "filler").exists():
                with open(disk / "filler", "wb", buffering=0) as file, suppress(OSError):
                    while True:
                        file.write(bytes(1000))
                os.truncate(disk / "filler", (disk / "filler").stat().st_size - left)

        train(run, launcher.paths, fill)
        os.close(lock)
        assert free_bytes(disk) < 2_000_000
        status = read_status(run.path)
        assert status.state == "stopped"
        assert re.match(rf"disk full: \d MB needed for {what}, 0 MB free;", status.message)
        assert list(run.log())[-1].message == status.message
        state, warning = load_last(run.path)
        assert (state["validated"], warning) == (1, "")
