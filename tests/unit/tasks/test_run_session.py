"""What a session leaves in the log and the status, for each way it can end."""

import os

import pytest

from resnet_demo.errors import DemoError, DiskFullError
from resnet_demo.events import Failed, Finished, Started, Step, Stopped
from resnet_demo.tasks.disk_space import RESERVE
from resnet_demo.tasks.run_session import RunSession
from resnet_demo.tasks.status import read_status, request_stop
from resnet_demo.training.fit import TrainingError

END = {"best_epoch": None, "best_val_top1": None, "seconds": 1.0, "message": "1 epoch done"}


def started():
    counts = ("threads", "parameters", "macs", "steps_per_epoch", "epochs")
    texts = ("device", "precision", "version")
    return Started(step=0, epoch=1, **dict.fromkeys(counts, 1), **dict.fromkeys(texts, ""))


def state_and_message(run):
    status = read_status(run.path)
    return status.state, status.message


def fail(run, error, on_event=lambda event: None):
    """Run a session that ends with the error after one step; return it."""
    with RunSession(run, on_event) as session:
        session.prepare("loading")
        session.record(started())
        session.record(Step(step=1, epoch=1, loss=1.0, top1=0.5, lr=0.1, images_per_s=1.0))
        raise error
    return session


def test_a_finished_session_is_logged_and_closed(queued):
    run = queued()
    with RunSession(run) as session:
        session.prepare("loading")
        assert state_and_message(run) == ("preparing", "loading")
        assert (run.path / RESERVE).exists()
        session.record(started())
        assert read_status(run.path).state == "running"
        session.record(Finished(step=1, epoch=1, **END))
    assert state_and_message(run) == ("finished", "1 epoch done")
    assert [type(event) for event in run.log()] == [Started, Finished]
    assert (session.last.kind, session.failure) == ("finished", None)
    assert not (run.path / RESERVE).exists()


def test_events_are_in_the_log_before_the_listener_is_notified(queued):
    run, counts = queued(), []
    session = fail(run, DemoError("no"), lambda event: counts.append(len(list(run.log()))))
    assert counts == [1, 2, 3]
    assert isinstance(session.failure, Failed)


def test_a_demo_error_fails_the_run_and_is_not_raised(queued):
    run = queued()
    session = fail(run, TrainingError("out of memory", {"batch_size": 8}))
    *_, last = run.log()
    assert last == session.last == session.failure
    assert (last.step, last.message, last.retry) == (1, "out of memory", {"batch_size": 8})
    assert state_and_message(run) == ("failed", "out of memory")


def test_a_pipe_in_place_of_the_log_fails_the_run(queued):
    run = queued()
    run.log().path.unlink(missing_ok=True)
    os.mkfifo(run.log().path)
    with RunSession(run) as session:
        session.prepare("loading")
    assert session.failure.kind == "failed"
    assert state_and_message(run) == ("failed", f"events.jsonl of {run.id} is damaged")


def test_a_full_disk_stops_the_run(queued):
    run = queued()
    session = fail(run, DiskFullError("disk full"))
    assert isinstance(session.failure, Stopped)
    assert state_and_message(run) == ("stopped", "disk full; make room, then Resume continues")


def test_an_unforeseen_error_fails_the_run_and_is_raised(queued):
    run = queued()
    with pytest.raises(RuntimeError):
        fail(run, RuntimeError("no such kernel\nand a long explanation"))
    assert state_and_message(run) == ("failed", "RuntimeError: no such kernel")
    assert [type(event) for event in run.log()] == [Started, Step, Failed]


def test_an_unforeseen_error_leaves_the_run_live_while_torchrun_can_restart_it(queued, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "1")
    run = queued()
    with pytest.raises(RuntimeError):
        fail(run, RuntimeError("a rank is gone"))
    assert read_status(run.path).state == "running"
    assert [type(event) for event in run.log()] == [Started, Step]


def test_a_stop_during_the_last_step_ends_the_run_as_stopped(queued):
    run = queued()
    with RunSession(run) as session:
        session.prepare("loading")
        session.record(started())
        request_stop(run.path)
        session.record(Finished(step=1, epoch=1, **END))
    assert read_status(run.path).state == "stopped"


def test_preparing_without_a_message_leaves_the_state(queued):
    run = queued()
    with RunSession(run) as session:
        session.prepare()
        assert read_status(run.path).state == "queued"
        session.prepare("loading")
        session.record(started())
        session.record(Finished(step=1, epoch=1, **END))
