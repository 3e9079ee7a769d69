"""Floods of a public app by one stranger, beside a normal visitor: waits, memory, processor time.

    python -m tests.soak.floods [--seconds 18] [--only NAME ...]

Starts the app in public mode and prints a table in Markdown. Each flood is one process with four
clients that send without a pause, from an address of its own. Meanwhile a visitor opens the page's
configuration, uploads a photograph and has it classified, again and again. Linux only: addresses
below 127 are local there.
"""

import argparse
import http.client
import io
import json
import multiprocessing
import socket
import struct
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resnet_demo.ui.learn.guess import SHOWN
from tests.conftest import AppProcess, free_port
from tests.pages import Page
from tests.soak.rounds import UnlimitedApp, process_usage

VISITOR, STRANGER = "127.0.0.3", "127.0.0.2"
CLIENTS = 4
SECONDS = 18.0
PAUSE_S = 1.0  # of the visitor, so that the limits on uploads and pictures are not reached
SETTLE_S = 5.0  # at most, between two floods, until the app has done what is left of the last one
IDLE_SHARE = 0.2  # of a core
RUN = "cifar10-shipped"
TOKEN = "the token of the owner"
BOUNDARY = "0123456789abcdef"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
JSON = {"content-type": "application/json"}
PART = f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
END = f"\r\n--{BOUNDARY}--\r\n".encode()


def photograph(number: int) -> bytes:
    """Return a JPEG of 640 by 480 pixels, another one for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (15, 20, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC).save(file, "jpeg")
    return file.getvalue()


@cache
def with_scans(side: int, count: int) -> bytes:
    """Return a grey progressive JPEG of that side, whose last scan is repeated without data."""
    file = io.BytesIO()
    Image.new("L", (side, side), 90).save(file, "jpeg", progressive=True)
    data = file.getvalue()
    last = data.rindex(b"\xff\xda")
    header = data[last : last + 2 + int.from_bytes(data[last + 2 : last + 4], "big")]
    return data[:-2] + count * header + data[-2:]


def tag_table(tags: int, size: int) -> bytes:
    """Return metadata of `size` bytes in the form of TIFF, each of whose tags has all of them."""
    entries = (struct.pack("<HHII", 256 + n, 7, size - 8, 8) for n in range(tags))
    table = b"II*\0" + struct.pack("<IH", 8, tags) + b"".join(entries) + bytes(4)
    return table + bytes(size - len(table))


@cache
def with_metadata(tags: int, size: int) -> bytes:
    """Return a small JPEG with such metadata in as many segments as it takes."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "jpeg")
    table, data = tag_table(tags, size), file.getvalue()
    pieces = (b"Exif\0\0" + table[at : at + 65_000] for at in range(0, size, 65_000))
    segments = (b"\xff\xe1" + struct.pack(">H", len(piece) + 2) + piece for piece in pieces)
    return data[:2] + b"".join(segments) + data[2:]


@dataclass
class Client:
    """A client with one connection, which it opens again when the app has closed it.

    events: name -> number of an event of the page, and the values that it takes.
    """

    port: int
    address: str
    events: dict[str, tuple[int, list[Any]]] = field(default_factory=dict)
    connection: http.client.HTTPConnection | None = None
    requests: int = 0
    held: list[socket.socket] = field(default_factory=list)

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Return status and body of an answer. Raises OSError or HTTPException."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection(
                "127.0.0.1", self.port, timeout=120, source_address=(self.address, 0)
            )
        self.requests += 1
        try:
            self.connection.request(method, path, body, headers or {})
            answer = self.connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        return answer.status, content

    def close(self) -> None:
        """Close the connection."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def send(self, content: bytes, hold: bool = False) -> None:
        """Send bytes on a connection of their own and leave: close it at once, or hold it."""
        self.requests += 1
        talk = socket.create_connection(("127.0.0.1", self.port), 30, (self.address, 0))
        talk.sendall(content)
        if hold:
            self.held.append(talk)
        else:
            talk.close()

    def upload(self, content: bytes) -> str:
        """Upload a file and return its path on the server. Raises OSError where it is refused."""
        body = PART.encode() + content + END
        status, answer = self.ask("POST", "/gradio_api/upload", body, FORM)
        if status != 200:
            raise OSError(answer)
        return json.loads(answer)[0]

    def classify(self, path: str) -> str:
        """Return the events of classifying an upload."""
        return self.call("classify", {"path": path}, RUN)

    def call(self, name: str, *values: Any) -> str:
        """Call a named endpoint and return its events as text."""
        url = f"/gradio_api/call/{name}"
        status, answer = self.ask("POST", url, json.dumps({"data": values}), JSON)
        if status != 200:
            raise OSError(answer)
        return self.ask("GET", f"{url}/{json.loads(answer)['event_id']}")[1].decode()

    def start_event(self, name: str) -> None:
        """Start an event of the page, as a page that nobody knows yet; leave its answer."""
        number, values = self.events[name]
        body = {"data": values, "fn_index": number, "session_hash": uuid.uuid4().hex}
        self.ask("POST", "/gradio_api/queue/join", json.dumps(body), JSON)


def request_head(method: str, path: str, port: int, length: int = 0) -> bytes:
    """Return a complete head of a request that has a body of a form."""
    kind = f"content-type: {FORM['content-type']}\r\ncontent-length: {length}\r\n" if length else ""
    return f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n{kind}\r\n".encode()


def nested_json(client: Client, number: int) -> None:
    """Send nested lists of 15 kB, 1 MB and 18 MB, and a million of names."""
    size = (15_000, 10**6, 18 * 10**6)[number % 3]
    body = b'{"data":[' + b"[" * (size // 2) + b"]" * (size // 2) + b"]}"
    client.ask("POST", "/gradio_api/call/run", body, JSON)


def bombs(client: Client, number: int) -> None:
    """Classify pictures that are small as files and large or slow to decode."""
    kinds = [
        lambda: with_scans(4800, 2000),
        lambda: with_scans(4800, 40),
        lambda: with_metadata(5000, 64_000),
        lambda: with_metadata(200, 5_000_000),
        lambda: tag_table(4000, 60_000),
        lambda: tag_table(200, 5_000_000),
    ]
    client.classify(client.upload(kinds[number % len(kinds)]()))


def closed_routes(client: Client, number: int) -> None:
    """Send files to routes that the page does not need, and have addresses fetched."""
    if number % 3 == 2:
        client.ask("GET", "/gradio_api/file=https://example.org/")
        return
    path = ("process_recording", "component_server")[number % 3]
    client.ask("POST", f"/gradio_api/{path}", PART.encode() + bytes(900_000) + END, FORM)


def direct_calls(client: Client, number: int) -> None:
    """Call surgery and previews past the queue, and through it by new pages."""
    name = ("surgery", "preview")[number // 2 % 2]
    if number % 2:
        event, values = client.events[name]
        body = json.dumps({"data": values, "fn_index": event, "session_hash": "any"})
        client.ask("POST", "/gradio_api/run/predict", body, JSON)
    else:
        client.start_event(name)


def silent(client: Client, number: int) -> None:
    """Open connections that send nothing, or half of a request's head or body."""
    half = request_head("POST", "/gradio_api/upload", client.port, 5000) + b"x" * 100
    client.send((b"", b"GET / HTTP/1.1\r\nHost:", half)[number % 3], hold=True)


def broken_uploads(client: Client, number: int) -> None:
    """Break off uploads of 5 MB after 0.3 MB."""
    head = request_head("POST", "/gradio_api/upload", client.port, 5_000_000)
    client.send(head + PART.encode() + bytes(300_000))


def many_files(client: Client, number: int) -> None:
    """Hold uploads open that consist of hundreds of files."""
    head = request_head("POST", f"/gradio_api/upload?upload_id={number}", client.port, 999_000)
    client.send(head + (PART.encode() + b"x\r\n") * 900, hold=True)
    time.sleep(0.05)


def new_pages(client: Client, number: int) -> None:
    """Open pages, and start an event of a page that is new."""
    client.ask("GET", ("/", "/config", "/poll")[number % 3])
    client.start_event("classify tab")


def large_names(client: Client, number: int) -> None:
    """Use long names of pages and uploads, which the app might remember."""
    name, kind = f"{number}-{uuid.uuid4().hex}" + "x" * 30_000, number % 3
    if kind == 0:
        client.send(
            request_head("GET", f"/gradio_api/upload_progress?upload_id={name}", client.port)
        )
    elif kind == 1:
        client.send(request_head("GET", f"/gradio_api/heartbeat/{name}", client.port))
    else:
        event, values = client.events["classify tab"]
        body = {"data": values, "fn_index": event, "session_hash": name * 30}
        client.ask("POST", "/gradio_api/queue/join", json.dumps(body), JSON)


def open_streams(client: Client, number: int) -> None:
    """Hold streams of pages open: heartbeats and messages."""
    session = uuid.uuid4().hex
    paths = (f"heartbeat/{session}", f"queue/data?session_hash={session}")
    client.send(request_head("GET", f"/gradio_api/{paths[number % 2]}", client.port), hold=True)


def unread_answers(client: Client, number: int) -> None:
    """Ask for many pages on one connection, and read no answer."""
    client.send(request_head("GET", "/config", client.port) * 30, hold=True)
    time.sleep(0.05)


def wrong_tokens(client: Client, number: int) -> None:
    """Guess the owner's token."""
    client.ask("GET", "/config", headers={"authorization": f"Bearer {uuid.uuid4().hex}"})


FLOODS: dict[str, Callable[[Client, int], None]] = {
    "nested JSON of 15 kB, 1 MB and 18 MB": nested_json,
    "pictures that are slow or large to decode": bombs,
    "files to closed routes": closed_routes,
    "surgery and previews, directly and by new pages": direct_calls,
    "silent connections, half heads and bodies": silent,
    "uploads of 5 MB, broken off after 0.3 MB": broken_uploads,
    "uploads of 900 files, held open": many_files,
    "new pages": new_pages,
    "long names of pages and uploads": large_names,
    "streams held open": open_streams,
    "answers that are not read": unread_answers,
    "wrong tokens": wrong_tokens,
}


def run_flood(name: str, client: Client, seconds: float, sent: Any) -> None:
    """Send a flood with CLIENTS clients in this process, and report the number of requests."""
    end = time.monotonic() + seconds
    clients = [Client(client.port, client.address, client.events) for _ in range(CLIENTS)]

    def work(place: int) -> None:
        number = place
        while time.monotonic() < end:
            with suppress(OSError, http.client.HTTPException, ValueError):
                FLOODS[name](clients[place], number)
            number += 1

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end + 1 - time.monotonic()))
    sent.put(sum(each.requests for each in clients))


@dataclass
class Measurement:
    """What one flood cost: the visitor's longest waits in seconds, and the app's usage."""

    name: str
    requests: int = 0
    waits: dict[str, float] = field(default_factory=dict)
    visits: int = 0
    failures: list[str] = field(default_factory=list)
    before_mb: float = 0.0
    most_mb: float = 0.0
    children_mb: float = 0.0
    descriptors: int = 0
    cpu_s: float = 0.0

    @property
    def more_mb(self) -> float:
        """Return the rise of the app's memory."""
        return self.most_mb - self.before_mb

    def row(self) -> str:
        """Return a row of the table."""
        waits = ", ".join(
            f"{self.waits.get(what, 0):.1f}" for what in ("config", "upload", "answer")
        )
        beside = f", {self.children_mb:.0f} MB beside" if self.children_mb else ""
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return (
            f"| {self.name} | {self.requests:,} | {waits} s | {self.visits}{failed} | "
            f"{self.more_mb:.0f} MB{beside} | {self.descriptors} | {self.cpu_s:.1f} s |"
        )


def visit(visitor: Client, number: int, result: Measurement) -> None:
    """Visit the app once and record how long each step took."""

    def timed(what: str, step: Callable[[], Any]) -> Any:
        began = time.monotonic()
        try:
            return step()
        finally:
            seconds = time.monotonic() - began
            result.waits[what] = max(result.waits.get(what, 0.0), seconds)

    visitor.close()  # a visitor who comes new, so that opening a connection is measured too
    try:
        status, _ = timed("config", lambda: visitor.ask("GET", "/config"))
        assert status == 200, status
        path = timed("upload", lambda: visitor.upload(photograph(number)))
        answer = timed("answer", lambda: visitor.classify(path))
        assert "event: complete" in answer, answer
    except (OSError, http.client.HTTPException, AssertionError) as error:
        result.failures.append(repr(error)[:200])
    result.visits += 1


def measure(app: AppProcess, name: str, seconds: float, events: dict[str, Any]) -> Measurement:
    """Return what a flood costs a visitor and the app; "" names no flood."""
    result, pid = Measurement(name or "none"), app.process.pid
    before = process_usage(pid)
    result.before_mb = result.most_mb = before["mb"]
    context = multiprocessing.get_context("spawn")
    sent, over = context.Queue(), threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            used = process_usage(pid)
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            beside = sum((process_usage(int(child)) or {"mb": 0})["mb"] for child in children)
            result.most_mb = max(result.most_mb, used["mb"])
            result.children_mb = max(result.children_mb, beside)
            result.descriptors = max(result.descriptors, used["fds"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    client = Client(app.port, STRANGER, events)
    flood = context.Process(target=run_flood, args=(name, client, seconds, sent), daemon=True)
    if name:
        flood.start()
    visitor, end, number = Client(app.port, VISITOR), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        visit(visitor, int(time.time() * 1000), result)
        number += 1
        time.sleep(PAUSE_S)
    if name:
        result.requests = sent.get(timeout=60)
        flood.terminate()
        flood.join()
    over.set()
    watcher.join()
    result.cpu_s = process_usage(pid)["cpu_s"] - before["cpu_s"]
    return result


def settle(pid: int) -> None:
    """Wait until the app computes little, so that no flood is measured with the one before."""
    end, share = time.monotonic() + SETTLE_S, 1.0
    while share > IDLE_SHARE and time.monotonic() < end:
        used, began = process_usage(pid)["cpu_s"], time.monotonic()
        time.sleep(1.0)
        share = (process_usage(pid)["cpu_s"] - used) / (time.monotonic() - began)


def page_events(app: AppProcess) -> dict[str, tuple[int, list[Any]]]:
    """Return the events that floods start, and the values that they take."""
    page = Page(app)
    preview = page.event("change", updates="preview-shown")
    values = {part["id"]: part["props"].get("value") for part in page.config["components"]}
    [inputs] = [each["inputs"] for each in page.config["dependencies"] if each["id"] == preview]
    return {
        "preview": (preview, [values[part] for part in inputs]),
        "surgery": (page.event("change", of="surgery-run"), [RUN, {"surgery": SHOWN}]),
        "classify tab": (page.event("select", updates="classify-run"), [False, None, ""]),
    }


def measure_floods(folder: Path, names: list[str], seconds: float) -> list[Measurement]:
    """Start an app over an empty folder; return what each flood costs, first none."""
    app = UnlimitedApp(folder / "runs", folder / "data", free_port(), RESNET_DEMO_ADMIN_TOKEN=TOKEN)
    app.start()
    try:
        events, warm = page_events(app), Measurement("")
        for number in range(3):
            visit(Client(app.port, VISITOR), number, warm)
        assert not warm.failures, warm.failures
        results = []
        for name in ["", *names]:
            settle(app.process.pid)
            results.append(measure(app, name, seconds, events))
            print(results[-1].row(), flush=True)
            for failure in results[-1].failures[:3]:
                print(f"  {failure}")
        assert app.process.poll() is None, "the app has ended"
        return results
    finally:
        app.end()


def main() -> None:
    """Measure floods from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each flood")
    parser.add_argument("--only", nargs="+", default=[*FLOODS], help="beginnings of names")
    args = parser.parse_args()
    names = [name for name in FLOODS if name.startswith(tuple(args.only))]
    print(
        "| flood | requests | slowest config, upload, answer | visits | memory | CPU of the app |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        measure_floods(Path(folder), names, args.seconds)


if __name__ == "__main__":
    main()
