"""One slice of GPU time: when it ends, and what it leaves behind."""

import pytest
import torch

from resnet_demo.events import Failed, Started, Step, Stopped
from resnet_demo.file_locks import release_lock
from resnet_demo.hosting.zerogpu import slice as slice_module
from resnet_demo.hosting.zerogpu.slice import SliceStopSignal, train_slice
from resnet_demo.hosting.zerogpu.visitor_runs import VisitorRuns
from resnet_demo.tasks.locks import has_worker
from resnet_demo.tasks.status import acquire_worker_lock, change_state, read_status


@pytest.fixture
def make_run(launcher, tiny):
    """Return a function that makes a stopped run of a visitor, as before its first slice."""
    slices = VisitorRuns(launcher, train_slice)
    return lambda **fields: slices.make(tiny(**fields), "some-visitor")


def test_a_slice_ends_before_its_time_is_up_and_leaves_a_checkpoint(launcher, make_run):
    import resnet_demo.training.fit  # noqa: F401 - or the import takes the slice's time

    run = make_run(epochs=1000)
    events = list(train_slice(run.path, launcher.paths, seconds=5.0, spare_s=1.0))
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
