"""Starting runs that belong together: one after the other in the queue, known as a group."""

import os
import re
import shutil

from resnet_demo.config import TrainConfig
from resnet_demo.errors import DemoError
from resnet_demo.runs.groups import Membership, group_of, new_group_id, write
from resnet_demo.runs.store import Run
from resnet_demo.tasks.caller import Caller
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.status import state_of


class Comparing:
    """Groups of runs, made whole or not at all."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def make(
        self, kind: str, arms: list[tuple[str, TrainConfig]], guess: str = ""
    ) -> tuple[str, list[tuple[Run, int]]]:
        """A new group's id, and its queued runs, each with the lock of its worker to come.

        Raises ConfigError; then none of them is there.
        """
        group = new_group_id(self.launcher.runs, kind)
        made: list[tuple[Run, int]] = []
        try:
            for number, (arm, config) in enumerate(arms, start=1):
                name = f"{group}-{number}-{re.sub('[^a-z0-9]+', '-', arm.lower())}"[:60].strip("-")
                made.append(self.launcher.make(config, name))
                told = Membership(group=group, kind=kind, arm=arm, guess=guess)
                write(made[-1][0].path, told)
        except DemoError:
            for run, lock in made:  # not one of them has begun
                os.close(lock)
                shutil.rmtree(run.path)
            raise
        return group, made

    def start(
        self, kind: str, arms: list[tuple[str, TrainConfig]], caller: Caller, guess: str = ""
    ) -> str:
        """Queue them all and start their workers; the group's id.

        Raises ConfigError, ForbiddenError, LimitError.
        """
        caller.must_own("train")
        with self.launcher.allowed(caller, *(config for _, config in arms)):
            group, made = self.make(kind, arms, guess)
            for run, lock in made:
                self.launcher.spawn("train", run.path, lock)
        return group

    def stop(self, group: str, caller: Caller) -> int:
        """Ask all of a group's runs to end, those that wait first; how many were still alive."""
        caller.must_own("stop a run")
        runs = [run for run in group_of(self.launcher.runs, group).runs if not run.shipped]
        waiting = [run for run in runs if state_of(run.path) == "queued"]
        others = [run for run in runs if run not in waiting and state_of(run.path) in ALIVE]
        for run in [*waiting, *others]:  # else the next one would begin
            self.launcher.stop_task(run.path)
        return len(waiting) + len(others)


ALIVE = ("preparing", "running", "stopping")
