"""What tests of several folders share."""

import copy
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import QUIET
from resnet_demo.tasks.status import has_worker, request_stop, settle
from tests.loopback import Loopback

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # many processes on few cores
for name, value in QUIET.items():  # before Gradio is imported, as the app does
    os.environ.setdefault(name, value)

REPOSITORY = Path(__file__).parents[1]
PATIENCE_S = 90.0  # on a machine that does other things too
BROWSERS = ("chromium", "chromium-browser", "google-chrome")  # the same as in scripts/machine.sh


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The system's Chromium, else the one that Playwright downloaded. None: the test fails."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    if not Path(path).exists():
        pytest.fail("No Chromium on this machine: `make browser` installs one.")
    return path


@pytest.fixture(scope="session")
def until():
    """Waits for a question to be answered with yes; its answer."""

    def wait(question, patience_s=PATIENCE_S):
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            answer = question()
            if answer:
                return answer
            time.sleep(0.01)
        raise AssertionError("waited in vain")

    return wait


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    """A server that does what the test tells it."""
    server = Loopback()
    yield server
    server.end()


@pytest.fixture(scope="session")
def colours(tmp_path_factory) -> Path:
    """A data root with `colours`: 150 training and 30 test images of 12 pixels, three classes."""
    import numpy as np
    from PIL import Image

    from resnet_demo.data.importer.import_images import import_images

    root, source = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for channel, label in enumerate(("red", "green", "blue")):
        for split, count in (("train", 50), ("test", 10)):
            folder = source / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 120, (12, 12, 3), dtype=np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(folder / f"{number:03}.png")
    import_images(root, "colours", source, size=12)
    return root


class Served:
    """The app in a process of its own, over folders of its own, as a person starts it."""

    patience_s = 300.0

    def __init__(self, runs: Path, data: Path, port: int, **told: str) -> None:
        self.runs, self.data, self.port, self.told = runs, data, port, told
        self.headers = {}
        self.url = f"http://127.0.0.1:{port}/"
        self.log = runs.parent / "app.log"
        self.uploads = runs.parent / "uploads"
        self.process = None

    @property
    def environment(self) -> dict[str, str]:
        """What tells the app, and a command line beside it, where things lie."""
        return {
            **os.environ,
            "RESNET_DEMO_RUNS": str(self.runs),
            "RESNET_DEMO_DATA": str(self.data),
            "GRADIO_SERVER_PORT": str(self.port),
            "GRADIO_TEMP_DIR": str(self.uploads),
            "OMP_NUM_THREADS": "1",  # on tensors this small, threads only wait for each other
            **self.told,
        }

    def asked_by(self, **headers: str) -> "Served":
        """The same app, asked with these headers."""
        other = copy.copy(self)
        other.headers = headers
        return other

    def start(self) -> None:
        """Start it; back when it answers."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, REPOSITORY / "app.py"], cwd=REPOSITORY, env=self.environment,
                stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + self.patience_s
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(httpx.TransportError):
                if httpx.get(self.url, timeout=60).is_success:
                    return
            time.sleep(0.1)
        pytest.fail(f"the app does not answer: {self.log.read_text()}")

    def kill(self) -> None:
        """End the app as a crash does; its workers live on."""
        self.process.kill()
        self.process.wait()

    def command(self, *arguments: str) -> subprocess.CompletedProcess:
        """`python -m resnet_demo …` over the same folders."""
        return subprocess.run(
            [sys.executable, "-m", "resnet_demo", *arguments], cwd=REPOSITORY,
            env=self.environment, capture_output=True, text=True, timeout=90,
        )  # fmt: skip

    def call(self, name: str, *values: Any) -> tuple[str, Any]:
        """An endpoint by raw HTTP, past what a client would refuse: the event and its data."""
        url = f"{self.url}gradio_api/call/{name}"
        asked = json.dumps({"data": values})  # in ASCII: what is no Unicode travels escaped
        headers = {"Content-Type": "application/json", **self.headers}
        event_id = httpx.post(url, content=asked, headers=headers, timeout=60).json()["event_id"]
        text = httpx.get(f"{url}/{event_id}", headers=self.headers, timeout=90).text
        event, data = (line.split(": ", 1)[1] for line in text.strip().splitlines()[:2])
        return event, json.loads(data)

    def end(self) -> None:
        """End the app and whatever it left running."""
        self.kill()
        statuses = [*self.runs.rglob("status.json"), *self.data.glob(".tasks/*/status.json")]
        tasks = [path.parent for path in statuses]
        for folder in tasks:
            status = settle(folder)
            if status.is_live:
                request_stop(folder)
                if status.pid:
                    os.kill(status.pid, signal.SIGKILL)
        deadline = time.monotonic() + 30  # one that has not told its pid yet ends by itself
        while any(map(has_worker, tasks)) and time.monotonic() < deadline:
            time.sleep(0.1)


@pytest.fixture(scope="session")
def serve(tmp_path_factory, colours) -> Iterator[Callable[..., Served]]:
    """Starts apps over an empty folder of runs; with `colours` beside shapes10, or other data.

    told: what stands in the environment of the app.
    """
    started = []

    def start(data: Path = colours, **told: str) -> Served:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        started.append(Served(tmp_path_factory.mktemp("app") / "runs", data, port, **told))
        started[-1].start()
        return started[-1]

    yield start
    for served in started:
        served.end()
