"""A built Space from its start to its first answer, in a frame on a phone."""

import os
import re
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from resnet_demo.hosting.space import build

pytestmark = [pytest.mark.browser, pytest.mark.soak]

FIRST_ANSWER_S = 15.0  # after a cold start, on two cores that do nothing else
HUB = "https://huggingface.co/spaces/anybody/demo"
FRAME = '<style>iframe {{border: 0; width: 100%; height: 840px}}</style><iframe src="{}"></iframe>'
SKIPPED = ("PYTHONPATH", "VIRTUAL_ENV")  # so that the repository is not found


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Return the Python of an environment with the Space's requirements.

    RESNET_DEMO_TEST_PYTHON names an existing one; else it is installed, several GB.
    """
    if named := os.environ.get("RESNET_DEMO_TEST_PYTHON"):
        return named
    folder = tmp_path_factory.mktemp("clean")
    build(folder / "space")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    made = folder / "env" / "bin" / "python"
    install = ["-m", "pip", "install", "-q", "-r", folder / "space" / "requirements.txt"]
    subprocess.run([made, *install], check=True)
    return str(made)


@pytest.fixture
def space(tmp_path, python):
    """Start a built Space; yield its address, the time of its start, and its log."""
    folder = tmp_path / "space"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    build(folder)
    kept = {name: value for name, value in os.environ.items() if name not in SKIPPED}
    variables = {
        "SPACE_ID": "anybody/demo",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(tmp_path / "uploads"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    began = time.monotonic()
    with open(tmp_path / "app.log", "wb") as log:
        app = subprocess.Popen(
            [python, "app.py"], cwd=folder, env={**kept, **variables}, stdout=log, stderr=log
        )
    yield f"http://127.0.0.1:{port}/", began, tmp_path / "app.log"
    app.terminate()
    app.wait()


def wait_for(url: str, log: Path) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if httpx.get(url).is_success:
                return
        time.sleep(0.1)
    pytest.fail(f"the Space does not answer: {log.read_text()}")


def test_a_space_classifies_a_picture_soon_after_a_cold_start_in_a_frame_on_a_phone(space, browser):
    url, began, log = space
    wait_for(url, log)
    up = time.monotonic() - began
    context = browser.new_context(viewport={"width": 390, "height": 844})
    context.grant_permissions(["local-network-access"])  # the real frame's host is no loopback
    page = context.new_page()
    page.set_default_timeout(180_000)
    page.route(HUB, lambda route: route.fulfill(content_type="text/html", body=FRAME.format(url)))
    page.goto(HUB)
    app = page.frame_locator("iframe")
    app.get_by_role("tab", name="Classify").click()
    app.locator("#shipped button").first.click()
    expect(app.locator("#labels")).to_contain_text(re.compile(r"\d%"), timeout=180_000)
    answered = time.monotonic() - began
    print(f"up after {up:.1f} s, the first answer after {answered:.1f} s")
    frame = page.frames[1]
    wide = frame.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    context.close()
    assert wide <= 0, "it is wider than the phone"
    assert answered < FIRST_ANSWER_S
