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

from resnet_demo.data.cifar10 import http_client
from resnet_demo.data.cifar10.download import DownloadTimeouts, download
from resnet_demo.data.cifar10.sources import RemoteFile, SourceError
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
EASY = DownloadTimeouts(slow_bytes_per_s=0, pause_s=0.01)  # on a busy machine nothing is quick
QUICK = DownloadTimeouts(slow_s=0.3, slow_bytes_per_s=50_000)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "some.part"


def bring(remote: RemoteFile, part: Path, patience=EASY, tell=None, should_stop=None) -> None:
    tell, should_stop = tell or (lambda *now: None), should_stop or (lambda: False)
    download(remote, part, patience, tell, should_stop)


def refusal(remote: RemoteFile, part: Path, patience: DownloadTimeouts = EASY) -> str:
    with pytest.raises(SourceError) as caught:
        bring(remote, part, patience)
    return str(caught.value)


def test_a_whole_file_comes_and_its_progress_ends_at_its_total(loopback, part):
    told = []
    bring(loopback.offer(DATA), part, tell=lambda *now: told.append(now))
    assert part.read_bytes() == DATA
    assert told[0][:2] == (0, len(DATA))
    assert told[-1][:2] == (len(DATA), len(DATA))
    assert loopback.ranges() == [""]


def test_a_file_of_unknown_length_is_as_long_as_the_server_says(loopback, part):
    told = []
    bring(loopback.offer(DATA, size=None), part, tell=lambda *now: told.append(now))
    assert part.read_bytes() == DATA
    assert told[-1][:2] == (len(DATA), len(DATA))


def test_a_broken_connection_is_made_anew_and_goes_on_where_it_broke(loopback, part):
    bring(loopback.offer(DATA, serve(DATA, 100_000), serve(DATA, 50_000), serve(DATA)), part)
    assert part.read_bytes() == DATA
    assert loopback.ranges() == ["", "bytes=100000-", "bytes=150000-"]


def test_a_truncated_file_is_no_file_and_what_came_stays(loopback, part):
    remote = loopback.offer(DATA, serve(DATA, 100_000), serve(DATA, 0))
    assert refusal(remote, part) == "the connection broke"
    assert part.read_bytes() == DATA[:100_000]
    assert len(loopback.requests) == 2  # a try that brings nothing is the last


def test_a_connection_that_breaks_for_ever_is_given_up(loopback, part):
    assert refusal(loopback.offer(DATA, serve(DATA, 1000)), part) == "the connection broke"
    assert part.read_bytes() == DATA[:6000]


def test_bytes_from_before_are_not_asked_for_again(loopback, part):
    part.write_bytes(DATA[:200_000])
    bring(loopback.offer(DATA), part)
    assert part.read_bytes() == DATA
    assert loopback.ranges() == ["bytes=200000-"]


@pytest.mark.parametrize("size", [len(DATA), None])
def test_a_part_with_all_its_bytes_needs_no_server(part, loopback, size):
    part.write_bytes(DATA)
    told = []
    bring(loopback.offer(DATA, size=size), part, tell=lambda *now: told.append(now))
    assert told[-1][:2] == (len(DATA), len(DATA))
    assert loopback.requests == []


def test_a_server_that_ignores_the_range_starts_from_zero(loopback, part):
    part.write_bytes(b"x" * 200_000)
    bring(loopback.offer(DATA, serve_without_ranges(DATA)), part)
    assert part.read_bytes() == DATA
    assert loopback.ranges() == ["bytes=200000-"]


@pytest.mark.parametrize(
    "told",
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
def test_another_range_than_the_one_asked_for_is_never_appended(loopback, part, told):
    part.write_bytes(DATA[:200_000])
    other = respond(206, bytes(100_000), Content_Range=told)
    remote = loopback.offer(DATA, other, respond(503), other, serve(DATA))
    assert "503" in refusal(remote, part)
    assert part.read_bytes() == DATA[:200_000]
    bring(remote, part)
    assert part.read_bytes() == DATA
    assert loopback.ranges() == ["bytes=200000-", ""] * 2


def test_a_range_of_another_length_than_its_body_is_never_appended(loopback, part):
    part.write_bytes(DATA[:200_000])
    other = respond(206, bytes(10), Content_Range="bytes 200000-299999/300000")
    assert "503" in refusal(loopback.offer(DATA, other, respond(503)), part)
    assert part.read_bytes() == DATA[:200_000]


def test_a_range_that_is_refused_starts_from_zero(loopback, part):
    part.write_bytes(DATA[:200_000])
    bring(loopback.offer(DATA, respond(416), serve(DATA)), part)
    assert part.read_bytes() == DATA


def test_a_part_longer_than_the_file_starts_from_zero(loopback, part):
    part.write_bytes(DATA + b"more")
    bring(loopback.offer(DATA), part)
    assert part.read_bytes() == DATA
    assert loopback.ranges() == [""]


def test_wrong_bytes_are_removed(loopback, part):
    wrong = bytes(len(DATA))
    assert refusal(loopback.offer(DATA, serve(wrong)), part).endswith("the checksum is wrong")
    assert not part.exists()
    assert len(loopback.requests) == 1


def test_wrong_bytes_after_a_resume_are_tried_once_more_from_zero(loopback, part):
    part.write_bytes(b"x" * 200_000)  # from another source, say
    bring(loopback.offer(DATA), part)
    assert part.read_bytes() == DATA
    assert loopback.ranges() == ["bytes=200000-", ""]


def test_bytes_wrong_even_from_zero_are_removed(loopback, part):
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


def test_a_length_beside_chunks_counts_for_nothing(loopback, part):
    both = respond(200, b"0\r\n\r\n", Content_Length=len(DATA), Transfer_Encoding="chunked")
    assert refusal(loopback.offer(DATA, both), part) == "it does not say how long the file is"


@pytest.mark.parametrize("words", REFUSED)
@pytest.mark.parametrize("have", [0, 1000])
def test_an_answer_that_cannot_be_the_file_is_refused_before_a_byte_is_written(
    loopback, part, words, have
):
    part.write_bytes(DATA[:have])
    remote = loopback.offer(DATA, REFUSED[words])
    assert words == refusal(remote, part)
    assert part.read_bytes() == DATA[:have]


def test_a_web_page_of_any_length_is_no_file_of_unknown_length(loopback, part):
    remote = loopback.offer(DATA, respond_with_web_page, size=None)
    assert refusal(remote, part) == "it sent a web page instead of the file"
    assert not part.exists()


def test_a_relative_redirect_is_one_to_http_where_the_first_was(loopback, part):
    remote = loopback.offer(DATA, respond(302, Location="/other"))
    assert "without https" in refusal(remote, part)
    assert [path for path, _ in loopback.requests] == ["/file"]


def redirected(*places: str) -> list[str]:
    """The addresses asked for, where each answers with the next and the last with the file."""
    asked, left = [], list(places)

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.url} {request.headers.get('range')}")
        return httpx.Response(302, headers={"Location": left.pop(0)}) if left else OK

    async def ask() -> None:
        async with (
            httpx.AsyncClient(transport=httpx.MockTransport(reply)) as client,
            http_client.open_response(client, "https://a.example/file", 5) as response,
        ):
            assert response is not None

    OK = httpx.Response(200)
    asyncio.run(ask())
    return asked


def test_redirects_to_https_are_followed_with_the_same_range():
    asked = redirected("https://b.example/x", "/y", "//c.example/z")
    addresses = ["a.example/file", "b.example/x", "b.example/y", "c.example/z"]
    assert asked == [f"https://{address} bytes=5-" for address in addresses]


@pytest.mark.parametrize("place", ["http://a.example/", "ftp://b.example/", "file:///etc/passwd"])
def test_a_redirect_never_leads_away_from_https(place):
    with pytest.raises(SourceError, match="without https, which is refused"):
        redirected("https://b.example/", place)


def test_a_ring_of_redirects_ends():
    assert len(redirected(*["/again"] * 5)) == 6
    with pytest.raises(SourceError, match="it redirects more than 5 times"):
        redirected(*["/again"] * 6)


def test_a_server_that_never_answers_is_given_up(loopback, part):
    assert refusal(loopback.offer(DATA, never_answer), part, QUICK) == "it sent nothing for 0.3 s"
    assert not part.exists()


def test_a_server_that_stalls_is_given_up_and_what_came_stays(loopback, part):
    words = refusal(loopback.offer(DATA, stall_after(DATA, 70_000)), part, QUICK)
    assert words in ("it sent nothing for 0.3 s", "it was slower than 50 kB/s for 0.3 s")
    assert part.read_bytes() == DATA[:70_000]


def test_a_slow_server_is_given_up_and_what_came_stays(loopback, part):
    words = refusal(loopback.offer(DATA, serve_slowly(DATA)), part, QUICK)
    assert words == "it was slower than 50 kB/s for 0.3 s"
    came = part.read_bytes()
    assert 100 <= len(came) < 10_000
    assert DATA.startswith(came)


def test_a_server_that_is_fast_enough_may_take_its_time(loopback, part):
    remote = loopback.offer(DATA, serve_slowly(DATA, 0.05, 20_000))  # 400 kB/s, for 0.75 s
    bring(remote, part, DownloadTimeouts(slow_s=0.5, slow_bytes_per_s=50_000))
    assert part.read_bytes() == DATA


def test_neither_a_pause_nor_the_disk_makes_a_source_slow(loopback, part, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: time.sleep(0.6))
    patience = DownloadTimeouts(slow_s=0.4, slow_bytes_per_s=50_000, pause_s=0.6)
    bring(loopback.offer(DATA, serve(DATA, 1000), serve(DATA)), part, patience)
    assert part.read_bytes() == DATA


def test_the_whole_may_not_take_longer_than_its_time(loopback, part):
    patience = DownloadTimeouts(slow_bytes_per_s=0, total_s=0.3)
    remote = loopback.offer(DATA, serve_slowly(DATA))
    assert refusal(remote, part, patience) == "it took longer than 0.3 s"


def test_a_port_that_nobody_listens_at_cannot_be_reached(part):
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        assert refusal(RemoteFile(url, "x", 1, "0"), part) == "it cannot be reached"


def test_a_connection_that_is_not_taken_up_is_given_up(part):
    with socket.socket() as full, socket.socket() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting.connect(full.getsockname())  # the one place in the queue
        url = f"http://127.0.0.1:{full.getsockname()[1]}/"
        patience = DownloadTimeouts(connect_s=0.2)
        assert refusal(RemoteFile(url, "x", 1, "0"), part, patience) == "no connection within 0.2 s"


def test_a_name_that_is_not_found_is_told_so(part, monkeypatch):
    def fail(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert "its host name was not found" in refusal(
        RemoteFile("http://a.example/", "x", 1, "0"), part
    )


@pytest.mark.parametrize("url", ["nonsense", "ftp://a.example/", "http://[::1"])
def test_an_address_that_is_none_is_told_so(part, url):
    assert refusal(RemoteFile(url, "x", 1, "0"), part) == "its address is not valid"


def test_a_certificate_that_is_not_valid_is_told_so():
    import ssl

    error = httpx.ConnectError("")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed")
    assert http_client.describe_failure(error, 1, 1) == "its certificate is not valid"


def test_a_proxy_that_makes_no_sense_is_told_so(part, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "nonsense://x")
    assert refusal(RemoteFile("http://a.example/", "x", 1, "0"), part).startswith(
        "the proxy or certificate settings"
    )


def stop_time(remote: RemoteFile, part: Path, is_there: Callable[[], bool] = lambda: True) -> float:
    """Seconds that the end takes, a moment after it has come as far as it can."""
    asked = []

    def should_stop() -> bool:
        if is_there():
            asked.append(time.monotonic())
        return len(asked) > 2  # it has been waiting for a while

    with pytest.raises(StoppedError):
        bring(remote, part, DownloadTimeouts(), should_stop=should_stop)
    return time.monotonic() - asked[2]


def test_stopping_is_quick_before_an_answer(loopback, part):
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
    begun, over = threading.Event(), threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: begun.set() or over.wait(10))
    assert stop_time(RemoteFile("http://a.example/", "x", 1, "0"), part, begun.is_set) < 0.5
    over.set()


def test_stopping_is_quick_in_the_midst_and_the_rest_comes_by_range_later(loopback, part):
    remote = loopback.offer(DATA, stall_after(DATA, 70_000), serve(DATA))
    assert stop_time(remote, part, lambda: part.exists() and part.stat().st_size >= 60_000) < 0.5
    assert part.read_bytes() == DATA[:70_000]
    bring(remote, part)
    assert part.read_bytes() == DATA
    assert loopback.ranges() == ["", "bytes=70000-"]


def test_a_connection_that_breaks_before_its_first_byte_costs_no_older_ones(loopback, part):
    part.write_bytes(DATA[:1000])
    remote = loopback.offer(DATA, lambda request: request.send_head(200, Content_Length=len(DATA)))
    assert refusal(remote, part) == "the connection broke"
    assert part.read_bytes() == DATA[:1000]


def test_a_wish_to_stop_that_was_there_before_asks_nobody(loopback, part):
    with pytest.raises(StoppedError):
        bring(loopback.offer(DATA), part, should_stop=lambda: True)
    assert loopback.requests == []


def test_what_fitted_on_a_disk_that_fills_is_gone_on_with(loopback, part):
    remote = loopback.offer(DATA)
    with file_size_limit(100_000), pytest.raises(OSError, match="File too large"):
        bring(remote, part)
    came = len(part.read_bytes())
    assert 0 < came <= 100_000
    bring(remote, part)
    assert part.read_bytes() == DATA
    assert loopback.ranges() == ["", f"bytes={came}-"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux alone has a full device")
def test_a_disk_without_any_room_is_the_kernels_own_error(loopback, part):
    part.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        bring(loopback.offer(DATA), part)


def test_nothing_that_downloads_or_reads_parquet_is_loaded_before_it_is_needed():
    program = "import sys, resnet_demo.data.cifar10.get; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert {"httpx", "pyarrow", "torch"} & set(loaded) == set()
