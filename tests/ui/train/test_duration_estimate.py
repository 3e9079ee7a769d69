"""The line above Train, by the calls that a page makes."""

import asyncio
import os
import threading
import time
from dataclasses import replace

import gradio as gr
import pytest

from resnet_demo.config import make_config, to_json
from resnet_demo.runs.store import Run
from resnet_demo.runs.view import RunView
from resnet_demo.tasks.estimate import Estimate, store_speed, workload
from resnet_demo.tasks.limits import Caller
from resnet_demo.tasks.status import Status, end_task, status_json, update_status
from resnet_demo.training.speed import Speed
from resnet_demo.ui.app import build_app
from resnet_demo.ui.services import Services
from resnet_demo.ui.train.duration_estimate import (
    BUSY,
    FAILED,
    MEASURING,
    UNKNOWN,
    estimate_text,
    update_estimate,
)

ON_COLOURS = {"dataset": "colours", "batch_size": 16, "epochs": 2, "grow_from": 1.0}
OTHER = {**ON_COLOURS, "model": "resnet20"}


class Page:
    """A page: its line above Train, its timer and its state."""

    def __init__(self, services):
        self.services, self.line, self.ticks, self.state = services, None, False, None

    def follow(self, values, passed=0.0):
        """Send an event, `passed` seconds after the last; return which outputs changed."""
        if self.state:
            self.state = replace(self.state, since=self.state.since - passed)
        sent = update_estimate(self.services, values, self.state)
        text, timer, state = (part != gr.skip() for part in sent)
        self.line = sent[0] if text else self.line
        self.ticks = sent[1]["active"] if timer else self.ticks
        self.state = sent[2] if state else self.state
        return [text, timer, state]


@pytest.fixture
def spawned(services, monkeypatch):
    """Yield the list of started workers. No process is started."""
    workers = []
    monkeypatch.setattr(services.launcher, "spawn", lambda *worker: workers.append(worker))
    yield workers
    for _, _, lock in workers:
        os.close(lock)


@pytest.fixture
def page(services, spawned):
    return Page(services)


@pytest.fixture
def store_measurement(services):
    """Return a function that stores a measurement of these settings."""

    def store(values):
        work = workload(make_config(values), services.datasets.get("colours"))
        store_speed(services.paths.runs, work, Speed(train=0.5, val=0.25, device="cpu"))

    return store


def test_the_steps_leave_out_a_last_single_image_as_training_does(page):
    page.follow({**ON_COLOURS, "batch_size": 67})  # 135 training images: 67 + 67 + 1
    assert " · 4 steps\n" in page.line


def test_an_unknown_duration_is_measured_without_a_click(page, spawned, store_measurement):
    page.follow(ON_COLOURS)
    assert page.line.startswith(MEASURING)
    assert page.ticks
    assert page.follow(ON_COLOURS, passed=0.2) == [False] * 3
    assert spawned == []
    assert page.follow(ON_COLOURS, passed=2.0) == [False] * 3
    [(verb, _, _)] = spawned
    assert verb == "measure"
    store_measurement(ON_COLOURS)
    page.follow(ON_COLOURS, passed=1.0)
    assert page.line.startswith("**≈ 2 min 22 s** (measured just now)")
    assert not page.ticks  # 2 x (135 x 0.5 + 15 x 0.25) seconds
    assert len(spawned) == 1


def test_quick_changes_start_no_measurement(page, spawned):
    for batch_size in range(16, 24):
        page.follow({**ON_COLOURS, "batch_size": batch_size}, passed=1.9)
    assert page.ticks
    assert spawned == []


def test_a_known_duration_or_wrong_settings_are_not_measured(page, spawned, store_measurement):
    store_measurement(ON_COLOURS)
    page.follow(ON_COLOURS)
    assert not page.ticks
    page.follow({**ON_COLOURS, "epochs": 0})
    assert page.line.startswith("⚠ Epochs: enter")
    assert not page.ticks
    page.follow({**ON_COLOURS, "epochs": 0}, passed=9.0)
    assert spawned == []


def test_many_pages_share_one_measurement(services, page, spawned, store_measurement):
    pages = [page, Page(services), Page(services)]
    for one in pages:
        one.follow(ON_COLOURS)
        one.follow(ON_COLOURS, passed=3.0)
    update_status(services.speed_tests.folder, queued_at=time.time() - 60)
    other = Page(services)
    other.follow(OTHER)
    other.follow(OTHER, passed=3.0)
    assert len(spawned) == 1
    assert services.speed_tests.status().state == "queued"
    store_measurement(ON_COLOURS)
    for one in pages:
        one.follow(ON_COLOURS)
        assert "measured just now" in one.line


def test_a_change_to_another_network_stops_the_measurement(services, page, spawned):
    page.follow(ON_COLOURS)
    page.follow(ON_COLOURS, passed=3.0)
    update_status(services.speed_tests.folder, queued_at=time.time() - 60)
    page.follow({**ON_COLOURS, "epochs": 3})
    page.follow({**ON_COLOURS, "epochs": 3}, passed=3.0)  # the same time per image
    page.follow(OTHER)
    assert services.speed_tests.status().state == "queued"
    page.follow(OTHER, passed=3.0)
    assert services.speed_tests.status().state == "stopping"
    assert page.line.startswith(MEASURING)
    assert page.ticks


def test_the_measurement_waits_for_the_end_of_a_live_run(services, page, spawned):
    run, lock = services.launcher.make(make_config(OTHER))
    page.follow(ON_COLOURS)
    assert page.line.startswith(BUSY)
    assert not page.ticks
    assert page.follow(ON_COLOURS, passed=3.0) == [False] * 3
    end_task(run.path, "failed")
    os.close(lock)
    page.follow(ON_COLOURS)
    assert page.line.startswith(MEASURING)
    assert page.ticks
    assert len(spawned) == 1


def test_a_failed_measurement_is_reported_and_the_timer_stops(services, page, spawned):
    page.follow(ON_COLOURS)
    page.follow(ON_COLOURS, passed=3.0)
    end_task(services.speed_tests.folder, "failed", "out of *memory*")
    page.follow(ON_COLOURS, passed=1.0)
    assert page.line.startswith(rf"{FAILED}: out of \*memory\*")
    assert not page.ticks
    assert page.follow(ON_COLOURS, passed=9.0) == [False] * 3
    update_status(services.speed_tests.folder, changed_at=time.time() - 60)
    fresh = Page(services)
    fresh.follow(ON_COLOURS)
    fresh.follow(ON_COLOURS, passed=3.0)
    assert FAILED in fresh.line
    assert len(spawned) == 1
    os.close(spawned.pop()[2])
    fresh.follow(OTHER)
    fresh.follow(OTHER, passed=3.0)
    end_task(services.speed_tests.folder, "failed", "again")
    assert page.follow(ON_COLOURS, passed=9.0) == [False] * 3
    assert len(spawned) == 1


def test_a_stranger_starts_no_measurement_and_sees_existing_ones(page, spawned, store_measurement):
    page.services.__class__ = ForStrangers
    page.follow(ON_COLOURS)
    assert page.line.startswith(UNKNOWN)
    assert not page.ticks
    page.follow(ON_COLOURS, passed=3.0)
    assert spawned == []
    store_measurement(OTHER)
    page.follow(OTHER)
    assert "measured just now" in page.line


class ForStrangers(Services):
    """Services of an app where the caller is a stranger."""

    def caller(self):
        return Caller("stranger", is_owner=False)


def test_the_line_names_the_source_of_the_duration():
    hour_ago = time.time() - 3600
    assert estimate_text(Estimate(300.0, "resnet9-colours-1")) == (
        "**≈ 5 min 00 s** (measured in resnet9-colours-1)"
    )
    assert estimate_text(Estimate(300.0, measured_at=hour_ago)).endswith("(measured earlier)")


def test_a_page_whose_state_was_lost_by_a_restart_continues(services, page, spawned):
    page.follow(ON_COLOURS)
    page.follow(ON_COLOURS, passed=3.0)
    page.state = None
    page.follow(ON_COLOURS)
    page.follow(ON_COLOURS, passed=3.0)
    assert page.ticks
    assert services.speed_tests.status().state == "queued"
    assert len(spawned) == 1


def test_changing_the_form_neither_blocks_the_server_nor_reads_every_log_again(
    services, events, monkeypatch
):
    names = [f"some-run-{number}" for number in range(3)]
    for name in names:
        run = Run(services.paths.runs / name)
        run.path.mkdir(parents=True)
        (run.path / "config.json").write_text(to_json(make_config(ON_COLOURS), "0"))
        (run.path / "status.json").write_bytes(status_json(Status(state="stopped")))
        run.log().append(events()[0])
    app = build_app(services.paths)
    ticks = [
        number for number, fn in app.fns.items() if any(kind == "tick" for _, kind in fn.targets)
    ]
    [event] = [
        fn for fn in app.fns.values() if fn.name == "on_change" and fn.trigger_after in ticks
    ]
    read, refresh = [], RunView.refresh

    def counted(view):
        folder = view.log.path.parent
        if folder.parent == services.paths.runs:  # threads of other tests' apps may read too
            read.append((folder.name, threading.get_ident()))
        return refresh(view)

    monkeypatch.setattr(RunView, "refresh", counted)
    values = [part.value for part in event.inputs]

    async def change_form():
        for epochs in range(1, 6):
            named = dict(zip([part.elem_id for part in event.inputs], values, strict=True))
            named |= {**ON_COLOURS, "epochs": epochs}
            await event.fn(*named.values())
        return threading.get_ident()

    loop_thread = asyncio.run(change_form())
    assert sorted(name for name, _ in read) == names
    assert loop_thread not in {thread for _, thread in read}
