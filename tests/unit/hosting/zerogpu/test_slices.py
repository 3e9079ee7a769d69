"""Runs in slices of GPU time, on a ZeroGPU of our own that kills."""

import multiprocessing
import subprocess
from functools import partial

import pytest
import torch

from resnet_demo.config import make_config
from resnet_demo.errors import ConfigError
from resnet_demo.events import Epoch, Failed, Step
from resnet_demo.hosting.zerogpu import slice as slice_module
from resnet_demo.hosting.zerogpu import slices as slices_module
from resnet_demo.hosting.zerogpu.owners import OWNER, read_owner
from resnet_demo.hosting.zerogpu.quota import recorded_slices
from resnet_demo.hosting.zerogpu.slice import SliceError, SliceStopSignal, train_slice
from resnet_demo.hosting.zerogpu.slices import Slices
from resnet_demo.runs.store import Run
from resnet_demo.tasks.limits import Caller, ForbiddenError
from resnet_demo.tasks.locks import has_worker, release_lock, try_lock
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
VISITOR, OTHER = "one-who-visits", "another"
STRANGER = Caller("visitor", is_owner=False)
SECONDS = 60  # asked for; nothing here is cut off at its time unless a test says so


@pytest.fixture
def zero():
    return ZeroGPU(SliceError)


@pytest.fixture
def slices(zero, launcher):
    """As on ZeroGPU; a slice keeps half a second free and saves often."""
    return Slices(launcher, zero.GPU(hurried, duration=900))


def hurried(folder, paths, seconds):
    yield from train_slice(folder, paths, 900, spare_s=0.5, save_every_s=0.1)


def slices_log(folder):
    return [*Run(folder).log()]


def last_event(folder):
    return (slices_log(folder) or [None])[-1]


def is_preparing(folder, paths, seconds):
    return read_status(folder).state == "preparing"


def is_running(folder):
    """In the slice at hand: what the one before left behind is no moment of this one."""
    return read_status(folder).state == "running"


def has_made(step, folder, paths, seconds):
    last = last_event(folder)
    return is_running(folder) and isinstance(last, Step) and last.step >= step


def is_in_validation(folder, paths, seconds):
    last = last_event(folder)
    return is_running(folder) and isinstance(last, Step) and last.step % STEPS == 0


def is_in_a_save(folder, paths, seconds):
    return is_running(folder) and (folder / ".last.pt.new").exists()


def is_at_the_edge_of_an_epoch(folder, paths, seconds):
    return is_running(folder) and isinstance(last_event(folder), Epoch)


def taken_to_its_end(slices, run, visitor=VISITOR, most=30):
    """Slice after slice, as an open page has it; how many."""
    for number in range(1, most):
        going = slices.run_slice(run.id, visitor, SECONDS)
        try:
            while True:
                next(going)
        except StopIteration as ended:
            if not ended.value:
                return number
    raise AssertionError("no end")


def test_a_run_over_five_killed_slices_equals_one_that_nobody_disturbed(
    slices, zero, launchers, tmp_path, tiny, monkeypatch
):
    monkeypatch.setattr(slices_module, "MOST_IDLE", 9)  # these kills may well outrun a checkpoint
    zero.moments = [
        is_preparing,
        partial(has_made, 5),
        is_in_validation,
        is_in_a_save,
        is_at_the_edge_of_an_epoch,
    ]
    run = slices.make(tiny(epochs=EPOCHS), VISITOR)
    assert taken_to_its_end(slices, run) == zero.begun == 6
    assert zero.killed == 5, "the run was over too soon: the test proved little"

    whole = Slices(
        launchers(tmp_path / "whole"), lambda run, paths, _: train_slice(run, paths, 900)
    )
    undisturbed = whole.make(tiny(epochs=EPOCHS), VISITOR)
    assert taken_to_its_end(whole, undisturbed) == 1
    assert (reconcile_status(run.path).state, reconcile_status(undisturbed.path).state) == (
        "finished",
        "finished",
    )
    assert_same_run(run, undisturbed)
    assert [used.killed for used in recorded_slices(run)] == [True] * 5 + [False]


def asked(**knobs):
    """A config that is never trained."""
    base = {"dataset": "colours", "model": "resnet8", "image_size": 12, "batch_size": 16}
    return make_config({**base, "crop": 2, "grow_from": 1.0, **knobs})


def slices_of(launcher, gpu):
    """With a GPU that a test acts, and nothing to warm up."""
    slices = Slices(launcher, gpu)
    slices.warm_up = lambda run: None
    return slices


def due(going):
    """A slice to its end; whether another is due."""
    while True:
        try:
            next(going)
        except StopIteration as end:
            return end.value


def idle(folder, paths, seconds):
    """A slice that begins, and is killed."""
    release_lock(acquire_worker_lock(folder))
    change_state(folder, "queued")
    raise SliceError("GPU task aborted")
    yield


def failing(folder, paths, seconds):
    """A slice in which the run fails by itself."""
    lock = acquire_worker_lock(folder)
    for state in ("queued", "preparing", "running"):
        change_state(folder, state)
    yield record_end(Run(folder), "failed", "the loss became nan")
    release_lock(lock)


def refused(folder, paths, seconds):
    """No GPU is to be had."""
    raise SliceError("quota exceeded (60s requested vs. 12s left)")
    yield


def test_a_new_run_rests_until_its_first_slice_and_keeps_no_name_of_its_visitor(launcher):
    slices = slices_of(launcher, refused)
    run = slices.make(asked(), VISITOR)
    assert (reconcile_status(run.path).state, has_worker(run.path)) == ("stopped", False)
    assert VISITOR not in "".join(file.read_text() for file in run.path.iterdir())


def test_where_no_gpu_is_to_be_had_the_platform_s_sentence_is_told_and_the_run_rests(launcher):
    slices = slices_of(launcher, refused)
    run = slices.make(asked(), VISITOR)
    before = read_status(run.path)
    with pytest.raises(SliceError, match=r"60s requested vs\. 12s left"):
        due(slices.run_slice(run.id, VISITOR, SECONDS))
    assert reconcile_status(run.path) == before
    assert recorded_slices(run) == []
    slices.resume(run.id, VISITOR)  # and may be tried again


def test_slices_that_bring_no_checkpoint_are_not_asked_for_for_ever(launcher):
    slices = slices_of(launcher, idle)
    run = slices.make(asked(), VISITOR)
    assert due(slices.run_slice(run.id, VISITOR, SECONDS))
    with pytest.raises(SliceError, match="2 slices brought resnet8-colours-1 no further"):
        due(slices.run_slice(run.id, VISITOR, SECONDS))
    status = reconcile_status(run.path)
    assert (status.state, status.message[:34]) == ("failed", "its slice of GPU time was cut off;")
    assert [used.killed for used in recorded_slices(run)] == [True, True]


def test_a_run_goes_on_while_its_next_slice_is_due_or_under_way(launcher, monkeypatch):
    slices = slices_of(launcher, idle)
    run = slices.make(asked(), VISITOR)
    assert slices.is_active(run.id)
    assert not slices.is_active("resnet8-colours-9")
    going = slices.run_slice(run.id, VISITOR, SECONDS)
    monkeypatch.setattr(slices_module, "SOON_S", 0)
    assert not slices.is_active(run.id)  # its page did not ask in time: it may be resumed
    monkeypatch.setattr(slices, "gpu", lambda *_: iter([object()]))
    next(going)
    assert slices.is_active(run.id)
    going.close()
    monkeypatch.setattr(slices, "gpu", idle)
    monkeypatch.setattr(slices_module, "SOON_S", 60)
    assert due(slices.run_slice(run.id, VISITOR, SECONDS))
    assert slices.is_active(run.id)
    monkeypatch.setattr(slices, "gpu", failing)
    assert not due(slices.run_slice(run.id, VISITOR, SECONDS))
    assert not slices.is_active(run.id)


def test_a_run_that_fails_by_itself_gets_no_other_slice(launcher):
    slices = slices_of(launcher, failing)
    run = slices.make(asked(), VISITOR)
    assert not due(slices.run_slice(run.id, VISITOR, SECONDS))
    assert isinstance(last_event(run.path), Failed)


def test_a_visitor_trains_one_run_at_a_time_and_others_theirs(launcher):
    slices = slices_of(launcher, lambda *_: iter([object()]))
    run = slices.make(asked(), VISITOR)
    going = slices.run_slice(run.id, VISITOR, SECONDS)
    next(going)
    with pytest.raises(ConfigError, match=f"one run at a time: {run.id} trains, stop it first"):
        slices.make(asked(), VISITOR)
    with pytest.raises(ConfigError, match="one run at a time"):
        due(slices.run_slice(run.id, VISITOR, SECONDS))
    assert slices.make(asked(), OTHER).id != run.id
    going.close()
    slices.make(asked(), VISITOR)
    assert not due(slices.run_slice(run.id, VISITOR, SECONDS))  # its turn went to the newer one


def test_a_run_is_its_visitor_s_alone(launcher):
    slices = slices_of(launcher, refused)
    run = slices.make(asked(), VISITOR)
    for name in (OTHER, "", read_owner(run).visitor, None, ["x"], 7):
        for what in (
            lambda name=name: slices.stop(run.id, name, STRANGER),
            lambda name=name: slices.resume(run.id, name),
            lambda name=name: due(slices.run_slice(run.id, name, SECONDS)),
        ):
            with pytest.raises(ForbiddenError, match=f"only the visitor who started {run.id}"):
                what()
    (run.path / OWNER).write_text("{")
    with pytest.raises(ForbiddenError):
        slices.resume(run.id, VISITOR)


def test_a_run_stopped_before_its_slice_does_not_begin(launcher):
    def late(folder, paths, seconds):
        assert "rests" in slices.stop(folder.name, VISITOR, STRANGER)
        yield from train_slice(folder, paths, seconds)

    slices = slices_of(launcher, late)
    run = slices.make(asked(), VISITOR)
    with pytest.raises(SliceError, match=f"{run.id} was stopped before its slice began"):
        due(slices.run_slice(run.id, VISITOR, SECONDS))
    assert list(run.log()) == []


@pytest.mark.parametrize("visitor", ["", None, ["x"], "x" * 201])
def test_what_is_no_name_starts_no_run(launcher, visitor):
    with pytest.raises(ConfigError, match="visitor must be a text of 1 to 200 letters"):
        slices_of(launcher, refused).make(asked(), visitor)
    assert launcher.runs.list() == []


def test_so_many_visitors_are_remembered_and_the_one_who_trains_is(launcher, monkeypatch):
    monkeypatch.setattr(slices_module, "MOST_VISITORS", 2)
    slices = slices_of(launcher, lambda *_: iter([object()]))
    run = slices.make(asked(), "first")
    going = slices.run_slice(run.id, "first", SECONDS)
    next(going)
    for name in ("second", "third", "fourth"):
        slices.make(asked(), name)
    assert [*slices.active] == ["first", "fourth"]
    going.close()


@pytest.mark.parametrize("seconds", [None, True, 19, 121, float("nan"), "60"])
def test_a_slice_of_another_length_is_refused(launcher, seconds):
    slices = slices_of(launcher, refused)
    run = slices.make(asked(), VISITOR)
    with pytest.raises(ConfigError, match="seconds must be a number from 20 to 120"):
        due(slices.run_slice(run.id, VISITOR, seconds))


def test_what_a_slice_cannot_do_is_refused_before(launcher):
    with pytest.raises(ConfigError, match="compile must be off on ZeroGPU"):
        slices_of(launcher, refused).make(asked(compile=True), VISITOR)
    assert launcher.runs.list() == []


def test_a_slice_whose_page_is_closed_saves_where_it_is(launcher, tiny):
    slices = Slices(launcher, train_slice)
    run = slices.make(tiny(epochs=1000), VISITOR)
    going = slices.run_slice(run.id, VISITOR, 120)
    assert any(isinstance(event, Step) and event.step == 3 for event in going)
    going.close()
    status = reconcile_status(run.path)
    assert (status.state, has_worker(run.path)) == ("stopped", False)
    assert torch.load(run.path / "last.pt", weights_only=True)["step"] == last_event(run.path).step


def test_a_slice_ends_before_what_took_longest_would_run_into_its_end(
    launcher, monkeypatch, tmp_path
):
    run = slices_of(launcher, refused).make(asked(), VISITOR)
    lock = acquire_worker_lock(run.path)
    change_state(run.path, "queued")
    now = 0.0
    monkeypatch.setattr(slice_module.time, "monotonic", lambda: now)
    until, answers = SliceStopSignal(run.path, end=50.0), []
    for now in (9.0, *range(20, 45, 3), 44.1):  # noqa: B007 - the clock
        answers.append(until())
    assert answers == [False] * 10 + [True]
    release_lock(lock)


def test_what_a_forked_process_inherits_keeps_no_lock(launcher):
    """The platform forks while pages look at runs: a copy of their locks goes along."""
    run = slices_of(launcher, refused).make(asked(), VISITOR)
    lock = try_lock(run.path / "worker.lock")
    stay = multiprocessing.get_context("fork").Event()
    forked = multiprocessing.get_context("fork").Process(target=stay.wait, daemon=True)
    forked.start()
    release_lock(lock)
    again = try_lock(run.path / "worker.lock")
    assert again is not None
    release_lock(again)
    stay.set()
    forked.join()


def test_the_stand_in_lets_a_task_start_no_process():
    def task():
        yield "begun"
        subprocess.run(["true"])

    going = ZeroGPU(SliceError).GPU(task)()
    assert next(going) == "begun"
    with pytest.raises(SliceError, match="RuntimeError"):
        next(going)


def test_the_stand_in_kills_at_its_duration():
    def task():
        while True:
            yield 1

    zero = ZeroGPU(SliceError)
    with pytest.raises(SliceError, match="aborted"):
        list(zero.GPU(task, duration=lambda: 0.1)())
    assert zero.killed == 1
