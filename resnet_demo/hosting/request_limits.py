"""Limits on requests: size and nesting of bodies, open requests of a visitor, and uploads.

Sizes are checked before anything is parsed: Gradio parses JSON of any size, on the event loop that
serves everybody. The other limits apply in public mode only.
"""

import asyncio
import shutil
from collections import Counter
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resnet_demo.hosting.access import Access
from resnet_demo.tasks.limits import Limits, Throttle

UPLOAD_PATHS = ("/gradio_api/upload", "/upload")
MB = 10**6
PERIOD_S = 600.0
RESERVED_BYTES = 1000 * MB  # stays free on the disk, for runs and checkpoints
MAX_UPLOAD_BYTES = 2 * 2**30  # of an archive; a single picture has a lower limit
MULTIPART_BYTES = 2**20  # around the files of an upload
MAX_BODY_BYTES = 2**20
# Lists, objects and further values in a body. A million brackets in 1 MB keep the event loop busy
# for a second; the page itself sends some hundreds.
MAX_BODY_PARTS = 20_000
LARGE_BODY_BYTES = 2**16  # larger ones are handled one after the other
# An upload of a visitor must arrive within the time over which its megabytes are counted.
UPLOAD_S = PERIOD_S
MAX_OPEN_REQUESTS = 128  # of one visitor; an open page has two
# Of one address: thirty people behind it who open the page together send 2,300.
MAX_REQUESTS, REQUESTS_S = 3000, 10.0
# Of one address, until their answers begin: Gradio computes the page in forty threads that all
# visitors share, in order of arrival, and a page takes 30 ms.
MAX_AT_WORK = 2
MAX_TARGET_BYTES = 8192  # of path and query; Gradio remembers names that stand in them


class RequestLimits:
    """ASGI middleware. Owners upload without a quota, and so does everybody locally."""

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        limits: Limits | None,
        folder: Path,
        max_open: int = MAX_OPEN_REQUESTS,
        upload_s: float = UPLOAD_S,
        max_requests: int = MAX_REQUESTS,
        max_at_work: int = MAX_AT_WORK,
    ) -> None:
        self.app, self.access, self.limits, self.folder = app, access, limits, folder
        self.megabytes = Throttle(limits.uploads if limits else 1, PERIOD_S)
        self.max_open, self.open = max_open, Counter[str]()
        self.max_at_work, self.places = max_at_work, dict[str, asyncio.Semaphore]()
        self.upload_s = upload_s
        self.large_bodies = asyncio.Semaphore()
        self.requests = Throttle(max_requests, REQUESTS_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it with one sentence."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_TARGET_BYTES:
            rule = f"an address may have at most {MAX_TARGET_BYTES:,} bytes"
            await PlainTextResponse(f"{rule}\n", 414)(scope, receive, send)
            return
        if self.limits is None:
            await self.limit_body(scope, receive, send)
            return
        address = self.access.address(Request(scope))
        if self.open[address] >= self.max_open:
            rule = f"at most {self.max_open} requests of one address may be open"
            await PlainTextResponse(f"{rule}: try again in a moment\n", 429)(scope, receive, send)
            return
        if self.requests.wait_s(address) > 0:
            rule = f"at most {self.requests.limit} requests of one address in {REQUESTS_S:g} s"
            answer = PlainTextResponse(f"{rule}\n", 429, {"connection": "close"})
            await answer(scope, receive, send)
            return
        self.requests.record(address)
        self.open[address] += 1
        try:
            await self.limit_body(scope, receive, send)
        finally:
            self.open[address] -= 1
            if not self.open[address]:
                del self.open[address]
                self.places.pop(address, None)

    async def limit_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request whose body is within the limits of its route."""
        request = Request(scope, receive)
        size = declared_size(request)
        is_upload = scope["method"] == "POST" and scope["path"].rstrip("/") in UPLOAD_PATHS
        if is_upload:
            limit = MAX_UPLOAD_BYTES + MULTIPART_BYTES
            refusal = too_large(limit, size) if size > limit else self.refuse_upload(request)
            with suppress(ClientDisconnect):  # Gradio would write a traceback to the log
                await (refusal or self.limit_time(request))(scope, receive, send)
            return
        if not size and "transfer-encoding" not in request.headers:
            await self.take_turn(scope, b"", receive, send)
            return
        try:
            body = b"" if size > MAX_BODY_BYTES else await read_body(request)
        except ClientDisconnect:
            return  # there is no client to answer
        size = max(size, len(body))
        if size > MAX_BODY_BYTES:
            await too_large(MAX_BODY_BYTES, size)(scope, receive, send)
            return
        parts = sum(map(body.count, (b"[", b"{", b",")))
        if parts > MAX_BODY_PARTS:
            rule = f"a body may have at most {MAX_BODY_PARTS:,} lists, objects and values"
            await PlainTextResponse(f"{rule}, got {parts:,}\n", 413)(scope, receive, send)
            return
        await self.take_turn(scope, body, receive, send)

    async def take_turn(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Pass on a request when few others of its address are at work; none whose sender left."""
        one_large = self.large_bodies if len(body) > LARGE_BODY_BYTES else nullcontext()
        if self.limits is None:
            async with one_large:
                await self.app(scope, replay(body, receive), send)
            return
        address = self.access.address(Request(scope))
        place = self.places.setdefault(address, asyncio.Semaphore(self.max_at_work))
        must_wait = place.locked()
        await place.acquire()
        free = ExitStack()
        free.callback(place.release)

        async def send_and_free(message: Message) -> None:
            free.close()  # what is left is to send, at the speed of the client
            await send(message)

        with free:
            if must_wait and await Request(scope, receive).is_disconnected():
                return
            async with one_large:
                await self.app(scope, replay(body, receive), send_and_free)

    def limit_time(self, request: Request) -> ASGIApp:
        """Return the app, for a visitor's upload with a limit on its time."""
        if self.limits is None or self.access.caller(request).is_owner:
            return self.app

        async def within_time(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                async with asyncio.timeout(self.upload_s):
                    await self.app(scope, receive, send)
            except TimeoutError:
                rule = f"an upload must arrive within {self.upload_s:g} s"
                await PlainTextResponse(f"{rule}\n", 408)(scope, receive, send)

        return within_time

    def refuse_upload(self, request: Request) -> Response | None:
        """Return the answer to a refused upload; count one that may pass and return None."""
        if (limits := self.limits) is None or (caller := self.access.caller(request)).is_owner:
            return None
        if "content-length" not in request.headers:
            return PlainTextResponse("an upload must have a Content-Length\n", 411)
        size = -(-declared_size(request) // MB)  # rounded up
        wait = self.megabytes.wait_s(caller.name, size)
        rule = f"at most {limits.uploads} MB may be uploaded within 10 minutes"
        if size > limits.uploads:
            return PlainTextResponse(f"{rule}\n", 413)
        if wait > 0:
            return PlainTextResponse(f"{rule}: try again in {int(wait) + 1} s\n", 429)
        if shutil.disk_usage(existing_folder(self.folder)).free < RESERVED_BYTES + size * MB:
            return PlainTextResponse("the disk has no space for uploads at the moment\n", 507)
        # Counted before the body arrives: parallel uploads must share one quota.
        self.megabytes.record(caller.name, size)
        return None


def declared_size(request: Request) -> int:
    """Return the Content-Length, which the server has checked to be a number; 0 without one."""
    length = request.headers.get("content-length", "")
    return int(length[:20]) if length.isascii() and length.isdigit() else 0


def too_large(limit: int, size: int) -> Response:
    """Return the answer to a body above its limit."""
    return PlainTextResponse(f"a body may have at most {limit:,} bytes here, got {size:,}\n", 413)


async def read_body(request: Request, limit: int = MAX_BODY_BYTES) -> bytes:
    """Return a body, or its beginning if it is longer than the limit in bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            break
    return bytes(body)


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that yields a body that was read already, then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


def existing_folder(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())
