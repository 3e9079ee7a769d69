"""Limits on bodies, open requests and uploads, with a small app behind them."""

import asyncio

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from resnet_demo.hosting.access import Access
from resnet_demo.hosting.request_limits import (
    LARGE_BODY_BYTES,
    MAX_BODY_BYTES,
    MAX_BODY_PARTS,
    MAX_TARGET_BYTES,
    MAX_UPLOAD_BYTES,
    RequestLimits,
)
from resnet_demo.tasks.limits import Limits

JSON = "/gradio_api/call/run"


async def length(scope, receive, send):
    """Answer with the length of the body."""
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


def respond(content, path=JSON, limits=None, folder="/", **headers):
    """Return the answer to a POST; content: bytes, or an iterable that is sent in chunks."""

    async def chunks():
        for chunk in content:
            yield chunk

    async def ask():
        access = Access("closed" if limits else "local")
        app = RequestLimits(length, access, limits, folder)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://any"
        ) as client:
            body = content if isinstance(content, bytes) else chunks()
            return await client.post(path, content=body, headers=headers)

    return asyncio.run(ask())


@pytest.mark.parametrize("path", [JSON, "/gradio_api/queue/join", "/login", "/any"])
@pytest.mark.parametrize("limits", [None, Limits()])
def test_a_body_above_a_megabyte_is_refused_before_it_is_parsed(path, limits):
    allowed = bytes(MAX_BODY_BYTES)
    assert respond(allowed, path, limits).text == str(MAX_BODY_BYTES)
    for content in (allowed + b"x", [allowed, b"x"]):
        answer = respond(content, path, limits)
        assert (answer.status_code, answer.text) == (
            413,
            "a body may have at most 1,048,576 bytes here, got 1,048,577\n",
        )


def test_a_declared_size_is_refused_without_reading():
    read = []

    async def receive():
        read.append(1)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def ask(path, size):
        sent = []

        async def send(message):
            sent.append(message)

        headers = [(b"content-length", str(size).encode())]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
        scope["query_string"] = b""
        await RequestLimits(length, Access(), None, "/")(scope, receive, send)
        return sent[0]["status"]

    assert asyncio.run(ask(JSON, 60_000_000)) == 413
    assert asyncio.run(ask("/gradio_api/upload", MAX_UPLOAD_BYTES * 2)) == 413
    assert read == []


@pytest.mark.parametrize("part", [b"[", b"{", b"1,", b"[],"])
def test_a_body_of_very_many_values_is_refused(part):
    count = MAX_BODY_PARTS // sum(map(part.count, (b"[", b"{", b",")))
    assert respond(part * count).status_code == 200
    answer = respond(part * (count + 1))
    assert answer.status_code == 413
    assert answer.text.startswith("a body may have at most 20,000 lists, objects and values, got ")


def test_an_upload_is_larger_than_other_bodies():
    assert respond(bytes(2 * MAX_BODY_BYTES), "/gradio_api/upload").text == str(2 * MAX_BODY_BYTES)


def gather(requests, limits=None, **options):
    """Send (address, body) pairs at once; return the statuses and the most that ran together."""
    running, most = 0, 0

    async def slow(scope, receive, send):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        await PlainTextResponse("done")(scope, receive, send)

    async def ask(app, address, body):
        transport = httpx.ASGITransport(app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://any") as client:
            return (await client.post(JSON, content=body)).status_code

    async def ask_all():
        app = RequestLimits(slow, Access("closed"), limits, "/", **options)
        answers = await asyncio.gather(*(ask(app, *each) for each in requests))
        return answers, app.open

    answers, left = asyncio.run(ask_all())
    assert not left
    return answers, most


def test_open_requests_of_one_address_are_limited_in_public_and_others_are_served():
    requests = [("flood", b"")] * 10 + [("other", b"")]
    answers, _ = gather(requests, max_open=4, limits=Limits())
    assert answers == [200] * 4 + [429] * 6 + [200]
    assert gather(requests, max_open=4)[0] == [200] * 11  # locally


def test_requests_of_one_address_are_limited_in_public_and_others_are_served():
    requests = [("flood", b"")] * 10 + [("other", b"")]
    answers, _ = gather(requests, max_requests=4, limits=Limits())
    assert answers == [200] * 4 + [429] * 6 + [200]
    assert gather(requests, max_requests=4)[0] == [200] * 11  # locally


def test_few_requests_of_one_address_are_at_work_and_others_do_not_wait_for_them():
    requests = [("flood", b"")] * 10 + [("other", b"")]
    assert gather(requests, limits=Limits(), max_at_work=2)[1] == 3
    assert gather(requests, max_at_work=2)[1] == 11  # locally
    large = [("flood", bytes(LARGE_BODY_BYTES + 1))] * 4
    assert gather(large, limits=Limits(), max_at_work=2)[0] == [200] * 4


def test_an_answer_that_has_begun_keeps_no_other_request_waiting():
    async def stream(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await ended.wait()
        await send({"type": "http.response.body", "body": b"end"})

    async def ask_all():
        app = RequestLimits(stream, Access("closed"), Limits(), "/", max_at_work=1)
        started = asyncio.Queue()
        requests = [app(SCOPE, idle, started.put) for _ in range(3)]
        tasks = [asyncio.ensure_future(each) for each in requests]
        for _ in tasks:
            assert (await asyncio.wait_for(started.get(), 10))["status"] == 200
        ended.set()
        await asyncio.gather(*tasks)

    async def idle():
        await asyncio.Event().wait()

    ended = asyncio.Event()
    asyncio.run(ask_all())


SCOPE = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}


def test_a_request_that_waits_is_dropped_when_its_sender_has_left():
    async def slow(scope, receive, send):
        handled.append(scope["query_string"])
        await asyncio.sleep(0.02)

    async def gone():
        return {"type": "http.disconnect"}

    async def ask_all():
        app = RequestLimits(slow, Access("closed"), Limits(), "/", max_at_work=1)
        sent = [SCOPE | {"query_string": name} for name in (b"first", b"second")]
        await asyncio.gather(*(app(scope, gone, None) for scope in sent))

    handled = []
    asyncio.run(ask_all())
    assert handled == [b"first"]


@pytest.mark.parametrize("limits", [None, Limits()])
def test_a_long_address_is_refused(limits):
    assert respond(b"", f"/a?b={'x' * (MAX_TARGET_BYTES - 6)}", limits).status_code == 200
    for path in (f"/a?b={'x' * MAX_TARGET_BYTES}", f"/{'x' * MAX_TARGET_BYTES}"):
        assert respond(b"", path, limits).status_code == 414


def test_large_bodies_are_handled_one_after_the_other():
    assert gather([("a", bytes(LARGE_BODY_BYTES + 1))] * 4)[1] == 1
    assert gather([("a", bytes(LARGE_BODY_BYTES))] * 4)[1] == 4


@pytest.mark.parametrize("path", [JSON, "/gradio_api/upload"])
def test_a_client_that_leaves_in_the_middle_of_a_body_causes_no_error(path):
    messages = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"x", "more_body": 1}]

    async def receive():
        return messages.pop()

    scope = SCOPE | {"method": "POST", "path": path, "headers": [(b"content-length", b"9")]}
    asyncio.run(RequestLimits(length, Access(), None, "/")(scope, receive, None))
    assert not messages


@pytest.mark.parametrize(("limits", "status"), [(Limits(), 408), (None, 200)])
def test_an_upload_of_a_visitor_must_arrive_in_time(limits, status, tmp_path):
    async def trickle():
        for _ in range(4):
            yield b"x"
            await asyncio.sleep(0.1)

    async def ask():
        access = Access("closed" if limits else "local")
        app = RequestLimits(length, access, limits, tmp_path, upload_s=0.2)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://any"
        ) as client:
            headers = {"content-length": "4"}
            return await client.post("/gradio_api/upload", content=trickle(), headers=headers)

    answer = asyncio.run(ask())
    assert answer.status_code == status
    assert status == 200 or answer.text == "an upload must arrive within 0.2 s\n"
