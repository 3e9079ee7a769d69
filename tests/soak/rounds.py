"""The long soak: real training, ten viewers, its worker killed and resumed again and again.

    python -m tests.soak.rounds --minutes 30 --data DIR build/soak

DIR: a data root as the app stores it, with `cifar10` in it; its images are copied. Writes
`samples.json`, which `python -m tests.soak.figure` draws, and prints a summary. Linux only.
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
PATIENCE_S = 600.0  # for torch and 50,000 images on a machine that does other things
PAGE = os.sysconf("SC_PAGE_SIZE")


class Alone(AppProcess):
    """The app as a person starts it: with as many threads as it likes."""

    @property
    def environment(self) -> dict[str, str]:
        """Without the tests' limit on threads."""
        return {k: v for k, v in super().environment.items() if k != "OMP_NUM_THREADS"}


@dataclass
class Soak:
    """One soak under way: what is watched, and what was seen so far. Times in seconds since start.

    looks: (when, seconds the page waited); samples: a dict each SAMPLE_S; kills: a dict each.
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
        """Seconds since the start."""
        return time.monotonic() - self.began

    def told(self) -> dict[str, Any]:
        """What the app says of the run."""
        event, answer = self.app.call("run", self.run.id)
        assert event == "complete", answer
        return answer[0]

    def sample(self) -> None:
        """Every SAMPLE_S: memory and descriptors of both processes, and where the run is."""
        while not self.over.wait(SAMPLE_S):
            status = read_status(self.run.path)
            self.samples.append(
                {
                    "at": self.now(),
                    "state": status.state,
                    "app": of_process(self.app.process.pid),
                    "worker": of_process(status.pid) if status.pid else None,
                }
            )

    async def view(self, viewer: Viewer, late: float) -> None:
        """A page that stays open: one look a second, as the page's timer takes it."""
        await viewer.open()
        await asyncio.sleep(late)
        while not self.over.is_set():
            began = self.now()
            try:
                await viewer.get()
                self.looks.append((began, self.now() - began))
            except (OSError, EOFError, AssertionError):
                self.failed_looks += 1
            await asyncio.sleep(max(0.0, 1.0 - (self.now() - began)))
        viewer.close()

    async def crowd(self, count: int) -> None:
        """So many pages at once."""
        views = (self.view(Viewer(self.app, self.run.id), n / count) for n in range(count))
        await asyncio.gather(*views)

    def kill(self, page: Page) -> None:
        """SIGKILL to the worker; Resume pressed on a page as soon as the app says that it failed.

        Notes how long it took until that was told, and until the next step was done.
        """
        pid, began = until(lambda: read_status(self.run.path).pid), self.now()
        os.kill(pid, signal.SIGKILL)
        until(lambda: self.told()["state"] == "failed")
        told_s, message = self.now() - began, self.told()["message"]
        done, error = page.press("resume", self.run.id)
        assert done, error
        lines = len(list(self.run.log()))
        until(lambda: any(isinstance(e, Step) for e in list(self.run.log())[lines:]))
        self.kills.append(
            {"at": began, "told_s": told_s, "message": message, "steps_s": self.now() - began}
        )

    def go(self, minutes: float, viewers: int, kills: int) -> None:
        """All of it, for so many minutes."""
        until(lambda: self.told()["progress"]["step"] > 0)
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


def of_process(pid: int) -> dict[str, float] | None:
    """Megabytes in memory, open descriptors and processor seconds of a process; None: it ended."""
    with suppress(OSError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        if pages == 0:  # it is dead, and its parent has not heard of it yet
            return None
        count = len(os.listdir(f"/proc/{pid}/fd"))
        return {"mb": pages * PAGE / 1e6, "fds": count, "cpu_s": processor_s(pid)}
    return None


def until(question: Any) -> Any:
    """Waits for an answer that counts as yes; that answer."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def wait_until(at: float) -> None:
    """Until that second of the steady clock; not at all where it has passed."""
    time.sleep(max(0.0, at - time.monotonic()))


def repeated(run: Run) -> tuple[int, int]:
    """Points of the curve that were computed again after a kill, and how many of them differ."""
    losses = defaultdict(set)
    counts = defaultdict(int)
    for event in run.log():
        if isinstance(event, Step):
            losses[event.step].add((event.loss, event.top1))
            counts[event.step] += 1
    twice = [step for step, count in counts.items() if count > 1]
    return len(twice), sum(len(losses[step]) > 1 for step in twice)


def summary(soak: Soak, minutes: float, viewers: int) -> dict[str, Any]:
    """The soak in figures, its first fifth beside its last."""
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
        "told_s": [round(kill["told_s"], 2) for kill in soak.kills],
        "steps_again_s": [round(kill["steps_s"], 1) for kill in soak.kills],
        "points_twice": again,
        "points_that_differ": differing,
        "steps": soak.told()["progress"]["step"],
        "epochs": len(soak.told()["history"]),
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


def soaked(
    folder: Path, config: dict[str, Any], data: Path | None, minutes: float,
    viewers: int = 10, kills: int = 5,
) -> dict[str, Any]:  # fmt: skip
    """Soak an app over `folder`, which is empty; samples and summary. data: where images lie."""
    if data:
        shutil.copytree(data / config["dataset"], folder / "data" / config["dataset"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        app = Alone(folder / "runs", folder / "data", probe.getsockname()[1])
    app.start()
    try:
        event, answer = app.call("train", config)
        assert event == "complete", answer
        soak = Soak(app, Run(app.runs / answer[0]))
        soak.go(minutes, viewers, kills)
        told = summary(soak, minutes, viewers)
        app.call("stop", soak.run.id)
        until(lambda: not reconcile_status(soak.run.path).is_live)
    finally:
        app.end()
    return {"summary": told, "samples": soak.samples, "looks": soak.looks, "kills": soak.kills}


def main() -> None:
    """Soak as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for samples.json")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--data", type=Path, required=True, help="data root with cifar10")
    asked = parser.parse_args()
    config = {"recipe": "paper", "model": "resnet8", "dataset": "cifar10", "epochs": 1000}
    with tempfile.TemporaryDirectory() as folder:
        told = soaked(Path(folder), config, asked.data, asked.minutes)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "samples.json").write_text(json.dumps(told))
    print(json.dumps(told["summary"], indent=2))


if __name__ == "__main__":
    main()
