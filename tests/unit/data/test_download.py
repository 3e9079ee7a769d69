"""Downloading one file from a local server that behaves well, badly, slowly or not at all."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from resnet_demo.data import http_client
from resnet_demo.data.download import DownloadTimeouts, RemoteFile, SourceError, download
from resnet_demo.errors import StoppedError
from tests.faults import file_size_limit
from tests.loopback import (
    never_answer,
    respond,
    respond_with_web_page,
    serve,
    serve_chunked,
    serve_slowly,
    serve_without_ranges,
    stall_after,
)

DATA = np.random.default_rng(0).bytes(300_000)
EASY = DownloadTimeouts(slow_bytes_per_s=0, pause_s=0.01)  # a busy machine is slow
QUICK = DownloadTimeouts(slow_s=0.3, slow_bytes_per_s=50_000)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "some.part"


def run(remote: RemoteFile, part: Path, timeouts=EASY, report=None, should_stop=None) -> None:
    report, should_stop = report or (lambda *now: None), should_stop or (lambda: False)
    download(remote, part, timeouts, report, should_stop)


def refusal(remote: RemoteFile, part: Path, timeouts: DownloadTimeouts = EASY) -> str:
    with pytest.raises(SourceError) as caught:
        run(remote, part, timeouts)
    return str(caught.value)


def test_a_file_is_downloaded_and_its_progress_ends_at_its_total(loopback, part):
    reports = []
    run(loopback.offer(DATA), part, report=lambda *now: reports.append(now))
    assert part.read_bytes() == DATA
    assert reports[0][:2] == (0, len(DATA))
    assert reports[-1][:2] == (len(DATA), len(DATA))
    assert loopback.ranges() == [""]


def test_an_unknown_length_is_taken_from_the_server(loopback, part):
    reports = []
    run(loopback.offer(DATA, size=None), part, report=lambda *now: reports.append(now))
    assert part.read_bytes() == DATA
    assert reports[-1][:2] == (len(DATA), len(DATA))


def test_a_broken_connection_is_resumed_where_it_broke(loopback, part):
    run(loopback.offer(DATA, serve(DATA, 100_000), serve(DATA, 50_000), serve(DATA)), part)
    assert part.read_bytes() == DATA
    assert loopback.ranges() == ["", "bytes=100000-", "bytes=150000-"]


def test_a_truncated_file_fails_and_the_received_part_is_kept(loopback, part):
    remote = loopback.offer(DATA, serve(DATA, 100_000), serve(DATA, 0))
    assert refusal(remote, part) == "the connection broke"
    assert part.read_bytes() == DATA[:100_000]
    assert len(loopback.requests) == 2  # a try that receives nothing is the last


def test_a_connection_that_keeps_breaking_is_given_up(loopback, part):
    assert refusal(loopback.offer(DATA, serve(DATA, 1000)), part) == "the connection broke"
    assert part.read_bytes() == DATA[:6000]


def test_bytes_from_an_earlier_attempt_are_not_requested_again(loopback, part):
    part.write_bytes(DATA[:200_000])
    run(loopback.offer(DATA), part)
    assert part.read_bytes() == DATA
    assert loopback.ranges() == ["bytes=200000-"]


@pytest.mark.parametrize("size", [len(DATA), None])
def test_a_complete_part_needs_no_request(part, loopback, size):
    part.write_bytes(DATA)
    reports = []
    run(loopback.offer(DATA, size=size), part, report=lambda *now: reports.append(now))
    assert reports[-1][:2] == (len(DATA), len(DATA))
    assert loopback.requests == []


def test_a_server_that_ignores_the_range_starts_from_zero(loopback, part):
    part.write_bytes(b"x" * 200_000)
    run(loopback.offer(DATA, serve_without_ranges(DATA)), part)
    assert part.read_bytes() == DATA
    assert loopback.ranges() == ["bytes=200000-"]


@pytest.mark.parametrize(
    "content_range",
    [
        "bytes 199999-299999/300000",
        "bytes 200001-299999/300000",
        "bytes 200000-299998/300000",
        "bytes 200000-299999/299999",
        "bytes 200000-300000/300001",
        "bytes 200000-299999/*",
        "lines 200000-299999/300000",
        "",
    ],
)
def test_another_range_than_the_requested_one_is_never_appended(loopback, part, content_range):
    part.write_bytes(DATA[:200_000])
    other = respond(206, bytes(100_000), Content_Range=content_range)
    remote = loopback.offer(DATA, other, respond(503), other, serve(DATA))
    assert "503" in refusal(remote, part)
    assert part.read_bytes() == DATA[:200_000]
    run(remote, part)
    assert part.read_bytes() == DATA
    assert loopback.ranges() == ["bytes=200000-", ""] * 2


def test_a_range_of_another_length_than_its_body_is_never_appended(loopback, part):
    part.write_bytes(DATA[:200_000])
    other = respond(206, bytes(10), Content_Range="bytes 200000-299999/300000")
    assert "503" in refusal(loopback.offer(DATA, other, respond(503)), part)
    assert part.read_bytes() == DATA[:200_000]


def test_a_refused_range_starts_from_zero(loopback, part):
    part.write_bytes(DATA[:200_000])
    run(loopback.offer(DATA, respond(416), serve(DATA)), part)
    assert part.read_bytes() == DATA


def test_a_part_longer_than_the_file_starts_from_zero(loopback, part):
    part.write_bytes(DATA + b"more")
    run(loopback.offer(DATA), part)
    assert part.read_bytes() == DATA
    assert loopback.ranges() == [""]


def test_wrong_bytes_are_removed(loopback, part):
    wrong = bytes(len(DATA))
    assert refusal(loopback.offer(DATA, serve(wrong)), part).endswith("the checksum is wrong")
    assert not part.exists()
    assert len(loopback.requests) == 1


def test_a_wrong_checksum_after_a_resume_starts_once_more_from_zero(loopback, part):
    part.write_bytes(b"x" * 200_000)  # for example from another source
    run(loopback.offer(DATA), part)
    assert part.read_bytes() == DATA
    assert loopback.ranges() == ["bytes=200000-", ""]


def test_bytes_with_a_wrong_checksum_from_zero_are_removed(loopback, part):
    part.write_bytes(b"x" * 200_000)
    wrong = bytes(len(DATA))
    assert refusal(loopback.offer(DATA, serve(wrong)), part).endswith("the checksum is wrong")
    assert not part.exists()
    assert loopback.ranges() == ["bytes=200000-", ""]


REFUSED = {
    "it answered 503 Service Unavailable": respond(503),
    "it answered 404 Not Found": respond(404, b"no", Content_Type="text/html"),
    "it answered 206 Partial Content": respond(
        206, DATA, Content_Range=f"bytes 0-{len(DATA) - 1}/{len(DATA)}"
    ),
    "it sent a web page instead of the file": respond_with_web_page,
    "it does not say how long the file is": serve_chunked(DATA),
    "its file has 299,999 bytes instead of 300,000": serve(DATA[1:]),
    "it redirects to an address without https, which is refused": respond(
        302, Location="http://127.0.0.1:1/file"
    ),
    "it answered 302 without an address": respond(302),
}


def test_a_length_is_ignored_in_a_chunked_response(loopback, part):
    both = respond(200, b"0\r\n\r\n", Content_Length=len(DATA), Transfer_Encoding="chunked")
    assert refusal(loopback.offer(DATA, both), part) == "it does not say how long the file is"


@pytest.mark.parametrize("message", REFUSED)
@pytest.mark.parametrize("have", [0, 1000])
def test_a_wrong_response_is_refused_before_a_byte_is_written(loopback, part, message, have):
    part.write_bytes(DATA[:have])
    remote = loopback.offer(DATA, REFUSED[message])
    assert message == refusal(remote, part)
    assert part.read_bytes() == DATA[:have]


def test_a_web_page_is_refused_for_a_file_of_unknown_length(loopback, part):
    remote = loopback.offer(DATA, respond_with_web_page, size=None)
    assert refusal(remote, part) == "it sent a web page instead of the file"
    assert not part.exists()


def test_a_relative_redirect_keeps_http_and_is_refused(loopback, part):
    remote = loopback.offer(DATA, respond(302, Location="/other"))
    assert "without https" in refusal(remote, part)
    assert [path for path, _ in loopback.requests] == ["/file"]


def requested_addresses(*redirects: str) -> list[str]:
    """Return the requested addresses: each redirects to the next, and the last has the file."""
    requested, left = [], list(redirects)

    def reply(request: httpx.Request) -> httpx.Response:
        requested.append(f"{request.url} {request.headers.get('range')}")
        return httpx.Response(302, headers={"Location": left.pop(0)}) if left else OK

    async def request() -> None:
        async with (
            httpx.AsyncClient(transport=httpx.MockTransport(reply)) as client,
            http_client.open_response(client, "https://a.example/file", 5) as response,
        ):
            assert response is not None

    OK = httpx.Response(200)
    asyncio.run(request())
    return requested


def test_redirects_to_https_are_followed_with_the_same_range():
    requested = requested_addresses("https://b.example/x", "/y", "//c.example/z")
    addresses = ["a.example/file", "b.example/x", "b.example/y", "c.example/z"]
    assert requested == [f"https://{address} bytes=5-" for address in addresses]


@pytest.mark.parametrize("address", ["http://a.example/", "ftp://b.example/", "file:///etc/passwd"])
def test_a_redirect_never_leads_away_from_https(address):
    with pytest.raises(SourceError, match="without https, which is refused"):
        requested_addresses("https://b.example/", address)


def test_a_redirect_loop_is_given_up():
    assert len(requested_addresses(*["/again"] * 5)) == 6
    with pytest.raises(SourceError, match="it redirects more than 5 times"):
        requested_addresses(*["/again"] * 6)


def test_a_server_that_never_answers_is_given_up(loopback, part):
    assert refusal(loopback.offer(DATA, never_answer), part, QUICK) == "it sent nothing for 0.3 s"
    assert not part.exists()


def test_a_server_that_stalls_is_given_up_and_the_part_is_kept(loopback, part):
    message = refusal(loopback.offer(DATA, stall_after(DATA, 70_000)), part, QUICK)
    assert message in ("it sent nothing for 0.3 s", "it was slower than 50 kB/s for 0.3 s")
    assert part.read_bytes() == DATA[:70_000]


def test_a_slow_server_is_given_up_and_the_part_is_kept(loopback, part):
    message = refusal(loopback.offer(DATA, serve_slowly(DATA)), part, QUICK)
    assert message == "it was slower than 50 kB/s for 0.3 s"
    received = part.read_bytes()
    assert 100 <= len(received) < 10_000
    assert DATA.startswith(received)


def test_a_server_that_is_fast_enough_is_not_given_up(loopback, part):
    remote = loopback.offer(DATA, serve_slowly(DATA, 0.05, 20_000))  # 400 kB/s, for 0.75 s
    run(remote, part, DownloadTimeouts(slow_s=0.5, slow_bytes_per_s=50_000))
    assert part.read_bytes() == DATA


def test_pauses_and_disk_writes_do_not_count_as_slow(loopback, part, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: time.sleep(0.6))
    timeouts = DownloadTimeouts(slow_s=0.4, slow_bytes_per_s=50_000, pause_s=0.6)
    run(loopback.offer(DATA, serve(DATA, 1000), serve(DATA)), part, timeouts)
    assert part.read_bytes() == DATA


def test_a_download_ends_after_its_total_time(loopback, part):
    timeouts = DownloadTimeouts(slow_bytes_per_s=0, total_s=0.3)
    remote = loopback.offer(DATA, serve_slowly(DATA))
    assert refusal(remote, part, timeouts) == "it took longer than 0.3 s"


def test_a_closed_port_cannot_be_reached(part):
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        assert refusal(RemoteFile(url, "x", 1, "0"), part) == "it cannot be reached"


def test_a_connection_that_is_not_accepted_is_given_up(part):
    with socket.socket() as full, socket.socket() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting.connect(full.getsockname())  # the one place in the queue
        url = f"http://127.0.0.1:{full.getsockname()[1]}/"
        timeouts = DownloadTimeouts(connect_s=0.2)
        assert refusal(RemoteFile(url, "x", 1, "0"), part, timeouts) == "no connection within 0.2 s"


def test_an_unknown_host_name_is_reported(part, monkeypatch):
    def fail(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert "its host name was not found" in refusal(
        RemoteFile("http://a.example/", "x", 1, "0"), part
    )


@pytest.mark.parametrize("url", ["nonsense", "ftp://a.example/", "http://[::1"])
def test_an_invalid_address_is_reported(part, url):
    assert refusal(RemoteFile(url, "x", 1, "0"), part) == "its address is not valid"


def test_an_invalid_certificate_is_reported():
    import ssl

    error = httpx.ConnectError("")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed")
    assert http_client.describe_failure(error, 1, 1) == "its certificate is not valid"


def test_an_invalid_proxy_setting_is_reported(part, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "nonsense://x")
    assert refusal(RemoteFile("http://a.example/", "x", 1, "0"), part).startswith(
        "the proxy or certificate settings"
    )


def stop_time(remote: RemoteFile, part: Path, is_ready: Callable[[], bool] = lambda: True) -> float:
    """Return the seconds that a stop takes, requested shortly after `is_ready`."""
    times = []

    def should_stop() -> bool:
        if is_ready():
            times.append(time.monotonic())
        return len(times) > 2  # it has been waiting for a while

    with pytest.raises(StoppedError):
        run(remote, part, DownloadTimeouts(), should_stop=should_stop)
    return time.monotonic() - times[2]


def test_stopping_is_quick_before_a_response(loopback, part):
    assert stop_time(loopback.offer(DATA, never_answer), part, lambda: loopback.requests) < 0.5
    assert not part.exists()


def test_stopping_is_quick_while_a_connection_is_awaited(part):
    with socket.socket() as full, socket.socket() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting.connect(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/"
        assert stop_time(RemoteFile(url, "x", 1, "0"), part) < 0.5


def test_stopping_is_quick_while_a_name_is_looked_up(part, monkeypatch):
    started, ended = threading.Event(), threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: started.set() or ended.wait(10))
    assert stop_time(RemoteFile("http://a.example/", "x", 1, "0"), part, started.is_set) < 0.5
    ended.set()


def test_stopping_is_quick_during_the_transfer_and_the_rest_is_resumed(loopback, part):
    remote = loopback.offer(DATA, stall_after(DATA, 70_000), serve(DATA))
    assert stop_time(remote, part, lambda: part.exists() and part.stat().st_size >= 60_000) < 0.5
    assert part.read_bytes() == DATA[:70_000]
    run(remote, part)
    assert part.read_bytes() == DATA
    assert loopback.ranges() == ["", "bytes=70000-"]


def test_a_connection_that_breaks_before_its_first_byte_keeps_the_older_bytes(loopback, part):
    part.write_bytes(DATA[:1000])
    remote = loopback.offer(DATA, lambda request: request.send_head(200, Content_Length=len(DATA)))
    assert refusal(remote, part) == "the connection broke"
    assert part.read_bytes() == DATA[:1000]


def test_a_stop_before_the_start_sends_no_request(loopback, part):
    with pytest.raises(StoppedError):
        run(loopback.offer(DATA), part, should_stop=lambda: True)
    assert loopback.requests == []


def test_a_download_resumes_after_the_disk_was_full(loopback, part):
    remote = loopback.offer(DATA)
    with file_size_limit(100_000), pytest.raises(OSError, match="File too large"):
        run(remote, part)
    received = len(part.read_bytes())
    assert 0 < received <= 100_000
    run(remote, part)
    assert part.read_bytes() == DATA
    assert loopback.ranges() == ["", f"bytes={received}-"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")
def test_a_full_disk_raises_the_kernels_error(loopback, part):
    part.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        run(loopback.offer(DATA), part)


def test_httpx_pyarrow_and_torch_are_imported_only_when_needed():
    program = "import sys, resnet_demo.data.cifar10.get; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert {"httpx", "pyarrow", "torch"} & set(loaded) == set()
