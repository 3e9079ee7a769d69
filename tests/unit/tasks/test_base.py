"""The life of a task: claimed once, restarted, removed, and run to its end."""

import subprocess
import sys

import pytest

from resnet_demo.errors import DemoError, StoppedError
from resnet_demo.file_locks import release_lock
from resnet_demo.tasks.base import (
    check_finished,
    claim_task,
    create_request,
    enter_state,
    read_request,
    reap_worker,
    remove_task,
    requeue_task,
    run_task,
)
from resnet_demo.tasks.locks import has_worker
from resnet_demo.tasks.status import Status, end_task, read_status, request_stop, status_json


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "task"


@pytest.fixture
def idle_task(folder):
    """Return a function that creates a task in some state without a worker."""

    def make(state):
        release_lock(create_request(folder, {"n": 1}))
        (folder / "status.json").write_bytes(status_json(Status(state=state)))
        return folder

    return make


def test_a_missing_task_is_created_with_its_request(folder):
    lock = claim_task(folder, {"n": 1})
    assert read_request(folder) == {"n": 1}
    assert read_status(folder).state == "queued"
    assert claim_task(folder, {"n": 2}) is None  # it is live
    assert read_request(folder) == {"n": 1}
    release_lock(lock)


@pytest.mark.parametrize("state", ["stopped", "failed", "running"])
def test_a_task_that_ended_without_a_result_is_queued_again(state, idle_task):
    folder = idle_task(state)  # a running one without its worker has failed
    lock = claim_task(folder, {"n": 2})
    assert (read_status(folder).state, read_request(folder)) == ("queued", {"n": 1})
    assert has_worker(folder)
    release_lock(lock)


def test_a_finished_task_is_not_claimed(idle_task):
    assert claim_task(idle_task("finished"), {}) is None


def test_a_task_with_a_worker_is_not_removed(folder):
    lock = create_request(folder, {})
    assert not remove_task(folder)
    assert folder.exists()
    release_lock(lock)
    assert remove_task(folder)
    assert list(folder.parent.iterdir()) == []
    assert remove_task(folder)  # there is room for a new task


def test_the_condition_of_a_removal_is_checked_again_under_the_lock(idle_task):
    folder, answers = idle_task("finished"), iter([True, False])
    assert not remove_task(folder, lambda folder: next(answers))
    assert folder.exists()
    assert not has_worker(folder)


def test_progress_and_the_last_message_are_written(folder):
    lock = create_request(folder, {})

    def work(progress):
        assert (read_status(folder).state, read_status(folder).message) == ("preparing", "wait")
        enter_state(folder, "running", "")
        progress(1, 2, unit="images")
        assert (read_status(folder).done, read_status(folder).unit) == (1, "images")
        progress(2, 2, unit="images")
        return "two images"

    run_task(folder, "wait", work)
    status = read_status(folder)
    assert (status.state, status.message, status.done) == ("finished", "two images", 2)
    release_lock(lock)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DemoError("no space"), "no space"),
        (RuntimeError("first line\nsecond"), "RuntimeError: first line"),
    ],
)
def test_an_error_is_written_to_the_status_and_raised_again(folder, error, message):
    lock = create_request(folder, {})

    def work(progress):
        raise error

    with pytest.raises(type(error)):
        run_task(folder, "", work)
    assert (read_status(folder).state, read_status(folder).message) == ("failed", message)
    release_lock(lock)


def test_a_stop_during_the_work_ends_it_at_the_next_report(folder):
    lock = create_request(folder, {})

    def work(progress):
        enter_state(folder, "running", "")
        request_stop(folder)
        progress(1, 2)
        pytest.fail("it went on")

    with pytest.raises(StoppedError):
        run_task(folder, "", work)
    assert (read_status(folder).state, read_status(folder).done) == ("stopped", 0)
    release_lock(lock)


def test_a_stop_before_the_work_begins_prevents_it(folder):
    lock = create_request(folder, {})
    request_stop(folder)
    with pytest.raises(StoppedError):
        run_task(folder, "", lambda progress: pytest.fail("it began"))
    assert read_status(folder).state == "stopped"
    release_lock(lock)


def test_a_task_that_did_not_finish_raises_its_end():
    check_finished(Status(state="finished"), "the evaluation")
    with pytest.raises(StoppedError, match=r"^the evaluation was stopped$"):
        check_finished(Status(state="stopped"), "the evaluation")
    with pytest.raises(DemoError, match=r"^no space$"):
        check_finished(Status(state="failed", message="no space"), "the evaluation")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit(3)", "the worker ended with exit code 3: see its log"),
        ("import os; os.kill(os.getpid(), 11)", "the worker was killed by signal 11"),
        (
            "import os; os.kill(os.getpid(), 9)",
            "the worker was killed by signal 9, probably out of memory",
        ),
    ],
)
def test_the_end_of_a_dead_worker_is_written_to_the_status(code, message, idle_task):
    folder = idle_task("running")
    reap_worker(subprocess.Popen([sys.executable, "-c", code]), folder)
    assert (read_status(folder).state, read_status(folder).message) == ("failed", message)


def test_a_worker_that_ended_by_itself_keeps_its_message(idle_task):
    folder = idle_task("running")
    end_task(folder, "failed", "the loss became nan")
    reap_worker(subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"]), folder)
    assert read_status(folder).message == "the loss became nan"


def test_a_requeued_task_starts_without_progress(idle_task):
    folder = idle_task("stopped")
    (folder / "status.json").write_bytes(status_json(Status(state="stopped", done=5, pid=1)))
    lock = requeue_task(folder)
    status = read_status(folder)
    assert (status.done, status.pid, status.message) == (0, None, "Starting…")
    release_lock(lock)
