"""Locks of files, on disks with and without kernel locks."""

import errno
import os
import subprocess
import sys
import threading

import pytest

from resnet_demo import file_locks, files
from resnet_demo.errors import DemoError
from resnet_demo.file_locks import (
    check_system,
    hand_over,
    is_locked,
    release_lock,
    try_lock,
    wait_for_lock,
)
from tests.conftest import REPOSITORY

# How a child process becomes one on such a disk; the first argument is the kind of disk.
POOR_DISK = """
import errno, fcntl, sys
def refuse(*_): raise OSError({code}, "not here")
if "flock" not in sys.argv[1]: fcntl.flock = refuse
if "ofd" not in sys.argv[1]: fcntl.fcntl = refuse
"""
HOLD = (
    POOR_DISK.format(code=errno.ENOSYS)
    + """
from pathlib import Path
from resnet_demo.file_locks import try_lock
lock = try_lock(Path(sys.argv[2]))
print(lock is not None, flush=True)
sys.stdin.read()
"""
)


@pytest.fixture(params=["flock ofd", "ofd", "neither"])
def disk(request, monkeypatch):
    """Make this process see a disk with these kinds of kernel locks."""

    def refuse(*_):
        raise OSError(errno.ENOTSUP, "not here")

    if "flock" not in request.param:
        monkeypatch.setattr("fcntl.flock", refuse)
    if "ofd" not in request.param:
        monkeypatch.setattr("fcntl.fcntl", refuse)
    return request.param


@pytest.fixture
def start(disk, tmp_path):
    """Return a function that starts a process which tries the lock, and whether it got it."""
    started = []

    def run():
        command = [sys.executable, "-c", HOLD, disk, str(tmp_path / "a.lock")]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_a_lock_excludes_others_until_its_holder_is_killed(start, tmp_path):
    path = tmp_path / "a.lock"
    assert not is_locked(path)
    holder = start()
    assert holder.stdout.readline() == b"True\n"
    assert is_locked(path)
    assert is_locked(path)  # looking does not take it
    assert try_lock(path) is None
    holder.kill()
    holder.wait()
    assert not is_locked(path)
    lock = try_lock(path)
    assert start().stdout.readline() == b"False\n"
    release_lock(lock)
    assert not is_locked(path)


def test_a_lock_stays_with_the_child_that_inherits_it(disk, tmp_path):
    path = tmp_path / "a.lock"
    lock = try_lock(path)
    child = subprocess.Popen(["sleep", "60"], pass_fds=[lock])
    hand_over(lock, child.pid)
    os.close(lock)
    renamed = tmp_path / "b.lock"
    path.rename(renamed)  # a task's folder is renamed while it is locked
    assert is_locked(renamed)
    assert try_lock(renamed) is None
    child.kill()
    child.wait()
    assert not is_locked(renamed)


def test_of_many_processes_at_once_one_gets_the_lock(start):
    answers = [process.stdout.readline() for process in [start() for _ in range(4)]]
    assert sorted(answers) == [b"False\n"] * 3 + [b"True\n"]


def test_a_thread_waits_until_the_lock_is_released(disk, tmp_path):
    path, order = tmp_path / "a.lock", []
    lock = wait_for_lock(path)

    def wait():
        other = wait_for_lock(path)
        order.append("second")
        release_lock(other)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join(0.1)
    order.append("first")
    release_lock(lock)
    thread.join(10)
    assert order == ["first", "second"]


@pytest.mark.parametrize("record", [b"", b"nonsense", b"99999999999999 - x", b"1\0\0", b"-3 - x"])
def test_a_damaged_record_locks_nothing(record, tmp_path, monkeypatch):
    monkeypatch.setattr(file_locks, "set_ofd_lock", fail)
    monkeypatch.setattr("fcntl.flock", fail)
    (tmp_path / "a.lock").write_bytes(record)
    assert not is_locked(tmp_path / "a.lock")
    release_lock(try_lock(tmp_path / "a.lock"))


def test_a_process_of_the_same_number_does_not_hold_an_older_ones_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(file_locks, "set_ofd_lock", fail)
    monkeypatch.setattr("fcntl.flock", fail)
    (tmp_path / "a.lock").write_text(f"{os.getpid()} 17 mark")
    assert not is_locked(tmp_path / "a.lock")


def test_a_poorer_disk_is_logged_once(tmp_path, monkeypatch, caplog):
    files.warn_once.cache_clear()
    monkeypatch.setattr(file_locks, "set_ofd_lock", fail)
    monkeypatch.setattr("fcntl.flock", fail)
    for _ in range(3):
        release_lock(try_lock(tmp_path / "a.lock"))
    assert [record.getMessage() for record in caplog.records] == [file_locks.RECORD_NOTE]


def test_without_kernel_locks_in_python_the_systems_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(file_locks, "fcntl", None)
    for call in (check_system, lambda: try_lock(tmp_path / "a"), lambda: is_locked(tmp_path / "a")):
        with pytest.raises(DemoError, match="runs on Linux, and on macOS, where it is not tested"):
            call()


def test_what_is_weaker_on_macos_is_logged(monkeypatch, caplog):
    files.warn_once.cache_clear()
    file_locks.warn_of_system()
    assert caplog.records == []
    monkeypatch.setattr(sys, "platform", "darwin")
    file_locks.warn_of_system()
    assert [record.getMessage() for record in caplog.records] == [file_locks.MACOS_NOTE]


def test_only_the_launcher_closes_a_lock_without_releasing_it():
    # It hands the lock to the worker that inherited it. Anywhere else a forked child, or a record
    # on a disk without kernel locks, would keep what `os.close` alone leaves locked.
    closed = {
        path.name
        for path in (REPOSITORY / "resnet_demo").rglob("*.py")
        if "os.close(lock)" in path.read_text("utf-8") and path.name != "file_locks.py"
    }
    assert closed == {"launcher.py"}


def fail(*_):
    raise OSError(errno.ENOLCK, "no locks available")
