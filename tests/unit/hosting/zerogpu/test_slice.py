"""Slices of GPU time: when one ends, what it leaves behind, and what slices cost."""

import json
from types import SimpleNamespace

import pytest
import torch

from resnet_demo import __version__
from resnet_demo.config import make_config, to_json
from resnet_demo.events import Epoch, Failed, Started, Step, Stopped
from resnet_demo.file_locks import release_lock
from resnet_demo.hosting.zerogpu import slice as slice_module
from resnet_demo.hosting.zerogpu.slice import (
    SliceStopSignal,
    SliceUse,
    estimate_cost,
    record_slice,
    recorded_slices,
    train_slice,
)
from resnet_demo.hosting.zerogpu.visitor_runs import VisitorRuns
from resnet_demo.runs.store import Run
from resnet_demo.tasks.locks import has_worker
from resnet_demo.tasks.status import acquire_worker_lock, change_state, read_status

KNOBS = {
    "dataset": "colours",
    "model": "resnet8",
    "image_size": 12,
    "batch_size": 15,
    "grow_from": 1,
}
OPENING = {
    "device": "a GPU",
    "precision": "bf16",
    "threads": 1,
    "version": "0",
    "parameters": 1,
    "macs": 1,
    "steps_per_epoch": 9,
    "epochs": 24,
}
EPOCH = {
    "train_loss": 2.0,
    "train_top1": 0.2,
    "val_loss": 1.5,
    "val_top1": 0.5,
    "lr": 0.1,
    "images_per_s": 13.5,
}


@pytest.fixture
def make_run(launcher, tiny):
    """Return a function that makes a stopped run of a visitor, as before its first slice."""
    slices = VisitorRuns(launcher, train_slice)
    return lambda **fields: slices.make(tiny(**fields), "some-visitor")


def test_a_slice_ends_before_its_time_is_up_and_leaves_a_checkpoint(
    launcher, make_run, monkeypatch
):
    now = 0.0  # a clock of the test: a busy machine takes longer for a step
    monkeypatch.setattr(slice_module, "time", SimpleNamespace(monotonic=lambda: now))
    run, events = make_run(epochs=50), []
    for event in train_slice(run.path, launcher.paths, seconds=5.0, spare_s=1.0):
        events.append(event)
        if isinstance(event, Step) and event.step == 3:
            now = 4.1
    assert (type(events[0]), type(events[-1])) == (Started, Stopped)
    assert events == list(run.log())
    assert (read_status(run.path).state, has_worker(run.path)) == ("stopped", False)
    assert torch.load(run.path / "last.pt", weights_only=True)["step"] == events[-1].step > 0


def test_a_slice_saves_a_checkpoint_when_its_page_is_closed(launcher, make_run):
    run = make_run(epochs=1000)
    running = train_slice(run.path, launcher.paths, seconds=120)
    assert any(isinstance(event, Step) and event.step == 3 for event in running)
    running.close()
    *_, last = run.log()
    assert isinstance(last, Stopped)
    assert (read_status(run.path).state, has_worker(run.path)) == ("stopped", False)
    assert torch.load(run.path / "last.pt", weights_only=True)["step"] == last.step


def test_a_failure_of_the_run_is_the_last_event_of_its_slice(launcher, make_run):
    run = make_run(batch_norm=False, peak_lr=10.0, schedule="constant", momentum=0.99)
    *_, last = train_slice(run.path, launcher.paths, seconds=120)
    assert isinstance(last, Failed)
    assert last == list(run.log())[-1]
    assert (read_status(run.path).state, has_worker(run.path)) == ("failed", False)


def test_a_slice_of_a_run_that_has_a_worker_yields_a_message_and_no_event(launcher, make_run):
    run = make_run()
    lock = acquire_worker_lock(run.path)
    change_state(run.path, "queued")
    [message] = train_slice(run.path, launcher.paths, seconds=120)
    assert message == f"{run.id} is queued: it has a worker"
    release_lock(lock)


def test_a_slice_keeps_time_for_the_longest_step_and_a_checkpoint(make_run, monkeypatch):
    run = make_run()
    lock = acquire_worker_lock(run.path)
    change_state(run.path, "queued")
    now = 0.0
    monkeypatch.setattr(slice_module.time, "monotonic", lambda: now)
    should_stop, answers = SliceStopSignal(run.path, end=50.0), []
    for now in (9.0, *range(20, 45, 3), 44.1):  # noqa: B007 - the clock
        answers.append(should_stop())
    assert answers == [False] * 10 + [True]
    release_lock(lock)


@pytest.fixture
def sliced(launcher):
    """Return a function that writes a run with an epoch of ten seconds, and its slices."""

    def make(*slices):
        run = Run(launcher.paths.runs / "a-run")
        run.path.mkdir(parents=True)
        (run.path / "config.json").write_text(to_json(make_config(KNOBS), __version__))
        run.log().append(Started(step=0, epoch=1, **OPENING))
        run.log().append(Epoch(step=9, epoch=1, seconds=10.0, **EPOCH))
        for use in slices:
            record_slice(run.path, use)
        return run

    return make


def cost(launcher, slice_s=60, **knobs):
    config = make_config({**KNOBS, **knobs})
    return estimate_cost(config, launcher.datasets.get("colours"), launcher.runs, slice_s)


def test_the_cost_is_unknown_before_a_run_of_the_same_work_had_slices(sliced, launcher):
    sliced()  # trained by a worker, on another device
    assert cost(launcher) is None


def test_the_cost_follows_from_the_measured_slices(sliced, launcher):
    sliced(SliceUse(60, 54, 44, False), SliceUse(60, 54, 44, False), SliceUse(60, 60, 1, True))
    estimate = cost(launcher, epochs=22)  # 220 s, of which a slice trains 60 - 6 - 10
    assert (estimate.slices, estimate.seconds) == (5, 220 + 5 * 10)
    assert estimate.epochs_per_slice == pytest.approx(4.4)
    assert (estimate.run_id, estimate.overhead_s) == ("a-run", 10)
    assert cost(launcher, slice_s=120, epochs=22).slices == 3
    assert cost(launcher, epochs=1).slices == 1


def test_the_cost_of_other_work_is_unknown(sliced, launcher):
    sliced(SliceUse(60, 54, 44, False))
    assert cost(launcher, model="resnet14") is None


def test_the_overhead_is_unknown_if_all_slices_were_killed(sliced, launcher):
    sliced(SliceUse(60, 60, 30, True))
    estimate = cost(launcher, epochs=22)
    assert (estimate.slices, estimate.seconds, estimate.overhead_s) == (5, 220, None)


@pytest.mark.parametrize("line", ["{", "[]", "null", json.dumps({"asked": 1}), '{"asked": NaN}'])
def test_a_damaged_line_is_skipped(sliced, line):
    good = SliceUse(60.0, 54.0, 44.0, False)
    run = sliced(good)
    with open(run.path / "slices.jsonl", "a") as file:
        file.write(f"{line}\n")
    record_slice(run.path, good)
    assert recorded_slices(run) == [good, good]
