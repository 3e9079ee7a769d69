"""Polling: once a second, an open page asks for what has changed since its last request.

While a run starts, it asks four times a second: a person waits for the first step.

A Gradio event takes a place in Gradio's queue and a stream for its answer. This is one plain GET:
the page sends the version of each part that it shows, and receives the parts with another version.
A watched run's parts arrive ready to be shown. For the Data and Evaluate tabs only the version is
sent: its change triggers a Gradio event that fetches the new content.

A request also says that a page is open, for which `OpenPage` works in the background.
"""

import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from resnet_demo.errors import DemoError
from resnet_demo.evaluation.modes import MODES
from resnet_demo.hosting.environment import STANDBY
from resnet_demo.tasks.process_setup import import_quickly
from resnet_demo.tasks.queue import live_runs
from resnet_demo.tasks.standby_worker import START_MEMORY, free_memory
from resnet_demo.ui.data.tab import data_version
from resnet_demo.ui.evaluate.evaluation_status import Selection, StatusCache, status_mark
from resnet_demo.ui.services import QUIET_EVENT, Services
from resnet_demo.ui.train.run_panel import POLL_S, Part, run_parts

POLL_PATH = "/poll"
SHARED_S = 0.2  # pages that ask for the same within this time share one answer
MAX_SHARED = 64
NO_STORE = {"cache-control": "no-store"}
SCRIPT = Path(__file__).with_name("polling.js")
# The script keeps this order.
QUERY_KEYS = ("run", "experiments", "evaluate", "split", "mode", "other")
RETRY_S = 5.0  # of the network that is loaded in advance
GREY = np.full((32, 32, 3), 128, np.uint8)


class EncodedPart:
    """A part of the page with a short version, encoded once for all pages that need it."""

    def __init__(self, version: Any, make: Callable[[], Any]) -> None:
        self.version, self.make = short_hash(version), make

    @cached_property
    def text(self) -> str:
        """Return version and value as JSON."""
        return json.dumps([self.version, self.make()], allow_nan=False, separators=(",", ":"))


class Polling:
    """The answers to polling requests. Not thread-safe: they run on the server's event loop."""

    def __init__(self, services: Services) -> None:
        self.services, self.statuses = services, StatusCache(services)
        self.cached: dict[Any, tuple[float, dict[str, EncodedPart]]] = {}
        # Changes with a restart of the app: a page that sees another id reloads itself.
        self.app_id = uuid.uuid4().hex[:8]
        self.open_page: OpenPage | None = None  # None: nothing is prepared

    @property
    def route(self) -> Route:
        """Return the HTTP route of the requests."""
        return Route(POLL_PATH, self.respond, methods=["GET"])

    async def respond(self, request: Request) -> Response:
        """Return part name -> [version, value], of the parts whose version the page lacks."""
        # Async: in threads, many open pages would use up the 40 that Gradio's events share.
        query = request.query_params
        # "run:1a2b,data:3c4d": each part that the page has, and its version.
        known = dict(pair.partition(":")[::2] for pair in query.get("known", "").split(","))
        if query.get("known") and self.open_page:  # a page asks: it has opened
            self.open_page.on_poll()
        # Joined as text: each part was encoded once, for all pages.
        parts = ",".join(
            f'"{name}":{part.text}'
            for name, part in self.parts(query).items()
            if known.get(name) != part.version
        )
        body = f'{{"app":"{self.app_id}","parts":{{{parts}}}}}'
        return Response(body, media_type="application/json", headers=NO_STORE)

    def parts(self, query: Any) -> dict[str, EncodedPart]:
        """Return all parts of a page. query: values of QUERY_KEYS; absent or empty means none."""
        run, experiments, evaluated, split, mode, other = (
            query.get(name) or None for name in QUERY_KEYS
        )
        shown = run, experiments == "true"
        parts = {
            **self.shared(shown, lambda: run_parts(self.services, *shown)),
            **self.shared("data", self.data),
        }
        # Without a run the Evaluate tab has not been opened. A raw request may hold any mode.
        if evaluated and mode in MODES:
            wanted = Selection.from_page(evaluated, split or "test", mode, other)
            parts |= self.shared(
                wanted,
                lambda: version_part("evaluation", status_mark(self.statuses, wanted)),
            )
        return parts

    def data(self) -> dict[str, Part]:
        """Return the version of the Data tab."""
        return version_part("data", data_version(self.services))

    def shared(self, key: Any, make: Callable[[], dict[str, Part]]) -> dict[str, EncodedPart]:
        """Return the parts that `make` returns, or returned less than SHARED_S ago."""
        at, parts = self.cached.get(key, (0.0, {}))
        if not parts or time.monotonic() - at > SHARED_S:
            parts = {name: EncodedPart(*part) for name, part in make().items()}
            if len(self.cached) >= MAX_SHARED:  # entries live for SHARED_S only: no need of an LRU
                self.cached.clear()
            self.cached[key] = time.monotonic(), parts
        return parts


def version_part(name: str, version: Any) -> dict[str, Part]:
    """Return a part whose value is its version."""
    return {name: (version, partial(short_hash, version))}


def short_hash(version: Any) -> str:
    """Return a hash of any JSON value, twelve hexadecimal digits."""
    return blake2b(json.dumps(version).encode(), digest_size=6).hexdigest()


def version_field() -> gr.Textbox:
    """Return an invisible component that holds a version; its change triggers an event."""
    return gr.Textbox(visible="hidden")


def start_polling(parts: dict[str, Any], inputs: list[Any]) -> None:
    """Run the page's script every second, more often before a first step, and when inputs change.

    parts: name -> component to update. inputs: the components of QUERY_KEYS, in that order.
    """
    # Without a Python function the event stays in the browser: the script sends its own request.
    timer = gr.Timer(POLL_S)
    parts = {**parts, "poll_timer": timer}
    script = SCRIPT.read_text().replace("NAMES", json.dumps([*parts]))
    script = script.replace("QUERY_KEYS", json.dumps(QUERY_KEYS))
    script = script.replace("POLL_PATH", json.dumps(POLL_PATH))
    gr.on(
        [timer.tick, *(component.change for component in inputs)],
        None,
        inputs=inputs,
        outputs=[*parts.values()],
        js=script,
        **QUIET_EVENT,
    )


def keeps_standby(environment: Mapping[str, str], services: Services) -> bool:
    """Return whether an open page keeps a standby worker.

    Not in public mode, where most pages only look, and not on ZeroGPU, which has no processes.
    """
    is_private = not services.access.is_public and services.slices is None
    return is_private and environment.get(STANDBY, "1") != "0"


class OpenPage:
    """Prepares for what a person may do next.

    A standby worker and the first network both need torch, whose import takes seconds: nobody
    should wait for it after a click. Its methods return at once.
    """

    def __init__(self, environment: Mapping[str, str], services: Services) -> None:
        self.services, self.keeps_standby = services, keeps_standby(environment, services)
        # On ZeroGPU nothing may touch CUDA in the app's process before the first slice.
        self.loads_network = services.slices is None and environment.get(STANDBY, "1") != "0"
        self.next_try, self.lock = 0.0, threading.Lock()

    def on_request(self) -> None:
        """Start a standby worker while the page is being sent; for any thread.

        Then a click soon after the page is drawn finds it ready. On two cores that also run the
        browser, the app's first page is drawn 0.2 s later for it.
        """
        if self.keeps_standby:
            with self.lock:
                self.services.launcher.keep_standby()

    def on_poll(self) -> None:
        """Start what is not under way; called each time that an open page asks."""
        self.on_request()
        # Not before: in this process it would delay sending the page.
        if self.loads_network and time.monotonic() >= self.next_try:
            self.next_try = time.monotonic() + RETRY_S
            threading.Thread(target=self._load_network, daemon=True).start()

    def _load_network(self) -> None:
        """Load the network that Classify offers first, and classify a grey picture with it.

        Later if memory is short, or if a run needs the cores.
        """
        if free_memory() < START_MEMORY or live_runs(self.services.paths.runs):
            return
        self.loads_network = False
        with suppress(DemoError, OSError):  # the Classify tab names it
            if (run_id := self.services.default_trained_run()) is not None:
                import_quickly("resnet_demo.inference.classifier", "matplotlib")
                classifier = self.services.classifier(run_id)
                result = classifier.classify(GREY)
                classifier.class_map(GREY, result.labels[0]["label"])
