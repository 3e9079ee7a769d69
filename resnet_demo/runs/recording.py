"""A group of runs that others can look at: what they were told and what they logged, no weights."""

import os
import re
import shutil
from pathlib import Path

from resnet_demo.errors import ConfigError
from resnet_demo.events import Finished
from resnet_demo.files import sync_folder, write_atomically
from resnet_demo.runs.groups import Group, Membership, write
from resnet_demo.runs.packing import COPIED, status
from resnet_demo.runs.store import Run
from resnet_demo.runs.view import RunView

PREFIX = "learn-"


def record(group: Group, folder: Path) -> list[Path]:
    """Copy each run of a finished group into `folder`, as `learn-…`; where they lie now.

    Raises ConfigError for a group with a run that has not finished, and for a name that is taken;
    then nothing was copied.
    """
    views = {run.id: finished(run) for run in group.runs}
    targets = names(group)
    for name in targets.values():
        if (folder / name).exists():
            raise ConfigError.rule("folder", f"a folder without {name}", str(folder))
    made = []
    for arm, runs in group.arms.items():
        for run in runs:
            target = folder / targets[run.id]
            told = Membership(group=f"{PREFIX}{group.kind}", kind=group.kind, arm=arm)
            copy(run, views[run.id], target, told)
            made.append(target)
    return made


def copy(run: Run, view: RunView, target: Path, told: Membership) -> None:
    """One run, whole or not at all."""
    making = target.with_name(f".{target.name}.{os.getpid()}.new")
    making.mkdir(parents=True)
    try:
        for file in COPIED:
            write_atomically(making / file, (run.path / file).read_bytes())
        write_atomically(making / "status.json", status(view))
        write(making, told)
        os.rename(making, target)
    except BaseException:
        shutil.rmtree(making)
        raise
    sync_folder(target.parent)


def finished(run: Run) -> RunView:
    """All that the run logged. Raises ConfigError for one that has not finished."""
    view = RunView(run.log())
    view.refresh()
    if not isinstance(view.ended, Finished):
        raise ConfigError(f"only finished runs can be recorded, and {run.id} is none", "group")
    return view


def names(group: Group) -> dict[str, str]:
    """Run id -> name of its recording: the arm, for a duel's one seed; else all that tells it."""
    told = {}
    for arm, runs in group.arms.items():
        slug = re.sub("[^a-z0-9]+", "-", arm.lower()).strip("-")
        short = slug if group.kind == "duel" else f"{group.kind}-{slug}"
        for run in runs:
            seed = f"-{run.config().seed}" if len(runs) > 1 else ""
            told[run.id] = f"{PREFIX}{short}{seed}"
    return told
