import asyncio
import math
import os
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest

from resnet_demo.config import MODELS, make_config, to_json
from resnet_demo.errors import ConfigError
from resnet_demo.events import Failed
from resnet_demo.models.counts import count
from resnet_demo.runs.store import Run
from resnet_demo.runs.words import count as in_figures
from resnet_demo.tasks.status import LIVE, LOCK, STATES, Status, as_json, take
from resnet_demo.ui.deletion import deleted
from resnet_demo.ui.expected import MEASURING, follow
from resnet_demo.ui.train_tab import NO_RUN, on_load, retried, started, tick

ON_COLOURS = {"dataset": "colours", "batch_size": 16, "epochs": 2}


def told_before(services, asked):
    """The line above Train on a fresh page."""
    return follow(services, asked, None)[0]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("knobs", [{}, {"batch_norm": False, "image_size": 64}], ids=str)
def test_the_form_tells_parameters_and_multiply_adds_before_a_run(model, knobs, services):
    asked = {**ON_COLOURS, "model": model, **knobs}
    size = count(model, 3, asked.get("image_size", 32), "small", asked.get("batch_norm", True))
    told = told_before(services, asked)
    assert told.startswith(
        f"**{in_figures(size.parameters)}** parameters · **{in_figures(size.macs)}** multiply-adds "
        "an image · 2 × 9 steps"
    )
    assert told.endswith(MEASURING)


def test_the_articles_network_is_told_by_its_known_size(services):
    told = told_before(services, {"recipe": "article", "dataset": "shapes10"})
    assert "**21.3 million** parameters" in told
    assert f"10 × {math.ceil(9000 / 64)} steps" in told


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"epochs": None}, {"peak_lr": "x"}, {"batch_size": 200}, {"dataset": "none"}],
    ids=str,
)
def test_a_wrong_knob_is_told_by_its_sentence(wrong, services):
    told = told_before(services, {**ON_COLOURS, **wrong})
    [name] = wrong
    assert re.match(rf"⚠ {name} must be .+, got .+", told)


def test_a_config_can_be_told_whatever_the_recipe(services):
    for recipe in ("quick", "standard", "article", "article-fixed"):
        values = make_config({"recipe": recipe, "dataset": "colours", "batch_size": 16}).to_dict()
        assert "parameters" in told_before(services, values)


@pytest.fixture
def runs(services, events):
    """Writes down a run that some worker left behind, in some state."""

    def write(name, state="stopped"):
        run = Run(services.places.runs / name)
        run.path.mkdir(parents=True)
        (run.path / "config.json").write_text(to_json(make_config(ON_COLOURS), "0"))
        (run.path / "status.json").write_bytes(as_json(Status(state=state, message="the end")))
        for event in events():
            run.log().append(event)
        return run

    return write


def is_skipped(part):
    return part == gr.skip()


def test_a_tick_tells_everything_once_and_then_nothing(services, runs):
    runs("some-run-1")
    *parts, now = tick(services, "some-run-1", False, None)
    choices, figures, words, stop, resume, retry, delete, loss, accuracy, table, log = parts
    assert choices["choices"] == [("some-run-1 · stopped", "some-run-1")]
    assert "Stopped" in figures
    assert words.startswith("Stopped: the end.")
    assert (stop["interactive"], resume["interactive"]) == (False, True)
    assert (stop["value"], retry["visible"], delete["interactive"]) == ("Stop", False, True)
    assert loss["data"]
    assert accuracy["data"]
    assert (len(table), len(log.splitlines())) == (1, 7)
    assert all(map(is_skipped, tick(services, "some-run-1", False, now)))


def test_the_log_scale_draws_the_curves_anew_and_nothing_else(services, runs):
    runs("some-run-1")
    *before, now = tick(services, "some-run-1", False, None)
    parts = tick(services, "some-run-1", True, now)
    assert all(map(is_skipped, parts[:7]))
    losses, logs = ([row[1] for row in part["data"]] for part in (before[7], parts[7]))
    assert logs == pytest.approx([math.log10(loss) for loss in losses], abs=1e-5)


def test_a_run_that_is_deleted_under_a_pages_eyes_gives_way_to_the_newest(services, runs):
    gone, _ = runs("some-run-1"), runs("some-run-2")
    *_, now = tick(services, "some-run-1", False, None)
    shutil.rmtree(gone.path)
    choices, figures, words, *_ = tick(services, "some-run-1", False, now)
    assert choices["choices"] == [("some-run-2 · stopped", "some-run-2")]
    assert (choices["value"], figures, words) == ("some-run-2", "", NO_RUN)


def test_a_page_is_empty_again_when_the_last_run_is_deleted(services, runs):
    shutil.rmtree(runs("some-run-1").path)
    choices, *parts, now = tick(services, "some-run-1", False, None)
    assert (choices["value"], choices["visible"]) == (None, False)
    figures, words, stop, resume, retry, delete, loss, accuracy, table, log = parts
    assert (figures, words, table, log, accuracy) == ("", NO_RUN, [], "", None)
    assert (stop["interactive"], resume["interactive"], retry["visible"]) == (False,) * 3
    assert not delete["interactive"]
    assert loss is None
    assert now == {"labels": []}


def test_a_damaged_run_is_said_and_not_hidden(services, runs):
    (runs("some-run-1").path / "status.json").write_text("{")
    choices, _, words, *parts, now = tick(services, "some-run-1", False, None)
    assert choices["choices"] == [("some-run-1 · damaged", "some-run-1")]
    assert words["value"] == "**status.json of some-run-1 is damaged.**"
    assert [part.get("interactive") for part in parts[:4]] == [False, False, None, True]
    assert all(map(is_skipped, tick(services, "some-run-1", False, now)[3:7]))


@pytest.mark.parametrize(
    ("state", "stop", "resume"),
    [("finished", False, False), ("failed", False, True), ("stopped", False, True)],
)
def test_the_buttons_are_alive_where_they_can_do_something(state, stop, resume, services, runs):
    runs("some-run-1", state)
    parts = tick(services, "some-run-1", False, None)
    assert [part["interactive"] for part in parts[3:5]] == [stop, resume]


def test_between_two_slices_stop_is_alive_and_what_would_disturb_is_not(services, runs):
    runs("some-run-1", "stopped")
    services.slices = SimpleNamespace(goes_on=lambda run_id: run_id == "some-run-1")
    stop, resume, _, delete = tick(services, "some-run-1", False, None)[3:7]
    assert [part["interactive"] for part in (stop, resume, delete)] == [True, False, False]


@pytest.mark.parametrize(
    ("query", "shown"),
    [({"run": "some-run-1"}, "some-run-1"), ({"run": "../x"}, "some-run-2"), ({}, "some-run-2")],
    ids=str,
)
def test_a_page_opens_with_the_run_of_its_address_or_the_newest(query, shown, services, runs):
    os.utime(runs("some-run-1").path / "config.json", (1, 1))
    runs("some-run-2")
    opened = on_load(services, {}, SimpleNamespace(query_params=query))
    [run] = [part for part in opened if isinstance(part, dict) and part.get("value") == shown]
    assert [name for _, name in run["choices"]] == ["some-run-2", "some-run-1"]


def test_a_failure_that_knows_better_knobs_offers_them_at_a_click(services, runs, monkeypatch):
    run, asked = runs("some-run-1", "failed"), []
    ending = {"best_epoch": None, "best_val_top1": None, "seconds": 1.0, "message": "too much"}
    run.log().append(Failed(step=5, epoch=2, **ending, retry={"batch_size": 8}))
    _, _, _, _, resume, retry, *_ = tick(services, "some-run-1", False, None)
    assert (retry["value"], retry["visible"]) == ("Train with batch_size 8", True)
    assert resume["interactive"]

    monkeypatch.setattr(
        services.launcher, "start", lambda config, caller: asked.append(config) or "some-run-1"
    )
    assert asyncio.run(retried(services, "some-run-1"))["value"] == "some-run-1"
    assert asked == [replace(run.config(), batch_size=8)]


@pytest.mark.parametrize("state", STATES)
def test_delete_is_alive_where_nothing_lives(state, services, runs):
    folder = runs("some-run-1", state).path
    lock = take(folder / LOCK) if state in LIVE else None
    delete = tick(services, "some-run-1", False, None)[6]
    assert delete["interactive"] == (state not in LIVE)
    if lock:
        os.close(lock)


def test_a_deleted_run_lies_in_the_trash_and_the_page_shows_another(services, runs, monkeypatch):
    told = []
    monkeypatch.setattr(gr, "Info", told.append)
    folder, _ = runs("some-run-1").path, runs("some-run-2")
    shown = deleted(services, "some-run-1")
    assert (shown["value"], shown["choices"]) == (
        "some-run-2",
        [("some-run-2 · stopped", "some-run-2")],
    )
    assert not folder.exists()
    assert (folder.parent / ".trash" / "some-run-1" / "events.jsonl").exists()
    assert told == ["some-run-1 lies in the trash folder beside the runs"]


def test_a_run_that_lives_is_not_deleted_whatever_the_page_shows(services, runs):
    folder = runs("some-run-1", "running").path
    lock = take(folder / LOCK)
    with pytest.raises(ConfigError, match=r"^run some-run-1 is running: stop it before you delete"):
        deleted(services, "some-run-1")
    assert folder.exists()
    os.close(lock)


def test_a_double_click_on_train_is_one_wish_and_another_press_another(services, monkeypatch):
    names = iter(["one", "two", "three"])
    monkeypatch.setattr(services.launcher, "start", lambda config, caller: next(names))
    asked, clock = {"epochs": 2}, [100.0]
    monkeypatch.setattr("resnet_demo.ui.train_tab.time.monotonic", lambda: clock[0])
    first = started(services, asked, None)
    clock[0] += 0.3
    again = started(services, asked, first)
    assert (first[1], again[1]) == ("one", "one")
    assert started(services, {"epochs": 3}, again)[1] == "two"  # other knobs
    clock[0] += 2
    assert started(services, asked, again)[1] == "three"
