"""Whether a network is as often right as it is sure (Guo et al. 2017, "On Calibration")."""

from dataclasses import dataclass

import torch
from torch import Tensor

from resnet_demo.evaluation.predictions import Predictions

BINS, HISTOGRAM_BINS = 15, 20  # of equal width, from 0 to 1; 15 as in Guo et al., table 1


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A reliability diagram, a number for each bin, 0 in an empty one; edges are one more.

    count: answers whose confidence is above the bin's lower edge, up to its upper one, itself
    included. confidence, accuracy: their means, from 0 to 1.
    error: the expected calibration error, from 0 to 1; None where no answer is left.
    left_out: answers that are not a number, and so neither sure nor unsure.
    """

    error: float | None
    edges: list[float]
    count: list[int]
    confidence: list[float]
    accuracy: list[float]
    left_out: int


@dataclass(frozen=True, kw_only=True)
class ConfidenceHistogram:
    """How many right and wrong answers fall in each bin of confidence; bins as in Calibration."""

    edges: list[float]
    right: list[int]
    wrong: list[int]


def calibration(logits: Tensor, labels: Tensor) -> Calibration:
    """Of logits (N, C) and the true labels (N,) int64.

    The error is the mean of |accuracy - confidence| over all answers, each taken for its bin's
    (Guo et al. 2017, section 2, eq. 3).
    """
    confidence, right = _confidence_and_right(logits, labels)
    bins, edges = _in_bins(confidence, BINS)
    count = bins.bincount(minlength=BINS)
    sure, correct = (bins.bincount(each, minlength=BINS) for each in (confidence, right.double()))
    return Calibration(
        error=((correct - sure).abs().sum() / len(bins)).item() if len(bins) else None,
        edges=edges.tolist(),
        count=count.tolist(),
        confidence=(sure / count.clamp(min=1)).tolist(),
        accuracy=(correct / count.clamp(min=1)).tolist(),
        left_out=len(labels) - len(bins),
    )


def confidence_histogram(logits: Tensor, labels: Tensor) -> ConfidenceHistogram:
    """Of logits (N, C) and labels (N,) int64; answers that are not a number are left out."""
    confidence, right = _confidence_and_right(logits, labels)
    bins, edges = _in_bins(confidence, HISTOGRAM_BINS)
    counts = (
        bins[chosen].bincount(minlength=HISTOGRAM_BINS).tolist() for chosen in (right, ~right)
    )
    return ConfidenceHistogram(edges=edges.tolist(), right=next(counts), wrong=next(counts))


def _confidence_and_right(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Of the answers that are numbers: their confidence is more than 0."""
    said = Predictions.from_logits(logits)
    known = said.confidence > 0
    return said.confidence[known], (said.predicted == labels.cpu())[known]


def _in_bins(confidence: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The bin of each, from 0, and the n + 1 edges."""
    edges = torch.linspace(0, 1, n + 1, dtype=torch.float64)
    return torch.bucketize(confidence, edges[1:-1]), edges
