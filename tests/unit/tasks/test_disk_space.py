import os
import subprocess
import sys

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

WORKER = [sys.executable, "-m", "resnet_demo.tasks.worker", "train"]


def test_a_run_that_has_no_room_is_not_begun_and_nothing_is_made(
    launcher, tiny, owner, monkeypatch
):
    monkeypatch.setattr(disk_space, "free_bytes", lambda folder: 3_400_000)
    with pytest.raises(DiskFullError, match=r"^disk full: \d+ MB needed .* resnet20, 3 MB free$"):
        launcher.start(tiny(), owner)
    assert not launcher.paths.runs.exists() or not list(launcher.runs.list())


def test_what_a_run_needs_is_its_checkpoints_and_its_best_weights():
    config = make_config({"model": "resnet20", "optimizer": "adamw"})
    parameters = 269_722
    checkpoint = 4 * parameters * 3  # weights and two numbers for each
    assert disk_space.needed_bytes(config, 10) == pytest.approx(
        3 * checkpoint + 2 * 4 * parameters + 5e6, rel=0.001
    )


def test_a_checkpoint_fits_into_what_was_asked_for(launcher, tiny):
    run, lock = launcher.make(tiny(), "whole")
    train(run, launcher.paths)
    os.close(lock)
    assert not (run.path / RESERVE).exists()
    written = sum(file.stat().st_size for file in run.path.iterdir())
    assert written < disk_space.needed_bytes(tiny(), 3)


def test_the_checkpoints_that_are_replaced_count_as_room(tmp_path, monkeypatch):
    config = make_config({})
    needed = disk_space.needed_bytes(config, 10)
    monkeypatch.setattr(disk_space, "free_bytes", lambda folder: needed - 1000)
    with pytest.raises(DiskFullError):
        check_disk_space(config, 10, tmp_path)
    (tmp_path / "last.pt").write_bytes(bytes(1000))
    check_disk_space(config, 10, tmp_path)


def test_room_is_that_of_the_disk_even_of_a_folder_to_come(tmp_path):
    there = os.statvfs(tmp_path)
    told = free_bytes(tmp_path / "not" / "yet")
    assert told == pytest.approx(there.f_bavail * there.f_frsize, rel=0.05)


def test_the_reserve_is_real_and_is_let_go_of(tmp_path):
    create_reserve(tmp_path)
    assert (tmp_path / RESERVE).stat().st_blocks * 512 >= RESERVE_BYTES  # no hole
    release_reserve(tmp_path)
    release_reserve(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_a_kill_left_half_written_is_gone_when_the_run_goes_on(launcher, tiny):
    run, lock = launcher.make(tiny(), "killed")
    left = [".model.safetensors.7.tmp", ".last.pt.sha256.7.tmp", ".last.pt.new"]
    others = [".status.json.7.tmp"]  # the app may be writing that
    for name in (*left, *others):
        (run.path / name).write_bytes(b"half")
    train(run, launcher.paths)
    os.close(lock)
    assert {path.name for path in run.path.glob(".*")} == {*others}


def test_a_disk_that_fills_up_in_a_save_stops_the_run_which_goes_on_when_there_is_room(
    launcher, tiny, tmp_path
):
    run, lock = launcher.make(tiny(epochs=2, peak_lr=0.02), "full")
    os.close(lock)
    environment = {**os.environ, **launcher.paths.environment()}
    with file_size_limit(400_000):  # the log has room, a checkpoint has none
        subprocess.run([*WORKER, run.path], env=environment, check=True, capture_output=True)
    status = read_status(run.path)
    assert status.state == "stopped"
    assert status.message.startswith("disk full: 2 MB needed for the kept weights, ")
    assert status.message.endswith("make room, then Resume continues")
    last = list(run.log())[-1]
    assert (last.kind, last.message) == ("stopped", status.message)
    assert not (run.path / RESERVE).exists()
    assert not list(run.path.glob(".*.new")) + list(run.path.glob(".*.tmp"))

    os.close(launcher.requeue(run))
    subprocess.run([*WORKER, run.path], env=environment, check=True, capture_output=True)
    assert read_status(run.path).state == "finished"


def test_on_a_full_disk_the_checkpoint_before_is_whole_and_the_reserve_tells_why(
    launchers, tiny, tmp_path
):
    with small_disk(tmp_path / "disk", 40_000_000) as disk:
        launcher = launchers(disk)
        run, lock = launcher.make(tiny(epochs=3), "full")
        os.close(lock)
        filler = disk / "filler"
        script = FILLING.format(worker="resnet_demo.tasks.worker")
        environment = {**os.environ, **launcher.paths.environment()}
        subprocess.run(
            [sys.executable, "-c", script, run.path, filler], env=environment, check=True
        )
        assert free_bytes(disk) < 1_000_000
        status = read_status(run.path)
        assert (status.state, status.message[:9]) == ("stopped", "disk full")
        assert list(run.log())[-1].message == status.message
        state, warning = load_last(run.path)
        assert (state["validated"], warning) == (1, "")


FILLING = """
import os, sys
from pathlib import Path
from {worker} import train
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run

def fill(event):  # everything, as soon as the first epoch is saved
    if event.kind == "step" and event.epoch == 2 and not os.path.exists(sys.argv[2]):
        with open(sys.argv[2], "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1000))
            except OSError:
                pass

train(Run(Path(sys.argv[1])), Paths.from_environment(), fill)
"""
