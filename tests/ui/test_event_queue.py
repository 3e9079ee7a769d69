"""The order in which Gradio's queue serves the events of several visitors."""

import itertools
from types import SimpleNamespace

import gradio as gr
import pytest

from resnet_demo.ui.event_queue import MAX_ACTIVE, SharedPages, SharedQueue, body_bytes

MOMENTS = itertools.count()


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
