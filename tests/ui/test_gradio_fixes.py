"""Gradio's internals as this app changes them. A failure here means that Gradio has changed."""

import asyncio
import inspect
import itertools
import socket
import struct
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio import queueing, state_holder
from gradio.context import LocalContext

from resnet_demo.hosting.connections import ConnectionGuard
from resnet_demo.ui import gradio_fixes
from resnet_demo.ui.app import MAX_PAGE_BYTES, MAX_SESSIONS, build_app, launch
from resnet_demo.ui.gradio_fixes import (
    MAX_ACCEPTED,
    MAX_ACTIVE,
    PageState,
    SharedPages,
    SharedQueue,
    body_bytes,
)
from tests.conftest import free_port

MOMENTS = itertools.count()


def updates(state_class, times=5):
    """Return the number of stored components before and after updates of a page."""
    with gr.Blocks() as app:
        run, plot = gr.Dropdown(["a"]), gr.Textbox()
        gr.Button().click(lambda run: (gr.skip(), "b"), run, [run, plot])
    [event] = app.fns.values()
    page = state_class(app)
    before = len(page.blocks_config.blocks)

    async def tick():
        inputs = await app.preprocess_data(event, ["a"], page)
        return await app.postprocess_data(event, event.fn(*inputs), page)

    for _ in range(times):
        assert asyncio.run(tick())[1] == "b"
    assert page[run._id] is not run  # Gradio made a new one
    return before, len(page.blocks_config.blocks)


def test_an_open_page_stores_each_component_once_however_often_it_is_updated():
    before, after = updates(PageState)
    assert before == after


def test_gradio_itself_still_stores_more_components_with_each_update():
    before, after = updates(PageState.__base__)
    assert after > before, "PageState.__setitem__ is no longer needed"


def bytes_per_page(app, state_class):
    """Return the memory that Gradio's state of a new page takes."""
    state_class(app)
    tracemalloc.start()
    pages = [state_class(app) for _ in range(10)]
    each = tracemalloc.get_traced_memory()[0] / len(pages)
    tracemalloc.stop()
    return each


def test_a_page_costs_little_memory(services):
    app = build_app(services.paths)
    assert bytes_per_page(app, PageState) < 100_000
    assert bytes_per_page(app, PageState.__base__) > 500_000, "PageState is no longer needed"


def test_all_remembered_pages_fit_into_400_mb(services):
    app = build_app(services.paths)
    tracemalloc.start()
    page = PageState(app)
    for key, block in app.default_config.blocks.items():
        if isinstance(block, gr.components.Component):  # as Gradio does for each update
            page[key] = block.__class__(**block.constructor_args)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used < MAX_PAGE_BYTES
    assert MAX_SESSIONS * used < 400_000_000
    assert not page.config_values


def test_a_launched_app_uses_page_state_a_slow_queue_and_short_turns_of_threads(
    services, monkeypatch
):
    before = sys.getswitchinterval()
    monkeypatch.setattr(gr.Blocks, "launch", lambda self, **options: None)
    monkeypatch.setattr(state_holder, "SessionState", PageState.__base__)
    app = build_app(services.paths)
    launch(app)
    assert state_holder.SessionState is PageState
    assert app._queue.sleep_when_free == gradio_fixes.QUEUE_SLEEP_S
    assert app._queue.progress_update_sleep_when_free == gradio_fixes.PROGRESS_SLEEP_S
    assert sys.getswitchinterval() <= 0.001
    sys.setswitchinterval(before)


def test_gradio_makes_sessions_from_the_name_that_is_replaced():
    assert "SessionState(self.blocks)" in inspect.getsource(state_holder.StateHolder.__getitem__)


@pytest.mark.parametrize("name", ["sleep_when_free", "progress_update_sleep_when_free"])
def test_gradios_queue_still_sleeps_by_the_attributes_that_are_set(name):
    source = inspect.getsource(queueing)
    assert f"asyncio.sleep(self.{name})" in source


def test_quiet_events_send_their_progress_to_one_invisible_component(services):
    config = build_app(services.paths).get_config_file()
    events = config["dependencies"]
    quiet = [event["show_progress_on"] for event in events if event["show_progress"] == "hidden"]
    ticks = [event for event in events if any(kind == "tick" for _, kind in event["targets"])]
    assert all(event["show_progress"] == "hidden" for event in ticks)
    [target] = quiet[0]
    assert all(each == [target] for each in quiet)
    [kind] = [part["type"] for part in config["components"] if part["id"] == target]
    assert kind == "state"


def greeter():
    """Return an app with one endpoint that has a default, and Gradio's record of the endpoint."""

    def greet(name: str, greeting: str = "Hello") -> str:
        return f"{greeting} {name}"

    with gr.Blocks() as app:
        gr.api(gradio_fixes.forget_session(app, greet), api_name="greet")
    return app, next(iter(app.fns.values()))


def test_a_raw_call_may_leave_out_arguments_with_defaults():
    app, event = greeter()
    values = ["Anna"]
    with pytest.raises(ValueError, match=r"(?i)enough"):
        app.validate_inputs(event, values)  # fill_defaults is still needed
    gradio_fixes.fill_defaults(app)
    app.validate_inputs(event, values)
    assert values == ["Anna", "Hello"]


def test_an_endpoint_leaves_no_session_behind():
    app, event = greeter()
    token = LocalContext.request.set(gr.Request(session_hash="a-call"))
    try:
        app.state_holder["a-call"]
        assert "a-call" in app.state_holder
        assert asyncio.run(event.fn("Anna")) == "Hello Anna"
        assert "a-call" not in app.state_holder
    finally:
        LocalContext.request.reset(token)


def test_the_app_being_built_is_known_inside_its_with_block_only():
    with gr.Blocks() as app:
        assert gradio_fixes.building_blocks() is app
    assert gradio_fixes.building_blocks() is None


def test_outside_of_an_event_there_is_no_request_and_no_page():
    assert gradio_fixes.current_request() is None
    assert gradio_fixes.session_hash() is None


def test_a_served_file_is_a_copy_in_gradios_cache(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("a,b")
    with gr.Blocks():
        button = gr.DownloadButton()
    served = gradio_fixes.serve_file(button, file)
    assert str(served).startswith(str(button.GRADIO_CACHE))
    assert Path(served).read_text() == "a,b"
    assert str(served) in button.temp_files  # Gradio removes it later


def waiting_room(listener):
    """Return how many connections may wait to be accepted. Linux reports it in this field."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    return struct.unpack_from("I", info, 28)[0]


def test_the_web_server_has_limits_on_its_connections(services):
    app = build_app(services.paths)
    try:
        launch(app, server_port=free_port(), prevent_thread_lock=True, quiet=True)
        protocol = app.server.config.http_protocol_class
        assert isinstance(protocol.__self__, ConnectionGuard)
        assert app.server.config.ws_protocol_class is None
        assert not app.api_open
        # few are accepted in one turn of the loop, but as many as before may wait for it
        assert app.server.config.backlog == MAX_ACCEPTED
        [listener] = app.server.servers[0].sockets
        most = int(Path("/proc/sys/net/core/somaxconn").read_text())
        assert waiting_room(listener) == min(2048, most) > MAX_ACCEPTED
    finally:
        app.close()


def test_no_two_events_that_keep_the_latest_change_share_a_trigger(services):
    app = build_app(services.paths)
    latest = [event for event in app.fns.values() if event.trigger_mode == "always_last"]
    assert len(latest) > 10
    assert {target for event in latest for target in event.targets} == {(None, "then")}
    page = Path(gr.__file__).parent / "templates" / "frontend" / "assets"
    [blocks] = page.glob("Blocks-*.js")
    restart = "(this.queue.delete(r.id),this.dispatch(e))"
    assert restart in blocks.read_text(), "is separate_latest_events still needed?"


@pytest.fixture
def queue():
    """Return a queue with a limit per visitor, and no events."""
    queue = SharedQueue(False, 40, 1.0, None, gr.Blocks(), 4)
    queue.visitor = lambda request: request
    queue.active_jobs = [None] * 40
    return queue


def wait(queue, visitor, line="line", limit=None):
    """Add an event to a line of the queue."""
    fn = SimpleNamespace(concurrency_id=line, concurrency_limit=limit)
    queue.create_event_queue_for_fn(fn)
    event = SimpleNamespace(visitor=visitor, concurrency_id=line, enqueue_time=next(MOMENTS))
    queue.event_queue_per_concurrency_id[line].queue.append(event)
    return event


def served(queue):
    """Return the visitors in the order in which their events are begun; none of them ends."""
    order = []
    while (found := queue.get_events()) is not None:
        [event], _, line = found
        queue.active_jobs[queue.active_jobs.index(None)] = [event]
        queue.event_queue_per_concurrency_id[line].current_concurrency += 1
        order.append(event.visitor)
    return "".join(order)


def test_the_visitor_with_the_fewest_active_events_is_served_first(queue):
    for visitor in "aaaaabbc":
        wait(queue, visitor)
    assert served(queue) == "abcabaaa"


def test_one_visitor_has_at_most_half_of_the_places(queue):
    for visitor in "a" * 50 + "b":
        wait(queue, visitor)
    assert served(queue) == "ab" + "a" * (MAX_ACTIVE - 1)


def test_a_line_with_a_limit_waits_while_others_go_on(queue):
    for visitor in "aaab":
        wait(queue, visitor, "limited", 2)
    wait(queue, "a", "free")
    assert served(queue) == "aba"  # two of `limited`, and the one of `free`


def test_events_of_one_visitor_keep_their_order(queue):
    events = [wait(queue, "a", line) for line in ("one", "two", "one", "three")]
    assert [queue.get_events()[0][0] for _ in events] == events


def test_without_limits_all_places_are_used(queue):
    queue.visitor = None
    for _ in range(30):
        wait(queue, "a")
    assert len(served(queue)) == 30


def test_of_too_many_pages_the_visitor_with_the_most_loses_the_oldest():
    pages = SharedPages()
    pages.blocks, pages.capacity = None, 4
    for number, visitor in enumerate("abbbb"):
        pages.session_data[f"{visitor}{number}"] = SimpleNamespace(visitor=visitor)
        pages.update(f"{visitor}{number}")
    assert [*pages.session_data] == ["a0", "b2", "b3", "b4"]
    pages.session_data["c5"] = SimpleNamespace(visitor="c")
    pages.update("c5")
    assert [*pages.session_data] == ["a0", "b3", "b4", "c5"]


def test_a_body_of_unknown_size_counts_as_a_large_one():
    request = SimpleNamespace(headers={"content-length": "17"})
    assert body_bytes(request) == 17
    assert body_bytes(SimpleNamespace(headers={})) == 2**20
