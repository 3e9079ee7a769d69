"""Speed tests: a task that measures how long a run would take before there is one.

There is one speed test at a time, in a hidden folder of the runs. It never runs beside a run, which
would spoil both: it ends when a run is queued (`Launcher`), and does not begin while one is live.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

from resnet_demo.config import TrainConfig
from resnet_demo.data.info import DatasetInfo
from resnet_demo.data.recipe_fit import check_data
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DamagedError, DemoError, StoppedError
from resnet_demo.paths import Paths
from resnet_demo.tasks.base import (
    Progress,
    create_request,
    enter_state,
    read_request,
    remove_task,
    run_task,
)
from resnet_demo.tasks.estimate import find_speed, speed_test_folder, store_speed, workload
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.limits import Caller
from resnet_demo.tasks.process_setup import configure_process
from resnet_demo.tasks.queue import hold_idle_device
from resnet_demo.tasks.status import Status, reconcile_status, request_stop


class SpeedTests:
    """The speed test of a launcher's runs, which all pages share."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher, self.root = launcher, launcher.paths.runs
        self.folder = speed_test_folder(self.root)

    def status(self) -> Status | None:
        """Return the status of the latest speed test; None if missing or damaged."""
        try:
            return reconcile_status(self.folder) if self.folder.exists() else None
        except (DamagedError, FileNotFoundError):  # being replaced
            return None

    def request(self) -> dict[str, Any]:
        """Return the request of the latest speed test; empty if missing or damaged."""
        try:
            return read_request(self.folder)
        except DamagedError:
            return {}

    def ensure_measured(
        self,
        config: TrainConfig,
        info: DatasetInfo,
        caller: Caller,
        wanted_at: float,
        restart: bool = False,
    ) -> str | None:
        """Start a speed test unless it is under way; to be called until there is a speed.

        Return None, or a message that says why there will be no speed.

        wanted_at: when the speed was first wanted, Unix seconds; what failed later is not retried.
        restart: a person changed the form at `wanted_at`: stop an older test of another workload,
        wait for a newer one, and retry what failed before. Raises: ForbiddenError.
        """
        caller.require_owner("measure")
        work, status = workload(config, info), self.status()
        same = status is not None and self.request().get("work") == work
        if status is not None and status.is_live:
            if not same and restart and status.queued_at < wanted_at:
                request_stop(self.folder, "another speed test was requested")
            return None
        if same and status.state == "failed" and (status.changed_at >= wanted_at or not restart):
            return status.message
        if same and status.state == "finished" and find_speed(self.root, work):
            return None  # it ended since the caller last read the speed
        # Measured, and gone from the file: trying again and again would not help.
        if same and status.state == "finished" and status.changed_at >= wanted_at:
            return "the result was lost"
        try:
            self._start({"work": work, "config": config.to_dict()})
        except OSError as error:
            return f"{error.strerror or error}"
        return None

    def _start(self, request: dict[str, Any]) -> None:
        """Replace the last speed test, unless its worker is still exiting. Raises OSError."""
        with suppress(ConfigError, FileNotFoundError):  # another app was faster
            if remove_task(self.folder):
                lock = create_request(self.folder, request)
                self.launcher.spawn("measure", self.folder, lock)


def run_speed_test(folder: Path, paths: Paths) -> None:
    """Measure the requested config and store its speed. Raises as `run_task`."""
    request = read_request(folder)
    # The same threads as a run's worker, or the speed would be another.
    configure_process()

    def work(progress: Progress) -> str:
        from resnet_demo.training.speed import measure_speed

        config = TrainConfig(**request["config"])
        # A config that no run could have has no speed: the error says which setting.
        info = check_data(config, Datasets(paths.data))
        check_one_device()
        try:
            with hold_idle_device(paths.runs):
                enter_state(folder, "running", "training a few steps on noise")
                speed = measure_speed(config, info, progress.should_stop)
        except StoppedError as error:
            # A run came: `stopped` can only follow `stopping`.
            request_stop(folder, str(error))
            raise
        store_speed(paths.runs, request["work"], speed)
        return f"{1 / speed.train:.0f} training images/s on {speed.device}"

    run_task(folder, "loading torch", work)


def check_one_device() -> None:
    """Raise DemoError if a run would use several GPUs: the speed of one says little about it."""
    from resnet_demo.tasks.multi_gpu import process_count

    if (number := process_count()) > 1:
        raise DemoError(f"a run uses {number} GPUs here, and a speed test only one")
