"""Packing: a finished run as a small folder that can be shared.

It has the weights in float16, the predictions on the test images and a model card. Of the machine
that trained it, it names only the kind and the speed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DamagedError, DemoError
from resnet_demo.evaluation.evaluate_run import predict_split
from resnet_demo.evaluation.metrics import Scores, score
from resnet_demo.evaluation.stored_predictions import (
    CROSS_VALIDATION,
    compact_logits,
    read_cross_validation,
    write_predictions,
)
from resnet_demo.export.finished_run import copy_finished, new_folder, read_finished
from resnet_demo.export.model_card import PACKED, model_card
from resnet_demo.files import is_new_or_empty, write_atomically
from resnet_demo.fingerprint import SPLIT_NAMES
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.ood import ood_metric
from resnet_demo.models.description import WEIGHTS
from resnet_demo.models.saved import KNOWN, SavedModel, load_model, save_model
from resnet_demo.runs.dataset import TRAINED_ON, check_dataset, describe_images
from resnet_demo.runs.store import Run, check_run_id, check_trained_here
from resnet_demo.runs.text import accuracy_text, bytes_text
from resnet_demo.runs.view import RunView

MAX_WEIGHTS = 9_000_000  # bytes; small enough for a Git repository
MAX_LOST_TOP1 = 0.001  # that rounding to float16 may cost
METRICS_OF_WEIGHTS = ("predictions", "outside")  # measured again for the rounded weights


def pack(run: Run, datasets: Datasets, folder: Path, for_repository: bool = True) -> dict[str, Any]:
    """Write the run's kept weights into a new or empty folder, atomically; return what was written.

    The weights are evaluated on the test images before and after rounding them to float16, on the
    validation images where the dataset has no test images. The out-of-distribution threshold is
    set again, on the validation images; that of a run with folds, which has none, is kept.

    for_repository: the weights must be small and in float16. Otherwise weights of any size are
    packed, and in float32 where rounding costs too much accuracy.

    Raises:
        ConfigError: the folder is not empty, the run has not finished or is too large, or its
            dataset has changed since training.
        NotFoundError: the run's dataset is not on this machine.
        DamagedError: the run is damaged.
        DemoError: rounding costs too much accuracy.
        OSError: the folder cannot be written.
    """
    folder = check_target(folder.resolve())
    check_trained_here(run, "packed")
    view = read_finished_log(run)
    with new_folder(folder) as temporary:
        packed = write_packed(temporary, run, view, datasets, folder.name, for_repository)
    return {"run": folder.name, "folder": str(folder), **packed}


def pack_for_space(run: Run, datasets: Datasets, root: Path) -> dict[str, Any]:
    """Pack a run of any size into a new folder of its name below `root`. Raises as `pack`."""
    if run.shipped:
        raise ConfigError(f"run {run.id} came with the app: every Space has it already", "run")
    return pack(run, datasets, root / run.id, for_repository=False)


def check_target(folder: Path) -> Path:
    """Return the folder. Raises ConfigError unless it is new or empty and named like a run."""
    check_run_id(folder.name)
    if not is_new_or_empty(folder):
        raise ConfigError.rule("folder", "a folder that is new or empty", str(folder))
    return folder


def read_finished_log(run: Run) -> RunView:
    """Read the log of a finished run. Raises ConfigError for any other, and DamagedError."""
    view = read_finished(run, "packed", "run")
    if not view.started or not view.best:
        raise DamagedError(f"events.jsonl of run {run.id} is damaged: it lacks its beginning")
    return view


@dataclass(frozen=True)
class PackedWeights:
    """The weights of a pack, and their predictions on the split that it is scored on.

    classifier: with the weights as they are packed, rounded to float16 if `half`. size: of the file
    in bytes. logits (N, C), labels (N,): its predictions. before: the scores in float32.
    """

    classifier: Classifier
    half: bool
    size: int
    logits: Tensor
    labels: Tensor
    before: Scores


@dataclass(frozen=True)
class PackedScores:
    """The predictions that a pack stores, and what it says of their accuracy.

    logits (N, C), labels (N,): of the split, or of a cross-validation on the training images.
    before, after: scores in float32 and as packed. trained_on: how many of those images are in the
    training split; None if that is not known.
    """

    logits: Tensor
    labels: Tensor
    before: Scores
    after: Scores
    trained_on: int | None


def write_packed(
    folder: Path,
    run: Run,
    view: RunView,
    datasets: Datasets,
    name: str,
    for_repository: bool = True,
) -> dict[str, Any]:
    """Write all files into a folder that will have that name; return sizes and scores.

    Raises as `pack`.
    """
    config, original = run.config(), Classifier.load(run)
    # On other images the scores in the pack would be wrong for ever.
    check_dataset(run, datasets, "packed")
    dataset = config.dataset
    split = "test" if datasets.get(dataset).test else "val"
    metrics = {
        key: value for key, value in original.saved.metrics.items() if key not in METRICS_OF_WEIGHTS
    }
    packed = pack_weights(folder, original, datasets, split, metrics, for_repository)
    scores = score_packed(packed, datasets, split, metrics)
    after, loss = scores.after, scores.after.to_dict()["loss"]
    if split == "test":
        metrics |= {"test_top1": after.top1, "test_loss": loss}
    metrics["predictions"] = write_predictions(
        folder,
        scores.logits,
        scores.labels,
        split=split,
        dataset=dataset,
        weights=packed.classifier.saved.sha256,
    )
    metrics["predictions"]["trained_on_pictures"] = scores.trained_on
    if outside := packed_threshold(original, packed.classifier, datasets):
        metrics["outside"] = outside
    # The same weights once more, now with what was measured on them.
    save_rounded(folder, load_model(run.path), metrics, packed.half)
    copy_finished(run, view, folder)
    # What evaluation and classification read beside the weights, where the run has it.
    for file in (TRAINED_ON, CROSS_VALIDATION, KNOWN):
        if (run.path / file).exists():
            write_atomically(folder / file, (run.path / file).read_bytes())
    precision = "float16" if packed.half else "float32"
    text = packed_card(name, run, view, datasets, split, scores, precision)
    write_atomically(folder / "README.md", text.encode())
    return {
        "weights_bytes": packed.size,
        "bytes": sum(file.stat().st_size for file in folder.iterdir()),
        "split": split,
        "n": after.n,
        "trained_on_pictures": scores.trained_on,
        "top1": after.top1,
        "top1_float32": scores.before.top1,
        "loss": loss,
        "weights": precision,
        "logits": str(scores.logits.dtype).removeprefix("torch."),
    }


def pack_weights(
    folder: Path,
    original: Classifier,
    datasets: Datasets,
    split: str,
    metrics: Mapping[str, Any],
    for_repository: bool,
) -> PackedWeights:
    """Save the weights in float16, or in float32 if rounding costs too much accuracy on the split.

    Raises ConfigError and DemoError where a repository would get too large or too inaccurate ones.
    """
    run, classes = original.run, original.saved.classes
    name = run.config().dataset
    # Loaded again, because rounding changes the model in place and `original` is evaluated below.
    size = save_rounded(folder, load_model(run.path), metrics)
    if for_repository:
        # Before the evaluations, which take much longer than this save.
        check_size(run, size)
    logits, labels = predict_split(original, datasets, split, name)
    before = score(logits, labels, classes)
    packed = Classifier(run, load_model(folder))  # the run's config defines the splits
    rounded, _ = predict_split(packed, datasets, split, name)
    after = score(rounded, labels, classes)
    if before.top1 - after.top1 <= MAX_LOST_TOP1:
        return PackedWeights(packed, True, size, rounded, labels, before)
    if for_repository:
        raise rounding_error(run, before, after)
    size = save_rounded(folder, load_model(run.path), metrics, half=False)
    return PackedWeights(Classifier(run, load_model(folder)), False, size, logits, labels, before)


def score_packed(
    packed: PackedWeights, datasets: Datasets, split: str, metrics: Mapping[str, Any]
) -> PackedScores:
    """Return the predictions to store and their scores. metrics: of the run."""
    run, classes = packed.classifier.run, packed.classifier.saved.classes
    before = packed.before
    logits, labels = compact_logits(packed.logits, packed.labels), packed.labels
    trained_on = describe_images(run, datasets, split, run.config().dataset)["trained_on_pictures"]
    held_out = read_cross_validation(run.path, metrics) if split == "val" else None
    if held_out is not None:
        # The scores so far are of images that were trained on; they only show what rounding costs.
        logits, labels = compact_logits(*held_out), held_out[1]
        before, trained_on = score(logits.float(), labels, classes), 0
    # Of the logits as they are stored: whoever reads the pack computes these very scores.
    after = score(logits.float(), labels, classes)
    return PackedScores(logits, labels, before, after, trained_on)


def packed_card(
    name: str,
    run: Run,
    view: RunView,
    datasets: Datasets,
    split: str,
    scores: PackedScores,
    precision: str,
) -> str:
    """Return the model card of a pack. precision: number format of its weights."""
    config = run.config()
    return model_card(
        name,
        config,
        tuple(datasets.get(config.dataset).classes),
        view,
        datasets.get(config.dataset),
        scores.after,
        split=SPLIT_NAMES[split],
        top1_float32=scores.before.top1 if precision == "float16" else None,
        trained_on=scores.trained_on,
        contents=PACKED.format(split=SPLIT_NAMES[split], precision=precision),
    )


def packed_threshold(
    original: Classifier, packed: Classifier, datasets: Datasets
) -> dict[str, Any] | None:
    """Return the out-of-distribution threshold of the packed weights; None if it has none."""
    config = original.run.config()
    if config.folds:
        # Cross-validation leaves no validation images. Those of training would set the threshold
        # too low: the run's own is from heads that had not seen them.
        return original.saved.metrics.get("outside")
    return ood_metric(predict_split(packed, datasets, "val", config.dataset)[0])


def check_size(run: Run, size: int) -> None:
    """Raise ConfigError if the float16 weights have too many bytes."""
    if size > MAX_WEIGHTS:
        raise ConfigError(
            f"only weights of at most {bytes_text(MAX_WEIGHTS)} can be packed, and those of "
            f"{run.id} have {bytes_text(size)} even in float16",
            "run",
        )


def rounding_error(run: Run, before: Scores, after: Scores) -> DemoError:
    """Return the error for a run that loses too much accuracy in float16."""
    return DemoError(
        f"{run.id} cannot be packed: with weights in float16 its top-1 is "
        f"{accuracy_text(after.top1, after.n)}, in float32 "
        f"{accuracy_text(before.top1, before.n)}"
    )


def save_rounded(
    folder: Path, saved: SavedModel, metrics: Mapping[str, Any], half: bool = True
) -> int:
    """Save the model, half: with float16 weights; integers stay. Return the bytes of the weights.

    The model is changed in place.
    """
    save_model(
        folder,
        saved.model.half() if half else saved.model,
        network=saved.network,
        classes=saved.classes,
        preprocessing=saved.preprocessing,
        metrics=metrics,
        fingerprint=saved.fingerprint,
    )
    return (folder / WEIGHTS).stat().st_size
