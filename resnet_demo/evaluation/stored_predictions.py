"""A run's answers on a split, kept beside its weights: its evaluation without the images.

`test-predictions.safetensors` holds logits and labels. model.json tells the file's sha256, and the
file that of the weights whose answers they are: neither can be exchanged alone.
"""

import hashlib
import math
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

SAME_LOSS = 1e-4  # nats; finer than anybody is told


def predictions_path(folder: Path, split: str) -> Path:
    """Where the answers on a split lie."""
    return folder / f"{split}-predictions.safetensors"


def compact_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """(N, C) logits in half the bytes, if no answer and no score changes; else as they are.

    Each row is taken less its largest value, which no softmax notices: the best answer then stands
    at 0, and float16 is finest right there, where the second best may be close.
    """
    half = (logits - logits.amax(1, keepdim=True)).half()
    names = [str(number) for number in range(logits.shape[1])]
    exact, near = (score(values.float(), labels, names) for values in (logits, half))
    same = (
        torch.equal(logits.argmax(1), half.argmax(1))
        and (near.confusion, near.top5) == (exact.confusion, exact.top5)
        and math.isclose(near.loss, exact.loss, abs_tol=SAME_LOSS)  # NaN is not
    )
    return half if same else logits


def write_predictions(
    folder: Path, logits: Tensor, labels: Tensor, *, split: str, dataset: str, weights: str
) -> dict[str, Any]:
    """Write the file; what model.json's metrics must tell as `predictions`.

    logits (N, C), as `compact` gives them; labels (N,); weights: their sha256.
    """
    small = torch.uint8 if logits.shape[1] <= 256 else torch.int64
    content = safetensors.torch.save(
        {"logits": logits.contiguous(), "labels": labels.to(small)},
        metadata={"split": split, "dataset": dataset, "weights": weights},
    )
    write_atomically(predictions_path(folder, split), content)
    return {"split": split, "dataset": dataset, "sha256": hashlib.sha256(content).hexdigest()}


def read_predictions(
    folder: Path, saved: SavedModel, split: str, dataset: str
) -> tuple[Tensor, Tensor]:
    """Logits (N, C) float32, each row's largest 0 or all as they were; labels (N,) int64.

    For a split and a dataset of which model.json tells. Raises DamagedError.
    """
    path = predictions_path(folder, split)
    digest = hashlib.sha256(read_required(path)).hexdigest()
    if digest != predictions_sha256(saved.metrics, split, dataset):
        raise damaged(path, f"it is not the file that {DESCRIPTION} describes (its sha256 differs)")
    with safe_open(path, "pt") as file:
        if file.metadata() != {"split": split, "dataset": dataset, "weights": saved.sha256}:
            raise damaged(path, "its answers are those of other weights")
        return file.get_tensor("logits").float(), file.get_tensor("labels").long()


def damaged(path: Path, why: str) -> DamagedError:
    """The sentence on a file that is not used."""
    return DamagedError(f"{path.name} of {path.parent.name} is damaged and is not used: {why}")
