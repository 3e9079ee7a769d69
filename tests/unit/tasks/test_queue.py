import os
import subprocess
import sys
import threading
import time

import pytest

from resnet_demo.tasks import queue as turns
from resnet_demo.tasks.locks import WORKER_LOCK, try_lock
from resnet_demo.tasks.queue import runs_ahead, wait_for_device
from resnet_demo.tasks.status import Status, create_task, status_json


@pytest.fixture
def queue(tmp_path):
    """Makes a run that was queued at some second; alive unless told otherwise."""
    locks = []

    def make(name, at, state="queued", alive=True):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "status.json").write_bytes(status_json(Status(state=state, queued_clock=at)))
        if alive:
            locks.append(try_lock(folder / WORKER_LOCK))
        return folder

    yield make
    for lock in locks:
        os.close(lock)


def names(folders):
    return [folder.name for folder in folders]


def test_ahead_are_the_live_runs_that_were_queued_before_first_in_line_first(queue):
    own = queue("own", 5)
    queue("b", 4, "queued")
    queue("c", 2, "stopping")
    queue("d", 1, "running")
    queue("e", 3, "preparing")
    queue("late", 6)
    assert names(runs_ahead(own)) == ["d", "c", "e", "b"]


def test_two_that_were_queued_at_once_are_in_order_of_their_names(queue):
    one, two = queue("a", 5), queue("b", 5)
    assert names(runs_ahead(one)) == []
    assert names(runs_ahead(two)) == ["a"]


def test_who_is_dead_damaged_or_at_rest_is_not_waited_for(queue, tmp_path):
    own = queue("own", 9)
    queue("dead", 1, "running", alive=False)
    for number, state in enumerate(("finished", "failed", "stopped")):
        queue(f"rest-{number}", 1, state)
    (queue("damaged", 1) / "status.json").write_text("{")
    queue(".half-made.new", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert runs_ahead(own) == []


def test_a_turn_comes_with_the_lock_of_the_device(queue, tmp_path):
    own = queue("own", 5)
    lock = wait_for_device(own, lambda: False)
    assert try_lock(tmp_path / ".device.lock") is None
    os.close(lock)
    os.close(try_lock(tmp_path / ".device.lock"))


def test_who_waits_is_told_the_place_when_it_changes_and_can_be_stopped(queue, monkeypatch):
    monkeypatch.setattr(turns, "POLL_S", 0.01)
    own = queue("own", 5)
    first, second = queue("first", 1), queue("second", 2)
    places, looks = [], 0

    def should_stop():
        nonlocal looks
        looks += 1
        if looks == 5:
            (second / "status.json").write_bytes(status_json(Status(state="finished")))
        return looks > 10

    assert wait_for_device(own, should_stop, places.append) is None
    assert places == [2, 1]
    assert names(runs_ahead(own)) == [first.name]


def test_a_worker_that_ends_slowly_still_holds_the_device(queue, tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "POLL_S", 0.01)
    own, lock, places = queue("own", 5), try_lock(tmp_path / ".device.lock"), []
    threading.Timer(0.1, os.close, [lock]).start()
    began = time.monotonic()
    os.close(wait_for_device(own, lambda: False, places.append))
    assert time.monotonic() - began >= 0.09
    assert places == [1]


def test_of_ten_processes_that_start_at_once_two_never_have_the_device(tmp_path):
    """Each is a run from its making to its end, and notes how many it sees at work."""
    code = """
import os, sys, time
from pathlib import Path
from resnet_demo.tasks import turns
from resnet_demo.tasks.status import change, close, new_task, read_status

folder, book = Path(sys.argv[1]), Path(sys.argv[2])
turns.LOOK_EVERY_S = 0.01

def note(word):
    with open(book, "a") as file:
        file.write(f"{folder.name} {word}\\n")

lock = new_task(folder, {})
device = turns.wait_for_device(folder, lambda: False)
note("in")
change(folder, "preparing")
live = [p for p in folder.parent.glob("run-*/status.json")]
active = [p for p in live if read_status(p.parent).state in ("preparing", "running")]
time.sleep(0.03)
change(folder, "running")
note(f"sees {len(active)}")
close(folder, "finished")
note("out")
"""
    book, root = tmp_path / "book", tmp_path / "runs"
    command = [sys.executable, "-c", code]
    racers = [subprocess.Popen([*command, root / f"run-{n}", book]) for n in range(10)]
    assert [racer.wait(timeout=60) for racer in racers] == [0] * 10
    lines = [line.split(maxsplit=1) for line in book.read_text().splitlines()]
    turns_taken = [lines[start : start + 3] for start in range(0, len(lines), 3)]
    assert len(turns_taken) == 10
    for one in turns_taken:
        assert len({name for name, _ in one}) == 1
        assert [word for _, word in one] == ["in", "sees 1", "out"]


def test_the_kernel_frees_the_device_of_a_process_that_is_killed(queue, tmp_path):
    code = """
import sys, time
from pathlib import Path
from resnet_demo.tasks.status import new_task
from resnet_demo.tasks.queue import wait_for_device
folder = Path(sys.argv[1])
locks = new_task(folder, {}), wait_for_device(folder, lambda: False)
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
