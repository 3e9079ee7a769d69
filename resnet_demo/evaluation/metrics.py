"""Metrics of a classifier, computed from the logits of a split."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Metrics over n images.

    top1, top5: fractions. loss: mean cross-entropy in nats. confusion: counts, rows are the true
    class, columns the predicted one. per_class: label, precision, recall and f1 (0 where undefined)
    and support (number of images) of each class.
    """

    top1: float
    top5: float
    loss: float
    n: int
    confusion: list[list[int]]
    per_class: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields ready for JSON; the loss of a diverged network is None, not NaN."""
        return asdict(self) | {"loss": self.loss if math.isfinite(self.loss) else None}


def score(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> Scores:
    """Score logits (N, C) against the true labels (N,) int64. N ≥ 1."""
    labels = labels.cpu()
    # topk orders ties and NaN by class index, so that a row of equal logits is not always correct.
    top5 = logits.topk(min(5, len(classes))).indices
    correct = top5 == labels[:, None]
    confusion = confusion_matrix(labels, top5[:, 0], len(classes))
    return Scores(
        top1=correct[:, 0].double().mean().item(),
        top5=correct.any(1).double().mean().item(),
        loss=F.cross_entropy(logits.double(), labels).item(),
        n=len(labels),
        confusion=confusion.tolist(),
        per_class=per_class(confusion, classes),
    )


def confusion_matrix(labels: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """Return counts (C, C) int64: rows are the true class, columns the predicted one."""
    cells = labels * num_classes + predicted
    return cells.bincount(minlength=num_classes**2).view(num_classes, num_classes)


def per_class(confusion: Tensor, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return precision, recall, f1 and support of each class.

    precision = correct / predicted, recall = correct / support, and f1, their harmonic mean, is
    2 correct / (predicted + support).
    """
    correct, predicted, support = confusion.diag(), confusion.sum(0), confusion.sum(1)
    columns = {
        "precision": correct / predicted.clamp(min=1),
        "recall": correct / support.clamp(min=1),
        "f1": 2 * correct / (predicted + support).clamp(min=1),
        "support": support,
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        {"label": label, **dict(zip(columns, row, strict=True))}
        for label, row in zip(classes, rows, strict=True)
    ]


def macro_f1(confusion: Tensor | Sequence[Sequence[int]]) -> float:
    """Return the unweighted mean f1 over the classes of a confusion matrix (C, C)."""
    counts = torch.as_tensor(confusion).cpu()
    rows = per_class(counts, [""] * len(counts))
    return sum(row["f1"] for row in rows) / len(rows)
