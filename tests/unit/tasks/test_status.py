"""The state machine, its file, and what happens without a worker."""

import json
import os
import subprocess
import sys
import threading
import time
from itertools import product

import pytest

from resnet_demo.errors import ConfigError, DamagedError
from resnet_demo.tasks import status as module
from resnet_demo.tasks.locks import WORKER_LOCK, has_worker
from resnet_demo.tasks.queue import live_runs, runs_ahead
from resnet_demo.tasks.status import (
    ENDED,
    LIVE,
    STATES,
    UNEXPECTED_EXIT,
    Status,
    StopSignal,
    acquire_worker_lock,
    change_state,
    create_task,
    end_task,
    read_status,
    reconcile_status,
    request_stop,
    state_of,
    status_json,
    update_status,
)

ALLOWED = {  # the contract: every other transition is refused
    ("queued", "preparing"),
    ("preparing", "running"),
    ("running", "finished"),
    ("running", "failed"),
    ("running", "stopping"),
    ("stopping", "stopped"),
    ("stopping", "failed"),
    ("queued", "stopping"),
    ("queued", "failed"),
    ("preparing", "stopping"),
    ("preparing", "failed"),
    ("stopped", "queued"),
    ("failed", "queued"),
}
PAIRS = list(product(STATES, STATES))
HOLD = """
import sys, time
from pathlib import Path
from resnet_demo.file_locks import try_lock
from resnet_demo.tasks.locks import WORKER_LOCK
lock = try_lock(Path(sys.argv[1]) / WORKER_LOCK)
print("held" if lock else "not held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "task"


@pytest.fixture
def worker(folder):
    """Return a function that starts a process which holds the task's lock."""
    children = []

    def start():
        child = subprocess.Popen(
            [sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE, text=True
        )
        children.append(child)
        assert child.stdout.readline() == "held\n"
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def put_task(folder, state, **values):
    """Create a task in some state, without a worker."""
    folder.mkdir(exist_ok=True)
    (folder / "status.json").write_bytes(status_json(Status(state=state, **values)))


def test_the_states_are_those_of_the_contract():
    assert set(LIVE) == {"queued", "preparing", "running", "stopping"}
    assert set(ENDED) == {"stopped", "finished", "failed"}
    assert set(STATES) == {*LIVE, *ENDED}


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_a_state_changes_exactly_if_the_table_allows_it(folder, old, new):
    put_task(folder, old, message="before", done=3)
    if (old, new) in ALLOWED:
        status = change_state(folder, new, message="after")
        assert status == read_status(folder)
        assert (status.state, status.message, status.done) == (new, "after", 3)
        assert status.changed_at > 0
    else:
        with pytest.raises(ConfigError, match=f"task is {old}: it cannot become {new}") as refused:
            change_state(folder, new)
        assert refused.value.field == "run"
        assert read_status(folder) == Status(state=old, message="before", done=3)


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_a_task_ends_exactly_if_the_table_allows_it(folder, old, new):
    put_task(folder, old, pid=17)
    final = "stopped" if (old, new) == ("stopping", "finished") else new
    if (old, final) in ALLOWED:
        assert end_task(folder, new, "why").state == final
        assert (read_status(folder).message, read_status(folder).pid) == ("why", None)
    else:
        with pytest.raises(ConfigError):
            end_task(folder, new)
        assert read_status(folder) == Status(state=old, pid=17)


def test_an_unknown_state_is_refused(folder):
    put_task(folder, "queued")
    with pytest.raises(ConfigError):
        change_state(folder, "paused")


def test_nothing_changes_in_an_excepted_state(folder):
    put_task(folder, "stopping", message="before")
    assert change_state(folder, "running", unless=("stopping",)).state == "stopping"
    assert read_status(folder).message == "before"


@pytest.mark.parametrize("state", STATES)
def test_a_stop_can_be_requested_once_and_only_of_a_live_task(folder, state):
    put_task(folder, state, message="before")
    status = request_stop(folder)
    assert status == read_status(folder)
    if state in ("queued", "preparing", "running"):
        assert (status.state, status.message) == ("stopping", "stopping")
    else:
        assert status == Status(state=state, message="before")


def test_of_many_threads_one_makes_a_transition(folder):
    put_task(folder, "queued")
    barrier, won, lost = threading.Barrier(16), [], []

    def race(number):
        barrier.wait()
        try:
            won.append(change_state(folder, "preparing", message=str(number)))
        except ConfigError as error:
            lost.append(str(error))

    threads = [threading.Thread(target=race, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert lost == ["task is preparing: it cannot become preparing"] * 15
    assert read_status(folder) == won[0]


def test_of_many_processes_one_makes_a_transition(folder, tmp_path):
    put_task(folder, "stopped")
    code = """
import sys, time
from pathlib import Path
from resnet_demo.errors import ConfigError
from resnet_demo.tasks.status import change_state
folder, go = Path(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
while not go.exists():
    pass
try:
    change_state(folder, "queued")
except ConfigError:
    sys.exit(2)
"""
    command = [sys.executable, "-c", code, folder, tmp_path / "go"]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(6)]
    for racer in racers:
        racer.stdout.readline()
    (tmp_path / "go").touch()
    for racer in racers:
        racer.communicate()
    assert sorted(racer.returncode for racer in racers) == [0] + [2] * 5


def test_progress_and_a_stop_at_once_are_both_kept(folder):
    put_task(folder, "running")
    barrier = threading.Barrier(2)

    def report():
        barrier.wait()
        for number in range(1, 101):
            update_status(folder, done=number, total=100, unit="images")

    thread = threading.Thread(target=report)
    thread.start()
    barrier.wait()
    request_stop(folder)
    thread.join()
    assert read_status(folder).state == "stopping"
    assert (read_status(folder).done, read_status(folder).unit) == (100, "images")


def test_a_status_is_never_read_half_written(folder):
    put_task(folder, "running")
    over = threading.Event()

    def report():
        number = 0
        while not over.is_set():
            number += 1
            update_status(folder, done=number)

    thread = threading.Thread(target=report)
    thread.start()
    try:
        counts = [read_status(folder).done for _ in range(500)]
    finally:
        over.set()
        thread.join()
    assert counts == sorted(counts)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '{"state": "paused"}',
        '{"state": []}',
        "{}",
        "3",
        "[" * 100_000,
        '{"state": "running", "rate": "fast", "total": 9}',
    ],
)
def test_a_damaged_status_is_an_error_and_is_not_overwritten(folder, text):
    folder.mkdir()
    (folder / "status.json").write_text(text)
    for call in (
        read_status,
        reconcile_status,
        request_stop,
        lambda path: change_state(path, "failed"),
    ):
        with pytest.raises(DamagedError, match=r"status\.json of task is damaged"):
            call(folder)
    assert state_of(folder) == "damaged"
    assert (folder / "status.json").read_text() == text


def test_unknown_fields_of_a_status_are_ignored(folder):
    folder.mkdir()
    (folder / "status.json").write_text('{"state": "running", "temperature": 60}')
    assert read_status(folder) == Status(state="running")


def test_status_json_has_the_names_of_the_contract(folder):
    os.close(create_task(folder, {}))
    values = json.loads((folder / "status.json").read_text())
    assert {"state", "pid", "message"} <= values.keys()
    assert values["state"] == "queued"


def test_a_new_task_is_complete_queued_and_locked(folder):
    before = time.time()
    lock = create_task(folder, {"config.json": b"{}", "more": b"1"})
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "more",
        "status.json",
        WORKER_LOCK,
    }
    assert before <= read_status(folder).queued_at <= time.time()
    assert reconcile_status(folder).state == "queued"  # its lock is held
    os.close(lock)
    assert reconcile_status(folder).state == "failed"


def test_a_taken_name_is_refused_and_its_task_unchanged(folder):
    os.close(create_task(folder, {"config.json": b"mine"}))
    with pytest.raises(ConfigError, match="run_id must be new, or resumed, got 'task'"):
        create_task(folder, {"config.json": b"yours"})
    assert (folder / "config.json").read_bytes() == b"mine"
    assert [path.name for path in folder.parent.iterdir()] == ["task"]
    assert not has_worker(folder)


@pytest.mark.parametrize("fails_at", [1, 2, 3])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_task_that_cannot_be_created_leaves_no_files(folder, monkeypatch, fails_at, error):
    written = []

    def failing(path, content):
        written.append(path)
        if len(written) == fails_at:
            raise error
        path.write_bytes(content)

    monkeypatch.setattr(module, "write_atomically", failing)
    with pytest.raises(type(error)):
        create_task(folder, {"config.json": b"{}", "more": b"1"})
    assert list(folder.parent.iterdir()) == []


def test_of_many_threads_one_creates_a_task(folder):
    barrier, locks, refused = threading.Barrier(8), [], []

    def race(number):
        barrier.wait()
        try:
            locks.append((create_task(folder, {"who": str(number).encode()}), number))
        except ConfigError as error:
            refused.append(error)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(locks) == 1
    assert len(refused) == 7
    lock, winner = locks[0]
    assert (folder / "who").read_bytes() == str(winner).encode()
    assert has_worker(folder)
    os.close(lock)
    assert [path.name for path in folder.parent.iterdir()] == ["task"]


def test_a_status_is_corrected_only_after_its_worker_is_gone(folder, worker):
    put_task(folder, "running", pid=1)
    child = worker()
    assert reconcile_status(folder) == Status(state="running", pid=1)
    child.kill()
    child.wait()
    assert reconcile_status(folder).state == "failed"
    assert (read_status(folder).message, read_status(folder).pid) == (UNEXPECTED_EXIT, None)


@pytest.mark.parametrize("state", STATES)
def test_a_live_task_without_a_worker_has_failed_or_stopped(folder, state):
    put_task(folder, state, message="before")
    status = reconcile_status(folder, "its worker was killed")
    assert status == read_status(folder)
    if state not in LIVE:
        assert status == Status(state=state, message="before")
    else:
        expected = "stopped" if state == "stopping" else "failed"
        assert (status.state, status.message) == (expected, "its worker was killed")


@pytest.mark.parametrize("jump", [-3600.0, 86_400.0])
def test_setting_the_wall_clock_does_not_change_the_queue(tmp_path, monkeypatch, jump):
    folders, wall = [tmp_path / name for name in ("b", "a", "c")], time.time()
    locks = []
    for number, folder in enumerate(folders):
        monkeypatch.setattr(time, "time", lambda number=number: wall + number * jump)
        locks.append(create_task(folder, {}))
    assert live_runs(tmp_path) == folders
    assert runs_ahead(folders[2]) == folders[:2]
    for lock in locks:
        os.close(lock)


def test_the_reason_from_the_parent_replaces_the_default_reason(folder):
    put_task(folder, "running")
    assert reconcile_status(folder).message == UNEXPECTED_EXIT
    assert reconcile_status(folder, "killed by signal 9").message == "killed by signal 9"
    assert reconcile_status(folder, "and again").message == "killed by signal 9"
    assert reconcile_status(folder).state == "failed"


def test_the_message_of_a_worker_is_not_replaced(folder):
    put_task(folder, "failed", message="the loss became nan")
    status = reconcile_status(folder, "the worker ended with exit code 1")
    assert status.message == "the loss became nan"


def test_the_worker_lock_of_an_ended_task_can_be_acquired_once(folder):
    put_task(folder, "stopped")
    lock = acquire_worker_lock(folder)
    with pytest.raises(ConfigError, match="task is stopped: it has a worker"):
        acquire_worker_lock(folder, patience_s=0.05)
    os.close(lock)
    os.close(acquire_worker_lock(folder))


def test_acquiring_the_lock_waits_for_a_worker_that_is_exiting(folder, worker):
    put_task(folder, "finished")
    child = worker()
    threading.Timer(0.2, child.kill).start()
    os.close(acquire_worker_lock(folder))


def test_acquiring_the_lock_does_not_wait_for_a_live_task(folder, worker):
    put_task(folder, "running")
    worker()
    start = time.monotonic()
    with pytest.raises(ConfigError, match="task is running: it has a worker"):
        acquire_worker_lock(folder)
    assert time.monotonic() - start < 1


def test_a_stop_signal_reads_the_status_only_when_it_was_replaced(folder, monkeypatch):
    put_task(folder, "running")
    reads = []
    monkeypatch.setattr(module, "read_status", lambda path: reads.append(1) or read_status(path))
    should_stop = StopSignal(folder)
    assert [should_stop() for _ in range(100)] == [False] * 100
    assert len(reads) == 1
    request_stop(folder)
    reads.clear()
    assert [should_stop() for _ in range(100)] == [True] * 100
    assert len(reads) == 1
