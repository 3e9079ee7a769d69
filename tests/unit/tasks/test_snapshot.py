"""Snapshots of runs and the states of many."""

import os
import threading
import time
from types import SimpleNamespace

import pytest

from resnet_demo.config import TrainConfig, to_json
from resnet_demo.errors import DamagedError
from resnet_demo.events import Epoch, Finished, Started, Step
from resnet_demo.file_locks import try_lock
from resnet_demo.learn.lessons import MAX_RUNS
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run, Runs
from resnet_demo.tasks import snapshot as module
from resnet_demo.tasks.locks import WORKER_LOCK
from resnet_demo.tasks.snapshot import (
    RunStates,
    Snapshots,
    run_summary,
    run_summary_text,
    snapshot_dict,
)
from resnet_demo.tasks.status import Status, change_state, status_json
from resnet_demo.ui.plots import CurveCache
from resnet_demo.ui.train.run_panel import run_parts
from tests.unit.runs.test_view import write_log


@pytest.fixture
def runs(tmp_path):
    return Runs(Paths(tmp_path / "runs", tmp_path / "data", tmp_path / "shipped"))


@pytest.fixture
def make(runs):
    """Return a function that creates a run with a status and a log, without a worker."""

    def make(name, state, *events, root=None, **knobs):
        folder = (root or runs.root) / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(to_json(TrainConfig(**knobs), "0"))
        status = Status(state=state, message="as it was", changed_clock=time.monotonic())
        (folder / "status.json").write_bytes(status_json(status))
        run = Run(folder, shipped=root is not None)
        for event in events:
            run.log().append(event)
        return run

    return make


def started(at):
    return Started(
        step=0,
        epoch=1,
        clock=at,
        device="cpu (2 threads)",
        precision="float32",
        threads=2,
        parameters=1000,
        macs=2000,
        steps_per_epoch=10,
        epochs=3,
        version="0",
    )


def step(number, at, rate=64.0):
    return Step(
        step=number,
        epoch=(number - 1) // 10 + 1,
        clock=at,
        loss=1.5,
        top1=0.5,
        lr=0.1,
        images_per_s=rate,
    )


def epoch(number, at, seconds=20.0, val_top1=0.5):
    return Epoch(
        step=10 * number,
        epoch=number,
        clock=at,
        train_loss=2.0,
        train_top1=0.25,
        val_loss=1.0,
        val_top1=val_top1,
        lr=0.1,
        seconds=seconds,
        images_per_s=64.0,
    )


def test_a_snapshot_of_a_training_run_has_progress_speed_and_remaining_time(make):
    now = time.monotonic()
    run = make("mine", "running", started(now - 30), epoch(1, now - 10), step(15, now), epochs=3)
    lock = try_lock(run.path / WORKER_LOCK)
    assert lock is not None
    snapshot = snapshot_dict(run)
    assert (snapshot["run"], snapshot["state"], snapshot["message"]) == (
        "mine",
        "running",
        "as it was",
    )
    assert snapshot["place"] is None
    progress = snapshot["progress"]
    assert (progress["step"], progress["total_steps"]) == (15, 30)
    assert (progress["epoch"], progress["epochs"]) == (2, 3)
    assert (progress["loss"], progress["lr"], progress["images_per_s"]) == (1.5, 0.1, 64.0)
    assert progress["seconds"] == pytest.approx(30, abs=2)
    assert progress["seconds_left"] == 15 * 2.0  # an epoch of ten steps took 20 seconds
    assert progress["silent_s"] == pytest.approx(0, abs=2)
    assert (progress["parameters"], progress["macs"]) == (1000, 2000)
    assert snapshot["best"] == {"epoch": 1, "val_top1": 0.5}
    assert [row["epoch"] for row in snapshot["history"]] == [1]
    assert snapshot["config"] == TrainConfig(epochs=3).to_dict()


def test_an_ended_run_has_a_fixed_duration_and_no_remaining_time(make):
    run = make("mine", "stopped", started(1000.0), epoch(1, 1020.0), step(12, 1024.0))
    progress = snapshot_dict(run)["progress"]
    assert progress["seconds"] == 20.0 + 4.0
    assert (progress["seconds_left"], progress["silent_s"]) == (None, None)


def test_a_run_without_its_worker_has_failed(make):
    run = make("mine", "running", started(1000.0), step(3, 1006.0))
    assert snapshot_dict(run)["state"] == "failed"
    assert snapshot_dict(run)["progress"]["seconds"] == 6.0


def test_a_snapshot_of_a_run_without_events_is_empty(make):
    snapshot = snapshot_dict(make("mine", "failed"))
    assert (snapshot["history"], snapshot["best"]) == ([], None)
    assert (snapshot["progress"]["step"], snapshot["progress"]["total_steps"]) == (0, 0)


def test_only_new_events_are_read(make):
    run, snapshots = make("mine", "stopped", started(1000.0)), Snapshots()
    assert snapshots.get(run).view.steps == []
    offset = snapshots.get(run).view.offset
    assert offset == (run.path / "events.jsonl").stat().st_size
    run.log().append(step(1, 1001.0))
    assert [s.step for s in snapshots.get(run).view.steps] == [1]


@pytest.mark.parametrize("jump", [-3600.0, 86_400.0])
def test_setting_the_wall_clock_does_not_change_durations(make, monkeypatch, jump):
    now = time.monotonic()
    events = [started(now - 30), epoch(1, now - 10), step(11, now - 2), step(12, now)]
    run = make("mine", "stopping", *events, epochs=3)
    lock = try_lock(run.path / WORKER_LOCK)
    wall = time.time()
    monkeypatch.setattr(time, "time", lambda: wall + jump)
    snapshot = Snapshots().get(run)
    assert not snapshot.ignores_stop
    assert 0 <= snapshot.silent_s() < 60  # the duration of the test itself
    assert 30 <= snapshot.progress()["seconds"] < 90
    os.close(lock)


def test_a_long_log_that_is_damaged_is_named_once_it_has_been_read(make, until):
    snapshots, run = Snapshots(), make("some-run-1", "stopped")
    with open(run.path / "events.jsonl", "wb") as log:
        log.truncate(2**28)
    assert snapshots.get_nowait(run).is_loading
    until(lambda: not snapshots.loading)
    for _ in range(2):
        with pytest.raises(DamagedError, match=r"^events.jsonl of some-run-1 is damaged$"):
            snapshots.get_nowait(run)
    write_log(run.path / "events.jsonl", 3)
    assert snapshots.get_nowait(run).view.steps


def test_a_long_log_is_read_in_one_thread_and_get_nowait_does_not_block(make, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 1000)
    run, snapshots = make("mine", "stopped", started(1000.0)), Snapshots()
    assert not snapshots.get_nowait(run).is_loading
    steps = [step(n, 1000.0 + n) for n in range(1, 101)]
    for event in steps:
        run.log().append(event)
    go, refresh = threading.Event(), module.RunView.refresh
    monkeypatch.setattr(module.RunView, "refresh", lambda view: go.wait() and refresh(view))
    for _ in range(3):  # of many calls, one starts a thread
        snapshot = snapshots.get_nowait(run)
        assert (snapshot.is_loading, snapshot.view.steps, snapshot.status.state) == (
            True,
            [],
            "stopped",
        )
    assert len(snapshots.loading) == 1
    go.set()
    deadline = time.monotonic() + 60
    while (snapshot := snapshots.get_nowait(run)).is_loading and time.monotonic() < deadline:
        time.sleep(0.01)
    assert snapshot.view.steps == steps
    steps.append(step(101, 1101.0))
    run.log().append(steps[-1])
    assert snapshots.get_nowait(run).view.steps == steps


def test_the_least_recently_read_view_is_evicted(make, monkeypatch):
    monkeypatch.setattr(module, "MAX_VIEWS", 2)
    runs, snapshots = [make(f"run-{n}", "stopped", started(1000.0)) for n in range(3)], Snapshots()
    for run in (runs[0], runs[1], runs[0], runs[2]):
        snapshots.get(run)
    assert [path for path, _ in snapshots.views] == [str(runs[n].path) for n in (0, 2)]


def test_a_second_tick_on_the_largest_group_reads_no_log_again(make):
    runs = [make(f"run-{n}", "stopped", started(1000.0)) for n in range(MAX_RUNS + 1)]
    snapshots = Snapshots()
    first = [snapshots.get(run).view for run in runs]
    second = [snapshots.get(run).view for run in runs]
    assert all(before is after for before, after in zip(first, second, strict=True))


@pytest.mark.soak
def test_a_tick_on_a_log_of_a_million_events_takes_less_than_50_ms(make):
    run = make("mine", "stopped", started(1000.0))
    write_log(run.log().path, 1_000_000)
    services = SimpleNamespace(
        snapshots=Snapshots(),
        runs=SimpleNamespace(get=lambda name: run),
        run_choices=lambda: [("mine", "mine")],
        slices=None,
        curves=CurveCache(),
    )
    services.snapshots.get(run)
    taken = []
    for n in range(50):
        run.log().append(step(1_000_001 + n, 2000.0 + n))
        start = time.thread_time()
        for _, make in run_parts(services, "mine", False).values():
            make()
        taken.append(time.thread_time() - start)
    assert sorted(taken)[47] < 0.05


def test_a_summary_is_one_line(make):
    end = Finished(
        step=30, epoch=3, clock=1100.0, best_epoch=2, best_val_top1=0.75, seconds=65.0, message=""
    )
    events = [started(1000.0), epoch(1, 1020.0), epoch(2, 1040.0, val_top1=0.75), end]
    row = run_summary(make("mine", "finished", *events, model="resnet20", epochs=3))
    assert run_summary_text(row) == (
        "mine: finished, resnet20 on cifar10, 2 of 3 epochs in 1 min 05 s, validation top-1 75.00 %"
    )


# --- states


@pytest.fixture
def reads(monkeypatch):
    """Return the ids of the runs whose status was read, in order."""
    read, run_ids = module.run_status, []
    monkeypatch.setattr(module, "run_status", lambda run: run_ids.append(run.id) or read(run))
    return run_ids


def test_an_ended_run_is_read_again_only_when_its_status_was_replaced(make, reads):
    states, run = RunStates(), make("a-1", "stopped")
    assert [states(run) for _ in range(3)] == ["stopped"] * 3
    assert reads == ["a-1"]
    change_state(run.path, "queued")
    os.close(try_lock(run.path / WORKER_LOCK))
    assert states(run) == "failed"  # it has no worker


def test_a_live_run_is_read_each_time(make):
    states, run = RunStates(), make("a-1", "running")
    lock = try_lock(run.path / WORKER_LOCK)
    assert states(run) == "running"
    os.close(lock)  # as the kernel does for a worker that is killed
    assert states(run) == "failed"


def test_a_shipped_run_is_read_once(make, runs, reads):
    states, run = RunStates(), make("learn-a", "finished", root=runs.shipped_root)
    assert [states(run) for _ in range(3)] == ["finished"] * 3
    assert reads == ["learn-a"]


def test_a_run_without_a_status_stays_damaged(make):
    states, run = RunStates(), make("a-1", "finished")
    assert states(run) == "finished"
    (run.path / "status.json").unlink()
    for _ in range(2):
        with pytest.raises(DamagedError):
            states(run)
