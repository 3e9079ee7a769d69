"""In front of every request: only for this host, only from this page, and nothing about the inside.

A page of somebody else's must not drive an app that listens on this machine, nor read its answers:
not by a form or a script (the Origin tells), and not by a name that is made to point here (DNS
rebinding; the Host tells). What has neither, `curl` say, comes from no page.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL = ("localhost", "127.0.0.1", "::1")
WILDCARDS = ("", "0.0.0.0", "::")
CLOSED = ("/openapi.json", "/docs", "/redoc", "/monitoring")  # below /gradio_api too
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=()",
    "cross-origin-opener-policy": "same-origin-allow-popups",
}
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors {frames}"
)
SPACES = "'self' https://huggingface.co https://*.hf.space"


class SecurityMiddleware:
    """ASGI middleware. hosts: names under which the app may be asked, without ports.

    frames: who may show it in a frame, as the policy `frame-ancestors` has it. space: whether the
    platform looks after it by address, which gets an empty answer.
    """

    def __init__(
        self, app: ASGIApp, hosts: frozenset[str], frames: str = "'self'", space: bool = False
    ) -> None:
        self.app, self.hosts, self.space = app, hosts, space
        self.headers = {**HEADERS, "content-security-policy": POLICY.format(frames=frames)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer with one sentence."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self.refusal(scope)
        answer = refusal or self.app

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        await answer(scope, receive, send_with_headers)

    def refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that goes no further."""
        headers, path = Headers(scope=scope), scope["path"].rstrip("/")
        host = headers.get("host", "")
        name = host_name(host)
        if name not in self.hosts:
            if self.space and is_address(name) and path == "":
                return Response()  # the platform's own look at whether it lives
            told = f"host must be one that this app is told to answer to, got {host[:100]!r}"
            return PlainTextResponse(f"{told}: RESNET_DEMO_HOSTS names more\n", 400)
        origin = headers.get("origin")
        if origin is not None and not same_origin(origin, host):
            return PlainTextResponse("requests must come from this app's own page\n", 403)
        if any(path.removeprefix("/gradio_api").startswith(closed) for closed in CLOSED):
            return PlainTextResponse("not here\n", 404)
        return None


def host_name(host: str) -> str:
    """The name in a Host header, lower case, without port and brackets; "" where it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_address(name: str) -> bool:
    """Whether it is an IP address."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def same_origin(origin: str, host: str) -> bool:
    """Whether an Origin is the host that was asked, its port included.

    A proxy in front speaks https where the app is asked by http: both are its own page.
    """
    try:
        parts = urlsplit(origin)
        default = {"http": 80, "https": 443}[parts.scheme]
        asked = urlsplit(f"//{host}")
        same_port = (parts.port or default) == (asked.port or default)
        return same_port and bool(parts.hostname) and parts.hostname == host_name(host)
    except (ValueError, KeyError):  # `null` is nobody's page
        return False


def trusted_hosts(environment: Mapping[str, str]) -> frozenset[str]:
    """This machine, the Space's own host, the address it listens on, and what the owner names."""
    named = environment.get("RESNET_DEMO_HOSTS", "").split(",")
    listening = environment.get("GRADIO_SERVER_NAME", "")
    more = [*named, environment.get("SPACE_HOST", "")]
    more += [] if listening in WILDCARDS else [listening]
    return frozenset([*LOCAL, *(host_name(host.strip()) for host in more if host.strip())])
