"""An open page as the app sees it: a session of raw requests, without a browser."""

import asyncio
import json
import re
import uuid
from typing import Any
from urllib.parse import urlencode

from resnet_demo.ui.gradio_fixes import NO_OP
from tests import plain_http


class Page:
    """The requests of a browser that opens the page and presses its buttons."""

    def __init__(self, app: Any) -> None:
        self.app, self.session = app, uuid.uuid4().hex
        self.config = plain_http.get(f"{app.url}config", headers=app.headers, timeout=60).json()
        self.run_event(self.event("load", updates="run"))

    def component(self, name: str) -> int:
        """Return the id of the component with that elem_id."""
        components = self.config["components"]
        return next(c["id"] for c in components if c["props"].get("elem_id") == name)

    def event(self, kind: str, of: str | None = None, updates: str | None = None) -> int:
        """Return the id of the event of that kind, of one component, that updates another.

        Such an event may come after one in the browser, which has the trigger.
        """
        events = {event["id"]: event for event in self.config["dependencies"]}
        for event in events.values():
            first = events.get(event["trigger_after"], {})
            triggers = [*event["targets"], *(first["targets"] if first.get("js") == NO_OP else [])]
            sources = [component for component, target in triggers if target == kind]
            if not sources or (of and self.component(of) not in sources):
                continue
            if updates is None or self.component(updates) in event["outputs"]:
                return event["id"]
        raise LookupError(f"no {kind} of {of} updates {updates}")

    def start_event(self, event: int, *values: Any) -> None:
        """Start an event."""
        body = {"data": values, "fn_index": event, "session_hash": self.session}
        url = f"{self.app.url}gradio_api/queue/join"
        plain_http.post(url, json=body, headers=self.app.headers, timeout=60).raise_for_status()

    def run_event(self, event: int, *values: Any) -> tuple[bool, Any]:
        """Start an event and wait for its end; return whether it succeeded, and its output."""
        self.start_event(event, *values)
        with plain_http.stream("GET", self.stream, headers=self.app.headers, timeout=90) as stream:
            for line in stream.iter_lines():
                message = json.loads(line.removeprefix("data: ")) if line else {}
                if message.get("msg") == "process_completed":
                    return message["success"], message["output"]
        raise AssertionError("no answer")

    @property
    def stream(self) -> str:
        """Return the address of the messages about the session's events."""
        return f"{self.app.url}gradio_api/queue/data?session_hash={self.session}"

    def press(self, button: str, *values: Any) -> tuple[bool, str | None]:
        """Run the click of a button; return whether it succeeded, and the error message."""
        done, output = self.run_event(self.event("click", of=button), *values)
        return done, output.get("error")


class Viewer:
    """An open page that shows a run: its poll once a second, and its heartbeat.

    Both keep their connections. Bare sockets, since a hundred viewers must not cost more than the
    app that they poll.
    """

    def __init__(self, app: Any, run_id: str) -> None:
        self.app, self.run_id, self.known = app, run_id, {}
        self.streams = []

    async def open(self) -> None:
        """Connect and start the heartbeat."""
        for _ in range(2):
            self.streams.append(await asyncio.open_connection("127.0.0.1", self.app.port))
        self.send(1, f"/gradio_api/heartbeat/{uuid.uuid4().hex}")

    def send(self, stream: int, path: str) -> None:
        """Send a request on one of the connections."""
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.app.port}\r\n\r\n"
        self.streams[stream][1].write(request.encode())

    async def poll(self) -> dict[str, Any]:
        """Return the parts that the page does not have yet. Raises OSError, EOFError."""
        known = ",".join(f"{name}:{mark}" for name, mark in self.known.items())
        query = {"run": self.run_id, "split": "test", "mode": "plain", "known": known}
        self.send(0, f"/poll?{urlencode(query)}")
        reader = self.streams[0][0]
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200"), head
        [length] = re.findall(rb"content-length: (\d+)", head)
        parts = json.loads(await reader.readexactly(int(length)))["parts"]
        self.known |= {name: mark for name, (mark, _) in parts.items()}
        return parts

    def close(self) -> None:
        """Close the connections."""
        for _, writer in self.streams:
            writer.close()
