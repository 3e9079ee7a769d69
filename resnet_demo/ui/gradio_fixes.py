"""Changes to Gradio's internals, and uses of its undocumented parts. Measured on Gradio 6.31.0.

tests/ui/test_gradio_fixes.py fails where a new version of Gradio makes one of them wrong or
unnecessary.
"""

import asyncio
import logging
import math
import os
import socket
import sys
import tempfile
import time
import traceback
from asyncio import iscoroutinefunction
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
from gradio import http_server, processing_utils, queueing, route_utils, routes, state_holder
from gradio.blocks import Block
from gradio.components.api_component import Api
from gradio.context import Context, LocalContext
from gradio.utils import LRUCache
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, QueryParams
from starlette.formparsers import MultiPartException
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config

from resnet_demo.hosting.connections import ConnectionGuard, known_proxies
from resnet_demo.lru import LRU

# JavaScript that each page runs once. Gradio has no setting for the markup that it corrects.
MARKUP_FIXES = Path(__file__).with_name("gradio_fixes.js")
NO_OP = "() => []"  # of an event in the browser
NAMED_CALLS = "/gradio_api/call/v2/"  # arguments by name; `/call/` takes them by position
EVENT_PATHS = tuple(f"/gradio_api/{name}/" for name in ("call", "run", "api", "queue"))
FILE_PATH = "/gradio_api/file="
# Seconds that the queue's loop sleeps while nothing waits. Gradio's 0.001 keeps a core busy.
QUEUE_SLEEP_S = 0.02
# Seconds between two looks for progress updates. This app sends none through Gradio.
PROGRESS_SLEEP_S = 1.0
MAX_ACTIVE = 20  # events of one visitor that are handled at once, of Gradio's 40
MAX_EVENTS = 300  # of one visitor, waiting or handled
MAX_EVENT_BYTES = 10_000_000  # their bodies
UNKNOWN_BYTES = 2**20  # a body without a declared size; RequestLimits refuses larger ones
MAX_UNREAD = 200  # pages of one visitor whose answers are kept until they are fetched
KEPT_PAGES = 2000  # pages with answers, of all visitors; as Gradio has it
MAX_NAME = 64  # characters in the name of a page, which its browser makes
MAX_UPLOAD_FILES = 200  # as many as the page classifies at once
MAX_UPLOADS_SHOWN = 1000
MAX_ACCEPTED = 32  # connections, of the 2,048 that may wait
MAX_TRACEBACKS, TRACEBACK_S = 200, 3600.0


class PageState(state_holder.SessionState):
    """The state that Gradio keeps for an open page, without what makes it grow.

    Gradio 6.31 makes a new component at each update, `gr.skip()` included, and stores it under
    its new id for as long as the page is known: 10 KB a second for an open page. It also stores
    the configuration of the whole page for each visitor and API call, 0.9 MB each, for links to a
    state of the page, which this app does not offer.
    """

    def __init__(self, blocks: gr.Blocks) -> None:
        # No blocks: nothing is copied into `config_values`.
        super().__init__(SimpleNamespace(default_config=blocks.default_config, blocks=()))
        self.visitor = ""  # to whom the page belongs, where the queue is shared

    def __setitem__(self, key: int, value: object) -> None:
        # `blocks_config` stores it under this id; under its own, each update would add an entry.
        if isinstance(value, Block):
            value._id = key
        super().__setitem__(key, value)
        self.config_values.clear()

    def _update_config(self, key: int) -> None:
        """Store nothing: what a component shows is in the browser."""

    def _update_value_in_config(self, key: int, value: object) -> None:
        """Store nothing: what a component shows is in the browser."""


# The query in the address of the page that is being sent.
page_query: ContextVar[QueryParams] = ContextVar("page_query")


class FreshBlocks(gr.Blocks):
    """Blocks whose pages open with current values.

    Gradio 6.31 builds the configuration that each page opens with once, when the app starts. What
    has changed since then arrives after the page is drawn, which then jumps.

    first_updates: takes the query of the page's address and returns component -> update, and more
    for the configuration; called for each page in any thread.
    """

    first_updates: Callable[[QueryParams], tuple[dict[Block, Any], dict[str, Any]]] | None = None

    @property
    def config(self) -> dict[str, Any]:
        """Return the configuration of a page, with the values of `first_updates`."""
        built = self._built_config
        if self.first_updates is None:
            return built
        updates, more = self.first_updates(page_query.get(QueryParams()))
        changed = {block._id: as_props(update) for block, update in updates.items()}
        components = [
            {**part, "props": {**part["props"], **changed[part["id"]]}}
            if part["id"] in changed
            else part
            for part in built["components"]
        ]
        return {**built, **more, "components": components}

    @config.setter
    def config(self, built: dict[str, Any]) -> None:
        self._built_config = built


def as_props(update: Any) -> dict[str, Any]:
    """Return the properties that an update sets: those of `gr.update`, or a value."""
    if isinstance(update, dict) and update.get("__type__") == "update":
        return {name: value for name, value in update.items() if name != "__type__"}
    return {"value": update}


def use_page_state() -> None:
    """Replace the class of which Gradio makes an instance for each page."""
    state_holder.SessionState = PageState


class SharedQueue(queueing.Queue):
    """Gradio's queue of events, which serves the visitors in turn and limits each of them.

    Gradio 6.31 serves events in order of arrival, and drops the answers to the page that is known
    for longest. A stranger who sends enough would delay every other visitor, and lose their
    answers. Here a visitor who sends too much loses only what is theirs.

    visitor: returns the name of the sender of a request; None: one visitor without limits.
    """

    visitor: Callable[[HTTPConnection], str] | None = None

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        """Add an event to the queue, or return a refusal, which is answered 503."""
        if self.visitor is None:
            return await super().push(body, request, username)
        if len(body.session_hash or "") > MAX_NAME:
            return False, f"session_hash may have at most {MAX_NAME} characters", "error"
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
    """Gradio's store of pages. Of too many, one of the visitor with the most is forgotten.

    Gradio 6.31 forgets the page that was idle for longest: a stranger who opens enough of them
    would reset the pages of all others.
    """

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


class GuardedServer(http_server.Server):
    """The web server, with limits on its connections.

    Gradio 6.31 makes uvicorn's configuration itself, without a way to pass options.
    """

    def __init__(self, config: Config, *args: Any, **options: Any) -> None:
        guard = ConnectionGuard(proxies=known_proxies(os.environ))
        config.http = guard.protocol  # type: ignore[assignment] - any factory will do
        config.ws = "none"  # the app has no web sockets, and an open one has no deadline
        # asyncio takes so many new connections before it serves the open ones again
        self.waiting, config.backlog = config.backlog, MAX_ACCEPTED
        super().__init__(config, *args, **options)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, with uvicorn's room for connections that wait to be taken."""
        await super().startup(sockets)
        for listener in (one for server in self.servers for one in server.sockets):
            with socket.socket(fileno=os.dup(listener.fileno())) as same:
                same.listen(self.waiting)


def use_guarded_server() -> None:
    """Replace the class of which Gradio makes the web server."""
    http_server.Server = GuardedServer


class PartFile:
    """A file of an upload, open only while bytes are written to it.

    Gradio 6.31 keeps each file of an upload open until all have arrived. A few uploads of a
    thousand files, held open, would take all descriptors of the app.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder, self.name = folder, ""

    def write(self, content: bytes) -> None:
        """Append bytes; called in a thread. The file is made at first."""
        if not self.name:
            handle, self.name = tempfile.mkstemp(dir=self.folder)
            os.close(handle)
        with open(self.name, "ab") as file:
            file.write(content)

    def seek(self, offset: int) -> None:
        """Note that the file is complete; called in a thread, and for a file without bytes too."""
        self.write(b"")

    def close(self) -> None:
        """Do nothing: it is closed."""

    def remove(self) -> None:
        """Remove the file of an upload that is not completed."""
        if self.name:
            Path(self.name).unlink(missing_ok=True)


class UploadParser(route_utils.GradioMultiPartParser):
    """The parser of uploads, which takes files only, and removes those of a broken-off upload.

    Gradio 6.31 collects every other part in memory, however large it is.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options | {"max_files": MAX_UPLOAD_FILES})
        self.parts: list[PartFile] = []

    def on_headers_finished(self) -> None:
        """Begin a part. Raises MultiPartException, which is answered 400."""
        part = self._current_part
        _, options = parse_options_header(part.content_disposition or b"")
        if options.get(b"name", b"").decode("latin-1") != "files" or b"filename" not in options:
            raise MultiPartException("an upload may have files only, in parts named files")
        if len(self.parts) >= self.max_files:
            raise MultiPartException(f"an upload may have at most {self.max_files} files")
        self.parts.append(PartFile(self.upload_dir or tempfile.gettempdir()))
        part.field_name = "files"
        part.file = route_utils.GradioUploadFile(
            file=self.parts[-1],  # type: ignore[arg-type] - it has the methods that are used
            size=0,
            filename=options[b"filename"].decode("utf-8", "replace"),
            headers=Headers(raw=part.item_headers),
        )

    async def parse(self) -> FormData:
        """Return the files of an upload."""
        try:
            return await super().parse()
        except BaseException:  # cancelled, too: the time is over, or the client has left
            for part in self.parts:
                part.remove()
            raise


class UploadProgress(route_utils.FileUploadProgress):
    """The progress of the latest uploads.

    Gradio 6.31 keeps every name that a request has asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self._statuses = LRUCache(MAX_UPLOADS_SHOWN)
        self._signals = LRUCache(MAX_UPLOADS_SHOWN)

    def track(self, upload_id: str) -> None:
        """Start to follow an upload."""
        self._signals.setdefault(upload_id, asyncio.Event())
        super().track(upload_id)

    async def is_tracked(self, upload_id: str) -> bool:
        """Wait until the upload has begun."""
        return await self._signals.setdefault(upload_id, asyncio.Event()).wait()


def use_upload_parser() -> None:
    """Replace the parser of uploads, and what knows their progress."""
    route_utils.GradioMultiPartParser = UploadParser
    routes.file_upload_statuses = UploadProgress()


async def refuse_address(url: str) -> Any:
    """Raise an error, where Gradio 6.31 would fetch the address that a request has for a file."""
    raise gr.Error("a file must come through an upload, got an address", print_exception=False)


def fetch_no_addresses() -> None:
    """Replace the function by which Gradio fetches addresses in the values of events."""
    processing_utils.async_ssrf_protected_get = refuse_address


class RareTracebacks(logging.Filter):
    """Lets each traceback into the log once an hour.

    Gradio 6.31 writes one for each event and request that makes no sense, 6 KB: a stranger could
    fill the disk.
    """

    def __init__(self) -> None:
        super().__init__()
        self.written: LRU[tuple[object, ...], float] = LRU(MAX_TRACEBACKS)

    def is_due(self, error: BaseException | None) -> bool:
        """Return whether no error of that type, raised at that line, was written for an hour."""
        place = error.__traceback__ if error else None
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        key = type(error), place and (place.tb_frame.f_code.co_filename, place.tb_lineno)
        now = time.monotonic()
        if now - self.written.get(key, -math.inf) < TRACEBACK_S:
            return False
        self.written[key] = now
        return True

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record of the log is written."""
        return not record.exc_info or self.is_due(record.exc_info[1])

    def print_exc(self) -> None:
        """Print the traceback of the error that is handled, as the function of `traceback`."""
        if self.is_due(sys.exception()):
            traceback.print_exc()


def use_rare_tracebacks() -> None:
    """Replace what writes tracebacks to the log: of events, and of the web server's requests."""
    rare = RareTracebacks()
    queueing.traceback = SimpleNamespace(print_exc=rare.print_exc)
    for name in ("uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        logger.filters[:] = [f for f in logger.filters if not isinstance(f, RareTracebacks)]
        logger.addFilter(rare)


class WrongRequests:
    """ASGI middleware: a request for what is not there is answered 4xx.

    Gradio 6.31 looks up endpoints, their arguments and the numbers of events, and reads the header
    `Range`, without a check: 500, and a traceback in the log.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on. Events themselves run later, in the queue."""
        try:
            await self.app(scope, receive, send)
        except (KeyError, TypeError, ValueError, route_utils.FnIndexInferError) as error:
            path = scope["path"] if scope["type"] == "http" else ""
            answer = wrong_request(path, error)
            if answer is None:
                raise
            await answer(scope, receive, send)


def wrong_request(path: str, error: Exception) -> PlainTextResponse | None:
    """Return the answer to a request that Gradio ended with that error; None if unforeseen."""
    if path.startswith(EVENT_PATHS) and isinstance(error, KeyError | route_utils.FnIndexInferError):
        return PlainTextResponse("there is no endpoint of that name or number\n", 404)
    if path.startswith(NAMED_CALLS):
        rule = str(error).partition(". Please")[0]
        return PlainTextResponse(f"{rule[:200]}\n", 422)
    if path.startswith(FILE_PATH) and isinstance(error, ValueError):
        return PlainTextResponse("the header Range must name one range of bytes\n", 416)
    return None


def slow_down_queue(app: gr.Blocks) -> None:
    """Set the queue's loops to sleep longer while nothing waits. Call this after `app.queue`."""
    app._queue.sleep_when_free = QUEUE_SLEEP_S
    app._queue.progress_update_sleep_when_free = PROGRESS_SLEEP_S


def mute_progress(app: gr.Blocks, target: gr.State) -> None:
    """Send the progress of all events without visible progress to one invisible component.

    For each step of any event, Gradio's page copies every component that ever showed progress. The
    timers alone cause a dozen steps a second.
    """
    for event in app.fns.values():
        if event.show_progress == "hidden":
            event.show_progress_on = [target]


def separate_latest_events(app: gr.Blocks) -> None:
    """Let each event of the mode `always_last` be triggered by an event of its own.

    When such an event ends after another trigger, Gradio 6.31's page starts all events of that
    trigger. Two of them would start each other for ever, several times a second.
    """
    for event in [*app.fns.values()]:
        if event.trigger_mode == "always_last" and event.targets[0][0] is not None:
            # In the browser only. An event after another one is started by itself.
            trigger, number = app.default_config.set_event_trigger(
                [], None, None, None, js=NO_OP, trigger_mode="multiple", show_progress="hidden"
            )
            trigger.targets, event.targets = event.targets, [(None, "then")]
            event.trigger_after = number


def building_blocks() -> gr.Blocks:
    """Return the app whose `with` block is open."""
    return Context.root_block


def forget_session(blocks: gr.Blocks, endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an API endpoint so that Gradio's session of the call is removed after it.

    Gradio makes a session for each call and keeps it. Thousands of them would push the sessions
    of open pages out of its limited store.
    """

    @wraps(endpoint)  # Gradio reads names, types and help from the signature and docstring
    async def call(*values: Any, **named: Any) -> Any:
        try:
            if iscoroutinefunction(endpoint):
                return await endpoint(*values, **named)
            # In a thread, as Gradio calls plain functions: all pages share the event loop.
            return await asyncio.to_thread(endpoint, *values, **named)
        finally:
            blocks.state_holder.session_data.pop(session_hash(), None)

    return call


def fill_defaults(blocks: gr.Blocks) -> None:
    """Fill the defaults of arguments that a raw API call leaves out, as Gradio's client does.

    Gradio 6.31 refuses such a call without a message. An argument without default becomes None.
    """
    validate = blocks.validate_inputs

    def fill_and_validate(called: Any, values: list[Any]) -> None:
        if all(isinstance(block, Api) for block in called.inputs):
            values.extend(block.value for block in called.inputs[len(values) :])
        validate(called, values)

    blocks.validate_inputs = fill_and_validate


def current_request() -> HTTPConnection | None:
    """Return the request of the event that runs in this context; None outside of an event."""
    request = getattr(LocalContext.request.get(None), "request", None)
    return request if isinstance(request, HTTPConnection) else None


def session_hash() -> str | None:
    """Return Gradio's name for the page whose event runs in this context."""
    return getattr(LocalContext.request.get(None), "session_hash", None)


def serve_file(component: Block, file: Path) -> str:
    """Copy a file to where Gradio serves a component's files and later removes them."""
    return component.move_resource_to_block_cache(file)


def cached_files(blocks: gr.Blocks) -> set[str]:
    """Return the files that Gradio itself serves and removes for this app."""
    kept = (getattr(block, "keep_in_cache", ()) for block in [*blocks.blocks.values()])
    return set().union(*kept, *(set(files) for files in [*blocks.temp_file_sets]))
