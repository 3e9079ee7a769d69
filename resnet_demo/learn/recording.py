"""Recordings of lessons: the configs and logs of a group's runs, without the weights.

The recordings of a duel also have `surgery.json`, because surgery needs the weights.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DamagedError, NotFoundError
from resnet_demo.export.finished_run import copy_finished, new_folder, read_finished
from resnet_demo.files import write_atomically
from resnet_demo.json_files import is_number, read_json
from resnet_demo.runs.groups import Group, Membership, write_membership
from resnet_demo.runs.store import RECORDING, Run
from resnet_demo.runs.view import RunView

CHART = "surgery.json"


def write_recordings(group: Group, folder: Path, datasets: Datasets) -> list[Path]:
    """Copy each run of a finished group to `folder/learn-…` and return the new directories.

    For a duel, surgery on each network is recorded too if the test images are on this machine.

    Raises:
        ConfigError: a run has not finished, or a directory exists. Nothing is copied then.
    """
    views = {run.id: read_finished(run, "recorded", "group") for run in group.runs}
    names = recording_names(group)
    # All names before the first copy, so that a refusal leaves nothing behind.
    for name in names.values():
        if (folder / name).exists():
            raise ConfigError.rule("folder", f"a folder without {name}", str(folder))
    recordings = []
    for arm, runs in group.arms.items():
        # All recordings of a lesson are one group, whatever the group was called where it was
        # trained.
        membership = Membership(group=f"{RECORDING}{group.kind}", kind=group.kind, arm=arm)
        for run in runs:
            target = folder / names[run.id]
            files = surgery_chart_file(run, datasets) if group.kind == "duel" else {}
            record_run(run, views[run.id], target, membership, files)
            recordings.append(target)
    return recordings


def record_run(
    run: Run, view: RunView, target: Path, membership: Membership, files: Mapping[str, bytes]
) -> None:
    """Copy one run atomically. files: name -> content of further files."""
    with new_folder(target) as folder:
        copy_finished(run, view, folder)
        write_membership(folder, membership)
        for name, content in files.items():
            write_atomically(folder / name, content)


def surgery_chart_file(run: Run, datasets: Datasets) -> dict[str, bytes]:
    """Return the content of surgery.json by name; empty without the weights or the images."""
    # Imported here: both need torch, and the page that shows recordings starts without it.
    from resnet_demo.inference.classifier import Classifier
    from resnet_demo.learn.surgery import SurgeryEvaluator

    try:
        chart = SurgeryEvaluator.of(Classifier.load(run), datasets).chart()
    except NotFoundError:
        return {}
    return {CHART: (json.dumps(chart, indent=1) + "\n").encode()}


def read_surgery_chart(run: Run) -> dict[str, Any] | None:
    """Read the surgery.json of a recording; None if it is missing or damaged."""
    try:
        chart = read_json(run.path / CHART)
        rows = [*chart["strengths"], *chart["blocks"]]
        # Checked once here: the page draws what it gets.
        is_valid = all(is_number(row[1]) and 0 <= row[1] <= 1 for row in rows)
        return chart if is_valid and chart["n"] > 0 else None
    except (DamagedError, TypeError, KeyError, IndexError):
        return None


def recording_names(group: Group) -> dict[str, str]:
    """Return run id -> name of its recording: arm, kind (except for a duel), seed (if several)."""
    names = {}
    for arm, runs in group.arms.items():
        slug = re.sub("[^a-z0-9]+", "-", arm.lower()).strip("-")
        stem = slug if group.kind == "duel" else f"{group.kind}-{slug}"
        for run in runs:
            seed = f"-{run.config().seed}" if len(runs) > 1 else ""
            names[run.id] = f"{RECORDING}{stem}{seed}"
    return names
