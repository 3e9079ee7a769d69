"""Where the owner of a public page signs in with the admin token: one small page of its own."""

from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from resnet_demo.hosting.access import Access, is_secure
from resnet_demo.hosting.admin_token import COOKIE, COOKIE_S

PATH = "/owner"
MOST_BODY = 4096  # bytes
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>ResNet Demo: its owner</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
main {{ max-width: 24rem; margin: 15vh auto; padding: 0 1rem }}
input, button {{ font: inherit; padding: .5rem; width: 100%; margin: .5rem 0 }}
* {{ box-sizing: border-box }}
</style>
<main><h1>ResNet Demo</h1><p role="status">{words}</p>
<form method="post"><label>Admin token
<input type="password" name="token" autocomplete="current-password" required autofocus></label>
<button>Sign in as the owner</button></form>
<form method="post"><button name="leave" value="1">Sign out</button></form>
<p><a href="./">Back to the app</a></p></main></html>"""
ASK = "Who knows the token may train, stop, delete and import."


class Door:
    """ASGI middleware: answers for the page of the owner where there is a token, passes on else."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One page, or what lies behind."""
        mine = scope["type"] == "http" and scope["path"].rstrip("/") == PATH
        if not mine or self.access.key is None:
            await self.app(scope, receive, send)
            return
        answer = await self.answer(Request(scope, receive))
        answer.headers["cache-control"] = "no-store"
        await answer(scope, receive, send)

    async def answer(self, request: Request) -> Response:
        """To who comes, tells a token, or leaves."""
        if request.method in ("GET", "HEAD"):
            return HTMLResponse(PAGE.format(words=ASK))
        if request.method != "POST":
            return Response(status_code=405)
        told = parse_qs(await body_of(request))
        if "leave" in told:
            answer = RedirectResponse("./", 303)
            answer.delete_cookie(COOKIE)
            return answer
        key, where = self.access.key, self.access.address(request)
        if (seconds := key.wait(where)) > 0:
            words = f"Too many wrong tokens: wait {int(seconds) + 1} s."
            headers = {"retry-after": str(int(seconds) + 1)}
            return HTMLResponse(PAGE.format(words=words), 429, headers)
        if not key.is_right(told.get("token", [""])[0], where):
            return HTMLResponse(PAGE.format(words="That is not the token."), 403)
        answer = RedirectResponse("./", 303)
        answer.set_cookie(
            COOKIE, key.cookie(), COOKIE_S, httponly=True, samesite="lax", secure=is_secure(request)
        )
        return answer


async def body_of(request: Request) -> str:
    """What a form sends; empty where it is longer than any token."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY:
            return ""
    return body.decode("utf-8", "replace")
