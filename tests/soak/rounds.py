"""The long soak: real training and ten viewers, while the worker is killed and resumed repeatedly.

    python -m tests.soak.rounds --minutes 30 --data DIR build/soak

DIR: a data root that contains `cifar10`, which is copied. Writes `samples.json`, which
`python -m tests.soak.figure` draws, and prints a summary. Linux only.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from resnet_demo.events import Step
from resnet_demo.runs.store import Run
from resnet_demo.tasks.status import read_status, reconcile_status
from tests.conftest import AppProcess
from tests.pages import Page, Viewer
from tests.unit.tasks.test_load import processor_s

SAMPLE_S = 2.0
PATIENCE_S = 600.0  # for loading torch and 50,000 images on a busy machine
PAGE = os.sysconf("SC_PAGE_SIZE")


class UnlimitedApp(AppProcess):
    """The app without the tests' limit on threads, as a person starts it."""

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of the tests without OMP_NUM_THREADS."""
        return {k: v for k, v in super().environment.items() if k != "OMP_NUM_THREADS"}


@dataclass
class Soak:
    """A soak in progress: the app, the run and the measurements. Times in seconds since the start.

    looks: (time, seconds that a page waited for an answer). samples: a dict every SAMPLE_S.
    kills: a dict for each.
    """

    app: AppProcess
    run: Run
    began: float = field(default_factory=time.monotonic)
    looks: list[tuple[float, float]] = field(default_factory=list)
    failed_looks: int = 0
    samples: list[dict[str, Any]] = field(default_factory=list)
    kills: list[dict[str, Any]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def now(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.began

    def run_state(self) -> dict[str, Any]:
        """Return what the app's API answers about the run."""
        event, answer = self.app.call("run", self.run.id)
        assert event == "complete", answer
        return answer[0]

    def sample(self) -> None:
        """Record the state of the run, and memory and descriptors of both processes."""
        while not self.over.wait(SAMPLE_S):
            status = read_status(self.run.path)
            self.samples.append(
                {
                    "at": self.now(),
                    "state": status.state,
                    "app": process_usage(self.app.process.pid),
                    "worker": process_usage(status.pid) if status.pid else None,
                }
            )

    async def view(self, viewer: Viewer, late: float) -> None:
        """Keep a page open that asks for the run once a second, as the page's timer does."""
        await viewer.open()
        await asyncio.sleep(late)
        while not self.over.is_set():
            began = self.now()
            try:
                await viewer.poll()
                self.looks.append((began, self.now() - began))
            except (OSError, EOFError, AssertionError):
                self.failed_looks += 1
            await asyncio.sleep(max(0.0, 1.0 - (self.now() - began)))
        viewer.close()

    async def crowd(self, count: int) -> None:
        """Keep that many pages open at once."""
        views = (self.view(Viewer(self.app, self.run.id), n / count) for n in range(count))
        await asyncio.gather(*views)

    def kill(self, page: Page) -> None:
        """Kill the worker; press Resume on a page as soon as the app reports the failure.

        Records how long it took until the failure was reported, and until the next step was done.
        """
        pid, began = until(lambda: read_status(self.run.path).pid), self.now()
        os.kill(pid, signal.SIGKILL)
        until(lambda: self.run_state()["state"] == "failed")
        reported_s, message = self.now() - began, self.run_state()["message"]
        done, error = page.press("resume", self.run.id)
        assert done, error
        lines = len(list(self.run.log()))
        until(lambda: any(isinstance(e, Step) for e in list(self.run.log())[lines:]))
        self.kills.append(
            {
                "at": began,
                "reported_s": reported_s,
                "message": message,
                "steps_s": self.now() - began,
            }
        )

    def run_for(self, minutes: float, viewers: int, kills: int) -> None:
        """Run the soak for that many minutes."""
        until(lambda: self.run_state()["progress"]["step"] > 0)
        threads = [
            threading.Thread(target=self.sample),
            threading.Thread(target=lambda: asyncio.run(self.crowd(viewers))),
        ]
        page, self.began = Page(self.app), time.monotonic()
        for thread in threads:
            thread.start()
        try:
            for number in range(kills):
                wait_until(self.began + 60 * minutes * (number + 0.7) / kills)
                self.kill(page)
            wait_until(self.began + 60 * minutes)
        finally:
            self.over.set()
            for thread in threads:
                thread.join()


def process_usage(pid: int) -> dict[str, float] | None:
    """Return a process's memory (MB), descriptors and processor seconds; None if it has ended."""
    with suppress(OSError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        if pages == 0:  # a zombie: its parent has not waited for it yet
            return None
        count = len(os.listdir(f"/proc/{pid}/fd"))
        return {"mb": pages * PAGE / 1e6, "fds": count, "cpu_s": processor_s(pid)}
    return None


def until(condition: Any) -> Any:
    """Wait until the answer is true; return it."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.1)
    raise AssertionError("timed out")


def wait_until(at: float) -> None:
    """Wait until that second of `time.monotonic`; return at once if it has passed."""
    time.sleep(max(0.0, at - time.monotonic()))


def repeated(run: Run) -> tuple[int, int]:
    """Return how many steps were logged again after a kill, and how many of those differ."""
    losses = defaultdict(set)
    counts = defaultdict(int)
    for event in run.log():
        if isinstance(event, Step):
            losses[event.step].add((event.loss, event.top1))
            counts[event.step] += 1
    twice = [step for step, count in counts.items() if count > 1]
    return len(twice), sum(len(losses[step]) > 1 for step in twice)


def summary(soak: Soak, minutes: float, viewers: int) -> dict[str, Any]:
    """Return the figures of the soak; pairs compare its first fifth with its last."""
    end = 60 * minutes
    first = [seconds for at, seconds in soak.looks if at < end / 5]
    last = [seconds for at, seconds in soak.looks if at > end * 4 / 5]
    apps = [sample["app"] for sample in soak.samples if sample["app"]]
    ends = apps[: max(1, len(apps) // 5)], apps[-max(1, len(apps) // 5) :]
    workers = [sample["worker"] for sample in soak.samples if sample["worker"]]
    again, differing = repeated(soak.run)
    return {
        "minutes": minutes,
        "viewers": viewers,
        "kills": len(soak.kills),
        "reported_s": [round(kill["reported_s"], 2) for kill in soak.kills],
        "steps_again_s": [round(kill["steps_s"], 1) for kill in soak.kills],
        "points_twice": again,
        "points_that_differ": differing,
        "steps": soak.run_state()["progress"]["step"],
        "epochs": len(soak.run_state()["history"]),
        "looks": len(soak.looks),
        "failed_looks": soak.failed_looks,
        "median_s": [round(median(some), 3) for some in (first, last)],
        "p95_s": [round(quantiles(some, n=20)[-1], 3) for some in (first, last)],
        "app_mb": [round(median(a["mb"] for a in some)) for some in ends],
        "app_fds": [round(median(a["fds"] for a in some)) for some in ends],
        "app_cores": round((apps[-1]["cpu_s"] - apps[0]["cpu_s"]) / end, 3),
        "worker_mb": [round(min(w["mb"] for w in workers)), round(max(w["mb"] for w in workers))],
        "worker_fds": max(w["fds"] for w in workers),
    }


def run_soak(
    folder: Path,
    config: dict[str, Any],
    data: Path | None,
    minutes: float,
    viewers: int = 10,
    kills: int = 5,
) -> dict[str, Any]:
    """Run a soak with an app over `folder`, which is empty; return samples and summary.

    data: a data root from which the dataset is copied.
    """
    if data:
        shutil.copytree(data / config["dataset"], folder / "data" / config["dataset"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        app = UnlimitedApp(folder / "runs", folder / "data", probe.getsockname()[1])
    app.start()
    try:
        event, answer = app.call("train", config)
        assert event == "complete", answer
        soak = Soak(app, Run(app.runs / answer[0]))
        soak.run_for(minutes, viewers, kills)
        figures = summary(soak, minutes, viewers)
        app.call("stop", soak.run.id)
        until(lambda: not reconcile_status(soak.run.path).is_live)
    finally:
        app.end()
    return {"summary": figures, "samples": soak.samples, "looks": soak.looks, "kills": soak.kills}


def main() -> None:
    """Run a soak from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for samples.json")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--data", type=Path, required=True, help="data root with cifar10")
    args = parser.parse_args()
    config = {"recipe": "paper", "model": "resnet8", "dataset": "cifar10", "epochs": 1000}
    with tempfile.TemporaryDirectory() as folder:
        results = run_soak(Path(folder), config, args.data, args.minutes)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "samples.json").write_text(json.dumps(results))
    print(json.dumps(results["summary"], indent=2))


if __name__ == "__main__":
    main()
