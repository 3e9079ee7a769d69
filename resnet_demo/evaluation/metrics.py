"""Count metrics on the logits of a split."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """top1 and top5: shares of n images. loss: mean cross-entropy in nats.

    confusion: images of the row's class that were taken for the column's. per_class: label,
    precision, recall, f1 (0 where there is nothing to divide by) and support, in images.
    """

    top1: float
    top5: float
    loss: float
    n: int
    confusion: list[list[int]]
    per_class: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, which has no NaN: the loss of a diverged network is null."""
        return asdict(self) | {"loss": self.loss if math.isfinite(self.loss) else None}


def score(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> Evaluation:
    """What (N, C) logits are worth beside the true labels (N,) int64. N is 1 at least."""
    labels = labels.cpu()
    top5 = logits.topk(min(5, len(classes))).indices  # ties and NaN: by number, never all right
    right = top5 == labels[:, None]
    confusion = confusion_matrix(labels, top5[:, 0], len(classes))
    return Evaluation(
        top1=right[:, 0].double().mean().item(),
        top5=right.any(1).double().mean().item(),
        loss=F.cross_entropy(logits.double(), labels).item(),
        n=len(labels),
        confusion=confusion.tolist(),
        per_class=per_class(confusion, classes),
    )


def confusion_matrix(labels: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """(C, C) int64: rows are the truth, columns what was said."""
    cells = labels * num_classes + predicted
    return cells.bincount(minlength=num_classes**2).view(num_classes, num_classes)


def per_class(confusion: Tensor, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Precision: right among those said to be it. Recall: found among those that are it.

    f1: their harmonic mean, 2 right / (said + support).
    """
    right, said, support = confusion.diag(), confusion.sum(0), confusion.sum(1)
    columns = {
        "precision": right / said.clamp(min=1),
        "recall": right / support.clamp(min=1),
        "f1": 2 * right / (said + support).clamp(min=1),
        "support": support,
    }
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        {"label": label, **dict(zip(columns, row, strict=True))}
        for label, row in zip(classes, values, strict=True)
    ]
