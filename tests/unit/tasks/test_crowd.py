"""Many who ask at once, apps that are killed, two apps over one folder: real apps, real workers."""

import json
import os
import random
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from resnet_demo.events import Stopped
from resnet_demo.runs.store import Run
from resnet_demo.tasks.locks import has_worker, try_lock
from resnet_demo.tasks.queue import live_runs
from resnet_demo.tasks.status import read_status, reconcile_status, request_stop
from tests.conftest import AppProcess
from tests.pages import Page

TINY = {
    **{"dataset": "colours", "model": "resnet20", "batch_size": 16, "image_size": 12},
    **{"crop": 0, "epochs": 1000},
}


@pytest.fixture(scope="module")
def served(start_app):
    served = start_app()
    served.runs.mkdir(exist_ok=True)
    return served


@pytest.fixture
def app(served, until):
    """An app over a folder in which nothing is alive, before and after."""
    yield served
    for folder in runs_of(served):
        with suppress(FileNotFoundError):
            request_stop(folder)
    until(lambda: not any(map(has_worker, runs_of(served))))


@pytest.fixture
def second(app):
    """Another app over the same folders."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        other = AppProcess(app.runs, app.data, probe.getsockname()[1])
    other.start()
    yield other
    other.kill()


def runs_of(app):
    return sorted(path.parent for path in app.runs.glob("[!.]*/status.json"))


def at_once(count, call):
    """What so many calls at the same moment gave; each is told its number."""
    barrier, given = threading.Barrier(count), []

    def one(number):
        barrier.wait()
        given.append(call(number))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return given


def train(app):
    """Start a run; its folder."""
    event, answer = app.call("train", TINY)
    assert event == "complete", answer
    return app.runs / answer[0]


def told(app, folder):
    event, answer = app.call("run", folder.name)
    assert event == "complete", answer
    return answer[0]


def workers_of(app):
    """The pids of all living train workers over the app's folder, whoever started them."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"resnet_demo.tasks.worker" in words and str(app.runs).encode() in b"".join(words):
                pids.append(int(path.parent.name))
    return sorted(pids)


def in_order(folders):
    return sorted(folders, key=lambda folder: read_status(folder).queued_clock)


@pytest.mark.parametrize("count", [4, pytest.param(20, marks=pytest.mark.soak)])
def test_of_many_who_press_train_at_once_one_trains_and_the_rest_queue_in_order(app, count, until):
    device = try_lock(app.runs / ".device.lock")  # until all have come
    before = set(runs_of(app))
    folders = in_order(at_once(count, lambda number: train(app)))
    assert len(set(folders)) == count
    assert set(runs_of(app)) == before | set(folders)  # none was made twice or half
    assert [told(app, folder)["place"] for folder in folders] == list(range(count))
    assert live_runs(app.runs) == folders

    last = folders[-1]  # two presses on Stop at once, and a third
    words = at_once(2, lambda number: app.call("stop", last.name))
    assert {event for event, _ in words} == {"complete"}
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
        until(lambda folder=folder: reconcile_status(folder).state == "running")
        states = [reconcile_status(other).state for other in folders]
        after = count - number - 1
        assert states == ["stopped"] * number + ["running"] + ["queued"] * after
        app.call("stop", folder.name)
        until(lambda folder=folder: not has_worker(folder))


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.soak)])
def test_a_run_and_the_queue_behind_it_outlive_the_app_however_often_it_is_killed(
    app, kills, until
):
    rng, folders = random.Random(kills), [train(app) for _ in range(3)]
    until(lambda: told(app, folders[0])["progress"]["step"] > 0)
    pids = [read_status(folder).pid for folder in folders]
    for _ in range(kills):
        step = told(app, folders[0])["progress"]["step"]
        asking = threading.Thread(target=asked_in_vain, args=(app,))  # a request on its way
        asking.start()
        time.sleep(rng.uniform(0, 0.1))
        app.kill()
        asking.join()
        app.start()
        until(lambda step=step: told(app, folders[0])["progress"]["step"] > step)
        assert [told(app, folder)["place"] for folder in folders] == [None, 1, 2]
        assert [read_status(folder).pid for folder in folders] == pids  # the same ones
        assert all(map(has_worker, folders))
        for folder in set(runs_of(app)) - set(folders):  # whatever became of the request
            app.call("stop", folder.name)
            until(lambda folder=folder: not reconcile_status(folder).is_live)
            assert told(app, folder)["state"] in ("stopped", "failed")
            until(lambda folder=folder: not has_worker(folder))
        assert live_runs(app.runs) == folders
        until(lambda: workers_of(app) == sorted(pids))  # no orphan, none twice
    app.call("stop", folders[0].name)
    until(lambda: reconcile_status(folders[1]).state in ("preparing", "running"))  # no stale lock
    assert reconcile_status(folders[2]).state == "queued"


def asked_in_vain(app):
    with suppress(httpx.HTTPError, json.JSONDecodeError, KeyError, ValueError):
        train(app)


def test_two_apps_over_one_folder_see_the_same_runs_and_share_one_queue(app, second, until):
    apps = (app, second)
    mine, yours = folders = [train(each) for each in apps]
    until(lambda: told(app, mine)["progress"]["step"] > 0)
    for each in apps:
        seen = [told(each, folder) for folder in folders]
        assert [one["state"] for one in seen] == ["running", "queued"]
        assert [one["place"] for one in seen] == [None, 1]
    assert len({folder.name for folder in at_once(4, lambda n: train(apps[n % 2]))}) == 4

    app.call("stop", yours.name)  # what the other one started
    until(lambda: told(second, yours)["state"] == "stopped")
    pages = [Page(each) for each in apps]
    pressed = at_once(2, lambda number: pages[number].press("resume", yours.name))
    assert sorted(done for done, _ in pressed) == [False, True]
    assert sum(state == "running" for state in states(app)) == 1

    app.kill()  # with it goes nothing that the other one shows
    step = told(second, mine)["progress"]["step"]
    until(lambda: told(second, mine)["progress"]["step"] > step)
    second.call("stop", mine.name)
    until(lambda: told(second, mine)["state"] == "stopped")
    assert sum(state in ("preparing", "running") for state in states(second)) <= 1
    app.start()
    assert told(app, mine) == told(second, mine)


def states(app):
    return [read_status(folder).state for folder in runs_of(app)]
