import os
import threading
import time
from types import SimpleNamespace

import pytest

from resnet_demo.config import TrainConfig, to_json
from resnet_demo.errors import DamagedError
from resnet_demo.events import Epoch, Finished, Started, Step
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run, Runs
from resnet_demo.tasks import snapshot as module
from resnet_demo.tasks.locks import WORKER_LOCK, try_lock
from resnet_demo.tasks.snapshot import RunStates, Snapshots, snapshot_dict, summary, summary_text
from resnet_demo.tasks.status import Status, change_state, status_json
from resnet_demo.ui.plots import CurveCache
from resnet_demo.ui.train.run_panel import run_parts
from tests.unit.runs.test_view import write_log


@pytest.fixture
def runs(tmp_path):
    return Runs(Paths(tmp_path / "runs", tmp_path / "data", tmp_path / "shipped"))


@pytest.fixture
def make(runs):
    """Makes a run with a status and a log; `take` its lock where a worker should be there."""

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
        step=0, epoch=1, clock=at, device="cpu (2 threads)", precision="float32", threads=2,
        parameters=1000, macs=2000, steps_per_epoch=10, epochs=3, version="0",
    )  # fmt: skip


def step(number, at, rate=64.0):
    return Step(
        step=number, epoch=(number - 1) // 10 + 1, clock=at, loss=1.5, top1=0.5, lr=0.1,
        images_per_s=rate,
    )  # fmt: skip


def epoch(number, at, seconds=20.0, val_top1=0.5):
    return Epoch(
        step=10 * number, epoch=number, clock=at, train_loss=2.0, train_top1=0.25, val_loss=1.0,
        val_top1=val_top1, lr=0.1, seconds=seconds, images_per_s=64.0,
    )  # fmt: skip


def test_a_run_that_trains_tells_where_it_is_and_how_long_it_takes(make):
    now = time.monotonic()
    run = make("mine", "running", started(now - 30), epoch(1, now - 10), step(15, now), epochs=3)
    lock = try_lock(run.path / WORKER_LOCK)
    assert lock is not None
    seen = snapshot_dict(run)
    assert (seen["run"], seen["state"], seen["message"]) == ("mine", "running", "as it was")
    assert seen["place"] is None
    progress = seen["progress"]
    assert (progress["step"], progress["total_steps"]) == (15, 30)
    assert (progress["epoch"], progress["epochs"]) == (2, 3)
    assert (progress["loss"], progress["lr"], progress["images_per_s"]) == (1.5, 0.1, 64.0)
    assert progress["seconds"] == pytest.approx(30, abs=2)
    assert progress["seconds_left"] == 15 * 2.0  # an epoch of ten steps took 20 seconds
    assert progress["silent_s"] == pytest.approx(0, abs=2)
    assert (progress["parameters"], progress["macs"]) == (1000, 2000)
    assert seen["best"] == {"epoch": 1, "val_top1": 0.5}
    assert [row["epoch"] for row in seen["history"]] == [1]
    assert seen["config"] == TrainConfig(epochs=3).to_dict()


def test_a_run_at_rest_has_no_time_left_and_stays_as_long_as_it_was(make):
    run = make("mine", "stopped", started(1000.0), epoch(1, 1020.0), step(12, 1024.0))
    progress = snapshot_dict(run)["progress"]
    assert progress["seconds"] == 20.0 + 4.0
    assert (progress["seconds_left"], progress["silent_s"]) == (None, None)


def test_a_look_at_a_run_whose_worker_is_gone_says_so(make):
    run = make("mine", "running", started(1000.0), step(3, 1006.0))
    assert snapshot_dict(run)["state"] == "failed"
    assert snapshot_dict(run)["progress"]["seconds"] == 6.0


def test_a_run_without_a_word_can_be_looked_at(make):
    seen = snapshot_dict(make("mine", "failed"))
    assert (seen["history"], seen["best"]) == ([], None)
    assert (seen["progress"]["step"], seen["progress"]["total_steps"]) == (0, 0)


def test_a_watcher_reads_only_what_is_new(make):
    run, watcher = make("mine", "stopped", started(1000.0)), Snapshots()
    assert watcher.get(run).view.steps == []
    offset = watcher.get(run).view.offset
    assert offset == (run.path / "events.jsonl").stat().st_size
    run.log().append(step(1, 1001.0))
    assert [s.step for s in watcher.get(run).view.steps] == [1]


@pytest.mark.parametrize("jump", [-3600.0, 86_400.0])
def test_a_clock_that_is_set_makes_no_run_silent_deaf_or_old(make, monkeypatch, jump):
    now = time.monotonic()
    events = [started(now - 30), epoch(1, now - 10), step(11, now - 2), step(12, now)]
    run = make("mine", "stopping", *events, epochs=3)
    lock = try_lock(run.path / WORKER_LOCK)
    wall = time.time()
    monkeypatch.setattr(time, "time", lambda: wall + jump)
    seen = Snapshots().get(run)
    assert not seen.ignores_stop
    assert 0 <= seen.silent_s() < 60  # what the test itself takes
    assert 30 <= seen.progress()["seconds"] < 90
    os.close(lock)


def test_a_long_log_is_read_by_a_thread_and_nobody_waits(make, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 1000)
    run, watcher = make("mine", "stopped", started(1000.0)), Snapshots()
    assert not watcher.get_nowait(run).is_loading
    whole = [step(n, 1000.0 + n) for n in range(1, 101)]
    for event in whole:
        run.log().append(event)
    go, refresh = threading.Event(), module.RunView.refresh
    monkeypatch.setattr(module.RunView, "refresh", lambda view: go.wait() and refresh(view))
    for _ in range(3):  # of many who look, one reads
        seen = watcher.get_nowait(run)
        assert (seen.is_loading, seen.view.steps, seen.status.state) == (True, [], "stopped")
    assert len(watcher.is_loading) == 1
    go.set()
    deadline = time.monotonic() + 60
    while (seen := watcher.get_nowait(run)).is_loading and time.monotonic() < deadline:
        time.sleep(0.01)
    assert seen.view.steps == whole
    whole.append(step(101, 1101.0))
    run.log().append(whole[-1])
    assert watcher.get_nowait(run).view.steps == whole


def test_a_watcher_keeps_the_views_that_were_asked_for_last(make, monkeypatch):
    monkeypatch.setattr(module, "MAX_VIEWS", 2)
    runs, watcher = [make(f"run-{n}", "stopped", started(1000.0)) for n in range(3)], Snapshots()
    for run in (runs[0], runs[1], runs[0], runs[2]):
        watcher.get(run)
    assert [path for path, _ in watcher.views] == [str(runs[n].path) for n in (0, 2)]


@pytest.mark.soak
def test_a_tick_on_a_log_of_a_million_events_takes_less_than_50_ms_of_the_processor(make):
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
        began = time.thread_time()
        for _, make in run_parts(services, "mine", False).values():
            make()
        taken.append(time.thread_time() - began)
    assert sorted(taken)[47] < 0.05


def test_a_summary_is_a_line(make):
    end = Finished(
        step=30, epoch=3, clock=1100.0, best_epoch=2, best_val_top1=0.75, seconds=65.0, message=""
    )
    events = [started(1000.0), epoch(1, 1020.0), epoch(2, 1040.0, val_top1=0.75), end]
    row = summary(make("mine", "finished", *events, model="resnet20", epochs=3))
    assert summary_text(row) == (
        "mine: finished, resnet20 on cifar10, 2 of 3 epochs in 1 min 05 s, validation top-1 75.00%"
    )


# --- the states of many


@pytest.fixture
def reads(monkeypatch):
    """Counts how often a status is read, by run."""
    read, counted = module.run_status, []
    monkeypatch.setattr(module, "run_status", lambda run: counted.append(run.id) or read(run))
    return counted


def test_a_run_at_rest_is_read_again_only_when_its_status_was_replaced(make, reads):
    states, run = RunStates(), make("a-1", "stopped")
    assert [states(run) for _ in range(3)] == ["stopped"] * 3
    assert reads == ["a-1"]
    change_state(run.path, "queued")
    os.close(try_lock(run.path / WORKER_LOCK))
    assert states(run) == "failed"  # nobody works on it


def test_a_live_run_is_looked_at_each_time(make):
    states, run = RunStates(), make("a-1", "running")
    lock = try_lock(run.path / WORKER_LOCK)
    assert states(run) == "running"
    os.close(lock)  # as the kernel does for a worker that is killed
    assert states(run) == "failed"


def test_a_run_that_came_with_the_app_is_read_once(make, runs, reads):
    states, run = RunStates(), make("learn-a", "finished", root=runs.shipped_root)
    assert [states(run) for _ in range(3)] == ["finished"] * 3
    assert reads == ["learn-a"]


def test_a_run_whose_status_is_gone_is_damaged_again_and_again(make):
    states, run = RunStates(), make("a-1", "finished")
    assert states(run) == "finished"
    (run.path / "status.json").unlink()
    for _ in range(2):
        with pytest.raises(DamagedError):
            states(run)
