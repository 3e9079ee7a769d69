"""Checks of every request (Host, Origin, closed paths) and the security headers of every answer.

A page of another site must not control an app that listens on this machine, nor read its answers.
The Origin header stops its forms and scripts; the Host header stops DNS rebinding, where a foreign
name points to this machine. An IP address as the Host is no such name. Requests without an Origin,
as from `curl`, come from no page.
"""

import re
import socket
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL = ("localhost", "127.0.0.1", "::1")
WILDCARDS = ("", "0.0.0.0", "::")
# Beginnings of paths that the page does not need, below /gradio_api too: descriptions of internals,
# and Gradio's routes that take files past the limits, start ffmpeg, or write files.
CLOSED = (
    *("/openapi.json", "/docs", "/redoc", "/monitoring", "/profiling", "/dev/", "/run-history"),
    *("/process_recording", "/component_server", "/stream", "/deep_link"),
    *("/proxy=", "/vibe-", "/undo-vibe-"),
)
REMOTE_FILE = re.compile(r"/file[=/]\s*https?:", re.IGNORECASE)  # Gradio would fetch it
HOST = re.compile(r"[\w.:\[\]-]+", re.ASCII)
# The camera is for Classify; the app uses no other device.
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=()",
    "cross-origin-opener-policy": "same-origin-allow-popups",
}
# Gradio's page has inline scripts and styles, and makes functions of the `js` of events: hence
# unsafe-inline and unsafe-eval. Nothing may be fetched from, or sent to, another site.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors {frames}"
)
SPACES = "'self' https://huggingface.co https://*.hf.space"


class SecurityMiddleware:
    """ASGI middleware. hosts: the allowed host names, without ports.

    own_addresses: whether this machine's IP addresses are allowed too. frames: sites that may show
    the app in a frame, in the syntax of `frame-ancestors`. space: whether the platform's health
    check by IP address gets an empty answer.
    """

    # Starlette's TrustedHostMiddleware does less: no trailing dot of a name, no health check, an
    # answer that does not say how to allow a host, and it knows no Origin.

    def __init__(
        self,
        app: ASGIApp,
        hosts: frozenset[str],
        frames: str = "'self'",
        space: bool = False,
        own_addresses: bool = False,
    ) -> None:
        self.app, self.hosts, self.space = app, hosts, space
        self.own_addresses = own_addresses
        self.headers = {**HEADERS, "content-security-policy": POLICY.format(frames=frames)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it with one sentence."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self.refusal(scope)
        answer = refusal or self.app
        # Gradio would put the address in some headers, which any client can send, into its answers.
        scope = {**scope, "headers": [*filter(self.is_trusted, scope["headers"])]}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        await answer(scope, receive, send_with_headers)

    def refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a refused request; None if it may pass."""
        headers, path = Headers(scope=scope), scope["path"].rstrip("/")
        host = headers.get("host", "")
        name = host_name(host)
        if name not in self.hosts and not (self.own_addresses and is_own_address(name)):
            if self.space and is_address(name) and path == "":
                return Response()  # the platform's health check
            rule = f"host must be a name of this app, got {host[:100]!r}"
            return PlainTextResponse(f"{rule}; set RESNET_DEMO_HOSTS to allow it\n", 400)
        origin = headers.get("origin")
        if origin is not None and not same_origin(origin, host):
            return PlainTextResponse("requests must come from this app's own page\n", 403)
        route = path.removeprefix("/gradio_api")
        if route.startswith(CLOSED) or REMOTE_FILE.match(route):
            return PlainTextResponse("not found\n", 404)
        return None

    def is_trusted(self, header: tuple[bytes, bytes]) -> bool:
        """Return whether Gradio may see a header: it makes the addresses in its answers of some."""
        name, value = header[0].lower(), header[1].decode("latin-1")
        if name == b"x-forwarded-host":
            return bool(HOST.fullmatch(value)) and host_name(value) in self.hosts
        return name != b"x-gradio-server"


def host_name(host: str) -> str:
    """Return the name in a Host header, lower case, without port and brackets; "" if invalid."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_address(name: str) -> bool:
    """Return whether this is an IP address."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def is_own_address(name: str) -> bool:
    """Return whether this is an IP address of this machine."""
    try:
        address = ip_address(name)
        if address.is_multicast or str(address) == "255.255.255.255":
            return False
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        # The kernel binds a socket to an address of this machine only; nothing is sent.
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except (ValueError, OSError):
        return False
    return True


def same_origin(origin: str, host: str) -> bool:
    """Return whether an Origin names the requested host and port.

    The scheme may differ: behind a proxy, the browser uses https and the app receives http.
    """
    try:
        parts = urlsplit(origin)
        default = {"http": 80, "https": 443}[parts.scheme]
        requested = urlsplit(f"//{host}")
        same_port = (parts.port or default) == (requested.port or default)
        return same_port and bool(parts.hostname) and parts.hostname == host_name(host)
    except (ValueError, KeyError):  # as for the Origin `null`
        return False


def listens_everywhere(environment: Mapping[str, str]) -> bool:
    """Return whether the app listens on all addresses of a machine that is not a Space."""
    listening = environment.get("GRADIO_SERVER_NAME", "").strip()
    return listening in ("0.0.0.0", "::", "[::]") and "SPACE_ID" not in environment


def trusted_hosts(environment: Mapping[str, str]) -> frozenset[str]:
    """Return this machine's names, the Space's host, the listening address and the owner's list."""
    extra = environment.get("RESNET_DEMO_HOSTS", "").split(",")
    names = [*extra, environment.get("SPACE_HOST", "")]
    if listens_everywhere(environment):
        own = socket.gethostname()
        # `.local`: the name that other machines of a local network use (mDNS)
        names += ["0.0.0.0", "[::]", own, f"{own.partition('.')[0]}.local"]
    elif (listening := environment.get("GRADIO_SERVER_NAME", "")) not in WILDCARDS:
        names.append(f"[{listening}]" if ":" in listening.strip("[]") else listening)
    return frozenset([*LOCAL, *(host_name(host.strip()) for host in names if host.strip())])
