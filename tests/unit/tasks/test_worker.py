"""Runs from their start to their end, each in a real worker process."""

import hashlib
import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from resnet_demo import __version__
from resnet_demo.config import to_json
from resnet_demo.errors import ConfigError
from resnet_demo.events import Epoch, Failed, Finished, Resumed, Started, Step, Stopped
from resnet_demo.file_locks import try_lock
from resnet_demo.tasks import worker
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.locks import has_worker
from resnet_demo.tasks.snapshot import Snapshots, snapshot_dict
from resnet_demo.tasks.status import read_status, reconcile_status, request_stop
from resnet_demo.tasks.worker import train

LONG, ENDLESS = {"epochs": 6}, {"epochs": 1000}


@pytest.fixture(scope="module")
def uninterrupted(launchers, tmp_path_factory, tiny, owner, ended):
    """Return a run of six epochs without a stop or a kill."""
    launcher = launchers(tmp_path_factory.mktemp("uninterrupted"))
    run = launcher.runs.get(launcher.start(tiny(**LONG), owner))
    assert ended(run.path).state == "finished", (run.path / "worker.log").read_text()
    return run


def curve(run):
    """Return the steps and epochs of a run, without times."""
    view = Snapshots().get(run).view
    steps = [(s.step, s.epoch, s.loss, s.top1, s.lr) for s in view.steps]
    return steps, [replace(epoch, time=0, seconds=0, images_per_s=0) for epoch in view.epochs]


def assert_same_run(run, whole):
    """Check that two runs have the same curve, checkpoint and kept weights."""
    one, other = (torch.load(r.path / "last.pt", weights_only=True) for r in (run, whole))
    assert one["step"] == other["step"] > 0
    torch.testing.assert_close(one["model"], other["model"], rtol=0, atol=0)
    torch.testing.assert_close(one["optimizer"], other["optimizer"], rtol=0, atol=0)
    best = [load_file(r.path / "model.safetensors") for r in (run, whole)]
    torch.testing.assert_close(*best, rtol=0, atol=0)
    assert curve(run) == curve(whole)


def test_a_finished_run_has_the_files_of_the_contract(uninterrupted, tiny):
    folder = uninterrupted.path
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        *("config.json", "events.jsonl", "status.json", "worker.log"),
        *("last.pt", "last.pt.sha256", "model.safetensors", "model.json"),
    }
    assert not [name for name in names if "tmp" in name or name.endswith(".new")]
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("fingerprint")["digest"]  # of the dataset's content
    assert config == json.loads(to_json(tiny(**LONG), __version__))
    digest = hashlib.sha256((folder / "last.pt").read_bytes()).hexdigest()
    assert (folder / "last.pt.sha256").read_text().split()[0] == digest
    described = json.loads((folder / "model.json").read_text())
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert (described["sha256"], described["classes"]) == (weights, ["blue", "green", "red"])
    log = (folder / "worker.log").read_text()
    assert "started on" in log
    assert "finished after" in log
    assert "Traceback" not in log


def test_the_events_of_a_run_come_in_order(uninterrupted):
    events = list(uninterrupted.log())
    assert [type(event) for event in events] == [
        Started,
        *([Step] * 9 + [Epoch]) * 6,
        Finished,
    ]
    assert [e.step for e in events if isinstance(e, Step)] == list(range(1, 55))
    assert [(e.epoch, e.step) for e in events if isinstance(e, Epoch)] == [
        (n, 9 * n) for n in range(1, 7)
    ]
    assert [event.time for event in events] == sorted(event.time for event in events)


def test_the_end_of_a_run_names_its_best_epoch(uninterrupted):
    seen = snapshot_dict(uninterrupted)
    *_, last = uninterrupted.log()
    assert seen["best"] == {"epoch": last.best_epoch, "val_top1": last.best_val_top1}
    assert seen["best"]["val_top1"] == max(row["val_top1"] for row in seen["history"])
    assert (seen["state"], seen["message"]) == ("finished", "6 epochs done")
    assert seen["progress"]["step"] == seen["progress"]["total_steps"] == 54
    assert read_status(uninterrupted.path).pid is None


def test_a_finished_run_cannot_be_resumed(uninterrupted, launchers, owner, until):
    launcher = launchers(uninterrupted.path.parents[1])
    until(lambda: not has_worker(uninterrupted.path))  # it sets the status before it exits
    before = uninterrupted.log().read()
    with pytest.raises(ConfigError, match="is finished: it cannot become queued"):
        launcher.resume(uninterrupted.id, owner)
    assert "is not running: it is finished" in launcher.stop(uninterrupted.id, owner)
    assert not has_worker(uninterrupted.path)
    assert uninterrupted.log().read() == before


def test_a_run_that_was_killed_then_stopped_equals_an_uninterrupted_one(
    uninterrupted, launcher, tiny, owner, ended, at_step, until, standby
):
    """Check it with both kinds of workers: the first and the last one were standby workers."""
    warm = standby(launcher)
    run = launcher.runs.get(launcher.start(tiny(**LONG), owner))
    at_step(run, 12)  # in the second epoch; the checkpoint is of the end of the first
    assert read_status(run.path).pid == warm
    os.kill(warm, signal.SIGKILL)
    assert ended(run.path).state == "failed"
    until(lambda: "killed by signal 9" in read_status(run.path).message)
    saved = torch.load(run.path / "last.pt", weights_only=True)["step"]
    assert saved in (9, 18)

    warm = standby(launcher)
    assert Launcher(launcher.paths).resume(run.id, owner) == run.id  # has no standby worker
    at_step(run, 24)
    assert read_status(run.path).pid != warm
    assert "stops after this step" in launcher.stop(run.id, owner)
    assert ended(run.path).state == "stopped"
    *_, last = run.log()
    assert isinstance(last, Stopped)
    assert torch.load(run.path / "last.pt", weights_only=True)["step"] == last.step < 54

    launcher.resume(run.id, owner)
    until(lambda: read_status(run.path).pid == warm)
    assert ended(run.path).state == "finished"
    resumed = [event.step for event in run.log() if isinstance(event, Resumed)]
    assert resumed == [saved, last.step]
    logged = [event.step for event in run.log() if isinstance(event, Step)]
    assert len(logged) > 54  # some were repeated; of those only the newer ones count
    assert_same_run(run, uninterrupted)


def start_three(launcher, tiny, owner):
    """Start three runs at once; return them in the order of the queue."""
    run_ids = []
    threads = [
        threading.Thread(target=lambda: run_ids.append(launcher.start(tiny(**ENDLESS), owner)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(run_ids) == [f"resnet20-colours-{n}" for n in (1, 2, 3)]
    return sorted(
        launcher.runs.list(), key=lambda run: (read_status(run.path).queued_clock, run.id)
    )


def test_of_three_runs_started_at_once_one_trains_at_a_time_and_none_of_those_is_deleted(
    launcher, tiny, owner, at_step, ended, until
):
    first, second, third = three_runs = start_three(launcher, tiny, owner)
    at_step(first, 3)
    until(lambda: "place 2" in (third.path / "worker.log").read_text())
    assert [snapshot_dict(run)["place"] for run in three_runs] == [None, 1, 2]
    states = [reconcile_status(run.path).state for run in three_runs]
    assert states == ["running", "queued", "queued"]

    # a waiting worker has not loaded torch; a training one has
    loaded = [Path(f"/proc/{read_status(r.path).pid}/maps").read_text() for r in (first, second)]
    assert ["libtorch" in maps for maps in loaded] == [True, False]

    # the app is restarted: its new launcher did not start the three runs
    restarted = Launcher(launcher.paths)
    assert {run.id: snapshot_dict(run)["state"] for run in restarted.runs.list()} == {
        first.id: "running",
        second.id: "queued",
        third.id: "queued",
    }
    for run, state in ((first, "running"), (third, "queued")):
        with pytest.raises(ConfigError, match=f"run {run.id} is {state}: stop it before you del"):
            restarted.delete(run.id, owner)
    restarted.stop(third.id, owner)
    assert ended(third.path).state == "stopped"
    assert [type(event) for event in third.log()] == [Stopped]
    restarted.delete(third.id, owner)
    assert not third.path.exists()
    assert (restarted.paths.runs / ".trash" / third.id / "config.json").exists()

    stop_and_watch_the_next(launcher, first, second, owner, ended, until)


def stop_and_watch_the_next(launcher, first, second, owner, ended, until):
    over, busy_counts = threading.Event(), set()

    def watch():
        while not over.is_set():
            states = [read_status(run.path).state for run in (first, second)]
            busy_counts.add(sum(state in ("preparing", "running") for state in states))
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    launcher.stop(first.id, owner)
    assert ended(first.path).state == "stopped"
    assert (first.path / "last.pt").exists()
    until(lambda: read_status(second.path).state == "preparing")
    launcher.stop(second.id, owner)  # before its first step
    assert ended(second.path).state == "stopped"
    assert [type(event) for event in second.log()] == [Started, Stopped]
    over.set()
    watcher.join()
    assert max(busy_counts) == 1


def test_a_loss_that_is_not_finite_fails_the_run_and_names_the_learning_rate(launcher, queued):
    run = queued(batch_norm=False, peak_lr=10.0, schedule="constant", momentum=0.99)
    events = []
    last = train(run, launcher.paths, events.append)
    assert isinstance(last, Failed)
    assert (events[-1], list(run.log())[-1]) == (last, last)
    assert "try a lower peak_lr than 10" in last.message
    assert (read_status(run.path).state, read_status(run.path).message) == ("failed", last.message)
    assert last.step == events[-2].step > 0
    for line in run.log().path.read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # JSON has no NaN or infinity


def test_a_stop_while_torch_is_loaded_ends_the_run_before_its_first_step(launcher, queued):
    run = queued()

    def stop(event):
        if isinstance(event, Started):
            request_stop(run.path)

    assert isinstance(train(run, launcher.paths, stop), Stopped)
    assert [type(event) for event in run.log()] == [Started, Stopped]
    assert read_status(run.path).state == "stopped"
    assert torch.load(run.path / "last.pt", weights_only=True)["step"] == 0


def test_a_stop_during_the_last_step_ends_the_run_as_stopped(launcher, queued):
    run = queued()

    def stop(event):
        if isinstance(event, Finished):
            request_stop(run.path)

    train(run, launcher.paths, stop)
    assert read_status(run.path).state == "stopped"  # not finished, because a stop was requested


@pytest.mark.parametrize("knobs", [{}, {"batch_norm": False, "peak_lr": 10.0}])
def test_the_device_is_free_when_a_run_has_ended(launcher, queued, knobs):
    train(queued(**knobs), launcher.paths)
    os.close(try_lock(launcher.paths.runs / ".device.lock"))


def test_the_device_is_free_after_an_unforeseen_error(launcher, queued, monkeypatch):
    def broken(*_, **options):
        raise RuntimeError("no such kernel\nand a long explanation")
        yield

    monkeypatch.setattr("resnet_demo.training.fit.fit", broken)
    run = queued()
    with pytest.raises(RuntimeError):
        train(run, launcher.paths)
    assert read_status(run.path).message == "RuntimeError: no such kernel"
    assert [type(event) for event in run.log()] == [Failed]
    os.close(try_lock(launcher.paths.runs / ".device.lock"))


def test_a_copy_of_the_device_lock_does_not_keep_the_device(launcher, queued, monkeypatch):
    """Copy the descriptor, as a process does that is forked during a run."""
    copies, wait_for_device = [], worker.wait_for_device

    def wait_and_copy(*args):
        lock = wait_for_device(*args)
        copies.append(os.dup(lock))
        return lock

    monkeypatch.setattr(worker, "wait_for_device", wait_and_copy)
    train(queued(), launcher.paths)
    lock = try_lock(launcher.paths.runs / ".device.lock")
    assert lock is not None
    for descriptor in (lock, *copies):
        os.close(descriptor)


def test_a_torn_line_in_the_log_is_removed_before_the_run_trains(launcher, queued):
    run = queued()
    run.log().path.write_bytes(b'{"event": "step", "st')
    train(run, launcher.paths)
    events = list(run.log())
    assert [type(event) for event in events] == [Started, *[Step] * 9, Epoch, Finished]
    assert run.log().path.read_text().count("\n") == len(events)


def test_a_run_removed_from_the_queue_after_a_kill_counts_no_time_in_between(launcher, queued):
    run = queued()
    at = {"step": 1, "epoch": 1}
    opening = dict.fromkeys(("device", "precision", "version"), "")
    opening |= dict.fromkeys(("threads", "parameters", "macs", "steps_per_epoch", "epochs"), 1)
    run.log().append(Started(**at, clock=1000.0, **opening))
    run.log().append(Step(**at, clock=1007.0, loss=1.0, top1=0.0, lr=0.1, images_per_s=1.0))
    request_stop(run.path)
    last = train(run, launcher.paths)  # long after
    assert (type(last), last.step, last.seconds) == (Stopped, 1, 7.0)
