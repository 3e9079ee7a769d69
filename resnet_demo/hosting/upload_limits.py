"""Before every upload in public: how much from one visitor, and whether there is room."""

import shutil
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from resnet_demo.hosting.access import Access
from resnet_demo.tasks.limits import Limits, Throttle

PATHS = ("/gradio_api/upload", "/upload")
MB = 10**6
WITHIN_S = 600.0
FREE = 1000 * MB  # stays free on the disk, for runs and checkpoints


class UploadLimits:
    """ASGI middleware. The owner, and everybody on a person's own machine, has Gradio's limits."""

    def __init__(self, app: ASGIApp, access: Access, limits: Limits | None, folder: Path) -> None:
        self.app, self.access, self.limits, self.folder = app, access, limits, folder
        self.megabytes = Throttle(limits.uploads if limits else 1, WITHIN_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer with one sentence before anything is read."""
        asked = scope["type"] == "http" and scope["method"] == "POST"
        answer = None
        if asked and scope["path"].rstrip("/") in PATHS and self.limits is not None:
            answer = self.refusal(Request(scope), self.limits)
        await (answer or self.app)(scope, receive, send)

    def refusal(self, request: Request, limits: Limits) -> Response | None:
        """The answer to an upload that goes no further; one that does is counted."""
        caller = self.access.caller(request)
        if caller.is_owner:
            return None
        told = request.headers.get("content-length", "")
        if not (told.isascii() and told.isdigit()):  # else nobody knows how much will come
            return PlainTextResponse("an upload must say how long it is\n", 411)
        size = -(-int(told[:20]) // MB)
        wait = self.megabytes.wait_s(caller.name, size)
        if size > limits.uploads or wait > 0:
            later = "" if size > limits.uploads else f": try again in {int(wait) + 1} s"
            most = f"at most {limits.uploads} MB may be uploaded within 10 minutes"
            return PlainTextResponse(f"{most}{later}\n", 413 if not later else 429)
        if shutil.disk_usage(existing(self.folder)).free < FREE + size * MB:
            return PlainTextResponse("there is no room for uploads at the moment\n", 507)
        self.megabytes.record(caller.name, size)
        return None


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())
