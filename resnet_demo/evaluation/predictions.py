"""Predictions read from logits, and rankings of images by them.

Computed on the CPU in double precision, on whatever device the logits are. Rankings are indices
into the split; ties keep the order of the split, and a NaN prediction counts as confidence 0.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


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
    return indices[score[indices].argsort(stable=True)]
