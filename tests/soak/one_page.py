"""One page from the press of Train on: what it shows and when, and what that costs.

    python -m tests.soak.one_page --data DIR [--cold]

DIR: a data root as the app stores it, with `cifar10` in it; its images are copied. Starts the app
as a person does, opens it in a real browser, waits for the duration it expects, presses Train with
recipe `quick` and watches to the end. --cold: drops the machine's file cache first, as root, so
that torch and the images come from the disk. Prints JSON. Linux only.
"""

import argparse
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from resnet_demo.config import make_config
from resnet_demo.data.store import Datasets
from resnet_demo.events import Finished, Started, Step
from resnet_demo.paths import Paths
from resnet_demo.runs.log import EventLog
from resnet_demo.runs.store import Run, Runs
from resnet_demo.tasks.estimate import estimate
from tests.browser.conftest import FLAGS
from tests.browser.test_page import POINTS, tile
from tests.conftest import BROWSERS
from tests.soak.rounds import Alone, until
from tests.unit.tasks.test_load import processor_s

PATIENCE_MS = 600_000
LOOK_MS = 50
LINES = 1000  # appended to learn what one costs


def watched(app: Alone, page: Page, epochs: int, cold: bool) -> dict[str, Any]:
    """The measurement: seconds are since Train was pressed."""
    page.set_default_timeout(PATIENCE_MS)
    page.goto(app.url)
    page.get_by_role("spinbutton", name="Epochs", exact=True).fill(str(epochs))
    page.get_by_role("spinbutton", name="Epochs", exact=True).press("Tab")
    paths = Paths(app.runs, app.data, app.runs / "none")
    config = make_config({"epochs": epochs})
    info = Datasets(app.data).get("cifar10")
    expected = until(lambda: page.wait_for_timeout(500) or estimate(config, info, Runs(paths)))
    if cold:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
    wall, began = time.time(), time.monotonic()
    page.locator("button#train").click()
    states = until_a_point(page, began)
    point = time.monotonic() - began
    run = Runs(paths).list()[0]
    used, since = processor_s(app.process.pid), time.monotonic()
    until(lambda: page.wait_for_timeout(500) or isinstance(last_of(run), Finished))
    spent = (processor_s(app.process.pid) - used) / (time.monotonic() - since)
    events = list(run.log())
    first = next(event for event in events if isinstance(event, Step))
    started = next(event for event in events if isinstance(event, Started))
    line = seconds_a_line(first)
    return {
        "shown": states,
        "torch_and_images_s": round(started.time - wall, 2),
        "first_step_s": round(first.time - wall, 2),
        "first_point_on_the_page_s": round(point, 2),
        "watched_s": round(time.monotonic() - since, 1),
        "app_share_of_the_machine": round(spent / os.cpu_count(), 5),
        "a_line_of_the_log_s": line,
        "logging_share": round(line * len(events) / events[-1].seconds, 6),
        "expected_s": round(expected.seconds, 1),
        "took_s": round(events[-1].seconds, 1),
        "expected_over_took": round(expected.seconds / events[-1].seconds, 3),
    }


def until_a_point(page: Page, began: float) -> list[tuple[float, str, str]]:
    """Every state and sentence that the page showed before its curve had a point, and when."""
    seen = [(0.0, "", "")]
    while not has_a_point(page):
        state = tile(page, "state")
        told = state.inner_text() if state.count() else ""
        sentence = page.locator("#words")
        words = sentence.inner_text() if sentence.count() else ""
        if (told, words) != seen[-1][1:]:
            seen.append((round(time.monotonic() - began, 2), told, words))
        page.wait_for_timeout(LOOK_MS)
    return seen[1:]


def has_a_point(page: Page) -> bool:
    """Whether it shows the new run, no longer the one that came with the app, and a point of it."""
    return "resnet9-cifar10" in page.url and page.locator("#loss").evaluate(POINTS) > 0


def last_of(run: Run) -> Any:
    """The last event of its log."""
    return [None, *run.log()][-1]


def seconds_a_line(event: Step) -> float:
    """What it takes to append one to a log."""
    with tempfile.TemporaryDirectory() as folder:
        log, began = EventLog(Path(folder) / "events.jsonl"), time.perf_counter()
        for _ in range(LINES):
            log.append(event)
        return round((time.perf_counter() - began) / LINES, 7)


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="data root with cifar10")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--cold", action="store_true", help="drop the file cache before Train")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, socket.socket() as probe:
        folder = Path(name)
        shutil.copytree(asked.data / "cifar10", folder / "data" / "cifar10")
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        app = Alone(folder / "runs", folder / "data", port)
        app.start()
        try:
            chromium = next(path for name in BROWSERS if (path := shutil.which(name)))
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
                told = watched(app, browser.new_page(), asked.epochs, asked.cold)
                browser.close()
        finally:
            app.end()
    json.dump(told, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
