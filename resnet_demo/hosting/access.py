"""Authorization: turn a request into a Caller, by login or by the admin token; the login page.

Locally, every visitor is the owner. In public mode, the owner signs in: at Hugging Face on a Space,
with the admin token elsewhere. Without either, no visitor can change anything.
"""

import asyncio
import hashlib
import hmac
import secrets
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network
from time import time
from urllib.parse import parse_qs

from itsdangerous import BadSignature, TimestampSigner
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from resnet_demo.errors import ConfigError
from resnet_demo.lru import LRU
from resnet_demo.tasks.limits import MAX_NAMES, Caller, Throttle, is_public

OAUTH = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")
HUB_SCOPE = "manage-repos"  # to create repositories and upload to them
MIN_TOKEN_LENGTH = 16
COOKIE = "resnet_demo_owner"
COOKIE_S = 7 * 24 * 3600
MAX_GUESSES, GUESSES_S = 5, 600.0  # wrong tokens from one address
DELAY_S = 0.5  # before the answer to a wrong token
LOGIN_PATH = "/owner"
MAX_BODY_BYTES = 4096
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>ResNet Demo: sign in</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
main {{ max-width: 24rem; margin: 15vh auto; padding: 0 1rem }}
input, button {{ font: inherit; padding: .5rem; width: 100%; margin: .5rem 0 }}
* {{ box-sizing: border-box }}
</style>
<main><h1>ResNet Demo</h1><p role="status">{message}</p>
<form method="post"><label>Admin token
<input type="password" name="token" autocomplete="current-password" required autofocus></label>
<button>Sign in as the owner</button></form>
<form method="post"><button name="leave" value="1">Sign out</button></form>
<p><a href="./">Back to the app</a></p></main></html>"""
PROMPT = "With the token you can train, stop, delete and import."


class AdminToken:
    """The secret that makes its holder the owner, and the cookie that a browser gets for it."""

    def __init__(self, token: str, delay_s: float = DELAY_S) -> None:
        if len(token) < MIN_TOKEN_LENGTH:
            rule = f"must have at least {MIN_TOKEN_LENGTH} characters, got {len(token)}"
            raise ConfigError(f"RESNET_DEMO_ADMIN_TOKEN {rule}", "RESNET_DEMO_ADMIN_TOKEN")
        self.digest = sha256(token)
        # The signing key is new at each start: a restart signs every browser out.
        self.signer = TimestampSigner(
            secrets.token_bytes(32), key_derivation="hmac", digest_method=hashlib.sha256
        )
        self.guesses, self.delay_s = Throttle(MAX_GUESSES, GUESSES_S), delay_s
        self.wrong: LRU[str, deque[bytes]] = LRU(MAX_NAMES)  # digests of the latest, by address

    def verify(self, token: str) -> bool:
        """Return whether this is the token. The right one is never refused."""
        # Digests have one length, so that the comparison's time reveals nothing of the token.
        return hmac.compare_digest(sha256(token), self.digest)

    async def slow_down(self, token: str, address: str) -> float:
        """Count a wrong token and wait; return the seconds until this address may try another.

        The same one again is no further guess: a program may have an old token. Wrong tokens have
        no effect on right ones, so that nobody can lock out the owner.
        """
        digest = sha256(token)
        past = self.wrong.get(address) or deque(maxlen=MAX_GUESSES)
        if digest in past:
            return 0.0
        past.append(digest)
        self.wrong[address] = past
        wait = self.guesses.wait_s(address)
        self.guesses.record(address)
        await asyncio.sleep(self.delay_s)
        return wait

    def cookie(self) -> str:
        """Return a signed, dated cookie for a browser that sent the token."""
        return self.signer.sign("owner").decode()

    def authorizes(self, request: HTTPConnection) -> bool:
        """Return whether a request has a valid cookie, or the token in its Authorization header."""
        try:
            self.signer.unsign(request.cookies.get(COOKIE, ""), max_age=COOKIE_S)
        except BadSignature:
            token = bearer_token(request)
            return token is not None and self.verify(token)
        return True


@dataclass(frozen=True)
class Access:
    """The rule that decides which visitors may change things.

    mode: `local`, or in public `login`, `token` or `closed`. space: the id of the Space, if any.
    owners: lower-case names at Hugging Face.
    """

    mode: str = "local"
    space: str | None = None
    owners: frozenset[str] = frozenset()
    token: AdminToken | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Access":
        """Read what the owner has set up. Raises ConfigError for a token that is too short."""
        if not is_public(environment):
            return cls()
        space = environment.get("SPACE_ID")
        if space is not None:
            owners = owners_of(space, environment)
            # Without SYSTEM, Gradio mocks the login. Without the secret, anybody can sign one.
            real = environment.get("SYSTEM") == "spaces" and all(map(environment.get, OAUTH))
            return cls("login" if real and owners else "closed", space, owners)
        token = environment.get("RESNET_DEMO_ADMIN_TOKEN", "")
        return cls("token", token=AdminToken(token)) if token else cls("closed")

    @property
    def is_public(self) -> bool:
        """Return whether strangers can reach the app."""
        return self.mode != "local"

    def caller(self, request: HTTPConnection | None) -> Caller:
        """Return who sent a request. In public mode, an unknown sender is a stranger."""
        if not self.is_public:
            return Caller()
        if request is None:  # outside of an event nothing may be changed
            return Caller("nobody", is_owner=False)
        address = self.address(request)
        if self.mode == "login":
            name = login_name(request)
            return Caller(name or address, name in self.owners, signed_in=name is not None)
        if self.token is not None and self.token.authorizes(request):
            return Caller("owner")
        return Caller(address, is_owner=False)

    def hub_token(self, request: HTTPConnection | None) -> str | None:
        """Return the token of a signed-in visitor who let the Space make repositories for them.

        None otherwise: a Space asks for that only with `hf_oauth_scopes` in its README.
        """
        if self.mode != "login" or request is None or login_name(request) is None:
            return None
        login = request.scope["session"]["oauth_info"]
        allowed = str(login.get("scope", "")).split()
        return login.get("access_token") if HUB_SCOPE in allowed else None

    def address(self, request: HTTPConnection) -> str:
        """Return the address that a request came from, as `visitor_address` writes it."""
        peer = request.client.host if request.client else "unknown"
        if self.space is None:  # uvicorn has resolved trusted proxies already
            return visitor_address(peer)
        # A Space is behind the platform's proxies. The last public address in the header is the
        # visitor's as the platform saw it; a visitor can forge only those before it.
        forwarded = request.headers.get("x-forwarded-for", "").split(",")
        addresses = (address.strip() for address in reversed(forwarded))
        return visitor_address(next(filter(is_global, addresses), peer))


class OwnerLogin:
    """ASGI middleware that serves the login page if there is an admin token."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer requests for the login page; pass on others, unless they guess tokens."""
        # Without a token there is nothing to sign in with: the page does not exist.
        if scope["type"] != "http" or self.access.token is None:
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        if scope["path"].rstrip("/") == LOGIN_PATH:
            response = await self.respond(request)
        elif (wait := await self.wrong_bearer_wait_s(request)) > 0:
            response = PlainTextResponse(f"{wrong_token_text(wait)}\n", 429, retry_after(wait))
        else:
            await self.app(scope, receive, send)
            return
        # A browser must not keep a page that answered to a token.
        response.headers["cache-control"] = "no-store"
        await response(scope, receive, send)

    async def wrong_bearer_wait_s(self, request: Request) -> float:
        """Return the seconds to wait after too many wrong tokens in Authorization headers; or 0."""
        token, guess = self.access.token, bearer_token(request)
        if guess is None or token.verify(guess):
            return 0.0
        return await token.slow_down(guess, self.access.address(request))

    async def respond(self, request: Request) -> Response:
        """Return the page (GET), or sign the sender in or out (POST)."""
        if request.method in ("GET", "HEAD"):
            return HTMLResponse(PAGE.format(message=PROMPT))
        if request.method != "POST":
            return Response(status_code=405)
        form = parse_qs(await read_body(request))
        if "leave" in form:
            response = RedirectResponse("./", 303)
            response.delete_cookie(COOKIE)
            return response
        token, guess = self.access.token, form.get("token", [""])[0]
        if not token.verify(guess):
            wait = await token.slow_down(guess, self.access.address(request))
            message = PAGE.format(message=wrong_token_text(wait))
            return HTMLResponse(message, 429 if wait else 403, retry_after(wait))
        # 303: reloading the app does not send the token again.
        response = RedirectResponse("./", 303)
        # httponly: no script reads it. lax: a form of another site does not send it along.
        response.set_cookie(
            COOKIE,
            token.cookie(),
            COOKIE_S,
            httponly=True,
            samesite="lax",
            secure=is_secure(request),
        )
        return response


def owners_of(space: str, environment: Mapping[str, str]) -> frozenset[str]:
    """Return the Space's author and the names in RESNET_DEMO_OWNERS, lower case."""
    author = environment.get("SPACE_AUTHOR_NAME") or space.partition("/")[0]
    names = [author, *environment.get("RESNET_DEMO_OWNERS", "").split(",")]
    return frozenset(name.strip().lower() for name in names if name.strip())


def login_name(request: HTTPConnection) -> str | None:
    """Return the lower-case Hugging Face name of a signed-in visitor. Valid on a Space only."""
    login = request.scope.get("session", {}).get("oauth_info") or {}
    if login.get("expires_at", 0) < time():
        return None
    name = login.get("userinfo", {}).get("preferred_username")
    return name.lower() if isinstance(name, str) and name else None


def bearer_token(request: HTTPConnection) -> str | None:
    """Return the token in the Authorization header."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def visitor_address(text: str) -> str:
    """Return the address by which limits count a visitor: of IPv6 the network of 64 bits.

    A single connection usually gets a whole /64, and could use another address for each request.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return text
    if not isinstance(address, IPv6Address):
        return text
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((int(address), 64), strict=False))


def is_global(address: str) -> bool:
    """Return whether this is a public IP address."""
    try:
        return ip_address(address).is_global
    except ValueError:
        return False


def is_secure(request: HTTPConnection) -> bool:
    """Return whether the browser uses https, to the app or to a proxy in front of it."""
    headers: Headers = request.headers
    return "https" in (request.url.scheme, headers.get("x-forwarded-proto"))


def sha256(token: str) -> bytes:
    """Return the SHA-256 digest of a token."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def wrong_token_text(wait_s: float) -> str:
    """Return the answer to a wrong token."""
    if wait_s > 0:
        return f"Too many wrong tokens: wait {int(wait_s) + 1} s."
    return "That is not the token."


def retry_after(wait_s: float) -> dict[str, str]:
    """Return the header that names the seconds to wait; none without."""
    return {"retry-after": str(int(wait_s) + 1)} if wait_s > 0 else {}


async def read_body(request: Request) -> str:
    """Return a form's body; empty if it is longer than any token."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return ""
    return body.decode("utf-8", "replace")
