"""An HTTP answer, judged before a byte of it is written. The one place that imports httpx."""

import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import cache

import httpx

from resnet_demo import __version__
from resnet_demo.data.cifar10.sources import SourceError

MOST_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
FAILURES = (httpx.HTTPError, httpx.InvalidURL, UnicodeError)  # the last: a host that is no name


def new_client(connect_s: float, silent_s: float) -> httpx.AsyncClient:
    """A client that waits so long for a connection, and for the next byte. Raises SourceError."""
    headers = {"User-Agent": f"resnet-demo/{__version__}", "Accept-Encoding": "identity"}
    timeout = httpx.Timeout(silent_s, connect=connect_s)
    try:
        return httpx.AsyncClient(headers=headers, timeout=timeout, verify=_trusted())
    except (OSError, ValueError, ImportError) as error:  # environment variables say which
        raise SourceError("the proxy or the certificates set on this machine are no use") from error


@cache
def _trusted() -> ssl.SSLContext:
    """The usual certificates; reading them takes a tenth of a second."""
    return httpx.create_ssl_context()


@asynccontextmanager
async def open_response(
    client: httpx.AsyncClient, url: str, start: int
) -> AsyncIterator[httpx.Response]:
    """The answer to GET from byte `start` on, its body still unread. Redirects lead to https only.

    Raises SourceError for other redirects, FAILURES for what happens on the way.
    """
    headers = {"Range": f"bytes={start}-"} if start else {}
    address = httpx.URL(url)
    for _ in range(MOST_REDIRECTS + 1):
        async with client.stream("GET", address, headers=headers) as response:
            if response.status_code not in REDIRECTS:
                yield response
                return
            address = _next_address(response)
    raise SourceError(f"it redirects more than {MOST_REDIRECTS} times")


def _next_address(response: httpx.Response) -> httpx.URL:
    if "location" not in response.headers:
        raise SourceError(f"it answered {response.status_code} without an address")
    address = response.url.join(response.headers["location"])
    if address.scheme != "https":
        raise SourceError("it redirects to an address without https, which is refused")
    return address


def accepted_range(
    response: httpx.Response, size: int | None, start: int
) -> tuple[int, int] | None:
    """From which byte on the body goes, and how long the whole file is.

    size: what it must be, if known. start: what was asked for. None: only asking from zero is
    left. Raises SourceError for an answer that cannot be the file.
    """
    length = _length(response)
    if start and response.status_code in (206, 416):
        total = _total(response, length, start)
        return (start, total) if total and size in (None, total) else None
    if response.status_code != 200:
        reason = httpx.codes.get_reason_phrase(response.status_code)
        raise SourceError(f"it answered {response.status_code} {reason}".strip())
    if length != size and response.headers.get("content-type", "").startswith("text/html"):
        raise SourceError("it sent a web page instead of the file")
    if length is None:
        raise SourceError("it does not say how long the file is")
    if size not in (None, length) or not length:
        wanted = f" instead of {size:,}" if size else ""
        raise SourceError(f"its file has {length:,} bytes{wanted}")
    return 0, length


def _length(response: httpx.Response) -> int | None:
    """Bytes in the body, where the server says so."""
    told = response.headers.get("content-length", "")
    chunked = "transfer-encoding" in response.headers  # then the other header counts for nothing
    return int(told) if re.fullmatch("[0-9]{1,18}", told) and not chunked else None


def _total(response: httpx.Response, length: int | None, start: int) -> int | None:
    """Bytes of the whole file, where the body is its end from `start` on."""
    told = CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if response.status_code != 206 or not told:
        return None
    first, last, total = map(int, told.groups())
    return total if (first, last + 1, last + 1 - first) == (start, total, length) else None


def is_broken_connection(error: Exception) -> bool:
    """True for a connection that ended early: asking for the rest may do."""
    return isinstance(error, httpx.TransportError) and not isinstance(error, httpx.TimeoutException)


def describe_failure(error: Exception, connect_s: float, silent_s: float) -> str:
    """How a source failed, for a person."""
    causes = set(map(type, _chain(error)))
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {connect_s:g} s"
    if isinstance(error, httpx.TimeoutException):
        return f"it sent nothing for {silent_s:g} s"
    if socket.gaierror in causes:
        return "its name was not found: is this machine online?"
    if ssl.SSLCertVerificationError in causes:
        return "its certificate is not valid"
    if isinstance(error, httpx.ProxyError):
        return "the proxy refused"
    if isinstance(error, httpx.ConnectError):
        return "it cannot be reached"
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | UnicodeError):
        return "its address is not valid"
    return "the connection broke"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__
