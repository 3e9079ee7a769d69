"""Which images to look at first, as places in the split; and one number for all classes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from resnet_demo.evaluation.metrics import per_class
from resnet_demo.evaluation.predictions import verdicts


def in_cell(logits: Tensor, labels: Tensor, truth: int, said: int) -> Tensor:
    """The images of class `truth` taken for class `said`, the most confident answer first.

    logits (N, C), labels (N,) int64 -> (M,) int64 on the CPU, as many as that cell of the confusion
    matrix counts. Here and below: equals by place; an answer that is NaN counts as confidence 0.
    """
    of_all = verdicts(logits)
    chosen = (labels.cpu() == truth) & (of_all.predicted == said)
    return _ranked(-of_all.confidence, chosen)


def worst_mistakes(logits: Tensor, labels: Tensor, most: int | None = None) -> Tensor:
    """The wrong answers, the most confident first: (M,) int64, `most` of them or all."""
    of_all = verdicts(logits)
    return _ranked(-of_all.confidence, of_all.predicted != labels.cpu())[:most]


def least_certain(logits: Tensor, most: int | None = None) -> Tensor:
    """The images whose two likeliest classes are nearest to each other: (M,) int64, of (N, C).

    The margin of their confidences (Scheffer et al. 2001) and not the top one: that is also low
    where many classes get a little each, and then there is no pair to look at.
    """
    margin = verdicts(logits).margin
    return _ranked(margin, torch.ones_like(margin, dtype=torch.bool))[:most]


def macro_f1(confusion: Tensor | Sequence[Sequence[int]]) -> float:
    """The mean of all classes' f1, from (C, C) counts, truth in rows.

    A class that neither occurs nor is said has 0, as in `evaluate.per_class`.
    """
    counts = torch.as_tensor(confusion).cpu()
    rows = per_class(counts, [""] * len(counts))
    return sum(row["f1"] for row in rows) / len(rows)


def _ranked(score: Tensor, chosen: Tensor) -> Tensor:
    """Places where chosen, the lowest score first."""
    places = chosen.nonzero().flatten()
    return places[score[places].argsort(stable=True)]
