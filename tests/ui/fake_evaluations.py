"""Runs with untrained networks, and evaluations of them with random logits."""

import os
import shutil
from pathlib import Path

import torch

from resnet_demo.config import make_config, to_json
from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.evaluation.evaluate_run import RunEvaluation, result_metrics
from resnet_demo.evaluation.stored_results import IMAGE_KEYS
from resnet_demo.models import build_model
from resnet_demo.models.description import model_description
from resnet_demo.models.saved import save_model
from resnet_demo.tasks.status import Status, status_json
from resnet_demo.ui.evaluate.evaluation_status import (
    UPDATES,
    Selection,
    StatusCache,
    changed_states,
)

N, CLASSES = 30, ("blue", "green", "red")  # the test images of `colours`


def untrained_runs(root: Path, *names: str) -> Path:
    """Create runs of these names under `root`, the last one the newest; return `root`."""
    first = root / names[0]
    first.mkdir(parents=True)
    config = make_config({"dataset": "colours", "model": "resnet20", "image_size": 12})
    (first / "config.json").write_text(to_json(config, "0"))
    (first / "status.json").write_bytes(status_json(Status(state="finished")))
    save_model(
        first,
        build_model("resnet20", 3),
        network={"name": "resnet20", "num_classes": 3, "stem": "small", "batch_norm": True},
        classes=CLASSES,
        preprocessing=Preprocessing(12, 12, (0.5,) * 3, (0.25,) * 3).to_dict(),
        metrics={},
    )
    for age, name in enumerate(reversed(names)):
        if name != names[0]:
            shutil.copytree(first, root / name)
        os.utime(root / name / "config.json", (1e9 - age, 1e9 - age))
    return root


def random_logits(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (N, 3) that are right more often than not, and the labels of `colours`."""
    labels = torch.arange(3).repeat_interleave(N // 3)
    logits = torch.randn(N, 3, generator=torch.Generator().manual_seed(seed))
    logits[torch.arange(N), labels] += 0.8
    return logits, labels


def save_evaluation(
    statuses: StatusCache,
    selection: Selection,
    other: bool = False,
    seed: int = 0,
    classes: tuple[str, ...] = CLASSES,
    **overrides: object,
) -> RunEvaluation:
    """Save a finished evaluation with random logits, as a worker does. overrides: result fields."""
    folder = statuses.folder(selection, other)
    run = statuses.services.runs.get(selection.other if other else selection.run)
    logits, labels = random_logits(seed)
    result = {
        "run": run.id,
        "dataset": "colours",
        "split": selection.split,
        "mode": selection.mode,
        "weights": model_description(run.path)["sha256"],
        **dict.fromkeys(IMAGE_KEYS),
        "stored": False,
        "beside": None,
        **result_metrics(logits, labels, classes),
        **overrides,
    }
    evaluated = RunEvaluation(result, logits, labels)
    folder.mkdir(parents=True)
    evaluated.save(folder)
    (folder / "status.json").write_bytes(status_json(Status(state="finished")))
    return evaluated


def page_updates(statuses: StatusCache, selection: Selection, before: dict | None = None) -> dict:
    """Return component name -> update for the states that a tick changes."""
    states = changed_states(statuses, selection, True, False, before)
    updates = {}
    for name, (update, names) in UPDATES.items():
        if name in states:
            part = update(states[name])
            assert part.keys() <= {*names}
            updates |= part
    return updates
