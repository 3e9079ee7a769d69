"""What (N, C) logits say of each image: the class, how surely, and how far ahead.

Counted on the CPU in double precision, wherever the logits lie.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Verdicts:
    """predicted: (N,) int64. confidence: (N,) float64, the softmax's share of that class.

    margin: (N,) float64, what it has more than the class after it; all of it of a lone class.
    Both are 0 where the softmax is NaN; elsewhere confidence is 1/C at least.
    """

    predicted: Tensor
    confidence: Tensor
    margin: Tensor


def verdicts(logits: Tensor) -> Verdicts:
    """Of (N, C) logits, C from 1. The predicted classes are those of `evaluate.score`."""
    logits = logits.detach().cpu()
    # as `score` picks them: argmax may settle a tie otherwise, and the two tables would differ
    predicted = logits.topk(min(5, logits.shape[1])).indices[:, 0]
    shares = logits.double().softmax(1).nan_to_num(0)
    best = shares.topk(min(2, logits.shape[1])).values
    margin = best[:, 0] - best[:, 1] if best.shape[1] == 2 else best[:, 0]
    return Verdicts(predicted, best[:, 0], margin)
