"""HTTP requests of a download, and the checks of a response before a byte of it is written.

Only this module imports httpx.
"""

import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import cache

import httpx

from resnet_demo import __version__
from resnet_demo.data.download import SourceError

MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
FAILURES = (httpx.HTTPError, httpx.InvalidURL, UnicodeError)  # the last: an invalid host name


def new_client(connect_s: float, read_s: float) -> httpx.AsyncClient:
    """Return a client with timeouts for a connection and for the next byte. Raises SourceError."""
    # identity: a range of a compressed body would be of no use.
    headers = {"User-Agent": f"resnet-demo/{__version__}", "Accept-Encoding": "identity"}
    timeout = httpx.Timeout(read_s, connect=connect_s)
    try:
        return httpx.AsyncClient(headers=headers, timeout=timeout, verify=_ssl_context())
    except (OSError, ValueError, ImportError) as error:  # from environment variables
        raise SourceError(
            "the proxy or certificate settings of this machine are not valid"
        ) from error


@cache
def _ssl_context() -> ssl.SSLContext:
    return httpx.create_ssl_context()  # cached: reading the certificates takes 0.1 s


@asynccontextmanager
async def open_response(
    client: httpx.AsyncClient, url: str, start: int
) -> AsyncIterator[httpx.Response]:
    """Yield the response to GET from byte `start` on, its body unread.

    Redirects are followed to https only. Raises SourceError for others, FAILURES for the network.
    """
    headers = {"Range": f"bytes={start}-"} if start else {}
    address = httpx.URL(url)
    for _ in range(MAX_REDIRECTS + 1):
        # Redirects by hand: httpx would follow one to plain http too.
        async with client.stream("GET", address, headers=headers) as response:
            if response.status_code not in REDIRECTS:
                yield response
                return
            address = _redirect_target(response)
    raise SourceError(f"it redirects more than {MAX_REDIRECTS} times")


def _redirect_target(response: httpx.Response) -> httpx.URL:
    if "location" not in response.headers:
        raise SourceError(f"it answered {response.status_code} without an address")
    address = response.url.join(response.headers["location"])
    if address.scheme != "https":
        raise SourceError("it redirects to an address without https, which is refused")
    return address


def accepted_range(
    response: httpx.Response, size: int | None, start: int
) -> tuple[int, int] | None:
    """Return the first byte of the body and the length of the whole file.

    size: the expected length, if known. start: the first byte requested. None: the server cannot
    continue there, and the whole file must be requested instead.
    Raises SourceError for a response that cannot be the file.
    """
    length = _content_length(response)
    if start and response.status_code in (206, 416):
        total = _range_total(response, length, start)
        return (start, total) if total and size in (None, total) else None
    if response.status_code != 200:
        reason = httpx.codes.get_reason_phrase(response.status_code)
        raise SourceError(f"it answered {response.status_code} {reason}".strip())
    # A captive portal or an error page, with status 200.
    if length != size and response.headers.get("content-type", "").startswith("text/html"):
        raise SourceError("it sent a web page instead of the file")
    if length is None:
        raise SourceError("it does not say how long the file is")
    if size not in (None, length) or not length:
        expected = f" instead of {size:,}" if size else ""
        raise SourceError(f"its file has {length:,} bytes{expected}")
    return 0, length


def _content_length(response: httpx.Response) -> int | None:
    header = response.headers.get("content-length", "")
    if "transfer-encoding" in response.headers:  # then the length is not valid (RFC 9112, 6.3)
        return None
    # int() would accept a sign, spaces and underscores, and any number of digits.
    return int(header) if re.fullmatch("[0-9]{1,18}", header) else None


def _range_total(response: httpx.Response, length: int | None, start: int) -> int | None:
    """Return the length of the whole file, if the body is its end from `start` on, else None."""
    header = CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if response.status_code != 206 or not header:
        return None
    first, last, total = map(int, header.groups())
    return total if (first, last + 1, last + 1 - first) == (start, total, length) else None


def is_broken_connection(error: Exception) -> bool:
    """Return True for a connection that ended early: requesting the rest may work."""
    return isinstance(error, httpx.TransportError) and not isinstance(error, httpx.TimeoutException)


def describe_failure(error: Exception, connect_s: float, read_s: float) -> str:
    """Return how a source failed, for a person."""
    # httpx wraps the errors of the network; the reason is in the chain of causes.
    causes = set(map(type, _causes(error)))
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {connect_s:g} s"
    if isinstance(error, httpx.TimeoutException):
        return f"it sent nothing for {read_s:g} s"
    if socket.gaierror in causes:
        return "its host name was not found: is this machine online?"
    if ssl.SSLCertVerificationError in causes:
        return "its certificate is not valid"
    if isinstance(error, httpx.ProxyError):
        return "the proxy refused the connection"
    if isinstance(error, httpx.ConnectError):
        return "it cannot be reached"
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | UnicodeError):
        return "its address is not valid"
    return "the connection broke"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__
