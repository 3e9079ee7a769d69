"""Limits on uploads in public mode: a quota for each visitor, and free space on the disk."""

import shutil
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from resnet_demo.hosting.access import Access
from resnet_demo.tasks.limits import Limits, Throttle

UPLOAD_PATHS = ("/gradio_api/upload", "/upload")
MB = 10**6
PERIOD_S = 600.0
RESERVED_BYTES = 1000 * MB  # stays free on the disk, for runs and checkpoints


class UploadLimits:
    """ASGI middleware. Owners have only Gradio's limits, and so has everybody locally."""

    def __init__(self, app: ASGIApp, access: Access, limits: Limits | None, folder: Path) -> None:
        self.app, self.access, self.limits, self.folder = app, access, limits, folder
        self.megabytes = Throttle(limits.uploads if limits else 1, PERIOD_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse an upload before its body is read."""
        is_upload = (
            scope["type"] == "http"
            and scope["method"] == "POST"
            and scope["path"].rstrip("/") in UPLOAD_PATHS
        )
        refusal = None
        if is_upload and self.limits is not None:
            refusal = self.refusal(Request(scope), self.limits)
        await (refusal or self.app)(scope, receive, send)

    def refusal(self, request: Request, limits: Limits) -> Response | None:
        """Return the answer to a refused upload; count one that may pass and return None."""
        caller = self.access.caller(request)
        if caller.is_owner:
            return None
        length = request.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()):
            return PlainTextResponse("an upload must have a Content-Length\n", 411)
        size = -(-int(length[:20]) // MB)  # rounded up
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


def existing_folder(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())
