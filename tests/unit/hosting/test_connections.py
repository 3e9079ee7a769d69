"""Deadlines and limits of connections, with a server in this process and short times."""

import asyncio
import threading
from collections import Counter
from contextlib import contextmanager, suppress

import pytest
import uvicorn

from resnet_demo.hosting.connections import ConnectionGuard, connection_limit, known_proxies
from resnet_demo.tasks.limits import Throttle

HEAD = b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 6000\r\n\r\n"
GET = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = 40_000_000  # more than the kernel takes from a server at once
SHORT = {"head_s": 0.3, "body_s": 0.3}


async def answer(scope, receive, send):
    """Answer with the length of the body; `/slow` takes a second, `/large` has
    LARGE bytes, `/whole` in one piece."""
    length, more = 0, scope["type"] == "http" and scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length, more = length + len(message["body"]), message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(10 * (scope["path"] == "/slow")):
        await asyncio.sleep(0.1)
        await send({"type": "http.response.body", "body": b".", "more_body": True})
    for _ in range(scope["path"] == "/large" and LARGE // 10**6):
        await send({"type": "http.response.body", "body": bytes(10**6), "more_body": True})
    body = bytes(LARGE) if scope["path"] == "/whole" else str(length).encode()
    await send({"type": "http.response.body", "body": body})


@contextmanager
def served(guard):
    """Yield the port of a server with this guard."""
    config = uvicorn.Config(
        answer,
        port=0,
        http=guard.protocol,
        ws="none",
        lifespan="off",
        log_level="error",
        timeout_keep_alive=60,
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        thread.join(30)


def converse(guard, talk):
    """Return the result of `talk(connect)`, a coroutine function, with a server."""

    async def run(port):
        writers = []

        async def connect(*sent, pause_s=0.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writers.append(writer)
            for part in sent:
                writer.write(part)
                await asyncio.sleep(pause_s)
            return reader

        try:
            return await asyncio.wait_for(talk(connect), 15)
        finally:
            for writer in writers:
                writer.close()

    with served(guard) as port:
        return asyncio.run(run(port))


async def read_all(reader):
    """Return all that the server sends before it closes the connection."""
    received = b""
    with suppress(ConnectionError):
        while chunk := await reader.read(1000):
            received += chunk
    return received


@pytest.mark.parametrize(
    "sent", [(), (b"GET / HT",), (b"GET / HTTP/1.1\r\nA: b\r\n",), (HEAD,), (HEAD, b"x" * 100)]
)
def test_a_connection_that_stops_sending_is_closed(sent):
    async def talk(connect):
        return await read_all(await connect(*sent))

    guard = ConnectionGuard(**SHORT)
    assert converse(guard, talk) == b""
    assert (guard.count, guard.waiting, guard.addresses) == (0, {}, {})


def test_a_head_or_body_that_trickles_is_closed():
    async def talk(connect):
        head = await connect(*[b"GET / HTTP/1.1\r\n", *[b"A: b\r\n"] * 10], pause_s=0.1)
        body = await connect(HEAD, *[b"x"] * 10, pause_s=0.1)
        return await read_all(head), await read_all(body)

    assert converse(ConnectionGuard(**SHORT), talk) == (b"", b"")


def test_a_slow_but_steady_body_and_a_long_answer_are_not_cut():
    async def talk(connect):
        upload = await connect(HEAD, *[b"x" * 600] * 10, pause_s=0.1)
        stream = await connect(GET)
        return await upload.readuntil(b"6000"), await stream.readuntil(b"\r\n0\r\n")

    upload, stream = converse(ConnectionGuard(**SHORT, min_bytes=600), talk)
    assert upload.endswith(b"6000")
    assert stream.count(b"\r\n.\r\n") == 10


def test_the_rest_of_a_body_is_read_only_for_a_while_after_an_early_answer():
    async def talk(connect):
        early = HEAD.replace(b"/length", b"/early")
        return await read_all(await connect(early, *[b"x" * 500] * 5, pause_s=0.02))

    assert b"200 OK" in converse(ConnectionGuard(**SHORT), talk)


@pytest.mark.parametrize("last", [b"", b"Connection: close\r\n"])
def test_a_client_that_does_not_read_its_answer_is_closed_and_a_slow_one_is_not(last):
    large = GET.replace(b"slow", b"large").replace(b"\r\n\r\n", b"\r\n" + last + b"\r\n")

    async def talk(connect):
        await connect(large)
        slow, read = await connect(large), 0
        while read < LARGE:  # for two seconds, in which the server waits
            if read < LARGE // 2:
                counts.append(guard.count)
            chunk = await slow.read(10**6)
            assert chunk
            read += len(chunk)
            await asyncio.sleep(0.02)

    guard, counts = ConnectionGuard(answer_s=0.8), []
    converse(guard, talk)
    assert (max(counts), counts[-1]) == (2, 1)


def test_a_flood_of_silent_connections_of_one_address_closes_its_oldest_ones():
    async def talk(connect):
        silent = [await connect() for _ in range(30)]
        reader = await connect(GET.replace(b"slow", b"now"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert [await read_all(each) for each in silent[:20]] == [b""] * 20
        seen.append(guard.count)

    guard, seen = ConnectionGuard(max_waiting=8), []
    converse(guard, talk)
    assert seen[0] <= 9


CLOSE = b"GET /whole HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [HEAD, HEAD.replace(b"/length", b"/early"), CLOSE],
    ids=["half a body", "the rest of a body", "an answer that is not read"],
)
def test_one_address_holds_few_connections_in_any_phase(sent):
    async def talk(connect):
        for _ in range(20):
            await connect(sent)
        while guard.count > 4:
            await asyncio.sleep(0.05)

    guard = ConnectionGuard(max_waiting=4)
    converse(guard, talk)


def test_of_too_many_connections_an_address_with_most_loses_its_oldest():
    async def talk(connect):
        await connect(HEAD, b"x", pause_s=0.05)
        [first] = guard.waiting
        first.address = "another"
        guard.addresses = Counter(another=1)
        for _ in range(10):
            await connect(HEAD)
        await asyncio.sleep(0.1)
        assert first in guard.waiting
        return guard.count

    guard = ConnectionGuard(max_connections=4)
    assert converse(guard, talk) == 4


def test_of_too_many_connections_the_silent_ones_are_closed_and_the_answers_go_on():
    async def talk(connect):
        streams = [await connect(GET) for _ in range(3)]
        await asyncio.sleep(0.05)
        for _ in range(10):
            await connect()
        return [await reader.readuntil(b"\r\n0\r\n") for reader in streams]

    texts = converse(ConnectionGuard(max_connections=4), talk)
    assert [text.count(b"\r\n.\r\n") for text in texts] == [10] * 3


@pytest.mark.parametrize(("soft", "limit"), [(256, 156), (64, 32), (-1, 10_000), (1024, 924)])
def test_connections_leave_descriptors_for_files(monkeypatch, soft, limit):
    monkeypatch.setattr("resource.getrlimit", lambda which: (soft, soft))
    assert connection_limit() == limit


def test_an_address_that_opens_too_many_connections_is_refused_for_a_while():
    async def talk(connect):
        answers = [await read_some(await connect(GET)) for _ in range(4)]
        now[0] = 6.0
        return [*answers, await read_some(await connect(GET))]

    async def read_some(reader):
        with suppress(ConnectionError):
            return await reader.read(12)
        return b""

    now, answered = [0.0], b"HTTP/1.1 200"
    new = Throttle(2, 5.0, lambda: now[0])
    guard = ConnectionGuard(proxies=frozenset(), new=new)
    assert converse(guard, talk) == [answered] * 2 + [b""] * 2 + [answered]
    assert guard.count == 0
    proxied = ConnectionGuard(proxies=known_proxies({}), new=Throttle(1, 5.0))
    assert converse(proxied, talk) == [answered] * 5


def test_proxies_are_those_that_the_server_trusts():
    assert known_proxies({}) == {"127.0.0.1", "::/64"}
    assert known_proxies({"FORWARDED_ALLOW_IPS": "10.0.0.1, *"}) == {"10.0.0.1", "*", "::/64"}
    assert known_proxies({"SPACE_ID": "a/b"}) == {"*"}
