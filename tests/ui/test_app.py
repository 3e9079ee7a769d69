import asyncio
import tracemalloc

import gradio as gr
import httpx
import pytest
from gradio import state_holder

from resnet_demo.hosting.access import Access
from resnet_demo.learn import lessons
from resnet_demo.tasks.caller import ForbiddenError
from resnet_demo.tasks.limits import Limits, is_public
from resnet_demo.ui.app import OpenPage, build_app, launch
from resnet_demo.ui.services import Services


def test_quiet_events_tell_their_progress_to_one_component_that_shows_nothing(services):
    app = build_app(services.paths)
    told = app.get_config_file()["dependencies"]
    quiet = [event["show_progress_on"] for event in told if event["show_progress"] == "hidden"]
    ticks = [event for event in told if any(kind == "tick" for _, kind in event["targets"])]
    assert all(event["show_progress"] == "hidden" for event in ticks)
    [nothing] = quiet[0]
    assert all(each == [nothing] for each in quiet)
    [kind] = [part["type"] for part in app.get_config_file()["components"] if part["id"] == nothing]
    assert kind == "state"


@pytest.mark.parametrize(
    ("told", "public"),
    [
        ({}, False),
        ({"SPACE_ID": "me/demo"}, True),
        ({"RESNET_DEMO_PUBLIC": "1"}, True),
        ({"RESNET_DEMO_PUBLIC": "0"}, False),
        ({"RESNET_DEMO_ADMIN_TOKEN": "of sixteen or more"}, True),  # a lock is wanted
    ],
)
def test_it_is_public_on_a_space_and_where_its_owner_says_so(told, public):
    assert is_public(told) == public
    assert (Limits.from_environment(told) is not None) == public


def test_in_public_where_no_owner_is_set_up_nobody_changes_anything(services):
    visited = Services(services.paths, Access("closed"), Limits())
    knobs = {"dataset": "colours", "image_size": 12, "batch_size": 16, "crop": 2}
    [(_, config), *_] = arms = lessons.duel([8], 1, knobs)
    caller = visited.caller()
    for change in (
        lambda: visited.launcher.start(config, caller),
        lambda: visited.launcher.stop("a", caller),
        lambda: visited.launcher.kill("a", caller),
        lambda: visited.launcher.resume("a", caller),
        lambda: visited.launcher.delete("a", caller),
        lambda: visited.comparing.start("duel", arms, caller),
        lambda: visited.comparing.stop("a", caller),
        lambda: visited.data.get("cifar10", caller),
        lambda: visited.data.delete("colours", caller),
    ):
        with pytest.raises(ForbiddenError, match="only the owner of this app may"):
            change()
    assert not visited.paths.runs.exists()


@pytest.mark.filterwarnings(r"ignore:unclosed <socket\.socket fd=\d+, family=2:ResourceWarning")
def test_an_app_whose_machine_is_too_busy_to_answer_at_once_starts_all_the_same(
    services, monkeypatch
):
    def busy(*asked, **options):
        raise httpx.ReadTimeout("timed out")

    monkeypatch.setattr("gradio.networking.httpx.head", busy)  # Gradio's look at itself
    app = build_app(services.paths)
    try:
        _, url, _ = launch(app, prevent_thread_lock=True, quiet=True)
        assert httpx.get(f"{url}config", timeout=60).is_success
    finally:
        app.close()


def test_an_open_page_keeps_each_component_once_however_often_it_is_updated():
    with gr.Blocks() as app:
        run, plot = gr.Dropdown(["a"]), gr.Textbox()
        gr.Button().click(lambda run: (gr.skip(), "b"), run, [run, plot])
    [event] = app.fns.values()
    page = OpenPage(app)
    before = len(page.blocks_config.blocks)

    async def tick():
        asked = await app.preprocess_data(event, ["a"], page)
        return await app.postprocess_data(event, event.fn(*asked), page)

    for _ in range(5):
        assert asyncio.run(tick())[1] == "b"
    assert len(page.blocks_config.blocks) == before
    assert page[run._id] is not run  # it was made anew, as Gradio does


def test_a_visitor_costs_the_app_little_memory(services):
    app = build_app(services.paths)
    OpenPage(app)
    tracemalloc.start()
    pages = [OpenPage(app) for _ in range(10)]
    each = tracemalloc.get_traced_memory()[0] / len(pages)
    tracemalloc.stop()
    assert each < 100_000  # bytes; as Gradio does it, nearly a million


def test_the_pages_of_the_app_are_kept_that_way(services, monkeypatch):
    monkeypatch.setattr(gr.Blocks, "launch", lambda self, **told: None)
    monkeypatch.setattr(state_holder, "SessionState", OpenPage.__base__)  # whoever launched before
    launch(build_app(services.paths))
    assert state_holder.SessionState is OpenPage
