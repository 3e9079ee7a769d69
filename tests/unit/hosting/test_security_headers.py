"""Host, Origin and closed paths of requests, and the headers of answers."""

import asyncio
import socket
from contextlib import suppress

import httpx
import pytest
from starlette.responses import PlainTextResponse

from resnet_demo.hosting.security_headers import (
    SPACES,
    SecurityMiddleware,
    host_name,
    listens_everywhere,
    same_origin,
    trusted_hosts,
)

HOSTS = frozenset({"localhost", "127.0.0.1", "::1", "me-demo.hf.space"})


def respond(method="GET", path="/", host="localhost:7860", origin=None, **options):
    """Return the answer of an app behind the middleware."""
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
        ("localhost", 200),
        ("localhost:7860", 200),
        ("LOCALHOST:1", 200),
        ("127.0.0.1:7860", 200),
        ("[::1]:7860", 200),
        ("me-demo.hf.space", 200),
        ("localhost.:7860", 200),
        ("evil.example", 400),
        ("localhost.evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("127.0.0.2", 400),
        ("[::2]", 400),
        ("10.0.0.7:7860", 400),
        ("", 400),
        ("[", 400),
        ("localhost@evil.example", 400),
    ],
)
def test_only_allowed_hosts_are_answered(host, status):
    answer = respond(host=host)
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
def test_only_requests_of_its_own_page_are_answered(method, host, origin, status):
    assert respond(method, "/gradio_api/queue/join", host, origin).status_code == status


@pytest.mark.parametrize(
    "path",
    [
        "/openapi.json",
        "/gradio_api/openapi.json",
        "/docs",
        "/redoc",
        "/monitoring/summary",
        "/gradio_api/monitoring",
        "/monitoring/",
    ],
)
def test_paths_about_internals_are_closed(path):
    assert respond(path=path).status_code == 404


def test_answers_and_refusals_carry_the_headers():
    for answer in (respond(), respond(host="evil.example")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
    assert f"frame-ancestors {SPACES}" in respond(frames=SPACES).headers["content-security-policy"]


def test_the_platform_s_health_check_gets_an_empty_answer():
    answer = respond(host="10.1.2.3:7860", space=True)
    assert (answer.status_code, answer.content) == (200, b"")
    assert respond(host="10.1.2.3:7860", path="/config", space=True).status_code == 400
    assert respond(host="evil.example", space=True).status_code == 400


def test_the_owner_can_allow_more_hosts():
    hosts = trusted_hosts(
        {"SPACE_HOST": "me-demo.hf.space", "RESNET_DEMO_HOSTS": "demo.lan, Other.example:8080 ,"}
    )
    assert hosts >= {"localhost", "::1", "me-demo.hf.space", "demo.lan", "other.example"}
    assert "" not in hosts
    assert "192.168.1.5" in trusted_hosts({"GRADIO_SERVER_NAME": "192.168.1.5"})


@pytest.mark.parametrize("listening", ["0.0.0.0", "::", "[::]"])
def test_where_it_listens_everywhere_its_own_names_and_addresses_are_allowed(listening):
    environment = {"GRADIO_SERVER_NAME": listening}
    assert listens_everywhere(environment)
    own = socket.gethostname().lower()
    assert {"0.0.0.0", "::", own} <= trusted_hosts(environment)
    assert trusted_hosts({}) == {"localhost", "127.0.0.1", "::1"}
    # The platform of a Space asks by its own names.
    assert not listens_everywhere({**environment, "SPACE_ID": "me/demo"})
    assert own not in trusted_hosts({**environment, "SPACE_ID": "me/demo"})


def own_addresses():
    """Return the IP addresses of this machine, as far as the kernel's routes show them."""
    found = {"127.0.0.1"}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # sends nothing
        found.add(probe.getsockname()[0])
    return found


def test_an_own_address_is_allowed_only_where_it_listens_everywhere():
    for address in own_addresses() - {"127.0.0.1"}:
        assert respond(host=f"{address}:7860").status_code == 400
        assert respond(host=f"{address}:7860", own_addresses=True).status_code == 200
    for foreign in ("198.51.100.7", "[2001:db8::7]:80", "evil.example", "224.0.0.1", "1", ""):
        assert respond(host=foreign, own_addresses=True).status_code == 400


@pytest.mark.parametrize("scope", ["lifespan"])
def test_other_scopes_pass(scope):
    seen = []

    async def inside(scope, receive, send):
        seen.append(scope["type"])

    asyncio.run(SecurityMiddleware(inside, HOSTS)({"type": scope}, None, None))
    assert seen == [scope]


def test_hosts_and_origins_are_parsed_as_browsers_write_them():
    assert host_name("[FE80::1]:80") == "fe80::1"
    assert same_origin("http://a", "a:80")
    assert same_origin("https://a", "a:443")
    assert same_origin("https://a", "a")  # behind a proxy that speaks https
    assert not same_origin("https://a:8443", "a")


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/process_recording",
        "/gradio_api/component_server",
        "/gradio_api/component_server/",
        "/gradio_api/proxy=https://example.org/a",
        "/gradio_api/deep_link",
        "/gradio_api/stream/a/close",
        "/gradio_api/file=https://example.org/a.png",
        "/gradio_api/file=HTTP://example.org/a.png",
        "/gradio_api/file/https:/example.org/a.png",
        "/file=https://example.org/a.png",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_routes_that_the_page_does_not_need_are_closed(path, method):
    assert respond(method, path).status_code == 404


def test_files_of_this_machine_are_not_taken_for_remote_ones():
    assert respond(path="/gradio_api/file=/tmp/https:/a.png").status_code == 200
    assert respond(path="/gradio_api/file=/tmp/httpsa.png").status_code == 200


@pytest.mark.parametrize(
    ("name", "value", "passes"),
    [
        ("x-forwarded-host", "me-demo.hf.space", True),
        ("x-forwarded-host", "localhost:7860", True),
        ("x-forwarded-host", "evil.example", False),
        ("x-forwarded-host", "localhost, evil.example", False),
        ("x-forwarded-host", "localhost/evil", False),
        ("x-forwarded-host", "evil@localhost", False),
        ("x-gradio-server", "http://localhost:7860", False),
        ("x-forwarded-proto", "https", True),
    ],
)
def test_only_the_app_s_own_names_reach_gradio_in_headers_of_a_proxy(name, value, passes):
    seen = []

    async def inside(scope, receive, send):
        seen.extend(key for key, _ in scope["headers"])

    headers = [(b"host", b"localhost"), (name.encode(), value.encode())]
    scope = {"type": "http", "method": "GET", "path": "/config", "headers": headers}
    asyncio.run(SecurityMiddleware(inside, HOSTS)(scope, None, None))
    assert seen == [b"host", *([name.encode()] if passes else [])]
