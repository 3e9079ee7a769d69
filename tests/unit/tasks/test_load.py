"""Many pages open on one live run: each is served, and Train and Stop answer.

A viewer sends the requests of an open page, once a second, and remembers the answers. test_crowd.py
checks with its app that it works; these tests, marked `soak`, check that it is fast. Figures are
printed: `pytest -m soak -s tests/unit/tasks/test_load.py`, on an otherwise idle machine.
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
from resnet_demo.file_locks import try_lock
from resnet_demo.runs.store import Run
from resnet_demo.tasks.locks import WORKER_LOCK
from resnet_demo.tasks.status import Status, read_status, status_json
from tests.pages import Viewer

TINY = {"dataset": "colours", "model": "resnet20", "batch_size": 16, "image_size": 12}
OPENING = {
    "device": "cpu (2 threads)",
    "precision": "float32",
    "threads": 2,
    "parameters": 1_650_000,
    "macs": 40_600_000,
    "steps_per_epoch": 1000,
    "epochs": 1000,
    "version": "0",
}
OLD = 40_000  # events of eight hours of training
YOUNG = 1_000  # events of some minutes, as many as a curve has points
EVERY_S = 0.2  # a new event in the log
HUNG = 10  # further viewers that never read the answer
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def app(start_app):
    served = start_app()
    served.runs.mkdir(exist_ok=True)
    return served


@contextmanager
def growing(app, run_id, before):
    """Yield the id of a run of this process, with so many events in a log that grows."""
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
    try:
        yield run_id
    finally:
        over.set()
        logging.join()
    (folder / "status.json").write_bytes(status_json(Status(state="stopped")))
    os.close(lock)


def step(number):
    return Step(
        step=number,
        epoch=number // 1000 + 1,
        loss=2 / (1 + number / 9000) + number % 7 / 10,
        top1=0.5,
        lr=0.1,
        images_per_s=400.0 + number % 9,
    )


async def view(viewer, until, late):
    """Act an open page; return the seconds of each poll, and how often it got a curve."""
    durations, curves = [], 0
    await viewer.open()
    await asyncio.sleep(late)  # not all at the same instant
    while not durations or time.monotonic() < until:  # once at least on a busy machine
        start = time.monotonic()
        curves += "curves" in await viewer.poll()
        durations.append(time.monotonic() - start)
        await asyncio.sleep(max(0.0, 1.0 - durations[-1]))
    viewer.close()
    return durations, curves


def hang(app, run_id):
    """Send a poll whose answer is never read; return the open socket."""
    mute = socket.create_connection(("127.0.0.1", app.port))
    request = f"GET /poll?run={run_id} HTTP/1.1\r\nHost: 127.0.0.1:{app.port}\r\n\r\n"
    mute.sendall(request.encode())
    return mute


def start_and_stop(app, until):
    """Start and stop runs until then; return the seconds of each answer."""
    durations = []

    def timed(name, value):
        start = time.monotonic()
        event, answer = app.call(name, value)
        durations.append(time.monotonic() - start)
        assert event == "complete", answer
        return answer[0]

    while not durations or time.monotonic() < until:
        timed("stop", timed("train", TINY))
        time.sleep(1)
    return durations


def processor_s(pid):
    """Return the processor time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


async def crowd(app, run_id, count, until):
    """Act many pages at once; return the result of each."""
    views = (view(Viewer(app, run_id), until, n / count) for n in range(count))
    return await asyncio.gather(*views)


def serve_viewers(app, live, viewers, seconds):
    """Check that all viewers of a live run are served beside commands; return the figures."""
    app.call("run", live)  # reads its log
    mute = [hang(app, live) for _ in range(HUNG)]
    until = time.monotonic() + seconds
    own, others = time.process_time(), processor_s(app.process.pid)
    commands = []
    commander = threading.Thread(target=lambda: commands.extend(start_and_stop(app, until)))
    commander.start()
    results = asyncio.run(crowd(app, live, viewers, until))
    polls_s = [seconds for durations, _ in results for seconds in durations]
    commander.join()
    figures = {
        "viewers": viewers,
        "hung": HUNG,
        "seconds": seconds,
        "polls": len(polls_s),
        "p95_s": round(quantiles(polls_s, n=20)[-1], 3),
        "train_and_stop_s": round(max(commands), 3),
        "app_cores": round((processor_s(app.process.pid) - others) / seconds, 3),
        "generator_cores": round((time.process_time() - own) / seconds, 3),
    }
    print(json.dumps(figures))
    for socket_ in mute:
        socket_.close()
    assert all(len(durations) >= curves > 0 for durations, curves in results)
    assert read_status(app.runs / live).state == "running"
    assert len(commands) >= 2
    return figures


@pytest.mark.soak
def test_a_crowd_of_viewers_is_served_and_disturbs_no_command(app):
    with growing(app, "live-1", OLD) as live:  # after eight hours of training
        figures = serve_viewers(app, live, viewers=100, seconds=60)
    assert figures["polls"] > 0.9 * 100 * 60
    assert figures["p95_s"] < 0.25
    assert figures["train_and_stop_s"] < 1
    assert figures["app_cores"] < 0.6


@pytest.mark.soak
def test_a_run_of_eight_hours_is_polled_as_fast_as_a_young_one(app):
    with growing(app, "young-1", YOUNG) as young, growing(app, "old-1", OLD) as old:
        rounds = [[poll_for(app, run_id, 15) for run_id in (young, old)] for _ in range(4)]
    for name in ("p95_s", "app_cores"):  # the first round reads the logs
        ratios = [after[name] / before[name] for before, after in rounds[1:]]
        print(json.dumps({name: rounds[1:], "ratios": ratios}))
        assert median(ratios) < 1.25


def poll_for(app, run_id, seconds):
    """Return the latency of a hundred viewers, and the cores that the app used."""
    used = processor_s(app.process.pid)
    results = asyncio.run(crowd(app, run_id, 100, time.monotonic() + seconds))
    polls_s = [duration for durations, _ in results for duration in durations]
    cores = (processor_s(app.process.pid) - used) / seconds
    return {"p95_s": round(quantiles(polls_s, n=20)[-1], 4), "app_cores": round(cores, 3)}


@pytest.mark.soak
def test_a_run_keeps_seven_tenths_of_its_speed_with_a_hundred_viewers(start_app, until):
    app = start_app(OMP_NUM_THREADS=str(os.cpu_count()))
    knobs = {"dataset": "shapes10", "model": "resnet20", "batch_size": 128, "epochs": 1000}
    event, answer = app.call("train", knobs)
    assert event == "complete", answer
    run = Run(app.runs / answer[0])
    until(lambda: run.log().size() and any(isinstance(event, Step) for event in run.log()))

    def rate(seconds, viewers):
        """Return steps a second, and the cores of the app and of the load generator."""
        before, own = processor_s(app.process.pid), time.process_time()
        first, start = last_step(run), time.monotonic()
        if viewers:
            asyncio.run(crowd(app, run.id, viewers, start + seconds))
        else:
            time.sleep(seconds)
        passed = time.monotonic() - start
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
