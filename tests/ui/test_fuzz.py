"""Random values sent to every endpoint and event: an answer or one plain sentence."""

import asyncio
import inspect
import json
import math
import os
import random
import shutil
from dataclasses import fields
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.context import LocalContext
from gradio.utils import error_payload
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resnet_demo.architectures import MODELS
from resnet_demo.config import TrainConfig, make_config, to_json
from resnet_demo.paths import Paths
from resnet_demo.recipes import RECIPES
from resnet_demo.runs.store import RUN_ID
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.status import Status, status_json
from resnet_demo.ui.api import add_endpoints
from resnet_demo.ui.app import build_app
from resnet_demo.ui.gradio_fixes import PageState
from resnet_demo.ui.services import Services

LONGEST = 800  # characters of a sentence; one names all settings
SHORT = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,  # the same values every time: a failure is reproducible
    database=None,
    suppress_health_check=list(HealthCheck),
)
LONG = settings(SHORT, max_examples=4000, derandomize=False)
SETTINGS = [field.name for field in fields(TrainConfig)]
NASTY = [
    *(None, True, False, 0, -1, 2**63, 10**400, -(10**400), 0.5, 1e308, 5e-324),
    *(math.nan, math.inf, -math.inf, "", " ", ".", "..", "../x", "../../etc/passwd", "/etc/passwd"),
    *("a\0b", "\0", "\ud800", "a\n", "x" * 5000, "CON", "~", "$HOME", "%2e%2e", ".trash", ".tasks"),
    *("good-1", "link-1", "gone-1", "good-1/../good-1", "test", "plain", "crop", "cifar10-shipped"),
    *([], {}, [[]], ["good-1"], {"path": "/etc/passwd"}, {"path": "a\0b"}, {"path": None}, b"x"),
    *({"path": "/proc/self/environ", "meta": {"_type": "gradio.FileData"}}, {"url": "file:///etc"}),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory, colours):
    """Return an app over new folders with a run, a link that looks like one, and a secret."""
    root = tmp_path_factory.mktemp("site")
    # A copy: the apps of other test files, whose background work may still run, share `colours`.
    data = shutil.copytree(colours, tmp_path_factory.mktemp("fuzz") / "data")
    paths = Paths(root / "runs", data, root / "shipped")
    secret = root / "elsewhere" / "secret-1"
    for folder in (paths.runs / "good-1", secret):
        folder.mkdir(parents=True)
        config = make_config({"dataset": "colours", "image_size": 12, "batch_size": 16})
        (folder / "config.json").write_text(to_json(config, "0"))
        (folder / "status.json").write_bytes(status_json(Status(state="stopped", message="secret")))
        (folder / "events.jsonl").write_text("secret\n")
    (paths.runs / "link-1").symlink_to(secret)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(root / "uploads"))
        patch.setattr(Launcher, "spawn", lambda self, verb, folder, lock: os.close(lock))
        with gr.Blocks() as app:
            add_endpoints(Services(paths))
        named = {fn.api_name: fn.fn for fn in app.fns.values() if fn.api_visibility == "public"}
        yield SimpleNamespace(root=root, named=named, colours=data, paths=paths)


def tree(root, without):
    """Return path -> content of all files outside of the folder `without`."""
    files = (path for path in root.rglob("*") if path.is_file() and without not in path.parents)
    return {path: path.read_bytes() for path in files}


def ask(site, name, values):
    """Return the answer or the error's sentence. Any other exception is raised."""
    try:
        answer = site.named[name](*values)
        return asyncio.run(answer) if inspect.iscoroutine(answer) else answer
    except gr.Error as error:
        return sentence(error)


def sentence(error):
    """Return the text of an error, after checking that it is one plain sentence."""
    text = error.message
    assert error.print_exception is False
    assert text, "an empty message"
    assert len(text) < LONGEST, text
    assert "\n" not in text, text
    assert "Traceback" not in text
    return text


def assert_harmless(site, name, values):
    answer = repr(ask(site, name, values))
    if str(site.root) not in repr(values):  # a value of the request may be quoted
        assert str(site.root) not in answer
    assert "secret" not in answer.replace("secret-1", "") or "good-1" in repr(values)
    if answer.startswith("{"):
        json.dumps(ask(site, name, values), allow_nan=False)


def values_of(count):
    """Return a strategy for this many arguments: known bad values, or any JSON value."""
    plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
    some = st.recursive(
        st.sampled_from(NASTY) | plain,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
        ),
        max_leaves=5,
    )
    return st.lists(some, min_size=count, max_size=count)


CONFIGS = st.dictionaries(
    st.sampled_from([*SETTINGS, "recipe", "", "..", "__class__", "path"]),
    st.sampled_from([*NASTY, *MODELS[:2], *RECIPES, "colours", "shapes10", 1, 2, 16, 12])
    | st.integers()
    | st.floats()
    | st.text(max_size=12),
    max_size=4,
)


@pytest.fixture(params=[SHORT, pytest.param(LONG, marks=pytest.mark.soak)], ids=["short", "long"])
def thorough(request):
    return request.param


@pytest.mark.parametrize("name", ["train", "stop", "run", "evaluate", "classify"])
def test_random_arguments_get_one_sentence_and_change_no_file_outside(name, site, thorough):
    assert set(site.named) == {"train", "stop", "run", "evaluate", "classify"}
    runs = site.root / "runs"
    before, data = tree(site.root, runs), tree(site.colours, site.root)
    count = len(inspect.signature(site.named[name]).parameters)

    @settings(thorough)
    @given(values_of(count))
    def try_values(values):
        assert_harmless(site, name, values)

    try_values()
    assert tree(site.root, runs) == before
    assert tree(site.colours, site.root) == data


def test_a_random_config_gets_one_sentence_or_a_run_with_these_values(site, thorough):
    before = tree(site.root, site.root / "runs")

    @settings(thorough)
    @given(CONFIGS)
    def try_values(config):
        answer = ask(site, "train", [config])
        if RUN_ID.fullmatch(answer):
            made = json.loads((site.root / "runs" / answer / "config.json").read_text())
            assert all(made[name] == value for name, value in config.items() if name in made)

    try_values()
    assert tree(site.root, site.root / "runs") == before


@pytest.mark.parametrize("name", ["stop", "run", "evaluate", "classify"])
def test_a_link_to_a_directory_is_not_a_run(name, site):
    values = ["link-1"] if name != "classify" else [{"path": "x"}, "link-1"]
    expected = "run must be the id of a run on this machine, got 'link-1'"
    assert ask(site, name, values) == expected


@pytest.mark.parametrize("times", [1, pytest.param(30, marks=pytest.mark.soak)])
def test_events_of_the_page_reveal_nothing_of_this_machine_on_random_values(site, times):
    """Call events as raw HTTP does; unforeseen values are an error without a message."""
    page, before = build_app(site.paths), tree(site.root, site.root / "runs")
    events = [event for event in page.fns.values() if event.fn]
    assert len(events) > 100
    rng, uploads = random.Random(times), site.root / "uploads"
    for _ in range(times):
        for event in events:
            values = [rng.choice(NASTY) for _ in event.inputs]
            # An example picture comes from the upload folder, whose path every upload names.
            answer = repr(respond(page, event, values)).replace(str(uploads), "")
            assert str(site.root) not in answer, (event.api_name, values)
            assert "Traceback" not in answer, (event.api_name, values)
            assert "root:" not in answer, (event.api_name, values)  # /etc/passwd
    after = tree(site.root, site.root / "runs")
    assert {path: after[path] for path in after if uploads not in path.parents} == before


def respond(page, event, values):
    """Return what a raw request to that event receives: its answer, or the error's payload."""
    page.has_launched = True  # from now on Gradio refuses files that were not uploaded

    async def served():
        LocalContext.blocks.set(page)
        return await page.process_api(event, values, state=PageState(page))

    try:
        return asyncio.run(served())["data"]
    except Exception as error:  # noqa: BLE001 - the server answers with this
        return error_payload(error, show_error=False)
