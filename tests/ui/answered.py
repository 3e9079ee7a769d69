"""Runs of a network that learned nothing, and evaluations of them with made-up answers."""

import os
import shutil
from pathlib import Path

import torch

from resnet_demo.config import make_config, to_json
from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.evaluation.evaluate_run import RunEvaluation, result_metrics
from resnet_demo.models import build_model
from resnet_demo.models.description import describe
from resnet_demo.models.saved import save_model
from resnet_demo.tasks.status import Status, as_json
from resnet_demo.ui.evaluate.evaluation_status import Asked, Standings
from resnet_demo.ui.evaluate.tick import FOLLOWS, tick

N, CLASSES = 30, ("blue", "green", "red")  # the test images of `colours`


def untrained_runs(root: Path, *names: str) -> Path:
    """Runs by those names under `root`, which may be there; the last one is the newest."""
    first = root / names[0]
    first.mkdir(parents=True)
    config = make_config({"dataset": "colours", "model": "resnet20", "image_size": 12})
    (first / "config.json").write_text(to_json(config, "0"))
    (first / "status.json").write_bytes(as_json(Status(state="finished")))
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


def answers(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, 3) that are right more often than not, and the labels of `colours`."""
    labels = torch.arange(3).repeat_interleave(N // 3)
    logits = torch.randn(N, 3, generator=torch.Generator().manual_seed(seed))
    logits[torch.arange(N), labels] += 0.8
    return logits, labels


def answered(
    standings: Standings,
    asked: Asked,
    other: bool = False,
    seed: int = 0,
    classes: tuple[str, ...] = CLASSES,
    **told: object,
) -> RunEvaluation:
    """A finished evaluation with such answers, as a worker leaves it."""
    folder = standings.folder(asked, other)
    run = standings.services.runs.get(asked.other if other else asked.run)
    logits, labels = answers(seed)
    result = {
        **{"run": run.id, "dataset": "colours", "split": asked.split, "mode": asked.mode},
        **{"weights": describe(run.path)["sha256"], "stored": False, "beside": None},
        **result_metrics(logits, labels, classes),
    }
    evaluated = RunEvaluation({**result, **told}, logits, labels)
    folder.mkdir(parents=True)
    evaluated.save(folder)
    (folder / "status.json").write_bytes(as_json(Status(state="finished")))
    return evaluated


def told_at_once(standings: Standings, asked: Asked, before: dict | None = None) -> dict:
    """What a page is told by a tick: name of a component -> update."""
    states = tick(standings, asked, True, False, before)
    told = {}
    for name, (tell, names) in FOLLOWS.items():
        if name in states:
            part = tell(states[name])
            assert part.keys() <= {*names}
            told |= part
    return told
