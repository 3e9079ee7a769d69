import json
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import product

import pytest

from resnet_demo.errors import ConfigError, DamagedError
from resnet_demo.tasks import status as module
from resnet_demo.tasks.locks import WORKER_LOCK, has_worker, try_lock
from resnet_demo.tasks.queue import live_runs, runs_ahead
from resnet_demo.tasks.status import (
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

ALLOWED = {  # the contract: every other move is refused
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
from resnet_demo.tasks.status import LOCK, take
lock = take(Path(sys.argv[1]) / LOCK)
print("held" if lock else "not held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "task"


@pytest.fixture
def worker(folder):
    """A live child that holds the task's lock, once called."""
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


def put(folder, state, **values):
    """A task without a worker in some state."""
    folder.mkdir(exist_ok=True)
    (folder / "status.json").write_bytes(status_json(Status(state=state, **values)))


def test_the_states_are_the_contracts():
    assert set(STATES) == {
        *("queued", "preparing", "running", "stopping", "stopped", "finished", "failed")
    }
    assert set(LIVE) == {"queued", "preparing", "running", "stopping"}


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_a_move_is_made_exactly_if_the_table_has_it(folder, old, new):
    put(folder, old, message="before", done=3)
    if (old, new) in ALLOWED:
        moved = change_state(folder, new, message="after")
        assert moved == read_status(folder)
        assert (moved.state, moved.message, moved.done) == (new, "after", 3)
        assert moved.changed_at > 0
    else:
        with pytest.raises(ConfigError, match=f"task is {old}: it cannot become {new}") as refused:
            change_state(folder, new)
        assert refused.value.field == "run"
        assert read_status(folder) == Status(state=old, message="before", done=3)


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_an_end_is_put_down_exactly_if_the_table_has_it(folder, old, new):
    put(folder, old, pid=17)
    instead = "stopped" if (old, new) == ("stopping", "finished") else new
    if (old, instead) in ALLOWED:
        assert end_task(folder, new, "why").state == instead
        assert (read_status(folder).message, read_status(folder).pid) == ("why", None)
    else:
        with pytest.raises(ConfigError):
            end_task(folder, new)
        assert read_status(folder) == Status(state=old, pid=17)


def test_a_state_that_is_none_is_refused(folder):
    put(folder, "queued")
    with pytest.raises(ConfigError):
        change_state(folder, "paused")


def test_in_a_state_that_is_excepted_nothing_is_done(folder):
    put(folder, "stopping", message="asked to stop")
    assert change_state(folder, "running", unless=("stopping",)).state == "stopping"
    assert read_status(folder).message == "asked to stop"


@pytest.mark.parametrize("state", STATES)
def test_a_stop_is_asked_for_once_and_only_of_what_lives(folder, state):
    put(folder, state, message="before")
    asked = request_stop(folder)
    assert asked == read_status(folder)
    if state in ("queued", "preparing", "running"):
        assert (asked.state, asked.message) == ("stopping", "stopping")
    else:
        assert asked == Status(state=state, message="before")


def test_of_many_threads_that_want_the_same_move_one_wins(folder):
    put(folder, "queued")
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


def test_of_many_processes_that_want_the_same_move_one_wins(folder, tmp_path):
    put(folder, "stopped")
    code = """
import sys, time
from pathlib import Path
from resnet_demo.errors import ConfigError
from resnet_demo.tasks.status import change
folder, go = Path(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
while not go.exists():
    pass
try:
    change(folder, "queued")
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


def test_progress_and_a_stop_at_once_lose_neither(folder):
    put(folder, "running")
    barrier = threading.Barrier(2)

    def tell():
        barrier.wait()
        for number in range(1, 101):
            update_status(folder, done=number, total=100, unit="images")

    thread = threading.Thread(target=tell)
    thread.start()
    barrier.wait()
    request_stop(folder)
    thread.join()
    assert read_status(folder).state == "stopping"
    assert (read_status(folder).done, read_status(folder).unit) == (100, "images")


def test_a_status_is_whole_whenever_it_is_read(folder):
    put(folder, "running")
    over = threading.Event()

    def tell():
        number = 0
        while not over.is_set():
            number += 1
            update_status(folder, done=number)

    thread = threading.Thread(target=tell)
    thread.start()
    try:
        seen = [read_status(folder).done for _ in range(500)]
    finally:
        over.set()
        thread.join()
    assert seen == sorted(seen)


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
def test_a_damaged_status_is_said_and_never_guessed(folder, text):
    folder.mkdir()
    (folder / "status.json").write_text(text)
    for ask in (
        read_status,
        reconcile_status,
        request_stop,
        lambda path: change_state(path, "failed"),
    ):
        with pytest.raises(DamagedError, match=r"status\.json of task is damaged"):
            ask(folder)
    assert state_of(folder) == "damaged"
    assert (folder / "status.json").read_text() == text


def test_a_status_from_the_future_is_read(folder):
    folder.mkdir()
    (folder / "status.json").write_text('{"state": "running", "temperature": 60}')
    assert read_status(folder) == Status(state="running")


def test_status_json_is_what_the_contract_names(folder):
    os.close(create_task(folder, {}))
    values = json.loads((folder / "status.json").read_text())
    assert {"state", "pid", "message"} <= values.keys()
    assert values["state"] == "queued"


def test_a_new_task_is_whole_queued_and_has_an_owner(folder):
    before = time.time()
    lock = create_task(folder, {"config.json": b"{}", "more": b"1"})
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "more",
        "status.json",
        WORKER_LOCK,
    }
    assert before <= read_status(folder).queued_at <= time.time()
    assert reconcile_status(folder).state == "queued"  # nobody finds it orphaned
    os.close(lock)
    assert reconcile_status(folder).state == "failed"


def test_a_name_that_is_taken_is_refused_and_nothing_is_touched(folder):
    os.close(create_task(folder, {"config.json": b"mine"}))
    with pytest.raises(ConfigError, match="run_id must be new, or resumed, got 'task'"):
        create_task(folder, {"config.json": b"yours"})
    assert (folder / "config.json").read_bytes() == b"mine"
    assert [path.name for path in folder.parent.iterdir()] == ["task"]
    assert not has_worker(folder)


@pytest.mark.parametrize("fails_at", [1, 2, 3])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_task_that_cannot_be_made_leaves_nothing(folder, monkeypatch, fails_at, error):
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


def test_of_many_who_make_the_same_task_one_wins(folder):
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


def test_a_task_has_a_worker_as_long_as_a_process_holds_its_lock(folder, worker):
    put(folder, "running")
    assert not has_worker(folder)
    assert not (folder / WORKER_LOCK).exists()  # looking makes nothing
    child = worker()
    assert has_worker(folder)
    assert has_worker(folder)
    assert try_lock(folder / WORKER_LOCK) is None
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not has_worker(folder)


def test_a_live_worker_is_left_alone_and_a_dead_one_is_settled(folder, worker):
    put(folder, "running", pid=1)
    child = worker()
    assert reconcile_status(folder) == Status(state="running", pid=1)
    child.kill()
    child.wait()
    assert reconcile_status(folder).state == "failed"
    assert (read_status(folder).message, read_status(folder).pid) == (UNEXPECTED_EXIT, None)


@pytest.mark.parametrize("state", STATES)
def test_a_task_whose_worker_is_gone_has_failed_or_was_stopped(folder, state):
    put(folder, state, message="before")
    settled = reconcile_status(folder, "its worker was killed")
    assert settled == read_status(folder)
    if state not in LIVE:
        assert settled == Status(state=state, message="before")
    else:
        expected = "stopped" if state == "stopping" else "failed"
        assert (settled.state, settled.message) == (expected, "its worker was killed")


@pytest.mark.parametrize("jump", [-3600.0, 86_400.0])
def test_a_clock_that_is_set_changes_no_place_in_the_queue(tmp_path, monkeypatch, jump):
    folders, wall = [tmp_path / name for name in ("b", "a", "c")], time.time()
    locks = []
    for number, folder in enumerate(folders):
        monkeypatch.setattr(time, "time", lambda number=number: wall + number * jump)
        locks.append(create_task(folder, {}))
    assert live_runs(tmp_path) == folders
    assert runs_ahead(folders[2]) == folders[:2]
    for lock in locks:
        os.close(lock)


def test_who_waited_for_the_worker_is_heard_even_after_somebody_came_by(folder):
    put(folder, "running")
    assert reconcile_status(folder).message == UNEXPECTED_EXIT
    assert reconcile_status(folder, "killed by signal 9").message == "killed by signal 9"
    assert reconcile_status(folder, "and again").message == "killed by signal 9"
    assert reconcile_status(folder).state == "failed"


def test_what_a_worker_said_itself_is_not_replaced(folder):
    put(folder, "failed", message="the loss became nan")
    assert (
        reconcile_status(folder, "the worker ended with exit code 1").message
        == "the loss became nan"
    )


def test_a_task_at_rest_can_be_taken_over_once(folder):
    put(folder, "stopped")
    lock = acquire_worker_lock(folder)
    with pytest.raises(ConfigError, match="task is stopped: it has a worker"):
        acquire_worker_lock(folder, patience_s=0.05)
    os.close(lock)
    os.close(acquire_worker_lock(folder))


def test_taking_over_waits_for_a_worker_on_its_way_out(folder, worker):
    put(folder, "finished")
    child = worker()
    threading.Timer(0.2, child.kill).start()
    os.close(acquire_worker_lock(folder))


def test_taking_over_does_not_wait_for_a_live_task(folder, worker):
    put(folder, "running")
    worker()
    began = time.monotonic()
    with pytest.raises(ConfigError, match="task is running: it has a worker"):
        acquire_worker_lock(folder)
    assert time.monotonic() - began < 1


def test_a_stop_signal_sees_the_stop_and_reads_only_what_changed(folder, monkeypatch):
    put(folder, "running")
    reads = []
    monkeypatch.setattr(module, "read_status", lambda path: reads.append(1) or read_status(path))
    should_stop = StopSignal(folder)
    assert [should_stop() for _ in range(100)] == [False] * 100
    assert len(reads) == 1
    request_stop(folder)
    reads.clear()
    assert [should_stop() for _ in range(100)] == [True] * 100
    assert len(reads) == 1
