"""Metrics of a classifier, computed from the logits of a split.

Accuracy, confusion matrix and per-class scores; predictions and rankings of images; calibration
(Guo et al. 2017, "On Calibration of Modern Neural Networks"). Rankings are indices into the split;
ties keep the order of the split, and a NaN prediction counts as confidence 0.
"""

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
    class, columns the predicted one. per_class: label, precision, recall, f1 and support (number of
    images) of each class; 0 where undefined, but None for recall and f1 of a class without images.
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
        # float64: in float32 a sum over ten thousand images loses the digits that are shown.
        loss=F.cross_entropy(logits.double(), labels).item(),
        n=len(labels),
        confusion=confusion.tolist(),
        per_class=per_class(confusion, classes),
    )


def confusion_matrix(labels: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """Return counts (C, C) int64: rows are the true class, columns the predicted one."""
    # The index of each image's cell in the flattened matrix; counting these fills it in one pass.
    cells = labels * num_classes + predicted
    return cells.bincount(minlength=num_classes**2).view(num_classes, num_classes)


def per_class(confusion: Tensor, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return precision, recall, f1 and support of each class.

    precision = correct / predicted, recall = correct / support, and f1, their harmonic mean, is
    2 correct / (predicted + support). Recall and f1 of a class without images are None: nothing was
    measured.
    """
    correct, predicted, support = confusion.diag(), confusion.sum(0), confusion.sum(1)
    # clamp: 0 / 1 = 0 where a score is undefined, for a class never predicted or without images.
    columns = {
        "precision": correct / predicted.clamp(min=1),
        "recall": correct / support.clamp(min=1),
        "f1": 2 * correct / (predicted + support).clamp(min=1),
        "support": support,
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        {"label": label, **dict(zip(columns, row, strict=True))}
        | ({} if row[-1] else {"recall": None, "f1": None})
        for label, row in zip(classes, rows, strict=True)
    ]


def macro_f1(confusion: Tensor | Sequence[Sequence[int]]) -> float:
    """Return the unweighted mean f1 over the classes with images of a confusion matrix (C, C)."""
    counts = torch.as_tensor(confusion).cpu()
    # A class without images has no f1: it must not count as 0 in the mean.
    rows = [row for row in per_class(counts, [""] * len(counts)) if row["support"]]
    return sum(row["f1"] for row in rows) / len(rows)


# Equal-width bins of confidence from 0 to 1. 15 as in Guo et al. 2017, table 1.
BINS, HISTOGRAM_BINS = 15, 20


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A reliability diagram: one value per bin, 0 for an empty bin. edges has one value more.

    count: predictions with a confidence in (lower edge, upper edge]. confidence, accuracy: their
    means, fractions. error: expected calibration error, a fraction; None without predictions.
    left_out: number of predictions that are NaN and have no confidence.
    """

    error: float | None
    edges: list[float]
    count: list[int]
    confidence: list[float]
    accuracy: list[float]
    left_out: int


@dataclass(frozen=True, kw_only=True)
class ConfidenceHistogram:
    """Number of correct (`right`) and wrong predictions per bin; bins as in Calibration."""

    edges: list[float]
    right: list[int]
    wrong: list[int]


def calibration(logits: Tensor, labels: Tensor) -> Calibration:
    """Compute the calibration of logits (N, C) for the true labels (N,) int64.

    The error is the sum over bins of |accuracy - confidence|, weighted by the bin's share of the
    predictions (Guo et al. 2017, section 2, equation 3).
    """
    confidence, correct = _confidence_and_correct(logits, labels)
    bins, edges = _in_bins(confidence, BINS)
    count = bins.bincount(minlength=BINS)
    confidence_sum = bins.bincount(confidence, minlength=BINS)  # with weights, bincount sums
    correct_sum = bins.bincount(correct.double(), minlength=BINS)
    # In a bin, count · |accuracy - confidence| is the difference of the two sums.
    gap = (correct_sum - confidence_sum).abs().sum()
    return Calibration(
        error=(gap / len(bins)).item() if len(bins) else None,
        edges=edges.tolist(),
        count=count.tolist(),
        confidence=(confidence_sum / count.clamp(min=1)).tolist(),
        accuracy=(correct_sum / count.clamp(min=1)).tolist(),
        left_out=len(labels) - len(bins),
    )


def confidence_histogram(logits: Tensor, labels: Tensor) -> ConfidenceHistogram:
    """Count correct and wrong predictions by confidence. NaN predictions are left out.

    logits: (N, C); labels: (N,) int64.
    """
    confidence, correct = _confidence_and_correct(logits, labels)
    bins, edges = _in_bins(confidence, HISTOGRAM_BINS)
    return ConfidenceHistogram(
        edges=edges.tolist(),
        right=bins[correct].bincount(minlength=HISTOGRAM_BINS).tolist(),
        wrong=bins[~correct].bincount(minlength=HISTOGRAM_BINS).tolist(),
    )


def _confidence_and_correct(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the confidence of each prediction, and whether it is correct; without NaN."""
    predictions = Predictions.from_logits(logits)
    is_number = predictions.confidence > 0  # 0 marks a NaN softmax
    correct = predictions.predicted == labels.cpu()
    return predictions.confidence[is_number], correct[is_number]


def _in_bins(confidence: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the bin of each confidence, from 0, and the n + 1 edges."""
    edges = torch.linspace(0, 1, n + 1, dtype=torch.float64)
    # By default bucketize closes each bin at its upper edge, as Guo et al. do.
    # Without the outer edges: a confidence of exactly 0 or 1 belongs to the first or last bin.
    return torch.bucketize(confidence, edges[1:-1]), edges


@dataclass(frozen=True)
class Predictions:
    """The top class of each image.

    predicted: (N,) int64. confidence: (N,) float64, its softmax probability. margin: (N,) float64,
    confidence minus the second-highest probability (with one class, the confidence itself).
    Confidence and margin are 0 where the softmax is NaN; otherwise confidence is at least 1/C.
    """

    predicted: Tensor
    confidence: Tensor
    margin: Tensor

    @classmethod
    def from_logits(cls, logits: Tensor) -> "Predictions":
        """Compute the predictions of logits (N, C), C ≥ 1."""
        logits = logits.detach().cpu()
        # topk, as in `metrics.score`: argmax may break a tie differently, and then the confusion
        # matrix and the lists of images would disagree.
        predicted = logits.topk(min(5, logits.shape[1])).indices[:, 0]
        probabilities = logits.double().softmax(1).nan_to_num(0)
        # A network may have one class only.
        best = probabilities.topk(min(2, logits.shape[1])).values
        margin = best[:, 0] - best[:, 1] if best.shape[1] == 2 else best[:, 0]
        return cls(predicted, best[:, 0], margin)


def confusion_cell(logits: Tensor, labels: Tensor, truth: int, predicted: int) -> Tensor:
    """Return the images of class `truth` classified as `predicted`, most confident first.

    logits: (N, C); labels: (N,) int64. Returns (M,) int64 on the CPU, where M is the count in that
    cell of the confusion matrix.
    """
    predictions = Predictions.from_logits(logits)
    chosen = (labels.cpu() == truth) & (predictions.predicted == predicted)
    return _ranked(-predictions.confidence, chosen)


def worst_mistakes(logits: Tensor, labels: Tensor, limit: int | None = None) -> Tensor:
    """Return the misclassified images, most confident first: (M,) int64, at most `limit`."""
    predictions = Predictions.from_logits(logits)
    return _ranked(-predictions.confidence, predictions.predicted != labels.cpu())[:limit]


def least_certain(logits: Tensor, limit: int | None = None) -> Tensor:
    """Return the images with the smallest margins first: (M,) int64, at most `limit`.

    Margin sampling (Scheffer et al. 2001).
    """
    # The margin instead of the confidence: a confidence is also low where many classes share the
    # probability, and then there is no pair of classes to compare.
    margin = Predictions.from_logits(logits).margin
    return _ranked(margin, torch.ones_like(margin, dtype=torch.bool))[:limit]


def _ranked(score: Tensor, chosen: Tensor) -> Tensor:
    """Return the indices where `chosen` is true, lowest score first."""
    indices = chosen.nonzero().flatten()
    return indices[score[indices].argsort(stable=True)]  # stable: ties keep the split's order
