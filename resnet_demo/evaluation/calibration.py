"""Calibration: how well confidence matches accuracy.

Guo et al. 2017, "On Calibration of Modern Neural Networks".
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from resnet_demo.evaluation.predictions import Predictions

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
    confidence_sum = bins.bincount(confidence, minlength=BINS)
    correct_sum = bins.bincount(correct.double(), minlength=BINS)
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
    return torch.bucketize(confidence, edges[1:-1]), edges
