"""The pulse: once a second an open page asks what it does not show yet, in one plain request.

An event of Gradio takes a place in its queue and a stream for its answer, for one page at a time.
This one is a GET: the page tells which marks it has, and is sent those parts whose marks are others
now. What watches a run is sent ready to be shown. Of the tabs Data and Evaluate only the mark is
sent: where it is another, the page has their own event bring what is new.
"""

import json
import time
import uuid
from collections.abc import Callable
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from resnet_demo.evaluation.modes import MODES
from resnet_demo.ui.data import tab
from resnet_demo.ui.data.tab import under_way
from resnet_demo.ui.evaluate import tick
from resnet_demo.ui.evaluate.evaluation_status import Asked, Standings
from resnet_demo.ui.services import QUIET, Services
from resnet_demo.ui.train.run_panel import Part, watched

PATH = "/look"
PULSE_S = 1.0
SHARED_S = 0.2  # one look at a run is for all who ask within
MOST_LOOKS = 64
NOT_KEPT = {"cache-control": "no-store"}
SCRIPT = Path(__file__).with_name("polling.js")
ASKED = ("run", "log", "evaluate", "split", "mode", "other")  # in this order on the page too


class Ready:
    """A part with a short mark, put into JSON once for all who have not got it."""

    def __init__(self, mark: Any, make: Callable[[], Any]) -> None:
        self.mark, self.make = shortened(mark), make

    @cached_property
    def text(self) -> str:
        """Mark and value, as they travel."""
        return json.dumps([self.mark, self.make()], allow_nan=False, separators=(",", ":"))


class Pulse:
    """What a request is answered. For the one thread of the server's loop."""

    def __init__(self, services: Services) -> None:
        self.services, self.standings = services, Standings(services)
        self.looks: dict[Any, tuple[float, dict[str, Ready]]] = {}
        self.app = uuid.uuid4().hex[:8]  # another after a restart: then the page loads itself anew

    @property
    def route(self) -> Route:
        """Where it answers."""
        return Route(PATH, self.answer, methods=["GET"])

    async def answer(self, request: Request) -> Response:
        """Name of a part -> its mark and how it is now, of those that the page has not got."""
        asked = request.query_params
        known = dict(pair.partition(":")[::2] for pair in asked.get("known", "").split(","))
        told = ",".join(
            f'"{name}":{part.text}'
            for name, part in self.parts(asked).items()
            if known.get(name) != part.mark
        )
        answer = f'{{"app":"{self.app}","parts":{{{told}}}}}'
        return Response(answer, media_type="application/json", headers=NOT_KEPT)

    def parts(self, asked: Any) -> dict[str, Ready]:
        """Everything that page might show. asked: by the names of ASKED, absent or empty: none."""
        run, log, evaluated, split, mode, other = (asked.get(name) or None for name in ASKED)
        is_log = log == "true"
        parts = {
            **self.shared((run, is_log), lambda: watched(self.services, run, is_log)),
            **self.shared("data", self.data),
        }
        if mode in MODES:
            wanted = Asked.of(evaluated, split or "test", mode, other)
            parts |= self.shared(
                wanted,
                lambda: only_marked("evaluation", tick.standing(self.standings, wanted)),
            )
        return parts

    def data(self) -> dict[str, Part]:
        """The mark of the Data tab."""
        return only_marked("data", tab.standing(self.services, under_way(self.services)))

    def shared(self, key: Any, look: Callable[[], dict[str, Part]]) -> dict[str, Ready]:
        """What `look` gives, or gave a moment ago: many ask for the same."""
        at, parts = self.looks.get(key, (0.0, {}))
        if not parts or time.monotonic() - at > SHARED_S:
            parts = {name: Ready(*part) for name, part in look().items()}
            if len(self.looks) >= MOST_LOOKS:
                self.looks.clear()
            self.looks[key] = time.monotonic(), parts
        return parts


def only_marked(name: str, standing: Any) -> dict[str, Part]:
    """A part that is nothing but its mark."""
    return {name: (standing, partial(shortened, standing))}


def shortened(mark: Any) -> str:
    """A mark of any size in twelve letters."""
    return blake2b(json.dumps(mark).encode(), digest_size=6).hexdigest()


def mark() -> gr.Textbox:
    """On the page, where nobody sees it: its change has an event bring what is new."""
    return gr.Textbox(visible="hidden")


def wire(parts: dict[str, Any], asked: list[Any]) -> None:
    """Have the page ask. parts: by name, what is brought up to date; asked: as in ASKED."""
    script = SCRIPT.read_text().replace("NAMES", json.dumps([*parts]))
    script = script.replace("ASKED", json.dumps(ASKED))
    pulse = {"inputs": asked, "outputs": [*parts.values()], "js": script, **QUIET}
    gr.on([gr.Timer(PULSE_S).tick, *(part.change for part in asked)], None, **pulse)
