"""Fixtures that tests of several folders share."""

import atexit
import copy
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import LIBRARY_VARIABLES
from resnet_demo.tasks.locks import has_worker
from resnet_demo.tasks.status import reconcile_status, request_stop
from tests import plain_http
from tests.hub import TOKEN, Hub
from tests.loopback import Loopback

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # many processes on few cores
os.environ.setdefault("RESNET_DEMO_STANDBY", "0")  # most tests open a page to look at it
# A folder for each test process: an app that starts empties its upload folder.
os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="uploads-")
atexit.register(shutil.rmtree, os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)
for name, value in LIBRARY_VARIABLES.items():  # before Gradio is imported, as the app does
    os.environ.setdefault(name, value)

REPOSITORY = Path(__file__).parents[1]
PATIENCE_S = 90.0  # on a machine that does other things too
# Most tests open a page for other things than the duration of a run, which costs a worker.
WITHOUT_SPEED_TESTS = """
from resnet_demo.tasks.speed_tests import SpeedTests
SpeedTests.ensure_measured = lambda *args, **more: "not in this test"
import app
app.main()
"""
LONG = ("tests/browser/", "tests/unit/training/test_distributed.py")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")  # the same as in scripts/machine.sh


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first: at the end, one of two test processes would wait for the other."""
    items.sort(key=lambda item: not any(name in item.nodeid for name in LONG))


def free_port() -> int:
    """Return a port that nothing listens on. Gradio's own search leaks a socket per taken port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Return the path of the system's Chromium, else of Playwright's; fail without one."""
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
    """Return a function that polls a condition and returns its first true value."""

    def wait(condition, patience_s=PATIENCE_S):
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            value = condition()
            if value:
                return value
            time.sleep(0.01)
        raise AssertionError(f"the condition did not hold within {patience_s:g} s")

    return wait


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    """Yield a local HTTP server whose answers the test sets."""
    server = Loopback()
    yield server
    server.stop()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Yield a stand-in for the Hugging Face Hub, with a login that this machine has stored."""
    server = Hub()
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: TOKEN)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)  # before retries
    yield server
    server.stop()


@pytest.fixture(scope="session")
def colours(tmp_path_factory) -> Path:
    """Return a data root with `colours`: 150 training, 30 test images, 12 pixels, 3 classes."""
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


class AppProcess:
    """The app as `python app.py` in a separate process, with its own run and data folders.

    measures: whether an open page measures the duration of the run that its form describes.
    """

    patience_s = 300.0

    def __init__(
        self, runs: Path, data: Path, port: int, measures: bool = False, **variables: str
    ) -> None:
        self.runs, self.data, self.port, self.measures = runs, data, port, measures
        self.variables = variables
        self.headers = {}
        self.url = f"http://127.0.0.1:{port}/"
        self.log = runs.parent / "app.log"
        self.uploads = runs.parent / "uploads"
        self.process = None

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of the app and of a command line that uses the same folders."""
        return {
            **os.environ,
            "RESNET_DEMO_RUNS": str(self.runs),
            "RESNET_DEMO_DATA": str(self.data),
            "GRADIO_SERVER_PORT": str(self.port),
            "GRADIO_TEMP_DIR": str(self.uploads),
            "OMP_NUM_THREADS": "1",  # on tensors this small, threads only wait for each other
            **self.variables,
        }

    def with_headers(self, **headers: str) -> "AppProcess":
        """Return a view of the same app whose requests carry these headers."""
        other = copy.copy(self)
        other.headers = headers
        return other

    def start(self) -> None:
        """Start the app and wait for its first answer."""
        program = [REPOSITORY / "app.py"] if self.measures else ["-c", WITHOUT_SPEED_TESTS]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *program],
                cwd=REPOSITORY,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + self.patience_s
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(httpx.TransportError):
                if plain_http.get(self.url, timeout=60).is_success:
                    return
            time.sleep(0.1)
        pytest.fail(f"the app does not answer: {self.log.read_text()}")

    def kill(self) -> None:
        """Kill the app as a crash would; its workers go on."""
        self.process.kill()
        self.process.wait()

    def command(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run `python -m resnet_demo …` with the same folders."""
        return subprocess.run(
            [sys.executable, "-m", "resnet_demo", *arguments],
            cwd=REPOSITORY,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=90,
        )

    def call(self, name: str, *values: Any) -> tuple[str, Any]:
        """Call an endpoint by raw HTTP and return (event, data).

        A client library would refuse some of the values that tests send. A busy app sends
        heartbeats before the answer.
        """
        url = f"{self.url}gradio_api/call/{name}"
        body = json.dumps({"data": values})  # ASCII: lone surrogates travel escaped
        headers = {"Content-Type": "application/json", **self.headers}
        event_id = plain_http.post(url, content=body, headers=headers, timeout=60).json()[
            "event_id"
        ]
        text = plain_http.get(f"{url}/{event_id}", headers=self.headers, timeout=90).text
        messages = re.findall(r"^event: (.+)\ndata: (.*)$", text, re.MULTILINE)
        [(event, data), *_] = [each for each in messages if each[0] != "heartbeat"]
        return event, json.loads(data)

    def end(self) -> None:
        """Stop the app and every worker that it left running."""
        self.kill()
        statuses = [*self.runs.rglob("status.json"), *self.data.glob(".tasks/*/status.json")]
        tasks = [path.parent for path in statuses]
        for folder in tasks:
            status = reconcile_status(folder)
            if status.is_live:
                request_stop(folder)
                if status.pid:
                    os.kill(status.pid, signal.SIGKILL)
        deadline = time.monotonic() + 30  # a worker without a pid in its status exits by itself
        while any(map(has_worker, tasks)) and time.monotonic() < deadline:
            time.sleep(0.1)


@pytest.fixture(scope="session")
def start_app(tmp_path_factory, colours) -> Iterator[Callable[..., AppProcess]]:
    """Yield a function that starts an app with no runs, with `colours` beside shapes10 by default.

    measures, variables: as for AppProcess.
    """
    started: list[AppProcess] = []

    def start(data: Path = colours, measures: bool = False, **variables: str) -> AppProcess:
        runs = tmp_path_factory.mktemp("app") / "runs"
        app = AppProcess(runs, data, free_port(), measures, **variables)
        started.append(app)
        app.start()
        return app

    yield start
    for app in started:
        app.end()
