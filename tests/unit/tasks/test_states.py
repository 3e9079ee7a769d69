"""Everything that can be asked of a run, in every state that it can be in, and asked twice.

The moves that the table allows are tested in test_status.py; here is what a person may ask for.
"""

import os
import re
import signal
import subprocess
import sys

import pytest

from resnet_demo.config import to_json
from resnet_demo.errors import DemoError
from resnet_demo.tasks.locks import WORKER_LOCK, try_lock
from resnet_demo.tasks.status import LIVE, STATES, Status, read_status, state_of, status_json

ASKED = ("stop", "resume", "delete", "kill")
GONE = "gone"  # to the trash
# (state, what is asked) -> the state after it, and what a person is told; not there: refused
WITH_A_WORKER = {
    ("queued", "stop"): ("stopping", "mine leaves the queue"),
    ("preparing", "stop"): ("stopping", "mine stops after this step"),
    ("running", "stop"): ("stopping", "mine stops after this step"),
    ("stopping", "stop"): ("stopping", "mine stops after this step"),
    ("stopping", "kill"): ("stopping", "mine was killed"),
}
AT_REST = {
    **{(s, "stop"): (s, f"mine is not running: it is {s}") for s in STATES if s not in LIVE},
    **{(s, "resume"): ("queued", "mine") for s in ("stopped", "failed")},
    **{(s, "delete"): (GONE, "") for s in STATES if s not in LIVE},
}
REFUSALS = {
    "resume": "mine is {0}: it (has a worker|cannot become queued)",
    "delete": "run mine is {0}: stop it before you delete it",
    "kill": "run mine is {0}: only what is stopping is killed",
}


@pytest.fixture
def run(launcher, tiny, monkeypatch):
    """Makes a run in some state; `worker` takes its lock. Workers to come are its lock, held."""
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
    """The processes that would have been killed."""
    pids = []
    monkeypatch.setattr("resnet_demo.tasks.launcher.os.kill", lambda *asked: pids.append(asked))
    return pids


def ask(launcher, what, owner):
    """What a person is told, and whether it was a refusal."""
    try:
        return getattr(launcher, what)("mine", owner) or "", False
    except DemoError as error:
        return str(error), True


def state_after(folder):
    return state_of(folder) if folder.exists() else GONE


@pytest.mark.parametrize("what", ASKED)
@pytest.mark.parametrize("state", STATES)
def test_each_request_does_in_each_state_what_the_table_says(
    state, what, launcher, owner, run, killed
):
    folder = run(state, worker=state in LIVE)
    expected = {**WITH_A_WORKER, **AT_REST}.get((state, what))
    told, refused = ask(launcher, what, owner)
    if expected:
        assert (state_after(folder), told[: len(expected[1])]) == expected
        assert not refused
    else:
        assert refused
        assert state_after(folder) == state
        assert re.fullmatch(REFUSALS[what].format(state), told)
    assert bool(killed) == ((state, what) == ("stopping", "kill"))
    assert all(asked == (os.getpid(), signal.SIGKILL) for asked in killed)


@pytest.mark.parametrize("what", ASKED)
@pytest.mark.parametrize("state", LIVE)
def test_a_run_that_lost_its_worker_unseen_is_asked_as_what_it_has_become(
    state, what, launcher, owner, run, killed
):
    folder = run(state, worker=False)
    became = "stopped" if state == "stopping" else "failed"
    after, words = AT_REST.get((became, what), (became, ""))
    told, _ = ask(launcher, what, owner)
    assert state_after(folder) == after
    assert told.startswith(words)
    assert killed == []


@pytest.mark.parametrize("what", ASKED)
@pytest.mark.parametrize("state", STATES)
def test_a_request_that_is_made_twice_does_no_more_than_one(
    state, what, launcher, owner, run, killed
):
    folder = run(state, worker=state in LIVE)
    ask(launcher, what, owner)
    after = state_after(folder)
    status = read_status(folder) if after != GONE else None
    ask(launcher, what, owner)
    assert state_after(folder) == after
    assert status is None or read_status(folder) == status
    assert len(list(launcher.paths.runs.glob(".trash/*"))) == (after == GONE)


def test_only_the_process_that_has_the_lock_is_killed(launcher, owner, run):
    folder = run("stopping", worker=False)
    code = """
import sys, time
from pathlib import Path
from resnet_demo.tasks.status import LOCK, report, take
lock = take(Path(sys.argv[1]) / LOCK)
print(lock, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE) as child:
        child.stdout.readline()  # status.json names this process, which has no lock
        told, refused = ask(launcher, "kill", owner)
        assert (told, refused) == ("run mine has no process here that could be killed", True)
        child.kill()
