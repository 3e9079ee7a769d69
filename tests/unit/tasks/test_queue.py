"""The queue of a device, also among processes."""

import os
import subprocess
import sys
import threading
import time

import pytest

from resnet_demo.file_locks import try_lock
from resnet_demo.tasks import queue as module
from resnet_demo.tasks.locks import DEVICE_LOCK, WORKER_LOCK
from resnet_demo.tasks.queue import runs_ahead, wait_for_device
from resnet_demo.tasks.status import Status, create_task, status_json


@pytest.fixture
def queue(tmp_path):
    """Return a function that creates a run queued at some second, with a worker by default."""
    locks = []

    def make(name, at, state="queued", has_worker=True):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "status.json").write_bytes(status_json(Status(state=state, queued_clock=at)))
        if has_worker:
            locks.append(try_lock(folder / WORKER_LOCK))
        return folder

    yield make
    for lock in locks:
        os.close(lock)


def names(folders):
    return [folder.name for folder in folders]


def test_the_runs_ahead_are_the_live_ones_queued_before_in_their_order(queue):
    own = queue("own", 5)
    queue("b", 4, "queued")
    queue("c", 2, "stopping")
    queue("d", 1, "running")
    queue("e", 3, "preparing")
    queue("late", 6)
    assert names(runs_ahead(own)) == ["d", "c", "e", "b"]


def test_runs_queued_at_once_are_ordered_by_name(queue):
    first, second = queue("a", 5), queue("b", 5)
    assert names(runs_ahead(first)) == []
    assert names(runs_ahead(second)) == ["a"]


def test_a_dead_damaged_or_ended_run_is_not_waited_for(queue, tmp_path):
    own = queue("own", 9)
    queue("dead", 1, "running", has_worker=False)
    for number, state in enumerate(("finished", "failed", "stopped")):
        queue(f"ended-{number}", 1, state)
    (queue("damaged", 1) / "status.json").write_text("{")
    queue(".half-made.new", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert runs_ahead(own) == []


def test_the_device_is_locked_after_the_wait(queue, tmp_path):
    own = queue("own", 5)
    lock = wait_for_device(own, lambda: False)
    assert try_lock(tmp_path / DEVICE_LOCK) is None
    os.close(lock)
    os.close(try_lock(tmp_path / DEVICE_LOCK))


def test_the_place_is_reported_when_it_changes_and_the_wait_can_be_stopped(queue, monkeypatch):
    monkeypatch.setattr(module, "POLL_S", 0.01)
    own = queue("own", 5)
    first, second = queue("first", 1), queue("second", 2)
    places, polls = [], 0

    def should_stop():
        nonlocal polls
        polls += 1
        if polls == 5:
            (second / "status.json").write_bytes(status_json(Status(state="finished")))
        return polls > 10

    assert wait_for_device(own, should_stop, places.append) is None
    assert places == [2, 1]
    assert names(runs_ahead(own)) == [first.name]


def test_the_device_is_waited_for_until_its_holder_has_exited(queue, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "POLL_S", 0.01)
    own, lock, places = queue("own", 5), try_lock(tmp_path / DEVICE_LOCK), []
    threading.Timer(0.1, os.close, [lock]).start()
    start_s = time.monotonic()
    os.close(wait_for_device(own, lambda: False, places.append))
    assert time.monotonic() - start_s >= 0.09
    assert places == [1]


def test_of_ten_processes_never_two_have_the_device(tmp_path):
    """Start ten runs, each of which records how many are active."""
    code = """
import os, sys, time
from pathlib import Path
from resnet_demo.tasks import queue
from resnet_demo.tasks.status import change_state, create_task, end_task, read_status

folder, record = Path(sys.argv[1]), Path(sys.argv[2])
queue.POLL_S = 0.01

def note(word):
    with open(record, "a") as file:
        file.write(f"{folder.name} {word}\\n")

lock = create_task(folder, {})
device = queue.wait_for_device(folder, lambda: False)
note("in")
change_state(folder, "preparing")
live = [p for p in folder.parent.glob("run-*/status.json")]
active = [p for p in live if read_status(p.parent).state in ("preparing", "running")]
time.sleep(0.03)
change_state(folder, "running")
note(f"sees {len(active)}")
end_task(folder, "finished")
note("out")
"""
    record, root = tmp_path / "record", tmp_path / "runs"
    command = [sys.executable, "-c", code]
    racers = [subprocess.Popen([*command, root / f"run-{n}", record]) for n in range(10)]
    assert [racer.wait(timeout=60) for racer in racers] == [0] * 10
    lines = [line.split(maxsplit=1) for line in record.read_text().splitlines()]
    turns = [lines[start : start + 3] for start in range(0, len(lines), 3)]
    assert len(turns) == 10
    for turn in turns:
        assert len({name for name, _ in turn}) == 1
        assert [word for _, word in turn] == ["in", "sees 1", "out"]


def test_the_kernel_frees_the_device_of_a_process_that_is_killed(queue, tmp_path):
    code = """
import sys, time
from pathlib import Path
from resnet_demo.tasks.status import create_task
from resnet_demo.tasks.queue import wait_for_device
folder = Path(sys.argv[1])
locks = create_task(folder, {}), wait_for_device(folder, lambda: False)
print("in", flush=True)
time.sleep(60)
"""
    command = [sys.executable, "-c", code, tmp_path / "first"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        own = tmp_path / "own"
        lock = create_task(own, {})
        assert names(runs_ahead(own)) == ["first"]
        child.kill()
        child.wait()
        os.close(wait_for_device(own, lambda: False))
        os.close(lock)
