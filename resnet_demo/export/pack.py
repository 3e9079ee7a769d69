"""A finished run made small enough to travel: weights of half the bytes, test answers, a card.

What is packed tells nothing of the machine it was trained on but its kind and its speed.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DamagedError, DemoError
from resnet_demo.evaluation.evaluate_run import predict_split
from resnet_demo.evaluation.metrics import score
from resnet_demo.evaluation.stored_predictions import compact_logits, write_predictions
from resnet_demo.export.finished_run import copy_finished, read_finished
from resnet_demo.export.model_card import model_card
from resnet_demo.files import sync_folder, write_atomically
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.ood import ood_metric
from resnet_demo.models.description import WEIGHTS
from resnet_demo.models.saved import SavedModel, load_model, save_model
from resnet_demo.runs.store import Run, check_run_id
from resnet_demo.runs.text import bytes_text
from resnet_demo.runs.view import RunView

MOST_WEIGHTS = 9_000_000  # bytes: what a repository carries without a thought
MOST_LOST = 0.001  # top-1 that float16 may cost


def pack(run: Run, datasets: Datasets, folder: Path) -> dict[str, Any]:
    """Write the run's best epoch into a new or empty folder, whole or not at all; what came of it.

    Evaluates the weights on the test images before and after rounding them to float16, and after
    it on the validation images, for the threshold beyond which a picture is none of theirs. Raises
    ConfigError for a folder that is taken, a run that has not finished or is too large, and a
    dataset that is not here; DamagedError; DemoError where rounding costs too much; OSError.
    """
    folder = check_target(folder.resolve())
    view = read_log(run)
    making = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    making.mkdir(parents=True)
    try:
        told = write_packed(making, run, view, datasets, folder.name)
        os.rename(making, folder)  # refuses a directory that is not empty
    except BaseException:
        shutil.rmtree(making)
        raise
    sync_folder(folder.parent)
    return {"run": folder.name, "folder": str(folder), **told}


def check_target(folder: Path) -> Path:
    """The folder, if a run can be put there: a name for a run, and nothing in it."""
    check_run_id(folder.name)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError.rule("folder", "a folder that is new or empty", str(folder))
    return folder


def read_log(run: Run) -> RunView:
    """All that a finished run logged. Raises ConfigError for any other, and DamagedError."""
    view = read_finished(run, "packed", "run")
    if not view.started or not view.best:
        raise DamagedError(f"events.jsonl of run {run.id} is damaged: it lacks its beginning")
    return view


def write_packed(
    making: Path, run: Run, view: RunView, datasets: Datasets, name: str
) -> dict[str, Any]:
    """Put all files into the folder that will have that name; sizes and scores."""
    config, original = run.config(), Classifier.load(run)
    of_other_weights = ("predictions", "outside")
    metrics = {k: v for k, v in original.saved.metrics.items() if k not in of_other_weights}
    size = save_half(making, load_model(run.path), metrics)  # not the one that is measured whole
    if size > MOST_WEIGHTS:
        raise ConfigError(
            f"only weights of at most {bytes_text(MOST_WEIGHTS)} can be packed, and those of "
            f"{run.id} have {bytes_text(size)} even in float16",
            "run",
        )
    before = score(
        *predict_split(original, datasets, "test", config.dataset), original.saved.classes
    )
    half = Classifier(run, load_model(making))  # of that run: its config tells its splits
    logits, labels = predict_split(half, datasets, "test", config.dataset)
    logits = compact_logits(logits, labels)
    after = score(logits.float(), labels, half.saved.classes)
    if not before.top1 - after.top1 <= MOST_LOST:
        raise DemoError(
            f"{run.id} cannot be packed: in float16 its weights answer {after.top1:.2%} of the "
            f"test images right, in float32 {before.top1:.2%}"
        )
    whose = {"split": "test", "dataset": config.dataset, "weights": half.saved.sha256}
    kept = write_predictions(making, logits, labels, **whose)
    scores = {"test_top1": after.top1, "test_loss": after.to_dict()["loss"]}
    told = {**metrics, **scores, "predictions": kept, **threshold(half, datasets, config.dataset)}
    save_half(making, original.saved, told)
    copy_finished(run, view, making)
    text = model_card(name, config, datasets.get(config.dataset), view, after, before.top1)
    write_atomically(making / "README.md", text.encode())
    return {
        **{"weights_bytes": size, "bytes": sum(file.stat().st_size for file in making.iterdir())},
        **{"n": after.n, "top1": after.top1, "top1_float32": before.top1},
        **{"loss": scores["test_loss"], "logits": str(logits.dtype).removeprefix("torch.")},
    }


def threshold(half: Classifier, datasets: Datasets, name: str) -> dict[str, Any]:
    """The metric `outside` of the weights as stored; nothing for a network that computes NaN."""
    outside = ood_metric(predict_split(half, datasets, "val", name)[0])
    return {"outside": outside} if outside else {}


def save_half(folder: Path, saved: SavedModel, metrics: Mapping[str, Any]) -> int:
    """Write the network with its numbers in float16, but not its counters; the weights' bytes."""
    save_model(
        folder,
        saved.model.half(),
        network=saved.network,
        classes=saved.classes,
        preprocessing=saved.preprocessing,
        metrics=metrics,
    )
    return (folder / WEIGHTS).stat().st_size
