"""A light page: few and small answers for what a browser loads when it opens the page.

Gradio 6.31 sends the page (0.5 MB, with the description of all components) uncompressed, and fifty
style sheets, one for each kind of component, which waits for it.
"""

import re
from collections.abc import Iterable
from hashlib import blake2b
from html import escape
from itertools import chain
from pathlib import Path

import gradio as gr
from starlette.datastructures import MutableHeaders, QueryParams
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resnet_demo.ui.gradio_fixes import page_query
from resnet_demo.ui.polling import POLL_PATH

FRONT_END = Path(gr.__file__).parent / "templates" / "frontend"
PAGE = "/"
STYLES_PATH = "/component-styles.css"
# Gradio compresses what has an extension. Its streams of events must not be compressed, since each
# event has to arrive at once; files are compressed already. These answers hold no secret: cookies
# and the owner's token are in no body, so the length of an answer that repeats a part of the
# request reveals nothing (the BREACH attack).
COMPRESSED = (PAGE, "/config", "/gradio_api/info", POLL_PATH)
# Gradio ends its streams before a page is left, and then shows "Connection Lost" until the next one
# is there. The browser ends them anyway. This listener has to be there before Gradio's.
KEEP_STREAMS = """<script>
  addEventListener('beforeunload', (event) => event.stopImmediatePropagation());
</script>"""
FOR_EVER = "public, max-age=31536000, immutable"  # the names of such files hold a hash
# As Vite writes them: a list of files, and imports with the numbers of the files that they need.
LISTED, NAME = re.compile(r"m\.f=\[([^\]]*)\]"), re.compile(r'"\./([^"]+)"')
NEEDED = r".{0,100}?__vite__mapDeps\(\[([\d,]+)\]\)"
KIND = r"[{,]%s:\{(?:(?!component:|\}).)*?component:"


class FrontEnd:
    """The style sheets of the kinds of components in use, as one."""

    def __init__(self, kinds: Iterable[str], folder: Path = FRONT_END) -> None:
        try:
            names = needed_files(kinds, folder)
        except (LookupError, OSError, ValueError):
            names = []  # then each is fetched by itself, as Gradio does it
        # The page itself names the first style sheet.
        self.names = [n for n in names if n.endswith(".css") and not n.startswith("index-")]
        self.styles = "\n".join((folder / "assets" / name).read_text() for name in self.names)
        # The address changes with the content, like those of Gradio's files.
        self.version = blake2b(self.styles.encode(), digest_size=6).hexdigest()

    @property
    def route(self) -> Route:
        """Return the HTTP route of the style sheet."""
        return Route(STYLES_PATH, self.respond, methods=["GET"])

    async def respond(self, request: Request) -> Response:
        """Return the style sheet."""
        return Response(self.styles, media_type="text/css", headers={"cache-control": FOR_EVER})

    @property
    def head(self) -> str:
        """Return the HTML for the page's head: a script, the style sheet, and those it replaces.

        A disabled style sheet is not fetched, and Gradio's loader fetches none that the page names.
        """
        if not self.names:  # of another version of Gradio: it fetches them itself
            return KEEP_STREAMS
        replaced = (
            f'<link rel="stylesheet" href="./assets/{escape(name)}" disabled>'
            for name in self.names
        )
        address = f".{STYLES_PATH}?v={self.version}"
        return f'{KEEP_STREAMS}<link rel="stylesheet" href="{address}">{"".join(replaced)}'


class LightPage:
    """ASGI middleware that compresses the page, adds to its head, and lets browsers keep files."""

    def __init__(self, app: ASGIApp, head: str) -> None:
        self.app, self.head = app, head.encode()
        self.compressed = GZipMiddleware(self.answer_page, minimum_size=1000, compresslevel=6)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and change the answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["path"] in COMPRESSED:
            await self.compressed(scope, receive, send)
        elif scope["path"].startswith("/assets/"):
            await self.app(scope, receive, keep_for_ever(send))
        else:
            await self.app(scope, receive, send)

    async def answer_page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with more in the head of the page."""
        if scope["path"] != PAGE:
            await self.app(scope, receive, send)
            return
        start: Message = {}
        page_query.set(QueryParams(scope["query_string"]))

        async def send_page(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            # Gradio sends the page in one piece; of several, the first one has the head.
            if start:
                body = message.get("body", b"")
                changed = body.replace(b"</head>", self.head + b"</head>", 1)
                headers = MutableHeaders(scope=start)
                if "content-length" in headers:
                    size = int(headers["content-length"]) + len(changed) - len(body)
                    headers["content-length"] = str(size)
                await send(start)
                start, message = {}, {**message, "body": changed}
            await send(message)

        await self.app(scope, receive, send_page)


def keep_for_ever(send: Send) -> Send:
    """Return a `send` that lets browsers keep a file without asking again."""

    async def send_kept(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            MutableHeaders(scope=message)["cache-control"] = FOR_EVER
        await send(message)

    return send_kept


def needed_files(kinds: Iterable[str], folder: Path = FRONT_END) -> list[str]:
    """Return the assets that a page with these kinds of components loads, in order.

    Raises: LookupError, OSError if this version of Gradio writes them differently.
    """
    read = {path.name: path.read_text() for path in (folder / "assets").glob("[Iic]*-*.js")}
    [entry] = re.findall(r'src="\./assets/(index-[^"]+)"', (folder / "index.html").read_text())
    main = imported(read[entry], r"`\./Index-")
    blocks = imported(read[main[0]], r"`\./Blocks-")
    core = next(text for name, text in read.items() if name.startswith("core-") and name in main)
    patterns = (KIND % re.escape(kind) for kind in sorted(set(kinds)))
    # Some kinds, as that of the API's arguments, have no part in the browser.
    components = (imported(core, pattern) for pattern in patterns if re.search(pattern, core))
    return [*dict.fromkeys(chain(main, blocks, *components))]


def imported(script: str, before: str) -> list[str]:
    """Return the files of the first dynamic import after a pattern: itself, and what it needs."""
    listed, found = LISTED.search(script), re.search(before + NEEDED, script)
    if not listed or not found:
        raise LookupError(before)
    files = NAME.findall(listed[1])
    return [files[int(number)] for number in found[1].split(",")]
