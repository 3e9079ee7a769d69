"""Many requests at once, killed apps, and two apps over one folder; real apps and workers."""

import json
import os
import random
import signal
import socket
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from resnet_demo.events import Stopped
from resnet_demo.file_locks import try_lock
from resnet_demo.runs.store import Run
from resnet_demo.tasks.locks import DEVICE_LOCK, has_worker
from resnet_demo.tasks.queue import live_runs
from resnet_demo.tasks.status import read_status, reconcile_status, request_stop
from tests.conftest import AppProcess
from tests.pages import Page
from tests.unit.tasks.test_load import growing, serve_viewers

TINY = {
    "dataset": "colours",
    "model": "resnet20",
    "batch_size": 16,
    "image_size": 12,
    "crop": 0,
    "epochs": 1000,
}


@pytest.fixture(scope="module")
def served(start_app):
    served = start_app()
    served.runs.mkdir(exist_ok=True)
    return served


@pytest.fixture
def app(served, until):
    """Yield an app over a folder without live runs, before and after."""
    yield served
    for folder in runs_of(served):
        with suppress(FileNotFoundError):
            request_stop(folder)
    for pid in workers_of(served):  # those that load torch would notice it seconds later
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not any(map(has_worker, runs_of(served))))


@pytest.fixture
def second(app):
    """Yield another app over the same folders."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        other = AppProcess(app.runs, app.data, probe.getsockname()[1])
    other.start()
    yield other
    other.kill()


def runs_of(app):
    return sorted(path.parent for path in app.runs.glob("[!.]*/status.json"))


def at_once(count, call):
    """Return the results of so many calls at the same moment; call: takes its number."""
    barrier, results = threading.Barrier(count), []

    def run(number):
        barrier.wait()
        results.append(call(number))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def train(app):
    """Start a run; return its folder."""
    event, answer = app.call("train", TINY)
    assert event == "complete", answer
    return app.runs / answer[0]


def run_state(app, folder):
    event, answer = app.call("run", folder.name)
    assert event == "complete", answer
    return answer[0]


def workers_of(app):
    """Return the pids of all live training workers over the app's folder."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"resnet_demo.tasks.worker" in words and str(app.runs).encode() in b"".join(words):
                pids.append(int(path.parent.name))
    return sorted(pids)


def in_order(folders):
    return sorted(folders, key=lambda folder: read_status(folder).queued_clock)


def test_viewers_of_a_live_run_are_served_and_disturb_no_command(app):
    with growing(app, "live-1", 1_000) as live:
        serve_viewers(app, live, viewers=6, seconds=2)


@contextmanager
def suspended(pid):
    """Suspend a process: a run that trains would take a core from an app that starts."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("count", [4, pytest.param(20, marks=pytest.mark.soak)])
def test_of_many_runs_started_at_once_one_trains_and_the_rest_queue_in_order(app, count, until):
    device = try_lock(app.runs / DEVICE_LOCK)  # until all are queued
    before = set(runs_of(app))
    folders = in_order(at_once(count, lambda number: train(app)))
    assert len(set(folders)) == count
    assert set(runs_of(app)) == before | set(folders)  # none twice, none half
    assert [run_state(app, folder)["place"] for folder in folders] == list(range(count))
    assert live_runs(app.runs) == folders

    last = folders[-1]  # two stops at once, and a third
    answers = at_once(2, lambda number: app.call("stop", last.name))
    assert {event for event, _ in answers} == {"complete"}
    until(lambda: not has_worker(last))
    assert "is not running: it is stopped" in app.call("stop", last.name)[1][0]
    assert [type(event) for event in Run(last).log()] == [Stopped]
    pages = [Page(app), Page(app)]
    pressed = at_once(2, lambda number: pages[number].press("resume", last.name))
    assert sorted(done for done, _ in pressed) == [False, True]
    refusals = {error for done, error in pressed if not done}
    assert refusals == {f"{last.name} is queued: it has a worker"}

    os.close(device)
    for number, folder in enumerate(folders[: 1 if count < 10 else count]):
        until(lambda folder=folder: reconcile_status(folder).state != "queued")
        states = [reconcile_status(other).state for other in folders]
        assert states.pop(number) in ("preparing", "running")
        assert states == ["stopped"] * number + ["queued"] * (count - number - 1)
        app.call("stop", folder.name)
        if count > 4:
            until(lambda folder=folder: not has_worker(folder))


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.soak)])
def test_a_run_and_the_queue_survive_kills_of_the_app(app, kills, until):
    rng, folders = random.Random(kills), [train(app) for _ in range(3)]
    until(lambda: run_state(app, folders[0])["progress"]["step"] > 0)
    pids = [read_status(folder).pid for folder in folders]
    for _ in range(kills):
        step = run_state(app, folders[0])["progress"]["step"]
        thread = threading.Thread(target=try_to_train, args=(app,))  # a request under way
        thread.start()
        time.sleep(rng.uniform(0, 0.1))
        app.kill()
        thread.join()
        with suspended(pids[0]):
            app.start()
        until(lambda step=step: run_state(app, folders[0])["progress"]["step"] > step)
        assert [run_state(app, folder)["place"] for folder in folders] == [None, 1, 2]
        assert [read_status(folder).pid for folder in folders] == pids  # unchanged
        assert all(map(has_worker, folders))
        for folder in set(runs_of(app)) - set(folders):  # from the interrupted request
            app.call("stop", folder.name)
            until(lambda folder=folder: not reconcile_status(folder).is_live)
            assert run_state(app, folder)["state"] in ("stopped", "failed")
            until(lambda folder=folder: not has_worker(folder))
        assert live_runs(app.runs) == folders
        until(lambda: workers_of(app) == sorted(pids))  # no orphan, none twice
    app.call("stop", folders[0].name)
    until(lambda: reconcile_status(folders[1]).state in ("preparing", "running"))  # no stale lock
    assert reconcile_status(folders[2]).state == "queued"


def try_to_train(app):
    with suppress(httpx.HTTPError, json.JSONDecodeError, KeyError, ValueError):
        train(app)


def test_two_apps_over_one_folder_share_the_runs_and_the_queue(app, second, until):
    apps = (app, second)
    mine, yours = folders = [train(each) for each in apps]
    until(lambda: run_state(app, mine)["progress"]["step"] > 0)
    for each in apps:
        runs = [run_state(each, folder) for folder in folders]
        assert [run["state"] for run in runs] == ["running", "queued"]
        assert [run["place"] for run in runs] == [None, 1]
    assert len({folder.name for folder in at_once(4, lambda n: train(apps[n % 2]))}) == 4

    app.call("stop", yours.name)  # started by the other app
    until(lambda: run_state(second, yours)["state"] == "stopped")
    assert run_state(app, yours) == run_state(second, yours)
    pages = [Page(each) for each in apps]
    pressed = at_once(2, lambda number: pages[number].press("resume", yours.name))
    assert sorted(done for done, _ in pressed) == [False, True]
    assert sum(state == "running" for state in states(app)) == 1

    app.kill()  # which the other app does not notice
    step = run_state(second, mine)["progress"]["step"]
    until(lambda: run_state(second, mine)["progress"]["step"] > step)
    second.call("stop", mine.name)
    until(lambda: run_state(second, mine)["state"] == "stopped")
    assert sum(state in ("preparing", "running") for state in states(second)) <= 1


def states(app):
    return [read_status(folder).state for folder in runs_of(app)]
