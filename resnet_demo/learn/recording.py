"""A group of runs that others can look at: what they were told and what they logged, no weights.

What only the weights could tell, how the network bears an operation, is put down beside them.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DamagedError, NotFoundError
from resnet_demo.export.finished_run import copy_finished, read_finished
from resnet_demo.files import sync_folder, write_atomically
from resnet_demo.json_files import is_number, read_json
from resnet_demo.runs.groups import Group, Membership, write_membership
from resnet_demo.runs.store import Run
from resnet_demo.runs.view import RunView

PREFIX = "learn-"
CHART = "surgery.json"


def write_recordings(group: Group, folder: Path, datasets: Datasets) -> list[Path]:
    """Copy each run of a finished group into `folder`, as `learn-…`; where they lie now.

    A duel's networks are operated on too, on the test images where they are on this machine.

    Raises ConfigError for a group with a run that has not finished, and for a name that is taken;
    then nothing was copied.
    """
    views = {run.id: read_finished(run, "recorded", "group") for run in group.runs}
    targets = recording_names(group)
    for name in targets.values():
        if (folder / name).exists():
            raise ConfigError.rule("folder", f"a folder without {name}", str(folder))
    made = []
    for arm, runs in group.arms.items():
        for run in runs:
            target = folder / targets[run.id]
            told = Membership(group=f"{PREFIX}{group.kind}", kind=group.kind, arm=arm)
            more = surgery_chart_file(run, datasets) if group.kind == "duel" else {}
            record_run(run, views[run.id], target, told, more)
            made.append(target)
    return made


def record_run(
    run: Run, view: RunView, target: Path, told: Membership, more: Mapping[str, bytes]
) -> None:
    """One run, whole or not at all; more: other files, by name."""
    making = target.with_name(f".{target.name}.{os.getpid()}.new")
    making.mkdir(parents=True)
    try:
        copy_finished(run, view, making)
        write_membership(making, told)
        for name, content in more.items():
            write_atomically(making / name, content)
        os.rename(making, target)
    except BaseException:
        shutil.rmtree(making)
        raise
    sync_folder(target.parent)


def surgery_chart_file(run: Run, datasets: Datasets) -> dict[str, bytes]:
    """A file on how the run's network bears weaker branches and missing blocks.

    None without its weights, or without the images on this machine.
    """
    from resnet_demo.inference.classifier import Classifier  # torch, which only this needs
    from resnet_demo.learn.surgery import SurgeryEvaluator

    try:
        chart = SurgeryEvaluator.of(Classifier.load(run), datasets).chart()
    except NotFoundError:
        return {}
    return {CHART: (json.dumps(chart, indent=1) + "\n").encode()}


def read_surgery_chart(run: Run) -> dict[str, Any] | None:
    """What `operated` put down beside a recording; None where nothing sound is there."""
    try:
        chart = read_json(run.path / CHART)
        rows = [*chart["strengths"], *chart["blocks"]]
        sound = all(is_number(row[1]) and 0 <= row[1] <= 1 for row in rows)
        return chart if sound and chart["n"] > 0 else None
    except (DamagedError, TypeError, KeyError, IndexError):
        return None


def recording_names(group: Group) -> dict[str, str]:
    """Run id -> name of its recording: the arm, for a duel's one seed; else all that tells it."""
    told = {}
    for arm, runs in group.arms.items():
        slug = re.sub("[^a-z0-9]+", "-", arm.lower()).strip("-")
        short = slug if group.kind == "duel" else f"{group.kind}-{slug}"
        for run in runs:
            seed = f"-{run.config().seed}" if len(runs) > 1 else ""
            told[run.id] = f"{PREFIX}{short}{seed}"
    return told
