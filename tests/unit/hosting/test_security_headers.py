"""Who may ask the app, by which name and from which page."""

import asyncio

import httpx
import pytest
from starlette.responses import PlainTextResponse

from resnet_demo.hosting.security_headers import (
    SPACES,
    SecurityMiddleware,
    host_name,
    same_origin,
    trusted_hosts,
)

HOSTS = frozenset({"localhost", "127.0.0.1", "::1", "me-demo.hf.space"})


def asked(method="GET", path="/", host="localhost:7860", origin=None, **options):
    """What the guarded app answers."""
    headers = {"host": host, **({"origin": origin} if origin is not None else {})}

    async def ask():
        inside = PlainTextResponse("inside")
        transport = httpx.ASGITransport(SecurityMiddleware(inside, HOSTS, **options))
        async with httpx.AsyncClient(transport=transport, base_url="http://any") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("localhost:7860", 200), ("LOCALHOST:1", 200), ("127.0.0.1:7860", 200),
        ("[::1]:7860", 200), ("me-demo.hf.space", 200), ("localhost.:7860", 200),
        ("evil.example", 400), ("localhost.evil.example", 400), ("127.0.0.1.evil.example", 400),
        ("127.0.0.2", 400), ("[::2]", 400), ("10.0.0.7:7860", 400), ("", 400), ("[", 400),
        ("localhost@evil.example", 400),
    ],
)  # fmt: skip
def test_only_its_own_names_are_answered_to(host, status):
    answer = asked(host=host)
    assert answer.status_code == status
    assert status == 200 or "RESNET_DEMO_HOSTS" in answer.text


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("localhost:7860", None, 200),
        ("localhost:7860", "http://localhost:7860", 200),
        ("[::1]:7860", "http://[::1]:7860", 200),
        ("me-demo.hf.space", "https://me-demo.hf.space", 200),
        ("localhost:7860", "http://localhost:7861", 403),
        ("localhost:7860", "http://127.0.0.1:7860", 403),
        ("localhost:7860", "http://localhost", 403),
        ("localhost:7860", "https://evil.example", 403),
        ("localhost:7860", "null", 403),
        ("localhost:7860", "", 403),
        ("localhost:7860", "file://", 403),
        ("localhost:7860", "http://localhost:port", 403),
        ("me-demo.hf.space", "https://huggingface.co", 403),
    ],
)
def test_only_its_own_page_may_ask(method, host, origin, status):
    assert asked(method, "/gradio_api/queue/join", host, origin).status_code == status


@pytest.mark.parametrize(
    "path", ["/openapi.json", "/gradio_api/openapi.json", "/docs", "/redoc", "/monitoring/summary",
             "/gradio_api/monitoring", "/monitoring/"],
)  # fmt: skip
def test_nothing_tells_of_the_inside(path):
    assert asked(path=path).status_code == 404


def test_answers_carry_the_headers_and_refusals_too():
    for answer in (asked(), asked(host="evil.example")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
    assert f"frame-ancestors {SPACES}" in asked(frames=SPACES).headers["content-security-policy"]


def test_the_platform_may_look_by_address_and_sees_nothing():
    answer = asked(host="10.1.2.3:7860", space=True)
    assert (answer.status_code, answer.content) == (200, b"")
    assert asked(host="10.1.2.3:7860", path="/config", space=True).status_code == 400
    assert asked(host="evil.example", space=True).status_code == 400


def test_the_owner_names_more_hosts():
    told = trusted_hosts(
        {"SPACE_HOST": "me-demo.hf.space", "RESNET_DEMO_HOSTS": "demo.lan, Other.example:8080 ,"}
    )
    assert told >= {"localhost", "::1", "me-demo.hf.space", "demo.lan", "other.example"}
    assert "" not in told
    assert trusted_hosts({"GRADIO_SERVER_NAME": "0.0.0.0"}) == trusted_hosts({})
    assert "192.168.1.5" in trusted_hosts({"GRADIO_SERVER_NAME": "192.168.1.5"})


@pytest.mark.parametrize("scope", ["lifespan"])
def test_what_is_no_request_goes_through(scope):
    seen = []

    async def inside(scope, receive, send):
        seen.append(scope["type"])

    asyncio.run(SecurityMiddleware(inside, HOSTS)({"type": scope}, None, None))
    assert seen == [scope]


def test_names_are_read_as_browsers_write_them():
    assert host_name("[FE80::1]:80") == "fe80::1"
    assert same_origin("http://a", "a:80")
    assert same_origin("https://a", "a:443")
    assert same_origin("https://a", "a")  # behind a proxy that speaks https
    assert not same_origin("https://a:8443", "a")
