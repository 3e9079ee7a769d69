"""Comparison of two networks on the same images, with McNemar's test."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from resnet_demo.errors import ConfigError
from resnet_demo.evaluation.evaluate_run import RunEvaluation
from resnet_demo.evaluation.metrics import Predictions

# Of the second run's result, these values are shown beside the first run's.
COMPARED_KEYS = (
    "split",
    "weights",
    "mode",
    "stored",
    "dataset_changed",
    "trained_on_pictures",
    "top1",
    "interval",
    "loss",
    "macro_f1",
)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two networks compared on n images.

    difference: top-1 of the first minus top-1 of the second, a fraction. only_first, only_second:
    indices, from 0, of the images that only this network classifies correctly. p: two-sided
    p-value of McNemar's test.
    """

    n: int
    difference: float
    only_first: list[int]
    only_second: list[int]
    p: float


def compare_logits(first: Tensor, second: Tensor, labels: Tensor) -> Comparison:
    """Compare the logits (N, C) of two networks, N ≥ 1. labels: (N,) int64.

    A row of NaN counts as `metrics.score` counts it: as one class, usually a wrong one.
    """
    labels = labels.cpu()
    first_correct = Predictions.from_logits(first).predicted == labels
    second_correct = Predictions.from_logits(second).predicted == labels
    only_first = (first_correct & ~second_correct).nonzero().flatten().tolist()
    only_second = (second_correct & ~first_correct).nonzero().flatten().tolist()
    return Comparison(
        n=len(labels),
        # Images that both or neither classify correctly cancel out.
        difference=(len(only_first) - len(only_second)) / len(labels),
        only_first=only_first,
        only_second=only_second,
        p=mcnemar_p(len(only_first), len(only_second)),
    )


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of McNemar's exact test (McNemar 1947).

    Only discordant images count: those that exactly one network classifies correctly. If both
    networks are equally good, each discordant image is a fair coin toss, so p is twice the
    binomial tail up to the smaller count, at most 1. p is 1 without discordant images.
    """
    n, fewer = only_first + only_second, min(only_first, only_second)
    # Integers of any size keep the tail exact where 2**n exceeds a float.
    binomial = tail = 1  # n choose 0
    for heads in range(fewer):
        binomial = binomial * (n - heads) // (heads + 1)
        tail += binomial
    # At equal counts both tails have the middle, and their sum would exceed 1.
    return min(2 * tail, 2**n) / 2**n


def compare_evaluations(first: RunEvaluation, second: RunEvaluation) -> dict[str, Any]:
    """Return how two runs differ, ready for JSON; see Comparison for the values.

    Raises:
        ConfigError: the runs were evaluated on different images.
    """
    check_same_images(first, second)
    comparison = compare_logits(first.logits, second.logits, first.labels)
    return {
        "n": comparison.n,
        "first": first.result["run"],
        "second": second.result["run"],
        "top1_first": first.result["top1"],
        "top1_second": second.result["top1"],
        "difference": comparison.difference,
        "p": comparison.p,
        "only_first": comparison.only_first,
        "only_second": comparison.only_second,
    }


def check_same_images(first: RunEvaluation, second: RunEvaluation) -> None:
    """Raise ConfigError for the field `against` if the two used different images."""
    a, b = first.result, second.result
    if (a["dataset"], a["split"]) != (b["dataset"], b["split"]):
        raise ConfigError(
            f"against must be a run evaluated on the same images: {a['run']} was evaluated on "
            f"{a['dataset']} {a['split']}, {b['run']} on {b['dataset']} {b['split']}",
            "against",
        )
    fingerprints = {a["fingerprint"], b["fingerprint"]} - {None}  # None: stored predictions
    if len(fingerprints) > 1:
        raise ConfigError(
            f"against must be a run evaluated on the same images: {a['dataset']} has changed "
            f"between the evaluations of {a['run']} and {b['run']}, so evaluate both again",
            "against",
        )
    # The split depends on the config; of stored predictions, the labels are all that is left to see
    # it.
    if not torch.equal(first.labels, second.labels):
        raise ConfigError(
            f"against must be a run with the same images: the {b['split']} split of "
            f"{b['dataset']} of {b['run']} differs from that of {a['run']} (another val_share or "
            "seed)",
            "against",
        )


def with_comparison(first: RunEvaluation, second: RunEvaluation | None) -> dict[str, Any]:
    """Return the first result; with a second run, its values and the comparison as `against`."""
    if second is None:
        return first.result
    against = {"run": second.result["run"]}
    against |= {key: second.result[key] for key in COMPARED_KEYS}
    return {**first.result, "against": {**against, **compare_evaluations(first, second)}}
