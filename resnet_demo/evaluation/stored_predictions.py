"""Predictions stored with a packed run, so that it can be evaluated without the images.

`test-predictions.safetensors` holds logits and labels. model.json has the sha256 of this file, and
the file has the sha256 of the weights that made the predictions: neither can be replaced alone.
`cross-validation.safetensors` holds those of a cross-validation on the training images.
"""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from resnet_demo.errors import DamagedError
from resnet_demo.evaluation.metrics import score
from resnet_demo.files import write_atomically
from resnet_demo.models.description import DESCRIPTION, predictions_sha256, read_required
from resnet_demo.models.saved import SavedModel

CROSS_VALIDATION = "cross-validation.safetensors"
LOSS_TOLERANCE = 1e-4  # nats; losses are shown with fewer digits


def predictions_path(folder: Path, split: str) -> Path:
    """Return the file with the predictions on a split."""
    return folder / f"{split}-predictions.safetensors"


def compact_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Convert logits (N, C) to float16, unless a prediction or a score would change."""
    # Subtracting the row's maximum does not change the softmax. The top class moves to 0, where
    # float16 is most precise, which matters if the second class is close.
    half = (logits - logits.amax(1, keepdim=True)).half()
    names = [str(number) for number in range(logits.shape[1])]
    exact, rounded = (score(values.float(), labels, names) for values in (logits, half))
    is_same = (
        torch.equal(logits.argmax(1), half.argmax(1))
        and (rounded.confusion, rounded.top5) == (exact.confusion, exact.top5)
        and math.isclose(rounded.loss, exact.loss, abs_tol=LOSS_TOLERANCE)  # false for NaN
    )
    return half if is_same else logits


def write_predictions(
    folder: Path, logits: Tensor, labels: Tensor, *, split: str, dataset: str, weights: str
) -> dict[str, Any]:
    """Write the file and return its description, for `predictions` in model.json's metrics.

    logits: (N, C), from `compact_logits`; labels: (N,); weights: sha256 of the weights.
    """
    label_type = torch.uint8 if logits.shape[1] <= 256 else torch.int64
    content = safetensors.torch.save(
        {"logits": logits.contiguous(), "labels": labels.to(label_type)},
        metadata={"split": split, "dataset": dataset, "weights": weights},
    )
    write_atomically(predictions_path(folder, split), content)
    return {"split": split, "dataset": dataset, "sha256": hashlib.sha256(content).hexdigest()}


def read_predictions(
    folder: Path, saved: SavedModel, split: str, dataset: str
) -> tuple[Tensor, Tensor]:
    """Read logits (N, C) float32 and labels (N,) int64 of a split that model.json describes.

    The logits may be shifted by row, see `compact_logits`. Raises DamagedError.
    """
    path = predictions_path(folder, split)
    digest = hashlib.sha256(read_required(path)).hexdigest()
    if digest != predictions_sha256(saved.metrics, split, dataset):
        raise damaged_error(
            path, f"it is not the file that {DESCRIPTION} describes (its sha256 differs)"
        )
    with safe_open(path, "pt") as file:
        if file.metadata() != {"split": split, "dataset": dataset, "weights": saved.sha256}:
            raise damaged_error(path, "its predictions are those of other weights")
        return file.get_tensor("logits").float(), file.get_tensor("labels").long()


def write_cross_validation(folder: Path, logits: Tensor, labels: Tensor) -> str:
    """Write the file and return its sha256, for `cross_validation` in the metrics of the head.

    logits: (N, C), of each training image by a head that was fitted without it; labels: (N,).
    """
    content = safetensors.torch.save({"logits": logits.contiguous(), "labels": labels.contiguous()})
    write_atomically(folder / CROSS_VALIDATION, content)
    return hashlib.sha256(content).hexdigest()


def read_cross_validation(folder: Path, metrics: Mapping[str, Any]) -> tuple[Tensor, Tensor] | None:
    """Read what `write_cross_validation` wrote; None for a run of an older version.

    metrics: in model.json. Raises DamagedError.
    """
    digest = metrics.get("head", {}).get("cross_validation")
    if digest is None:
        return None
    content = read_required(folder / CROSS_VALIDATION)
    if hashlib.sha256(content).hexdigest() != digest:
        raise damaged_error(
            folder / CROSS_VALIDATION,
            f"it is not the file that {DESCRIPTION} describes (its sha256 differs)",
        )
    tensors = safetensors.torch.load(content)
    return tensors["logits"].float(), tensors["labels"].long()


def damaged_error(path: Path, why: str) -> DamagedError:
    """Return the error for a file that is not used."""
    return DamagedError(f"{path.name} of {path.parent.name} is damaged and is not used: {why}")
