"""Every request for a run in every state, once and twice.

The transitions themselves are tested in test_status.py.
"""

import os
import re
import signal
import subprocess
import sys

import pytest

from resnet_demo.config import to_json
from resnet_demo.errors import DemoError
from resnet_demo.file_locks import try_lock
from resnet_demo.tasks.locks import WORKER_LOCK
from resnet_demo.tasks.status import LIVE, STATES, Status, read_status, state_of, status_json

VERBS = ("stop", "resume", "delete", "kill")
GONE = "gone"  # to the trash
# (state, request) -> the state after it and the message; missing: refused
WITH_A_WORKER = {
    ("queued", "stop"): ("stopping", "mine is removed from the queue"),
    ("preparing", "stop"): ("stopping", "mine stops after this step"),
    ("running", "stop"): ("stopping", "mine stops after this step"),
    ("stopping", "stop"): ("stopping", "mine stops after this step"),
    ("stopping", "kill"): ("stopping", "mine was killed"),
}
WITHOUT_A_WORKER = {
    **{(s, "stop"): (s, f"mine is not running: it is {s}") for s in STATES if s not in LIVE},
    **{(s, "resume"): ("queued", "mine") for s in ("stopped", "failed")},
    **{(s, "delete"): (GONE, "") for s in STATES if s not in LIVE},
}
REFUSALS = {
    "resume": "mine is {0}: it (has a worker|cannot become queued)",
    "delete": "run mine is {0}: stop it before you delete it",
    "kill": "run mine is {0}: only a stopping run can be killed",
}


@pytest.fixture
def run(launcher, tiny, monkeypatch):
    """Return a function that creates a run in some state, with or without a worker's lock."""
    locks = []
    monkeypatch.setattr(launcher, "spawn", lambda verb, folder, lock: locks.append(lock))
    monkeypatch.setattr("resnet_demo.tasks.status.acquire_worker_lock.__defaults__", (0.05,))

    def make(state, worker):
        folder = launcher.paths.runs / "mine"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(to_json(tiny(), "0"))
        (folder / "status.json").write_bytes(status_json(Status(state=state, pid=os.getpid())))
        if worker:
            locks.append(try_lock(folder / WORKER_LOCK))
        return folder

    yield make
    for lock in locks:
        os.close(lock)


@pytest.fixture
def killed(monkeypatch):
    """Return the arguments of the kills, which are not executed."""
    pids = []
    monkeypatch.setattr(
        "resnet_demo.tasks.launcher.os.kill", lambda *arguments: pids.append(arguments)
    )
    return pids


def send(launcher, request, owner):
    """Return the message of a request, and whether it was refused."""
    try:
        return getattr(launcher, request)("mine", owner) or "", False
    except DemoError as error:
        return str(error), True


def state_after(folder):
    return state_of(folder) if folder.exists() else GONE


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", STATES)
def test_each_request_in_each_state_does_what_the_table_says(
    state, verb, launcher, owner, run, killed
):
    folder = run(state, worker=state in LIVE)
    expected = {**WITH_A_WORKER, **WITHOUT_A_WORKER}.get((state, verb))
    message, refused = send(launcher, verb, owner)
    if expected:
        assert (state_after(folder), message[: len(expected[1])]) == expected
        assert not refused
    else:
        assert refused
        assert state_after(folder) == state
        assert re.fullmatch(REFUSALS[verb].format(state), message)
    assert bool(killed) == ((state, verb) == ("stopping", "kill"))
    assert all(kill == (os.getpid(), signal.SIGKILL) for kill in killed)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", LIVE)
def test_a_run_without_its_worker_is_treated_as_stopped_or_failed(
    state, verb, launcher, owner, run, killed
):
    folder = run(state, worker=False)
    became = "stopped" if state == "stopping" else "failed"
    after, start = WITHOUT_A_WORKER.get((became, verb), (became, ""))
    message, _ = send(launcher, verb, owner)
    assert state_after(folder) == after
    assert message.startswith(start)
    assert killed == []


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", STATES)
def test_a_repeated_request_does_no_more_than_one(state, verb, launcher, owner, run, killed):
    folder = run(state, worker=state in LIVE)
    send(launcher, verb, owner)
    after = state_after(folder)
    status = read_status(folder) if after != GONE else None
    send(launcher, verb, owner)
    assert state_after(folder) == after
    assert status is None or read_status(folder) == status
    assert len(list(launcher.paths.runs.glob(".trash/*"))) == (after == GONE)


def test_only_the_process_that_has_the_lock_is_killed(launcher, owner, run):
    folder = run("stopping", worker=False)
    code = """
import sys, time
from pathlib import Path
from resnet_demo.file_locks import try_lock
from resnet_demo.tasks.locks import WORKER_LOCK
lock = try_lock(Path(sys.argv[1]) / WORKER_LOCK)
print(lock, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE) as child:
        child.stdout.readline()  # status.json names this process, which has no lock
        message, refused = send(launcher, "kill", owner)
        assert (message, refused) == ("run mine has no process here that could be killed", True)
        child.kill()
