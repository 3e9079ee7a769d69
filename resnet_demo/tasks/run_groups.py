"""Groups of runs: created together, queued one after the other, and stopped together."""

import re

from resnet_demo.config import TrainConfig
from resnet_demo.errors import DemoError
from resnet_demo.runs.groups import Membership, get_group, new_group_id, write_membership
from resnet_demo.runs.store import Run
from resnet_demo.tasks.base import remove_locked
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.limits import Caller
from resnet_demo.tasks.status import LIVE, state_of


class RunGroups:
    """The groups among a launcher's runs."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def make(
        self, kind: str, arms: list[tuple[str, TrainConfig]], guess: str = ""
    ) -> tuple[str, list[tuple[Run, int]]]:
        """Create all runs of a new group, queued, or none of them.

        Return the group's id and the runs, each with the lock for its worker. Raises: ConfigError,
        DiskFullError.
        """
        group = new_group_id(self.launcher.runs, kind)
        made: list[tuple[Run, int]] = []
        try:
            for number, (arm, config) in enumerate(arms, start=1):
                name = f"{group}-{number}-{re.sub('[^a-z0-9]+', '-', arm.lower())}"[:60].strip("-")
                # All are made before any starts: a refused config leaves no half of a comparison.
                made.append(self.launcher.make(config, name))
                membership = Membership(group=group, kind=kind, arm=arm, guess=guess)
                write_membership(made[-1][0].path, membership)
        except DemoError:
            for run, lock in made:  # no worker was started
                remove_locked(run.path, lock)
            raise
        return group, made

    def start(
        self, kind: str, arms: list[tuple[str, TrainConfig]], caller: Caller, guess: str = ""
    ) -> str:
        """Queue the runs of a new group and start their workers; return the group's id.

        Raises: ConfigError, DiskFullError, ForbiddenError, LimitError.
        """
        caller.require_owner("train")
        with self.launcher.within_limits(caller, *(config for _, config in arms)):
            group, made = self.make(kind, arms, guess)
            for run, lock in made:
                self.launcher.spawn("train", run.path, lock)
        return group

    def stop(self, group: str, caller: Caller) -> int:
        """Ask all runs of a group to stop; return how many were live."""
        caller.require_owner("stop a run")
        runs = [run for run in get_group(self.launcher.runs, group).runs if not run.shipped]
        queued = [run for run in runs if state_of(run.path) == "queued"]
        others = [run for run in runs if run not in queued and state_of(run.path) in LIVE]
        # The queued ones first, else the next one would begin.
        for run in [*queued, *others]:
            self.launcher.stop_task(run.path)
        return len(queued) + len(others)
