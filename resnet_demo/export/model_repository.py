"""A run as the folder of a model repository on the Hugging Face Hub.

The folder is a run directory too, so that this program classifies and evaluates with a download.
Its card has the metadata by which the Hub finds, filters and lists models.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resnet_demo.config import TrainConfig
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DamagedError, DemoError
from resnet_demo.evaluation.evaluate_run import RunEvaluation, evaluate_run
from resnet_demo.evaluation.metrics import score
from resnet_demo.evaluation.stored_predictions import CROSS_VALIDATION
from resnet_demo.events import Finished
from resnet_demo.export.finished_run import COPIED_FILES
from resnet_demo.export.model_card import model_card
from resnet_demo.export.source import ExportSource
from resnet_demo.files import sha256_of, write_atomically
from resnet_demo.fingerprint import SPLIT_NAMES
from resnet_demo.models.description import (
    DESCRIPTION,
    WEIGHTS,
    matching_description,
    predictions_sha256,
)
from resnet_demo.models.saved import KNOWN
from resnet_demo.runs.store import check_trained_here
from resnet_demo.runs.text import escape_markdown
from resnet_demo.runs.view import RunView

CARD = "README.md"
BESIDE = ("*-predictions.safetensors", CROSS_VALIDATION, KNOWN)  # patterns
TASK = "image-classification"  # the Hub's name for it
TAGS = ["image-classification", "resnet-demo"]
HUB_DATASETS = {"cifar10": "uoft-cs/cifar10"}  # those of our names that the Hub has
LICENCE = "mit"
# What the weights of a run are derived from brings its own licence along.
WEIGHTS_LICENCES = {"efficientnet-lite0": "apache-2.0", "resnet": "bsd-3-clause"}
LICENCE_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
CONTENTS = """This repository has its weights (`model.safetensors`), what describes them
(`model.json`: classes, preprocessing, threshold), its settings and its log.

To use it, download the files into a folder, then with ResNet Demo:
`python -m resnet_demo classify FOLDER picture.jpg`."""
OnBatch = Callable[[int, int], object]


def write_model(
    source: ExportSource,
    folder: Path,
    datasets: Datasets,
    licence: str | None = None,
    on_batch: OnBatch = lambda done, total: None,
) -> tuple[list[str], list[str]]:
    """Write the files of a model repository into a folder; return their names, and notes.

    The kept weights are copied as they are, and scored on the test images, or on the validation
    images of a dataset without, or with the stored predictions; else the card has no accuracy.
    licence: the Hub's name of one; without it, that of the code, or of the weights it started from.
    on_batch(done, total): while images are scored.

    Raises ConfigError for a licence that is no name, and for the network that was not trained here;
    DamagedError.
    """
    run, config = source.run, source.config
    check_trained_here(run, "put on the Hub")
    # Before the images are scored, which takes minutes.
    licence = check_licence(licence or default_licence(config))
    view = RunView(run.log())
    view.refresh()
    if not view.started or not view.best:
        raise DamagedError(f"events.jsonl of run {run.id} is damaged: it lacks its beginning")
    for name in COPIED_FILES:
        write_atomically(folder / name, (run.path / name).read_bytes())
    copy_weights(source, folder)
    # A live run is "stopped" in the copy: no worker will ever continue it there.
    state = "finished" if isinstance(view.ended, Finished) else "stopped"
    # Without process number and queue, which say something about this machine only.
    write_atomically(folder / "status.json", (json.dumps({"state": state}) + "\n").encode())
    evaluated, notes = evaluate(source, datasets, on_batch)
    # The card describes the dataset only where it is here: another one may have its name elsewhere.
    known = config.dataset in datasets.names() and datasets.get(config.dataset)
    split = SPLIT_NAMES[evaluated.result["split"]] if evaluated else "test"
    text = model_card(
        escape_markdown(source.title),
        config,
        source.labels,
        view,
        known or None,
        score(evaluated.logits, evaluated.labels, source.labels) if evaluated else None,
        split=split,
        trained_on=evaluated.result["trained_on_pictures"] if evaluated else None,
        contents=CONTENTS,
        licence=f"The weights, the log and this text: `{licence}`.",
    )
    metadata = card_metadata(source, evaluated, licence)
    write_atomically(folder / CARD, f"---\n{metadata}\n---\n\n{text}".encode())
    return sorted(path.name for path in folder.iterdir()), notes


def copy_weights(source: ExportSource, folder: Path) -> None:
    """Copy the weights, their description and what is stored beside them. Raises DamagedError."""
    path = source.run.path
    for file in [path / WEIGHTS, *(each for name in BESIDE for each in path.glob(name))]:
        write_atomically(folder / file.name, file.read_bytes())
    description = matching_description(path).read_bytes()
    write_atomically(folder / DESCRIPTION, description)
    # A live run may have replaced its weights since they were loaded.
    if sha256_of(folder / WEIGHTS) != source.saved.sha256:
        raise DemoError(f"the run {source.run.id} has better weights by now: export it again")


def evaluate(
    source: ExportSource, datasets: Datasets, on_batch: OnBatch
) -> tuple[RunEvaluation | None, list[str]]:
    """Return the evaluation for the card, if it can be computed, and a note why not."""
    name, run = source.config.dataset, source.run
    if name in datasets.names():
        split = "test" if datasets.get(name).test else "val"
    else:
        # Stored predictions stand in for the images, and a pack has them for one split only.
        splits = (s for s in ("test", "val") if predictions_sha256(source.saved.metrics, s, name))
        split = next(splits, None)
    if split is None:
        return None, [f"The card has no accuracy: the images of {name} are not on this machine."]
    try:
        evaluated = evaluate_run(run, datasets, split, on_batch=on_batch)
    except ConfigError as error:  # the dataset has other classes now
        return None, [f"The card has no accuracy: {error}."]
    if evaluated.result["dataset_changed"]:
        return None, [f"The card has no accuracy: {name} has changed since training."]
    return evaluated, []


def card_metadata(source: ExportSource, evaluated: RunEvaluation | None, licence: str) -> str:
    """Return the metadata at the top of the card (YAML).

    https://github.com/huggingface/hub-docs/blob/main/modelcard.md. `verified` stays unset: only the
    Hub's own evaluations may have it.
    """
    from huggingface_hub import ModelCardData

    hub_dataset = HUB_DATASETS.get(source.config.dataset)
    return ModelCardData(
        license=licence,
        library_name="pytorch",
        pipeline_tag=TASK,
        tags=[*TAGS, source.config.model],
        datasets=[hub_dataset] if hub_dataset else None,
        metrics=["accuracy", "f1"] if evaluated else None,
        model_name=source.title,
        eval_results=eval_results(source, evaluated.result) if evaluated else None,
    ).to_yaml()


def eval_results(source: ExportSource, result: dict[str, Any]) -> list[Any]:
    """Return accuracy and macro F1 as entries of the `model-index`."""
    from huggingface_hub import EvalResult

    name = source.config.dataset
    split = "validation" if result["split"] == "val" else result["split"]
    values = [("accuracy", "Accuracy", result["top1"], None)]
    if result["macro_f1"] is not None:
        values.append(("f1", "Macro F1", result["macro_f1"], {"average": "macro"}))
    return [
        EvalResult(
            task_type=TASK,
            task_name="Image Classification",
            dataset_type=HUB_DATASETS.get(name, "imagefolder"),
            dataset_name=name,
            dataset_split=split,
            metric_type=metric,
            metric_name=label,
            # More digits say nothing: ten thousand images have steps of 0.0001.
            metric_value=round(value, 5),
            metric_args=options,
        )
        for metric, label, value, options in values
    ]


def default_licence(config: TrainConfig) -> str:
    """Return the licence of the weights that training started from, else that of the code."""
    if config.weights != "imagenet":
        return LICENCE
    # By the beginning of the name: all of torchvision's resnets have one licence.
    starts = (name for name in WEIGHTS_LICENCES if config.model.startswith(name))
    return WEIGHTS_LICENCES[next(starts, "resnet")]


def check_licence(licence: str) -> str:
    """Return a licence's name. Raises ConfigError for a text that cannot be one of the Hub's."""
    if not LICENCE_ID.fullmatch(licence):
        rule = "the Hub's name of a licence, such as mit or cc-by-4.0"
        raise ConfigError.rule("licence", rule, licence)
    return licence
