"""Runs in slices of GPU time, on a stand-in for ZeroGPU that kills processes."""

import subprocess
from functools import partial

import pytest

from resnet_demo.config import make_config
from resnet_demo.errors import ConfigError
from resnet_demo.events import Epoch, Failed, Step
from resnet_demo.file_locks import release_lock
from resnet_demo.hosting.zerogpu import visitor_runs as slices_module
from resnet_demo.hosting.zerogpu.slice import (
    OWNER,
    SliceError,
    read_owner,
    recorded_slices,
    train_slice,
)
from resnet_demo.hosting.zerogpu.visitor_runs import VisitorRuns
from resnet_demo.runs.store import Run
from resnet_demo.tasks.limits import Caller, ForbiddenError
from resnet_demo.tasks.locks import has_worker
from resnet_demo.tasks.run_session import record_end
from resnet_demo.tasks.status import (
    acquire_worker_lock,
    change_state,
    read_status,
    reconcile_status,
)
from tests.standin import ZeroGPU
from tests.unit.tasks.test_worker import assert_same_run

EPOCHS, STEPS = 4, 9  # as `tiny` has it: STEPS an epoch
VISITOR, OTHER = "some-visitor", "another"
STRANGER = Caller("visitor", is_owner=False)
SECONDS = 60  # requested; only where a test says so is a slice cut off


@pytest.fixture
def zero():
    return ZeroGPU(SliceError)


@pytest.fixture
def slices(zero, launcher):
    """Return slices as on ZeroGPU, which keep half a second free and save often."""
    return VisitorRuns(launcher, zero.GPU(quick_slice, duration=900))


def quick_slice(folder, paths, seconds):
    yield from train_slice(folder, paths, 900, spare_s=0.5, save_every_s=0.1)


def last_event(folder):
    return ([*Run(folder).log()] or [None])[-1]


def is_preparing(folder, paths, seconds):
    return read_status(folder).state == "preparing"


def is_running(folder):
    """Return whether this slice runs; the log alone may end with the slice before."""
    return read_status(folder).state == "running"


def has_made(step, folder, paths, seconds):
    last = last_event(folder)
    return is_running(folder) and isinstance(last, Step) and last.step >= step


def is_in_validation(folder, paths, seconds):
    last = last_event(folder)
    return is_running(folder) and isinstance(last, Step) and last.step % STEPS == 0


def is_saving(folder, paths, seconds):
    return is_running(folder) and (folder / ".last.pt.new").exists()


def is_between_epochs(folder, paths, seconds):
    return is_running(folder) and isinstance(last_event(folder), Epoch)


def run_to_end(slices, run, visitor=VISITOR, limit=30):
    """Run slice after slice, as an open page does; return how many."""
    for number in range(1, limit):
        running = slices.run_slice(run.id, visitor, SECONDS)
        try:
            while True:
                next(running)
        except StopIteration as ended:
            if not ended.value:
                return number
    raise AssertionError("no end")


def test_a_run_over_five_killed_slices_equals_an_undisturbed_run(
    slices, zero, launchers, tmp_path, tiny, monkeypatch
):
    monkeypatch.setattr(
        slices_module, "MAX_SLICES_WITHOUT_SAVE", 9
    )  # these kills may come before a checkpoint
    zero.moments = [
        is_preparing,
        partial(has_made, 5),
        is_in_validation,
        is_saving,
        is_between_epochs,
    ]
    run = slices.make(tiny(epochs=EPOCHS), VISITOR)
    assert run_to_end(slices, run) == zero.begun == 6
    assert zero.killed == 5, "the run ended before all kills"

    whole = VisitorRuns(
        launchers(tmp_path / "whole"), lambda run, paths, _: train_slice(run, paths, 900)
    )
    undisturbed = whole.make(tiny(epochs=EPOCHS), VISITOR)
    assert run_to_end(whole, undisturbed) == 1
    for each in (run, undisturbed):
        assert reconcile_status(each.path).state == "finished"
    assert_same_run(run, undisturbed)
    assert [use.killed for use in recorded_slices(run)] == [True] * 5 + [False]


def make_tiny(**knobs):
    """Return a config that is never trained."""
    base = {"dataset": "colours", "model": "resnet8", "image_size": 12, "batch_size": 16}
    return make_config({**base, "crop": 2, "grow_from": 1.0, **knobs})


def slices_of(launcher, gpu):
    """Return slices with a test's own GPU function and nothing to warm up."""
    slices = VisitorRuns(launcher, gpu)
    slices.warm_up = lambda run: None
    return slices


def run_whole(running):
    """Run a slice to its end; return whether another is due."""
    while True:
        try:
            next(running)
        except StopIteration as end:
            return end.value


def killed(folder, paths, seconds):
    """Act a slice that begins and is killed."""
    release_lock(acquire_worker_lock(folder))
    change_state(folder, "queued")
    raise SliceError("GPU task aborted")
    yield


def failing(folder, paths, seconds):
    """Act a slice in which the run fails by itself."""
    lock = acquire_worker_lock(folder)
    for state in ("queued", "preparing", "running"):
        change_state(folder, state)
    yield record_end(Run(folder), "failed", "the loss became nan")
    release_lock(lock)


def refused(folder, paths, seconds):
    """Act a platform without a free GPU."""
    raise SliceError("quota exceeded (60s requested vs. 12s left)")
    yield


def test_a_new_run_is_stopped_until_its_first_slice_and_stores_a_digest_of_the_visitor(
    launcher,
):
    slices = slices_of(launcher, refused)
    run = slices.make(make_tiny(), VISITOR)
    assert (reconcile_status(run.path).state, has_worker(run.path)) == ("stopped", False)
    assert VISITOR not in "".join(file.read_text() for file in run.path.iterdir())


def test_without_a_gpu_the_platform_s_message_is_raised_and_the_run_is_unchanged(launcher):
    slices = slices_of(launcher, refused)
    run = slices.make(make_tiny(), VISITOR)
    before = read_status(run.path)
    with pytest.raises(SliceError, match=r"60s requested vs\. 12s left"):
        run_whole(slices.run_slice(run.id, VISITOR, SECONDS))
    assert reconcile_status(run.path) == before
    assert recorded_slices(run) == []
    slices.resume(run.id, VISITOR)  # can be retried


def test_slices_that_save_no_checkpoint_end_with_an_error(launcher):
    slices = slices_of(launcher, killed)
    run = slices.make(make_tiny(), VISITOR)
    assert run_whole(slices.run_slice(run.id, VISITOR, SECONDS))
    with pytest.raises(SliceError, match="2 slices saved no checkpoint of resnet8-colours-1"):
        run_whole(slices.run_slice(run.id, VISITOR, SECONDS))
    status = reconcile_status(run.path)
    assert (status.state, status.message[:34]) == ("failed", "the slice of GPU time was cut off;")
    assert [use.killed for use in recorded_slices(run)] == [True, True]


def test_a_run_is_active_while_its_next_slice_is_due_or_under_way(launcher, monkeypatch):
    slices = slices_of(launcher, killed)
    run = slices.make(make_tiny(), VISITOR)
    assert slices.is_active(run.id)
    assert not slices.is_active("resnet8-colours-9")
    running = slices.run_slice(run.id, VISITOR, SECONDS)
    monkeypatch.setattr(slices_module, "DUE_S", 0)
    assert not slices.is_active(run.id)  # the page did not start it in time: the run can be resumed
    monkeypatch.setattr(slices, "gpu", lambda *_: iter([object()]))
    next(running)
    assert slices.is_active(run.id)
    running.close()
    monkeypatch.setattr(slices, "gpu", killed)
    monkeypatch.setattr(slices_module, "DUE_S", 60)
    assert run_whole(slices.run_slice(run.id, VISITOR, SECONDS))
    assert slices.is_active(run.id)
    monkeypatch.setattr(slices, "gpu", failing)
    assert not run_whole(slices.run_slice(run.id, VISITOR, SECONDS))
    assert not slices.is_active(run.id)


def test_a_run_that_fails_by_itself_gets_no_further_slice(launcher):
    slices = slices_of(launcher, failing)
    run = slices.make(make_tiny(), VISITOR)
    assert not run_whole(slices.run_slice(run.id, VISITOR, SECONDS))
    assert isinstance(last_event(run.path), Failed)


def test_a_visitor_trains_one_run_at_a_time(launcher):
    slices = slices_of(launcher, lambda *_: iter([object()]))
    run = slices.make(make_tiny(), VISITOR)
    running = slices.run_slice(run.id, VISITOR, SECONDS)
    next(running)
    with pytest.raises(ConfigError, match=f"one run at a time: stop {run.id} first"):
        slices.make(make_tiny(), VISITOR)
    with pytest.raises(ConfigError, match="one run at a time"):
        run_whole(slices.run_slice(run.id, VISITOR, SECONDS))
    assert slices.make(make_tiny(), OTHER).id != run.id
    running.close()
    slices.make(make_tiny(), VISITOR)
    assert not run_whole(
        slices.run_slice(run.id, VISITOR, SECONDS)
    )  # the newer run is the active one


def test_a_run_belongs_to_its_visitor_alone(launcher):
    slices = slices_of(launcher, refused)
    run = slices.make(make_tiny(), VISITOR)
    for name in (OTHER, "", read_owner(run).visitor, None, ["x"], 7):
        for call in (
            lambda name=name: slices.stop(run.id, name, STRANGER),
            lambda name=name: slices.resume(run.id, name),
            lambda name=name: run_whole(slices.run_slice(run.id, name, SECONDS)),
        ):
            with pytest.raises(ForbiddenError, match=f"only the visitor who started {run.id}"):
                call()
    (run.path / OWNER).write_text("{")
    with pytest.raises(ForbiddenError):
        slices.resume(run.id, VISITOR)


def test_a_run_stopped_before_its_slice_does_not_start(launcher):
    def stopped_late(folder, paths, seconds):
        assert "is stopped" in slices.stop(folder.name, VISITOR, STRANGER)
        yield from train_slice(folder, paths, seconds)

    slices = slices_of(launcher, stopped_late)
    run = slices.make(make_tiny(), VISITOR)
    with pytest.raises(SliceError, match=f"{run.id} was stopped before its slice began"):
        run_whole(slices.run_slice(run.id, VISITOR, SECONDS))
    assert list(run.log()) == []


@pytest.mark.parametrize("visitor", ["", None, ["x"], "x" * 201])
def test_an_invalid_visitor_name_starts_no_run(launcher, visitor):
    with pytest.raises(ConfigError, match="visitor must be a text of 1 to 200 characters"):
        slices_of(launcher, refused).make(make_tiny(), visitor)
    assert launcher.runs.list() == []


def test_the_oldest_visitor_who_does_not_train_is_forgotten(launcher, monkeypatch):
    monkeypatch.setattr(slices_module, "MAX_VISITORS", 2)
    slices = slices_of(launcher, lambda *_: iter([object()]))
    run = slices.make(make_tiny(), "first")
    running = slices.run_slice(run.id, "first", SECONDS)
    next(running)
    for name in ("second", "third", "fourth"):
        slices.make(make_tiny(), name)
    assert [*slices.active] == ["first", "fourth"]
    running.close()


@pytest.mark.parametrize("seconds", [None, True, 19, 121, float("nan"), "60"])
def test_a_slice_of_an_invalid_length_is_refused(launcher, seconds):
    slices = slices_of(launcher, refused)
    run = slices.make(make_tiny(), VISITOR)
    with pytest.raises(ConfigError, match="seconds must be a number from 20 to 120"):
        run_whole(slices.run_slice(run.id, VISITOR, seconds))


def test_a_config_that_a_slice_cannot_train_is_refused(launcher):
    with pytest.raises(ConfigError, match="compile must be off on ZeroGPU"):
        slices_of(launcher, refused).make(make_tiny(compile=True), VISITOR)
    assert launcher.runs.list() == []


def test_the_stand_in_forbids_a_task_to_start_a_process():
    def task():
        yield "begun"
        subprocess.run(["true"])

    running = ZeroGPU(SliceError).GPU(task)()
    assert next(running) == "begun"
    with pytest.raises(SliceError, match="RuntimeError"):
        next(running)


def test_the_stand_in_kills_a_task_at_its_duration():
    def task():
        while True:
            yield 1

    zero = ZeroGPU(SliceError)
    with pytest.raises(SliceError, match="aborted"):
        list(zero.GPU(task, duration=lambda: 0.1)())
    assert zero.killed == 1
