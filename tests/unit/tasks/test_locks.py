"""Locks of workers: their holders, and the copies of forked processes."""

import multiprocessing
import os
import signal
import subprocess
import sys

import pytest

from resnet_demo.file_locks import release_lock, try_lock
from resnet_demo.paths import REPOSITORY
from resnet_demo.tasks.locks import WORKER_LOCK, has_worker, is_suspended, is_worker

HOLD = """
import sys, time
from pathlib import Path
from resnet_demo.file_locks import try_lock
lock = try_lock(Path(sys.argv[1]))
print("held" if lock else "not held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Return a process that holds the lock of the task in `tmp_path`."""
    command = [sys.executable, "-c", HOLD, tmp_path / WORKER_LOCK]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_asking_for_a_worker_creates_no_file(tmp_path):
    assert not has_worker(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_task_has_a_worker_as_long_as_a_process_holds_its_lock(tmp_path, holder):
    assert has_worker(tmp_path)
    assert has_worker(tmp_path)  # asking does not take the lock
    assert try_lock(tmp_path / WORKER_LOCK) is None
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not has_worker(tmp_path)


def test_only_a_process_with_the_lock_open_counts_as_the_worker(tmp_path, holder):
    assert is_worker(holder.pid, tmp_path)
    assert not is_worker(os.getpid(), tmp_path)
    assert not is_worker(None, tmp_path)
    holder.kill()
    holder.wait()
    assert not is_worker(holder.pid, tmp_path)


def test_a_suspended_process_is_recognized(holder):
    assert not is_suspended(holder.pid)
    os.kill(holder.pid, signal.SIGSTOP)
    os.waitpid(holder.pid, os.WUNTRACED)
    assert is_suspended(holder.pid)
    assert not is_suspended(None)


def test_a_forked_process_keeps_no_copy_of_a_released_lock(tmp_path):
    # ZeroGPU forks the app, which holds locks for an instant at any time.
    lock = try_lock(tmp_path / WORKER_LOCK)
    stay = multiprocessing.get_context("fork").Event()
    forked = multiprocessing.get_context("fork").Process(target=stay.wait, daemon=True)
    forked.start()
    release_lock(lock)
    again = try_lock(tmp_path / WORKER_LOCK)
    assert again is not None
    release_lock(again)
    stay.set()
    forked.join()


def test_locks_are_closed_by_release_lock_except_when_a_worker_inherits_one():
    closing = {
        path.name: text.count("os.close(")
        for path in sorted((REPOSITORY / "resnet_demo" / "tasks").glob("*.py"))
        if "os.close(" in (text := path.read_text("utf-8")) and path.name != "locks.py"
    }
    assert closing == {"launcher.py": 1}
