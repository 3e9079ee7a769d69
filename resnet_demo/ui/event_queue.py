"""Gradio's queue of events and its store of pages, shared fairly among the visitors.

Gradio 6.31 serves events in order of arrival, forgets the page that was idle for longest, and drops
the answers to the page that is known for longest. A stranger who sends enough would delay every
other visitor, and reset their pages. Here a visitor who sends too much loses only what is theirs.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio import queueing, routes, state_holder
from gradio.utils import LRUCache
from starlette.requests import HTTPConnection

MAX_ACTIVE = 20  # events of one visitor that are handled at once, of Gradio's 40
MAX_EVENTS = 300  # of one visitor, waiting or handled
MAX_EVENT_BYTES = 10_000_000  # their bodies
UNKNOWN_BYTES = 2**20  # a body without a declared size; RequestLimits refuses larger ones
MAX_UNREAD = 200  # pages of one visitor whose answers are kept until they are fetched
KEPT_PAGES = 2000  # pages with answers, of all visitors; as Gradio has it


class SharedQueue(queueing.Queue):
    """Gradio's queue of events, which serves the visitors in turn and limits each of them.

    visitor: returns the name of the sender of a request; None: one visitor without limits.
    """

    visitor: Callable[[HTTPConnection], str] | None = None

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        """Add an event to the queue, or return a refusal, which is answered 503."""
        if self.visitor is None:
            return await super().push(body, request, username)
        name = self.visitor(request)
        events = [each for each in self.event_ids_to_events.values() if sender(each) == name]
        size = body_bytes(request) + sum(body_bytes(event.request) for event in events)
        if len(events) >= MAX_EVENTS or size > MAX_EVENT_BYTES:
            return False, "too many requests wait: try again in a moment", "queue_full"
        if body.session_hash is not None:
            self.blocks.state_holder[body.session_hash].visitor = name
        done, answer, reason = await super().push(body, request, username)
        if done and (event := self.event_ids_to_events.get(answer)) is not None:
            event.visitor = name  # type: ignore[attr-defined]
            self.forget_unread(event)
        return done, answer, reason

    def get_events(self) -> tuple[list[queueing.Event], bool, str] | None:
        """Return the next event: the oldest one of the visitor with the fewest active events."""
        active = Counter(sender(event) for job in self.active_jobs if job for event in job)
        first: dict[str, queueing.Event] = {}
        for line in self.event_queue_per_concurrency_id.values():
            limit = line.concurrency_limit
            if limit is not None and line.current_concurrency >= limit:
                continue
            for event in line.queue:
                other = first.setdefault(sender(event), event)
                first[sender(event)] = min(event, other, key=lambda each: each.enqueue_time)
        if self.visitor is not None:
            first = {name: event for name, event in first.items() if active[name] < MAX_ACTIVE}
        if not first:
            return None
        _, event = min(first.items(), key=lambda item: (active[item[0]], item[1].enqueue_time))
        self.event_queue_per_concurrency_id[event.concurrency_id].queue.remove(event)
        return [event], False, event.concurrency_id

    def forget_unread(self, event: queueing.Event) -> None:
        """Drop the answers of the visitor's oldest pages, where too many were not fetched."""
        name = sender(event)
        self.pending_messages_per_session[event.session_hash].visitor = name  # type: ignore
        pages = [
            page
            for page, messages in self.pending_messages_per_session.items()
            if sender(messages) == name
        ]
        live = {each.session_hash for each in self.event_ids_to_events.values()}
        for page in pages[: max(0, len(pages) - MAX_UNREAD)]:
            if page not in live:
                del self.pending_messages_per_session[page]
                self.pending_event_ids_session.pop(page, None)


class SharedPages(state_holder.StateHolder):
    """Gradio's store of pages. Of too many, one of the visitor with the most is forgotten."""

    def update(self, session_id: str) -> None:
        """Note that a page is used, and forget another one where there are too many."""
        with self.lock:
            if session_id in self.session_data:
                self.session_data.move_to_end(session_id)
            if len(self.session_data) <= self.capacity:
                return
            [(name, _)] = Counter(map(sender, self.session_data.values())).most_common(1)
            # The pages are in the order of their last use.
            evicted = next(key for key, page in self.session_data.items() if sender(page) == name)
            del self.session_data[evicted]
            self.time_last_used.pop(evicted, None)


def sender(thing: object) -> str:
    """Return the visitor to whom an event, a page or its answers belong; "" if unknown."""
    return getattr(thing, "visitor", "")


def body_bytes(request: HTTPConnection) -> int:
    """Return the size of a request's body, as far as its head says."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() else UNKNOWN_BYTES


def use_shared_queue() -> None:
    """Replace the classes of which Gradio makes the queue and the store of pages."""
    queueing.Queue = SharedQueue
    routes.StateHolder = SharedPages


def share_queue(app: gr.Blocks, visitor: Callable[[HTTPConnection], str]) -> None:
    """Serve visitors in turn. Call this after `app.queue`, which makes a new queue."""
    app._queue.visitor = visitor
    # Gradio removes an entry only when its answer is fetched.
    app._queue.pending_event_ids_session = LRUCache(KEPT_PAGES)
