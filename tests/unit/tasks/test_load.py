"""Many pages open on one live run: everybody is served, Train and Stop answer, nobody is starved.

Each viewer asks what an open page asks, once a second, and remembers what it was told. The short
form proves that it works; the long one, behind `soak`, that it is fast. Its figures are printed:
`pytest -m soak -s tests/tasks/test_load.py`, on a machine that does nothing else.
"""

import asyncio
import json
import os
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import pytest

from resnet_demo.config import make_config, to_json
from resnet_demo.events import Started, Step, to_line
from resnet_demo.runs.store import Run
from resnet_demo.tasks.locks import WORKER_LOCK, try_lock
from resnet_demo.tasks.status import Status, read_status, status_json
from tests.pages import Viewer

TINY = {"dataset": "colours", "model": "resnet20", "batch_size": 16, "image_size": 12}
OPENING = {
    **{"device": "cpu (2 threads)", "precision": "float32", "threads": 2, "parameters": 1_650_000},
    **{"macs": 40_600_000, "steps_per_epoch": 1000, "epochs": 1000, "version": "0"},
}
BEFORE = 40_000  # events: what eight hours of training leave
YOUNG = 1_000  # events: some minutes, and as many as a curve has points
EVERY_S = 0.2  # a new event in the log
HUNG = 10  # of those who look: they ask, and never read the answer
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def app(start_app):
    served = start_app()
    served.runs.mkdir(exist_ok=True)
    return served


@pytest.fixture
def live(app):
    """A run with eight hours behind it; its id."""
    with growing(app, "live-1", BEFORE) as run_id:
        yield run_id


@contextmanager
def growing(app, run_id, before):
    """A run whose worker is this process, with so many events in its log, which grows; its id."""
    folder, over = app.runs / run_id, threading.Event()
    folder.mkdir()
    (folder / "config.json").write_text(to_json(make_config(TINY), "0"))
    clock = {"changed_clock": time.monotonic(), "queued_clock": 1.0}
    (folder / "status.json").write_bytes(
        status_json(Status(state="running", pid=os.getpid(), **clock))
    )
    lock, log = try_lock(folder / WORKER_LOCK), Run(folder).log()
    log.append(Started(step=0, epoch=1, **OPENING))
    with open(log.path, "a") as file:
        file.writelines(to_line(step(number)) for number in range(1, before))

    def grow():
        number = before
        while not over.wait(EVERY_S):
            log.append(step(number))
            number += 1

    logging = threading.Thread(target=grow)
    logging.start()
    yield run_id
    over.set()
    logging.join()
    os.close(lock)


def step(number):
    return Step(
        step=number, epoch=number // 1000 + 1, loss=2 / (1 + number / 9000) + number % 7 / 10,
        top1=0.5, lr=0.1, images_per_s=400.0 + number % 9,
    )  # fmt: skip


async def view(viewer, until, late):
    """A page that is open for a while: seconds of each look, and how often a curve came."""
    took, curves = [], 0
    await viewer.open()
    await asyncio.sleep(late)  # not all in the same instant
    while time.monotonic() < until:
        began = time.monotonic()
        curves += "loss" in await viewer.poll()
        took.append(time.monotonic() - began)
        await asyncio.sleep(max(0.0, 1.0 - took[-1]))
    viewer.close()
    return took, curves


def hang(app, run_id):
    """A viewer that asks for a look and never reads the answer; its open socket."""
    mute = socket.create_connection(("127.0.0.1", app.port))
    ask = f"GET /poll?run={run_id} HTTP/1.1\r\nHost: 127.0.0.1:{app.port}\r\n\r\n"
    mute.sendall(ask.encode())
    return mute


def start_and_stop(app, until):
    """Seconds that Train and Stop took to answer, again and again."""
    took = []

    def timed(name, value):
        began = time.monotonic()
        event, answer = app.call(name, value)
        took.append(time.monotonic() - began)
        assert event == "complete", answer
        return answer[0]

    while not took or time.monotonic() < until:
        timed("stop", timed("train", TINY))
        time.sleep(1)
    return took


def processor_s(pid):
    """Seconds of the processor that a process has used."""
    told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / TICKS_PER_S


async def crowd(app, run_id, count, until):
    """So many pages at once: of each, seconds a look and how often a curve came."""
    views = (view(Viewer(app, run_id), until, n / count) for n in range(count))
    return await asyncio.gather(*views)


@pytest.mark.parametrize(
    ("viewers", "seconds"),
    [(6, 5), pytest.param(100, 60, marks=pytest.mark.soak)],
    ids=["short", "long"],
)
def test_a_crowd_that_watches_a_live_run_is_served_and_disturbs_nobody(app, live, viewers, seconds):
    app.call("run", live)  # reads its log
    mute = [hang(app, live) for _ in range(HUNG)]
    until = time.monotonic() + seconds
    own, others = time.process_time(), processor_s(app.process.pid)
    commands = []
    commanding = threading.Thread(target=lambda: commands.extend(start_and_stop(app, until)))
    commanding.start()
    seen = asyncio.run(crowd(app, live, viewers, until))
    took = [one for looks, _ in seen for one in looks]
    commanding.join()
    figures = {
        "viewers": viewers,
        "hung": HUNG,
        "seconds": seconds,
        "looks": len(took),
        "p95_s": round(quantiles(took, n=20)[-1], 3),
        "train_and_stop_s": round(max(commands), 3),
        "app_cores": round((processor_s(app.process.pid) - others) / seconds, 3),
        "generator_cores": round((time.process_time() - own) / seconds, 3),
    }
    print(json.dumps(figures))
    for socket_ in mute:
        socket_.close()
    assert all(len(looks) >= curves > 0 for looks, curves in seen)  # nobody was left out
    assert read_status(app.runs / live).state == "running"
    assert len(commands) >= 2
    if seconds < 60:
        return  # on a machine that does other things, how fast says nothing
    assert len(took) > 0.9 * viewers * seconds
    assert figures["p95_s"] < 0.25
    assert figures["train_and_stop_s"] < 1
    assert figures["app_cores"] < 0.6


@pytest.mark.soak
def test_a_run_of_eight_hours_is_watched_as_fast_as_a_young_one(app):
    with growing(app, "young-1", YOUNG) as young, growing(app, "old-1", BEFORE) as old:
        rounds = [[watched_for(app, run_id, 15) for run_id in (young, old)] for _ in range(4)]
    for name in ("p95_s", "app_cores"):  # the first round reads the logs
        ratios = [after[name] / before[name] for before, after in rounds[1:]]
        print(json.dumps({name: rounds[1:], "ratios": ratios}))
        assert median(ratios) < 1.25


def watched_for(app, run_id, seconds):
    """What a hundred who look for so long see, and what it costs the app."""
    used = processor_s(app.process.pid)
    seen = asyncio.run(crowd(app, run_id, 100, time.monotonic() + seconds))
    took = [one for looks, _ in seen for one in looks]
    cores = (processor_s(app.process.pid) - used) / seconds
    return {"p95_s": round(quantiles(took, n=20)[-1], 4), "app_cores": round(cores, 3)}


@pytest.mark.soak
def test_a_run_keeps_seven_tenths_of_its_speed_while_a_hundred_watch_it(start_app, until):
    app = start_app(OMP_NUM_THREADS=str(os.cpu_count()))
    knobs = {"dataset": "shapes10", "model": "resnet20", "batch_size": 128, "epochs": 1000}
    event, answer = app.call("train", knobs)
    assert event == "complete", answer
    run = Run(app.runs / answer[0])
    until(lambda: run.log().size() and any(isinstance(event, Step) for event in run.log()))

    def rate(seconds, viewers):
        """Steps a second, and cores of the app and of the load generator meanwhile."""
        before, own = processor_s(app.process.pid), time.process_time()
        first, began = last_step(run), time.monotonic()
        if viewers:
            asyncio.run(crowd(app, run.id, viewers, began + seconds))
        else:
            time.sleep(seconds)
        passed = time.monotonic() - began
        app_s, own_s = processor_s(app.process.pid) - before, time.process_time() - own
        steps = last_step(run) - first
        return {"steps_per_s": steps / passed, "app": app_s / passed, "generator": own_s / passed}

    rounds = [(rate(30, 0), rate(30, 100)) for _ in range(3)]
    for alone, watched in rounds:
        print(json.dumps({"alone": alone, "watched": watched}))
    shares = [watched["steps_per_s"] / alone["steps_per_s"] for alone, watched in rounds]
    assert median(shares) > 0.7


def last_step(run):
    return max(event.step for event in run.log())
