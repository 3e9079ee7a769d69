"""An open page as the app knows it: a session whose events are raw requests, without a browser."""

import json
import uuid
from typing import Any

import httpx


class Page:
    """What a browser does when it opens the page and presses something there."""

    def __init__(self, app: Any) -> None:
        self.app, self.session = app, uuid.uuid4().hex
        self.config = httpx.get(f"{app.url}config", headers=app.headers, timeout=60).json()
        self.ask(self.event("load", told="run"))  # from now on it knows the runs

    def part(self, name: str) -> int:
        """The component of that elem_id."""
        parts = self.config["components"]
        return next(c["id"] for c in parts if c["props"].get("elem_id") == name)

    def event(self, kind: str, of: str | None = None, told: str | None = None) -> int:
        """The event of that kind, of the component that starts it, that tells another one."""
        for event in self.config["dependencies"]:
            starts = [part for part, how in event["targets"] if how == kind]
            if not starts or (of and self.part(of) not in starts):
                continue
            if told is None or self.part(told) in event["outputs"]:
                return event["id"]
        raise LookupError(f"no {kind} of {of} tells {told}")

    def join(self, event: int, *values: Any) -> None:
        """Start an event."""
        asked = {"data": values, "fn_index": event, "session_hash": self.session}
        url = f"{self.app.url}gradio_api/queue/join"
        httpx.post(url, json=asked, headers=self.app.headers, timeout=60).raise_for_status()

    def ask(self, event: int, *values: Any) -> tuple[bool, Any]:
        """Start an event and wait for its end: whether it was done, and what came of it."""
        self.join(event, *values)
        with httpx.stream("GET", self.stream, headers=self.app.headers, timeout=90) as stream:
            for line in stream.iter_lines():
                said = json.loads(line.removeprefix("data: ")) if line else {}
                if said.get("msg") == "process_completed":
                    return said["success"], said["output"]
        raise AssertionError("no answer")

    @property
    def stream(self) -> str:
        """Where the session is told what becomes of its events."""
        return f"{self.app.url}gradio_api/queue/data?session_hash={self.session}"

    def press(self, button: str, *values: Any) -> tuple[bool, str | None]:
        """Press a button: whether it was done, and the sentence if it was not."""
        done, output = self.ask(self.event("click", of=button), *values)
        return done, output.get("error")
