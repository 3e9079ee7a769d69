"""The Train tab: the line above Train, the parts of a run, starting and deleting."""

import asyncio
import math
import os
import shutil
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from resnet_demo.architectures import MODELS
from resnet_demo.config import make_config, to_json
from resnet_demo.events import Failed
from resnet_demo.file_locks import try_lock
from resnet_demo.models.counts import model_counts
from resnet_demo.runs.store import Run
from resnet_demo.runs.text import count_text
from resnet_demo.runs.view import RunView
from resnet_demo.tasks.locks import WORKER_LOCK
from resnet_demo.tasks.snapshot import RunSnapshot
from resnet_demo.tasks.status import LIVE, STATES, Status, status_json
from resnet_demo.ui.plots import empty_curves
from resnet_demo.ui.train.duration_estimate import MEASURING, update_estimate
from resnet_demo.ui.train.run_panel import (
    NO_RUN,
    POLL_S,
    START_POLL_S,
    START_S,
    poll_s,
    run_parts,
)
from resnet_demo.ui.train.tab import is_double_click, on_load, retry_run

ON_COLOURS = {"dataset": "colours", "batch_size": 16, "epochs": 2, "keep": "last"}
BUTTONS = ("stop", "resume", "retry", "delete")


def estimate_text(services, settings):
    """Return the line above Train on a new page."""
    return update_estimate(services, settings, None)[0]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("settings", [{}, {"batch_norm": False, "image_size": 64}], ids=str)
def test_the_form_shows_steps_parameters_and_multiply_adds_before_a_run(model, settings, services):
    settings = {**ON_COLOURS, "model": model, **settings}
    size = model_counts(
        model, 3, settings.get("image_size", 32), "small", settings.get("batch_norm", True)
    )
    line = estimate_text(services, settings)
    assert line == (
        f"{MEASURING} · 18 steps\n\n{count_text(size.parameters)} parameters · "
        f"{count_text(size.macs)} multiply-adds per image"
    )


def test_the_article_s_network_has_its_known_size(services):
    text = estimate_text(services, {"recipe": "article", "dataset": "shapes10"})
    assert "21.3 million parameters" in text
    assert f"{10 * math.ceil(9000 / 64):,} steps" in text


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"epochs": 0}, "Epochs: enter 1 to 1000"),
        ({"epochs": None}, "Epochs: enter 1 to 1000"),
        ({"epochs": 2.5}, "Epochs: enter a whole number from 1 to 1000"),
        ({"peak_lr": "x"}, "Peak learning rate: enter 1e-06 to 10"),
        (
            {"batch_size": 200},
            "Batch size (images): enter at most the 135 images of colours's training split",
        ),
        ({"dataset": "none"}, "dataset must be one of shapes10, colours, got 'none'"),
        (
            {"epochs": 0, "crop": 99},
            "Epochs: enter 1 to 1000; Crop (pixels): enter 0 to 32 pixels",
        ),
        ({"warmup_epochs": 3}, "Warm-up (epochs): enter at most epochs (2)"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_explained(wrong, text, services):
    line, _, state = update_estimate(services, {**ON_COLOURS, **wrong}, None)
    assert line == f"⚠ {text}"
    assert state.wrong.keys() == wrong.keys()
    assert not update_estimate(services, ON_COLOURS, state)[2].wrong


def test_every_recipe_has_a_line(services):
    for recipe in ("quick", "standard", "article", "article-fixed"):
        values = make_config({"recipe": recipe, "dataset": "colours", "batch_size": 16}).to_dict()
        assert "parameters" in estimate_text(services, values)


@pytest.fixture
def runs(services, events):
    """Return a function that writes a run in some state, as its worker left it."""

    def write(name, state="stopped"):
        run = Run(services.paths.runs / name)
        run.path.mkdir(parents=True)
        (run.path / "config.json").write_text(to_json(make_config(ON_COLOURS), "0"))
        (run.path / "status.json").write_bytes(status_json(Status(state=state, message="the end")))
        for event in events():
            run.log().append(event)
        return run

    return write


def shown(services, run_id):
    """Return the value of each part of the page."""
    return {name: make() for name, (_, make) in run_parts(services, run_id).items()}


def versions(services, run_id):
    """Return the version of each part."""
    return {name: version for name, (version, _) in run_parts(services, run_id).items()}


def test_a_run_is_shown_in_all_its_parts(services, runs):
    runs("some-run-1")
    now = shown(services, "some-run-1")
    assert now["run"]["choices"] == [("some-run-1 · stopped", "some-run-1")]
    assert "Stopped" in now["figures"]
    assert now["status"].startswith("Stopped: the end.")
    alive = [now[name].get("interactive") for name in BUTTONS]
    assert alive == [False, True, None, True]
    assert (now["stop"]["value"], now["retry"]["visible"]) == ("Stop", False)
    assert now["curves"]["name"] == "some-run-1"
    assert all(line["points"] for plot in now["curves"]["plots"] for line in plot["lines"])
    assert (len(now["table"]["data"]), len(now["log"].splitlines())) == (1, 7)
    assert versions(services, "some-run-1") == versions(services, "some-run-1")


def test_a_deleted_run_is_replaced_by_the_newest(services, runs):
    gone, _ = runs("some-run-1"), runs("some-run-2")
    before = versions(services, "some-run-1")
    shutil.rmtree(gone.path)
    now, after = shown(services, "some-run-1"), versions(services, "some-run-1")
    assert now["run"]["choices"] == [("some-run-2 · stopped", "some-run-2")]
    shown_parts = now["run"]["value"], now["figures"], now["status"]
    assert shown_parts == ("some-run-2", "", NO_RUN)
    same = {name for name in before if before[name] == after.get(name)}
    assert same == {"experiments", "trash", "poll_timer"}


def test_a_page_is_empty_again_when_the_last_run_is_deleted(services, runs):
    shutil.rmtree(runs("some-run-1").path)
    now = shown(services, "some-run-1")
    assert (now["run"]["value"], now["run"]["visible"]) == (None, False)
    assert (now["figures"], now["status"], now["log"]) == ("", NO_RUN, "")
    assert now["curves"] == empty_curves()
    assert now["table"]["data"] == []
    assert not any(now[name].get("interactive") for name in BUTTONS)
    assert not now["retry"]["visible"]
    assert list(shown(services, None)) == ["run", "experiments", "trash", "poll_timer"]


def test_a_damaged_run_is_reported_and_not_hidden(services, runs):
    (runs("some-run-1").path / "status.json").write_text("{")
    now = shown(services, "some-run-1")
    assert now["run"]["choices"] == [("some-run-1 · damaged", "some-run-1")]
    assert now["status"] == "**status.json of some-run-1 is damaged.**"
    assert [now[name].get("interactive") for name in BUTTONS] == [False, False, None, True]


@pytest.mark.parametrize(
    ("state", "stop", "resume"),
    [("finished", False, False), ("failed", False, True), ("stopped", False, True)],
)
def test_the_buttons_are_active_where_they_can_do_something(state, stop, resume, services, runs):
    runs("some-run-1", state)
    now = shown(services, "some-run-1")
    assert [now[name]["interactive"] for name in ("stop", "resume")] == [stop, resume]


def test_between_two_slices_only_stop_is_active(services, runs):
    runs("some-run-1", "stopped")
    before = versions(services, "some-run-1")
    services.slices = SimpleNamespace(is_active=lambda run_id: run_id == "some-run-1")
    now = shown(services, "some-run-1")
    alive = [now[name]["interactive"] for name in ("stop", "resume", "delete")]
    assert alive == [True, False, False]
    after = versions(services, "some-run-1")
    assert {name for name in before if before[name] != after[name]} == set(BUTTONS)


@pytest.mark.parametrize(
    ("requested", "shown"),
    [("some-run-1", "some-run-1"), ("../x", "some-run-2"), (None, "some-run-2")],
)
def test_a_page_opens_with_the_run_of_its_url_or_the_newest(requested, shown, services, runs):
    os.utime(runs("some-run-1").path / "config.json", (1, 1))
    runs("some-run-2")
    opened = on_load(services, requested)
    [run] = [part for part in opened if isinstance(part, dict) and part.get("value") == shown]
    assert [name for _, name in run["choices"]] == ["some-run-2", "some-run-1"]


def test_a_failure_with_a_proposal_offers_a_retry_button(services, runs, monkeypatch):
    run, started = runs("some-run-1", "failed"), []
    ending = {"best_epoch": None, "best_val_top1": None, "seconds": 1.0, "message": "too much"}
    run.log().append(Failed(step=5, epoch=2, **ending, retry={"batch_size": 8}))
    now = shown(services, "some-run-1")
    retry = now["retry"]
    assert (retry["value"], retry["visible"]) == ("Train with batch_size 8", True)
    assert now["resume"]["interactive"]

    monkeypatch.setattr(
        services.launcher, "start", lambda config, caller: started.append(config) or "some-run-1"
    )
    assert asyncio.run(retry_run(services, "some-run-1"))["value"] == "some-run-1"
    assert started == [replace(run.config(), batch_size=8)]


@pytest.mark.parametrize("state", STATES)
def test_delete_is_active_for_runs_that_are_not_live(state, services, runs):
    folder = runs("some-run-1", state).path
    lock = try_lock(folder / WORKER_LOCK) if state in LIVE else None
    delete = shown(services, "some-run-1")["delete"]
    assert delete["interactive"] == (state not in LIVE)
    if lock:
        os.close(lock)


def test_the_same_settings_again_within_a_second_are_a_double_click():
    last = ({"epochs": 2}, "run-1", 100.0)
    assert is_double_click(last, {"epochs": 2}, 100.3)
    assert not is_double_click(last, {"epochs": 3}, 100.3)
    assert not is_double_click(last, {"epochs": 2}, 102.0)
    assert not is_double_click(None, {"epochs": 2}, 100.3)


def test_a_queued_run_names_the_run_that_it_waits_for(services, runs):
    locks = [
        try_lock(runs(name, state).path / WORKER_LOCK)
        for name, state in (("some-run-1", "running"), ("some-run-2", "queued"))
    ]
    assert shown(services, "some-run-2")["status"].startswith("Next, after some-run-1 (≈ ")
    for lock in locks:
        os.close(lock)


@pytest.mark.parametrize(
    ("state", "place", "steps", "age_s", "seconds"),
    [
        ("queued", 0, 0, 0.0, START_POLL_S),
        ("queued", 1, 0, 0.0, POLL_S),  # for hours, perhaps
        ("preparing", None, 0, 0.0, START_POLL_S),
        ("preparing", None, 0, START_S + 1, POLL_S),
        ("running", None, 0, 0.0, START_POLL_S),
        ("running", None, 1, 0.0, POLL_S),
        ("stopped", None, 0, 0.0, POLL_S),
    ],
)
def test_a_page_asks_more_often_until_the_first_step_of_its_run(
    state, place, steps, age_s, seconds, tmp_path, events
):
    run = Run(tmp_path / "some-run-1")
    run.path.mkdir()
    for event in events()[: 1 + steps]:
        run.log().append(event)
    view = RunView(run.log())
    view.refresh()
    status = Status(state=state, changed_clock=time.monotonic() - age_s)
    assert poll_s(RunSnapshot(run, status, view, place)) == seconds
