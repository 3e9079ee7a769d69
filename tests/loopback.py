"""A server on this machine that does what a test tells it: well, badly, slowly or not at all."""

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
from resnet_demo.data.cifar10.sources import RemoteFile

Deed = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """One request; `server` is the Loopback that tells what to do with it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Do the next deed for this address; the last one stays."""
        loopback = self.server.loopback
        loopback.asked.append((self.path, self.headers.get("Range", "")))
        deeds = loopback.deeds[self.path]
        deed = deeds.pop(0) if len(deeds) > 1 else deeds[0]
        self.close_connection = True
        with suppress(ConnectionError):
            deed(self)

    def head(self, status: int, **headers: object) -> None:
        """Status and headers; underscores stand for dashes."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def wait(self) -> None:
        """Until the test is over."""
        self.server.loopback.over.wait(10)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Loopback:
    """The server: deeds for each path, and what was asked of it, as (path, Range)."""

    def __init__(self) -> None:
        self.deeds: dict[str, list[Deed]] = {}
        self.asked: list[tuple[str, str]] = []
        self.over = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Request)
        self.server.daemon_threads = False  # joined at the end
        self.server.loopback = self
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, path: str = "/file") -> str:
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def offer(self, data: bytes, *deeds: Deed, path: str = "/file", **known: object) -> RemoteFile:
        """A file at a path, done by these deeds in turn; served well if there are none."""
        self.deeds[path] = list(deeds) or [well(data)]
        facts = {"size": len(data), "sha256": sha256(data).hexdigest(), **known}
        return RemoteFile(self.url(path), path.strip("/"), **facts)

    def ranges(self) -> list[str]:
        return [wanted for _, wanted in self.asked]

    def end(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


def well(data: bytes, first: int | None = None) -> Deed:
    """As a good server does, ranges too; `first` bytes of what was asked, then the line is cut."""

    def deed(request: Request) -> None:
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        if start >= len(data):
            request.head(416, Content_Range=f"bytes */{len(data)}", Content_Length=0)
            return
        told = f"bytes {start}-{len(data) - 1}/{len(data)}"
        length, ranged = len(data) - start, {"Content_Range": told} if start else {}
        request.head(206 if start else 200, Content_Length=length, **ranged)
        request.wfile.write(data[start:][:first])

    return deed


def without_ranges(data: bytes) -> Deed:
    return partial(_send, 200, data)


def answering(status: int, body: bytes = b"", **headers: object) -> Deed:
    return partial(_send, status, body, **headers)


def _send(status: int, body: bytes, request: Request, **headers: object) -> None:
    request.head(status, **{"Content_Length": len(body), **headers})
    request.wfile.write(body)


def web_page(request: Request) -> None:
    """What a hotel's network shows before one has paid."""
    _send(200, b"<html>Welcome!</html>", request, Content_Type="text/html; charset=utf-8")


def silent(request: Request) -> None:
    """Take the request and never answer."""
    request.wait()


def stalling(data: bytes, after: int) -> Deed:
    """Some bytes, then nothing, the line left open."""

    def deed(request: Request) -> None:
        well(data, after)(request)
        request.wait()

    return deed


def slowly(data: bytes, every_s: float = 0.02, each: int = 100) -> Deed:
    """Never silent, never fast."""

    def deed(request: Request) -> None:
        request.head(200, Content_Length=len(data))
        for start in range(0, len(data), each):
            request.wfile.write(data[start : start + each])
            if request.server.loopback.over.is_set():
                return
            time.sleep(every_s)

    return deed


def without_length(data: bytes) -> Deed:
    """In chunks, as pages are sent that are made on the way."""

    def deed(request: Request) -> None:
        request.head(200, Transfer_Encoding="chunked")
        request.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))

    return deed


def cifar_zip(each: int = 1) -> bytes:
    """An archive of noise with CIFAR-10's classes, so many images of each in both splits."""
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
