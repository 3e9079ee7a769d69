"""Polling by raw requests: which parts a page receives, how often they are made, and no paths.

Also the work that begins once a page is open.
"""

import errno
import json
import os
import shutil
from dataclasses import replace

import gradio as gr
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.testclient import TestClient

from resnet_demo.config import make_config, to_json
from resnet_demo.events import Step, to_dict
from resnet_demo.hosting.access import Access
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.tasks.limits import Caller
from resnet_demo.tasks.status import Status, create_task, status_json
from resnet_demo.ui import polling
from resnet_demo.ui.app import build_app
from resnet_demo.ui.polling import POLL_PATH, QUERY_KEYS, OpenPage, Polling
from resnet_demo.ui.services import Services, show_errors
from resnet_demo.ui.train.run_panel import EMPTY_PANEL
from tests.tiny import finished_run
from tests.ui.conftest import STEP

EVERYTHING = {"run", "experiments", "trash", *EMPTY_PANEL, "data", "progress", "poll_timer"}
PAGE_ONLY = {"progress"}  # parts of no component
WATCHED = ("figures", "status", "curves", "table", "log")
WATCHING = {"run": "some-run-1", "mode": "plain", "split": "test"}


@pytest.fixture
def run(services, events):
    """Return a stopped run whose log has an epoch and a step."""
    run = Run(services.paths.runs / "some-run-1")
    run.path.mkdir(parents=True)
    (run.path / "config.json").write_text(to_json(make_config({"dataset": "colours"}), "0"))
    (run.path / "status.json").write_bytes(status_json(Status(state="stopped", message="the end")))
    for event in events():
        run.log().append(event)
    return run


@pytest.fixture
def client(services, monkeypatch):
    """Return a client whose requests share no parts."""
    monkeypatch.setattr(polling, "SHARED_S", -1.0)
    return TestClient(Starlette(routes=[Polling(services).route]))


def poll(client, known=None, **query):
    """Return the parts of an answer: name -> (version, value)."""
    known = ",".join(f"{name}:{version}" for name, (version, _) in (known or {}).items())
    answer = client.get(POLL_PATH, params={**WATCHING, **query, "known": known})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()["parts"]


def test_a_page_receives_each_part_once_and_then_nothing(client, run):
    first = poll(client)
    assert set(first) == EVERYTHING
    assert poll(client, known=first) == {}


class Calls:
    """Stands for an OpenPage; `made` lists the calls."""

    def __init__(self):
        self.made = []

    def on_request(self):
        self.made.append("request")

    def on_poll(self):
        self.made.append("poll")


def test_work_in_the_background_begins_when_a_page_is_sent_and_goes_on_while_it_asks(services):
    app = build_app(services.paths)
    app.first_updates({})  # an app that is not served prepares nothing
    app.polling.open_page = calls = Calls()
    app.first_updates({})
    client = TestClient(Starlette(routes=[app.polling.route]))
    first = poll(client)  # a program that is no page
    poll(client, known=first)
    assert calls.made == ["request", "poll"]


def test_a_further_step_changes_no_choice_and_no_button(client, run):
    first = poll(client)
    run.log().append(Step(step=6, epoch=2, **STEP))
    assert set(poll(client, known=first)) == {"figures", "curves", "table", "log", "progress"}


def test_a_run_that_ends_changes_its_label_and_its_buttons(client, run):
    first = poll(client)
    (run.path / "status.json").write_bytes(status_json(Status(state="failed", message="too bad")))
    now = poll(client, known=first)
    assert now["run"][1]["choices"] == [["some-run-1 · failed", "some-run-1"]]
    assert {"stop", "resume", "retry", "delete", "status", "figures"} < set(now)


def test_a_new_dataset_changes_only_the_version_of_the_data_tab(client, services, run):
    first = poll(client)
    assert first["data"][0] == first["data"][1]  # the value is the version
    shutil.copytree(services.paths.data / "colours", services.paths.data / "more")
    try:
        assert set(poll(client, known=first)) == {"data"}
    finally:
        shutil.rmtree(services.paths.data / "more")


def test_another_requested_evaluation_has_another_version(client, services, run):
    first = poll(client)  # of a page whose Evaluate tab has not been opened
    plain = poll(client, known=first, evaluate="some-run-1")
    assert set(plain) == {"evaluation"}
    known = first | plain
    assert poll(client, known=known, evaluate="some-run-1") == {}
    assert set(poll(client, known=known, evaluate="some-run-1", other="b")) == {"evaluation"}


def test_requests_within_a_moment_share_one_snapshot_of_the_run(client, run, monkeypatch):
    snapshots, run_parts = [], polling.run_parts

    def counted(services, run_id, *options):
        snapshots.append((run_id, *options))
        return run_parts(services, run_id, *options)

    monkeypatch.setattr(polling, "run_parts", counted)
    monkeypatch.setattr(polling, "SHARED_S", 3600.0)
    assert all(poll(client) == poll(client) for _ in range(5))
    poll(client, experiments="true")
    assert snapshots == [("some-run-1", False), ("some-run-1", True)]
    run.log().append(Step(step=6, epoch=2, **STEP))
    first = poll(client)
    monkeypatch.setattr(polling, "SHARED_S", -1.0)
    assert "figures" in poll(client, known=first)


def test_a_page_without_a_run_receives_the_choice_of_runs(client):
    first = poll(client, run="")
    assert set(first) == {"run", "experiments", "trash", "data", "poll_timer"}
    assert first["run"][1]["choices"] == []


def test_after_a_restart_the_app_has_another_id(services):
    ids = {Polling(services).app_id for _ in range(3)}
    assert len(ids) == 3


words = st.text(max_size=30) | st.sampled_from(
    ["../x", "/etc/passwd", "a\0b", "some-run-1", "..", "true", "plain", "val", "%00", "x:y,,:"]
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(query=st.dictionaries(st.sampled_from([*QUERY_KEYS, "known", "else"]), words))
def test_no_query_fails_or_reveals_a_path_of_this_machine(query, client, run, services):
    answer = client.get(POLL_PATH, params=query)
    assert answer.status_code == 200
    assert str(services.paths.runs.parent) not in answer.text
    assert "Traceback" not in answer.text


def test_the_page_polls_on_a_timer_and_updates_every_part(services):
    config = build_app(services.paths).get_config_file()
    [event] = [one for one in config["dependencies"] if one["js"] and POLL_PATH in one["js"]]
    assert not event["backend_fn"]
    assert len(event["inputs"]) == len(QUERY_KEYS)
    assert len(event["outputs"]) == len((EVERYTHING | {"evaluation"}) - PAGE_ONLY)
    kinds = {part["id"]: part["type"] for part in config["components"]}
    assert "timer" in {kinds[part] for part, _ in event["targets"]}


DEEP = b'{"state": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
ODD_FILES = {
    "nested": lambda path: path.write_bytes(DEEP),
    "of wrong types": lambda path: path.write_text('{"state": "stopped", "message": 5}'),
    "a list": lambda path: path.write_text("[1, 2]"),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\0"),
    "empty": lambda path: path.write_bytes(b""),
    "a folder": os.mkdir,
    "a pipe": os.mkfifo,
    "zeros": lambda path: (path.touch(), os.truncate(path, 2**30)),
    "a link to itself": lambda path: path.symlink_to(path),
    "numbers": lambda path: path.write_text('{"state": NaN, "pid": ' + "9" * 4000 + "}\n"),
    "half a character": lambda path: path.write_text(
        '{"state": "\\ud800", "message": "\\ud800"}\n'
    ),
}


@pytest.mark.parametrize("name", ["status.json", "config.json", "events.jsonl"])
@pytest.mark.parametrize("make", ODD_FILES.values(), ids=ODD_FILES)
def test_an_odd_file_of_a_run_is_a_sentence_there_and_nothing_elsewhere(
    name, make, client, services, run
):
    other = Run(services.paths.runs / "odd-run-1")
    shutil.copytree(run.path, other.path)
    before = poll(client)
    (other.path / name).unlink()
    make(other.path / name)
    parts = poll(client, run=other.id)
    after = poll(client)
    assert {name: after[name] for name in WATCHED} == {name: before[name] for name in WATCHED}
    if name == "status.json":
        assert parts["status"][1] == "**status.json of odd-run-1 is damaged.**"


@pytest.mark.parametrize("verb", ["get", "survey", "import", "measure"])
def test_an_odd_status_of_a_task_stops_no_page(verb, tmp_path, run, monkeypatch):
    # Folders of its own: the datasets of the other tests are shared by apps that run beside them.
    services = Services(Paths(tmp_path / "runs", tmp_path / "data", tmp_path / "shipped"))
    monkeypatch.setattr(polling, "SHARED_S", -1.0)
    client = TestClient(Starlette(routes=[Polling(services).route]))
    for folder in (services.paths.data / ".tasks" / verb, services.paths.runs / ".tasks" / verb):
        folder.mkdir(parents=True)
        (folder / "status.json").write_bytes(DEEP)
    assert poll(client)["status"]


@pytest.mark.parametrize(
    "values",
    [
        {"event": "step", "time": 1e290},
        {"event": "step", "step": -4},
        {"event": "epoch", "epoch": 10**200},
        {"event": "started", "sides": [0]},
        {"event": "started", "epochs": -1, "steps_per_epoch": 10**18},
        {"event": "finished", "best_epoch": 10**18, "seconds": -1e290},
        {"event": "probe", "gradients": [{}], "activations": ["x"]},
    ],
)
def test_an_event_that_makes_no_sense_fails_no_request(values, client, run, events):
    kinds = {event.kind: event for event in events()}
    line = to_dict(kinds.get(values["event"], kinds["step"])) | values
    with open(run.path / "events.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")
    assert set(poll(client)) == EVERYTHING


def test_a_live_state_is_corrected_on_a_page_over_a_read_only_folder(client, run, monkeypatch):
    (run.path / "status.json").write_bytes(status_json(Status(state="running")))
    monkeypatch.setattr("resnet_demo.tasks.status.wait_for_lock", refuse_to_write)
    assert "failed" in poll(client)["status"][1].lower()


def test_train_names_a_folder_that_is_read_only(services, monkeypatch, run):
    monkeypatch.setattr("pathlib.Path.mkdir", refuse_to_write)
    with pytest.raises(gr.Error, match="the folder runs cannot be written to"), show_errors():
        create_task(services.paths.runs / "new-run-1", {})
    monkeypatch.setattr("resnet_demo.tasks.status.try_lock", refuse_to_write)
    with pytest.raises(gr.Error, match="cannot be written to"), show_errors():
        services.launcher.delete(run.id, Caller())


def test_any_other_error_of_the_disk_is_shown_without_a_path():
    with pytest.raises(gr.Error) as shown, show_errors():
        raise OSError(5, "Input/output error", "/home/me/secret")
    assert shown.value.message == "a file could not be read or written: Input/output error"


def refuse_to_write(*_, **__):
    raise OSError(errno.EROFS, "Read-only file system")


@pytest.fixture
def open_page(services, monkeypatch):
    """Return an OpenPage without a standby worker, on a machine with free memory."""
    monkeypatch.setattr(polling, "free_memory", lambda: polling.START_MEMORY)
    open_page = OpenPage({}, services)
    open_page.keeps_standby = False
    return open_page


def test_a_standby_worker_is_kept_by_a_private_app_unless_it_is_switched_off(services):
    kept = []
    services.launcher.keep_standby = lambda: kept.append(1)
    open_page = OpenPage({}, services)
    open_page.loads_network = False
    open_page.on_request()
    open_page.on_poll()
    assert kept == [1, 1]
    off = OpenPage({"RESNET_DEMO_STANDBY": "0"}, services)
    assert (off.keeps_standby, off.loads_network) == (False, False)
    public = replace(services, access=Access("closed"))
    assert not OpenPage({}, public).keeps_standby


def test_the_network_that_classify_offers_first_is_loaded_once(open_page, tmp_path, colours, until):
    run = finished_run(tmp_path, colours, epochs=1)
    open_page.on_poll()
    cached = until(lambda: [*open_page.services.classifiers.classifiers])
    assert [run_id for run_id, _ in cached] == [run.id]
    assert not open_page.loads_network


def test_it_is_loaded_later_if_memory_is_short_or_a_run_trains(open_page, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        type(open_page.services), "default_trained_run", lambda self: loaded.append(1)
    )
    monkeypatch.setattr(polling, "free_memory", lambda: polling.START_MEMORY - 1)
    open_page._load_network()
    monkeypatch.setattr(polling, "free_memory", lambda: polling.START_MEMORY)
    monkeypatch.setattr(polling, "live_runs", lambda root: ["a run"])
    open_page._load_network()
    assert (loaded, open_page.loads_network) == ([], True)
    monkeypatch.setattr(polling, "live_runs", lambda root: [])
    open_page._load_network()
    assert (loaded, open_page.loads_network) == ([1], False)
