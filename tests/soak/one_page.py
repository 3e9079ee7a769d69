"""Measure one page from the click on Train: what it shows, when, and what that costs.

    python -m tests.soak.one_page --data DIR [--cold]

DIR: a data root that contains `cifar10`, which is copied. Starts the app, opens it in a real
browser, waits for the estimated duration, clicks Train with recipe `quick` and measures until the
run ends. --cold: drop the machine's file cache first (as root), so that torch and the images come
from the disk. Prints JSON. Linux only.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
from tests.conftest import BROWSERS, free_port
from tests.soak.rounds import UnlimitedApp, until
from tests.unit.tasks.test_load import processor_s

# What the other tests switch off: the speed test of an open page, and the standby worker.
AS_STARTED: dict[str, Any] = {"measures": True, "RESNET_DEMO_STANDBY": "1"}
PATIENCE_MS = 600_000
LOOK_MS = 50
LINES = 1000  # appended to a log, to measure what one costs


def measure_page(app: UnlimitedApp, page: Page, epochs: int, cold: bool) -> dict[str, Any]:
    """Return the measurements; seconds are since the click on Train."""
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
    states = states_until_a_point(page, began)
    point = time.monotonic() - began
    run = Runs(paths).list()[0]
    used, since = processor_s(app.process.pid), time.monotonic()
    until(lambda: page.wait_for_timeout(500) or isinstance(last_of(run), Finished))
    spent = (processor_s(app.process.pid) - used) / (time.monotonic() - since)
    events = list(run.log())
    first = next(event for event in events if isinstance(event, Step))
    started = next(event for event in events if isinstance(event, Started))
    line = seconds_per_line(first)
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


def states_until_a_point(
    page: Page, began: float, dataset: str = "cifar10"
) -> list[tuple[float, str, str]]:
    """Return (seconds, state, sentence) for all that the page showed before the first point."""
    seen = [(0.0, "", "")]
    while not has_a_point(page, dataset):
        state = tile(page, "state")
        state_text = state.inner_text() if state.count() else ""
        sentence = page.locator("#run-status")
        words = sentence.inner_text() if sentence.count() else ""
        if (state_text, words) != seen[-1][1:]:
            seen.append((round(time.monotonic() - began, 2), state_text, words))
        page.wait_for_timeout(LOOK_MS)
    return seen[1:]


def has_a_point(page: Page, dataset: str) -> bool:
    """Return whether the page shows a point of the new run, not of the shipped one."""
    return (
        f"resnet9-{dataset}" in page.url
        and page.locator("#curves [data-plot=loss]").evaluate(POINTS) > 0
    )


def last_of(run: Run) -> Any:
    """Return the last event of a run's log; None without one."""
    return [None, *run.log()][-1]


def seconds_per_line(event: Step) -> float:
    """Return the seconds it takes to append the event to a log."""
    with tempfile.TemporaryDirectory() as folder:
        log, began = EventLog(Path(folder) / "events.jsonl"), time.perf_counter()
        for _ in range(LINES):
            log.append(event)
        return round((time.perf_counter() - began) / LINES, 7)


@contextmanager
def new_page() -> Iterator[Page]:
    """Open a page of a new Chromium, and close both at the end."""
    chromium = next(path for name in BROWSERS if (path := shutil.which(name)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser.new_page()
        browser.close()


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="data root with cifar10")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--cold", action="store_true", help="drop the file cache before Train")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(args.data / "cifar10", folder / "data" / "cifar10")
        app = UnlimitedApp(folder / "runs", folder / "data", free_port(), **AS_STARTED)
        app.start()
        try:
            with new_page() as page:
                results = measure_page(app, page, args.epochs, args.cold)
        finally:
            app.end()
    json.dump(results, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
