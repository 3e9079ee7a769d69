"""Measuring how long a run would take, before there is one: the task, and what its worker does.

One measurement at a time, in a hidden folder of the runs. It is never beside a run, which would
spoil both: a run that comes stops it (`Launcher`), and it does not begin where one is live.
"""

import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from resnet_demo.config import TrainConfig
from resnet_demo.data.store import DatasetInfo, Datasets, check_data
from resnet_demo.errors import ConfigError, DamagedError, DemoError, StoppedError
from resnet_demo.paths import Paths
from resnet_demo.tasks import speeds
from resnet_demo.tasks.caller import Caller
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.process_setup import configure_process
from resnet_demo.tasks.progress import Telling, begin, perform
from resnet_demo.tasks.queue import between_runs
from resnet_demo.tasks.status import LOCK, Status, new_task, request_stop, settle, take


class Measuring:
    """The measurement of a launcher's runs, which all pages share."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher, self.root = launcher, launcher.paths.runs
        self.folder = speeds.task_of(self.root)

    def status(self) -> Status | None:
        """How the latest one stands; None where there was none, or where that is damaged."""
        try:
            return settle(self.folder) if self.folder.exists() else None
        except (DamagedError, FileNotFoundError):  # replaced by another at this moment
            return None

    def told(self) -> dict[str, Any]:
        """What the latest one was asked; empty where nobody knows."""
        try:
            return json.loads((self.folder / "task.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}

    def see_to(
        self,
        config: TrainConfig,
        info: DatasetInfo,
        caller: Caller,
        wanted_at: float,
        insists: bool = False,
    ) -> str | None:
        """Have this measured, if it is not under way: to be called until there is a result.

        Returns why there will be none, in words. wanted_at: when it was first wanted, Unix
        seconds: what failed after that is not tried again. insists: a person asked for something
        new just then, so that an older measurement of other work is stopped, a newer one waited
        for, and what failed before is tried again. Raises ForbiddenError.
        """
        caller.must_own("measure")
        work, status = speeds.work_of(config, info), self.status()
        same = status is not None and self.told().get("work") == work
        if status is not None and status.is_live:
            if not same and insists and status.queued_at < wanted_at:
                request_stop(self.folder, "something else is to be measured")
            return None
        if same and status.state == "failed" and (status.changed_at >= wanted_at or not insists):
            return status.message
        if same and status.state == "finished" and speeds.find(self.root, work):
            return None  # it ended since the caller looked
        if same and status.state == "finished" and status.changed_at >= wanted_at:
            return "the result was lost"
        try:
            self._start({"work": work, "config": config.to_dict()})
        except OSError as error:
            return f"{error.strerror or error}"
        return None

    def _start(self, told: dict[str, Any]) -> None:
        """A new one in the place of the last, unless that has a worker still. Raises OSError."""
        with suppress(ConfigError, FileNotFoundError):  # another app was faster
            if self._clear():
                asked = json.dumps(told, indent=2).encode()
                lock = new_task(self.folder, {"task.json": asked})
                self.launcher.spawn("measure", self.folder, lock)

    def _clear(self) -> bool:
        """Remove what the last one left; False while its worker is on its way out."""
        if not self.folder.exists():
            return True
        lock = take(self.folder / LOCK)
        if lock is None:
            return False
        try:
            away = self.folder.with_name(f".measure-{time.monotonic_ns()}")
            self.folder.rename(away)
            shutil.rmtree(away)
        finally:
            os.close(lock)
        return True


def measure(folder: Path, paths: Paths) -> None:
    """Do what `task.json` asks, and put the result beside the others. Raises as `perform`."""
    told = json.loads((folder / "task.json").read_text("utf-8"))
    configure_process()  # as where a run trains

    def work(tell: Telling) -> str:
        from resnet_demo.training.speed import measure_speed

        config = TrainConfig(**told["config"])
        info = check_data(config, Datasets(paths.data))
        check_one_device()
        try:
            with between_runs(paths.runs):
                begin(folder, "running", "training a few steps on noise")
                speed = measure_speed(config, info, tell.should_stop)
        except StoppedError as error:
            request_stop(folder, str(error))  # if nobody has: a run has come
            raise
        speeds.keep(paths.runs, told["work"], speed)
        return f"{1 / speed.train:.0f} training images/s on {speed.device}"

    perform(folder, "loading torch", work)


def check_one_device() -> None:
    """Raises DemoError where a run has several: what one does alone says little about them all."""
    from resnet_demo.tasks.multi_gpu import process_count

    if (count := process_count()) > 1:
        raise DemoError(f"a run trains on {count} GPUs here, about which one alone says little")
