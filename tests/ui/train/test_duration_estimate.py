"""The line above Train, by calls that a page would make."""

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
    """A form's values, and the line that stands above Train."""

    def __init__(self, services):
        self.services, self.line, self.ticks, self.asked = services, None, False, None

    def follow(self, values, passed=0.0):
        """One event, so many seconds after the one before; what was sent."""
        if self.asked:
            self.asked = replace(self.asked, since=self.asked.since - passed)
        sent = update_estimate(self.services, values, self.asked)
        told, timer, asked = (part != gr.skip() for part in sent)
        self.line = sent[0] if told else self.line
        self.ticks = sent[1]["active"] if timer else self.ticks
        self.asked = sent[2] if asked else self.asked
        return [told, timer, asked]


@pytest.fixture
def spawned(services, monkeypatch):
    """The workers that were started: none really is."""
    workers = []
    monkeypatch.setattr(services.launcher, "spawn", lambda *worker: workers.append(worker))
    yield workers
    for _, _, lock in workers:
        os.close(lock)


@pytest.fixture
def page(services, spawned):
    return Page(services)


@pytest.fixture
def put_down(services):
    """Puts down that this was measured."""

    def put(values):
        work = workload(make_config(values), services.datasets.get("colours"))
        store_speed(services.paths.runs, work, Speed(train=0.5, val=0.25, device="cpu"))

    return put


def test_the_shown_steps_leave_out_a_single_image_at_the_end_as_training_does(page):
    page.follow({**ON_COLOURS, "batch_size": 67})  # 135 training images: 67 + 67 + 1
    assert " · 4 steps · " in page.line


def test_what_nobody_knows_is_measured_without_anybody_doing_anything(page, spawned, put_down):
    page.follow(ON_COLOURS)
    assert page.line.startswith(MEASURING)
    assert page.ticks
    assert page.follow(ON_COLOURS, passed=1.5) == [False] * 3
    assert spawned == []
    assert page.follow(ON_COLOURS, passed=1.0) == [False] * 3
    [(verb, _, _)] = spawned
    assert verb == "measure"
    put_down(ON_COLOURS)
    page.follow(ON_COLOURS, passed=1.0)
    assert page.line.startswith("**≈ 2 min 22 s** (measured just now)")
    assert not page.ticks  # 2 x (135 x 0.5 + 15 x 0.25) seconds
    assert len(spawned) == 1


def test_passing_through_values_starts_nothing(page, spawned):
    for batch_size in range(16, 24):
        page.follow({**ON_COLOURS, "batch_size": batch_size}, passed=1.9)
    assert page.ticks
    assert spawned == []


def test_what_is_known_or_wrong_is_not_measured(page, spawned, put_down):
    put_down(ON_COLOURS)
    page.follow(ON_COLOURS)
    assert not page.ticks
    page.follow({**ON_COLOURS, "epochs": 0})
    assert page.line.startswith("⚠ epochs must be")
    assert not page.ticks
    page.follow({**ON_COLOURS, "epochs": 0}, passed=9.0)
    assert spawned == []


def test_many_pages_share_one_measurement_and_another_waits_for_its_own(
    services, page, spawned, put_down
):
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
    put_down(ON_COLOURS)
    for one in pages:
        one.follow(ON_COLOURS)
        assert "measured just now" in one.line


def test_a_change_to_other_work_stops_what_is_measured(services, page, spawned):
    page.follow(ON_COLOURS)
    page.follow(ON_COLOURS, passed=3.0)
    update_status(services.speed_tests.folder, queued_at=time.time() - 60)
    page.follow({**ON_COLOURS, "epochs": 3})
    page.follow({**ON_COLOURS, "epochs": 3}, passed=3.0)  # which takes as long an image
    page.follow(OTHER)
    assert services.speed_tests.status().state == "queued"
    page.follow(OTHER, passed=3.0)
    assert services.speed_tests.status().state == "stopping"
    assert page.line.startswith(MEASURING)
    assert page.ticks


def test_while_a_run_is_live_nothing_is_measured_and_afterwards_it_is(services, page, spawned):
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


def test_a_measurement_that_failed_is_told_and_the_timer_rests(services, page, spawned):
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


def test_a_stranger_starts_nothing_and_sees_what_others_measured(page, spawned, put_down):
    page.services.__class__ = ForStrangers
    page.follow(ON_COLOURS)
    assert page.line.startswith(UNKNOWN)
    assert not page.ticks
    page.follow(ON_COLOURS, passed=3.0)
    assert spawned == []
    put_down(OTHER)
    page.follow(OTHER)
    assert "measured just now" in page.line


class ForStrangers(Services):
    """As on a machine that is not the caller's own."""

    def caller(self):
        return Caller("stranger", is_owner=False)


def test_the_line_tells_where_the_time_is_known_from():
    hour_ago = time.time() - 3600
    assert estimate_text(Estimate(300.0, "resnet9-colours-1")) == (
        "**≈ 5 min 00 s** (measured in resnet9-colours-1)"
    )
    assert estimate_text(Estimate(300.0, measured_at=hour_ago)).endswith("(measured earlier)")


def test_a_page_that_lost_its_memory_with_the_app_goes_on(services, page, spawned):
    page.follow(ON_COLOURS)
    page.follow(ON_COLOURS, passed=3.0)
    page.asked = None
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
    [event] = [
        fn
        for fn in app.fns.values()
        if fn.name == "on_change" and any(kind == "tick" for _, kind in fn.targets)
    ]
    read, refresh = [], RunView.refresh

    def counted(view):
        read.append((view.log.path.parent.name, threading.get_ident()))
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
