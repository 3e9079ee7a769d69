"""A local HTTP server for tests of downloads: it serves well, slowly, wrongly or not at all."""

import io
import threading
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image

from resnet_demo.data.cifar10.original_batches import CLASSES
from resnet_demo.data.download import RemoteFile

Handler = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """One request; `server.loopback` holds the handlers."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Run the next handler of this path; the last one is kept for all later requests."""
        loopback = self.server.loopback
        loopback.requests.append((self.path, self.headers.get("Range", "")))
        handlers = loopback.handlers[self.path]
        handler = handlers.pop(0) if len(handlers) > 1 else handlers[0]
        self.close_connection = True
        with suppress(ConnectionError):
            handler(self)

    def send_head(self, status: int, **headers: object) -> None:
        """Send status and headers; underscores in their names become dashes."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def wait(self) -> None:
        """Wait until the test ends."""
        self.server.loopback.ended.wait(10)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class Loopback:
    """The server: handlers by path, and the requests so far as (path, Range)."""

    def __init__(self) -> None:
        self.handlers: dict[str, list[Handler]] = {}
        self.requests: list[tuple[str, str]] = []
        self.ended = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Request)
        self.server.daemon_threads = False  # server_close joins them
        self.server.loopback = self
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, path: str = "/file") -> str:
        """Return the address of a path."""
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def offer(
        self, data: bytes, *handlers: Handler, path: str = "/file", **fields: object
    ) -> RemoteFile:
        """Offer a file at a path, through these handlers in turn; without any, `serve` it.

        fields: replace size or sha256 of the returned RemoteFile.
        """
        self.handlers[path] = list(handlers) or [serve(data)]
        known = {"size": len(data), "sha256": sha256(data).hexdigest(), **fields}
        return RemoteFile(self.url(path), path.strip("/"), **known)

    def ranges(self) -> list[str]:
        """Return the Range header of each request, "" where there was none."""
        return [requested for _, requested in self.requests]

    def stop(self) -> None:
        """Release waiting handlers and close the server."""
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()


def serve(data: bytes, limit: int | None = None) -> Handler:
    """Serve the file, ranges too. After `limit` bytes of the body the connection is cut."""

    def handle(request: Request) -> None:
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        if start >= len(data):
            request.send_head(416, Content_Range=f"bytes */{len(data)}", Content_Length=0)
            return
        headers = {"Content_Length": len(data) - start}
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        request.send_head(206 if start else 200, **headers)
        request.wfile.write(data[start:][:limit])

    return handle


def serve_without_ranges(data: bytes) -> Handler:
    """Serve the whole file whatever range is requested."""
    return partial(_send, 200, data)


def respond(status: int, body: bytes = b"", **headers: object) -> Handler:
    """Send this status, body and these headers."""
    return partial(_send, status, body, **headers)


def _send(status: int, body: bytes, request: Request, **headers: object) -> None:
    headers.setdefault("Content_Length", len(body))
    request.send_head(status, **headers)
    request.wfile.write(body)


def respond_with_web_page(request: Request) -> None:
    """Send a web page, as the login page of a hotel's network does."""
    _send(200, b"<html>Welcome!</html>", request, Content_Type="text/html; charset=utf-8")


def never_answer(request: Request) -> None:
    """Accept the request and send nothing."""
    request.wait()


def stall_after(data: bytes, count: int) -> Handler:
    """Send `count` bytes, then nothing, with the connection open."""

    def handle(request: Request) -> None:
        serve(data, count)(request)
        request.wait()

    return handle


def serve_slowly(data: bytes, every_s: float = 0.02, each: int = 100) -> Handler:
    """Send `each` bytes every `every_s` seconds."""

    def handle(request: Request) -> None:
        request.send_head(200, Content_Length=len(data))
        for start in range(0, len(data), each):
            request.wfile.write(data[start : start + each])
            if request.server.loopback.ended.is_set():
                return
            time.sleep(every_s)

    return handle


def serve_chunked(data: bytes) -> Handler:
    """Serve the file in chunks, without its length."""

    def handle(request: Request) -> None:
        request.send_head(200, Transfer_Encoding="chunked")
        request.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))

    return handle


def cifar_zip(each: int = 1) -> bytes:
    """Return a zip of noise with CIFAR-10's classes, `each` images per class and split."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number, label in enumerate(CLASSES):
            noise = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
            file = io.BytesIO()
            Image.fromarray(noise).save(file, "PNG")
            for split in ("train", "test"):
                for n in range(each):
                    archive.writestr(f"{split}/{label}/{n}.png", file.getvalue())
    return packed.getvalue()
