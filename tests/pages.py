"""An open page as the app knows it: a session whose events are raw requests, without a browser."""

import asyncio
import json
import re
import uuid
from typing import Any
from urllib.parse import urlencode

import httpx


class Page:
    """What a browser does when it opens the page and presses something there."""

    def __init__(self, app: Any) -> None:
        self.app, self.session = app, uuid.uuid4().hex
        self.config = httpx.get(f"{app.url}config", headers=app.headers, timeout=60).json()
        self.ask(self.event("load", told="run"))

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


class Viewer:
    """An open page that watches a run: what it asks once a second, over a connection that it keeps.

    Its other one says that it is still there, as a browser's does. In bare sockets: a hundred of
    them must not cost more than the app that they ask.
    """

    def __init__(self, app: Any, run_id: str) -> None:
        self.app, self.run_id, self.known = app, run_id, {}
        self.streams = []

    async def open(self) -> None:
        """Connect; nothing is asked yet."""
        for _ in range(2):
            self.streams.append(await asyncio.open_connection("127.0.0.1", self.app.port))
        self.say(1, f"/gradio_api/heartbeat/{uuid.uuid4().hex}")

    def say(self, which: int, path: str) -> None:
        """Ask for something."""
        asked = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.app.port}\r\n\r\n"
        self.streams[which][1].write(asked.encode())

    async def poll(self) -> dict[str, Any]:
        """Return the parts that the page does not have yet. Raises OSError, EOFError."""
        known = ",".join(f"{name}:{mark}" for name, mark in self.known.items())
        asked = {"run": self.run_id, "split": "test", "mode": "plain", "known": known}
        self.say(0, f"/poll?{urlencode(asked)}")
        reader = self.streams[0][0]
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200"), head
        [length] = re.findall(rb"content-length: (\d+)", head)
        parts = json.loads(await reader.readexactly(int(length)))["parts"]
        self.known |= {name: mark for name, (mark, _) in parts.items()}
        return parts

    def close(self) -> None:
        """Leave."""
        for _, writer in self.streams:
            writer.close()
