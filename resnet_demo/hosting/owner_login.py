"""The page /owner, where the owner of a public app signs in with the admin token."""

from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from resnet_demo.hosting.access import COOKIE, COOKIE_S, Access, bearer_token, is_secure

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


class OwnerLogin:
    """ASGI middleware that serves the login page if there is an admin token."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer requests for the login page; pass on others, unless they guess tokens."""
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
        response = RedirectResponse("./", 303)
        response.set_cookie(
            COOKIE,
            token.cookie(),
            COOKIE_S,
            httponly=True,
            samesite="lax",
            secure=is_secure(request),
        )
        return response


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
