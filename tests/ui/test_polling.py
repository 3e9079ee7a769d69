"""The pulse over raw requests: what a page is told, how often, and what nobody gets out of it."""

import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.testclient import TestClient

from resnet_demo.config import make_config, to_json
from resnet_demo.events import Step
from resnet_demo.runs.store import Run
from resnet_demo.tasks.status import Status, as_json
from resnet_demo.ui import polling
from resnet_demo.ui.app import build_app
from resnet_demo.ui.polling import ASKED, PATH, Pulse
from resnet_demo.ui.train.run_panel import NOTHING
from tests.ui.conftest import STEP

EVERYTHING = {"run", *NOTHING, "data", "evaluation"}
WATCHING = {"run": "some-run-1", "mode": "plain", "split": "test"}


@pytest.fixture
def run(services, events):
    """A run that was stopped, whose log has an epoch and a step."""
    run = Run(services.paths.runs / "some-run-1")
    run.path.mkdir(parents=True)
    (run.path / "config.json").write_text(to_json(make_config({"dataset": "colours"}), "0"))
    (run.path / "status.json").write_bytes(as_json(Status(state="stopped", message="the end")))
    for event in events():
        run.log().append(event)
    return run


@pytest.fixture
def client(services, monkeypatch):
    """Asks one pulse; each look is a fresh one."""
    monkeypatch.setattr(polling, "SHARED_S", -1.0)
    return TestClient(Starlette(routes=[Pulse(services).route]))


def told(client, known=None, **asked):
    """The parts that an answer tells: name -> (mark, value)."""
    known = ",".join(f"{name}:{mark}" for name, (mark, _) in (known or {}).items())
    answer = client.get(PATH, params={**WATCHING, **asked, "known": known})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()["parts"]


def test_a_page_is_told_everything_once_and_then_nothing(client, run):
    first = told(client)
    assert set(first) == EVERYTHING
    assert told(client, known=first) == {}


def test_a_step_more_brings_what_it_changes_and_no_choice_or_button(client, run):
    first = told(client)
    run.log().append(Step(step=6, epoch=2, **STEP))
    assert set(told(client, known=first)) == {"figures", "loss", "accuracy", "table", "log"}


def test_a_run_that_ends_changes_its_name_in_the_choice_and_its_buttons(client, run):
    first = told(client)
    (run.path / "status.json").write_bytes(as_json(Status(state="failed", message="too bad")))
    now = told(client, known=first)
    assert now["run"][1]["choices"] == [["some-run-1 · failed", "some-run-1"]]
    assert {"stop", "resume", "retry", "delete", "words", "figures"} < set(now)


def test_a_dataset_that_comes_changes_the_mark_of_the_data_tab_alone(client, services, run):
    first = told(client)
    assert first["data"][0] == first["data"][1]  # the page is told the mark itself
    shutil.copytree(services.paths.data / "colours", services.paths.data / "more")
    try:
        assert set(told(client, known=first)) == {"data"}
    finally:
        shutil.rmtree(services.paths.data / "more")


def test_another_evaluation_that_is_asked_for_has_another_mark(client, services, run):
    first = told(client)
    assert set(told(client, known=first, evaluate="some-run-1")) == {"evaluation"}


def test_many_who_ask_within_a_moment_share_one_look_at_the_run(client, run, monkeypatch):
    looks, look = [], polling.watched
    monkeypatch.setattr(polling, "watched", lambda *asked: looks.append(asked[1:]) or look(*asked))
    monkeypatch.setattr(polling, "SHARED_S", 3600.0)
    assert all(told(client) == told(client) for _ in range(5))
    told(client, log="true")
    assert looks == [("some-run-1", False), ("some-run-1", True)]
    run.log().append(Step(step=6, epoch=2, **STEP))
    first = told(client)
    monkeypatch.setattr(polling, "SHARED_S", -1.0)
    assert "figures" in told(client, known=first)


def test_a_page_without_a_run_is_told_which_there_are(client):
    first = told(client, run="")
    assert set(first) == {"run", "data", "evaluation"}
    assert first["run"][1]["choices"] == []


def test_after_a_restart_the_app_has_another_name(services):
    names = {Pulse(services).app for _ in range(3)}
    assert len(names) == 3


words = st.text(max_size=30) | st.sampled_from(
    ["../x", "/etc/passwd", "a\0b", "some-run-1", "..", "true", "plain", "val", "%00", "x:y,,:"]
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(asked=st.dictionaries(st.sampled_from([*ASKED, "known", "else"]), words))
def test_whatever_is_asked_is_answered_without_a_path_of_this_machine(asked, client, run, services):
    answer = client.get(PATH, params=asked)
    assert answer.status_code == 200
    assert str(services.paths.runs.parent) not in answer.text
    assert "Traceback" not in answer.text


def test_the_page_asks_by_itself_and_shows_every_part(services):
    config = build_app(services.paths).get_config_file()
    [asking] = [event for event in config["dependencies"] if event["js"] and PATH in event["js"]]
    assert not asking["backend_fn"]
    assert len(asking["inputs"]) == len(ASKED)
    assert len(asking["outputs"]) == len(EVERYTHING)
    kinds = {part["id"]: part["type"] for part in config["components"]}
    assert "timer" in {kinds[part] for part, _ in asking["targets"]}
