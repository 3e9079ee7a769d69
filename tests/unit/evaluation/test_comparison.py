"""Comparison of two networks on the same images."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binomtest

from resnet_demo.errors import ConfigError
from resnet_demo.evaluation.comparison import (
    compare_evaluations,
    compare_logits,
    mcnemar_p,
    with_comparison,
)
from resnet_demo.evaluation.evaluate_run import RunEvaluation, result_metrics
from resnet_demo.evaluation.stored_results import IMAGE_KEYS

CLASSES = ("blue", "green", "red")
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def evaluated(run, predicted, **values):
    """Return the evaluation of a run with these predictions."""
    logits = 4 * F.one_hot(torch.tensor(predicted), 3).float()
    result = {"run": run, "dataset": "colours", "split": "test", "weights": run * 8}
    result |= {
        "mode": "plain",
        "stored": False,
        **dict.fromkeys(IMAGE_KEYS),
        **result_metrics(logits, LABELS, CLASSES),
        "beside": None,
    }
    return RunEvaluation({**result, **values}, logits, LABELS)


FIRST = evaluated("first", [0, 1, 2, 0, 1, 0])
SECOND = evaluated("second", [0, 2, 1, 0, 0, 2])


def test_comparison_lists_the_images_only_one_run_classifies_correctly():
    result = compare_evaluations(FIRST, SECOND)
    assert (result["first"], result["second"], result["n"]) == ("first", "second", 6)
    assert (result["only_first"], result["only_second"]) == ([1, 2, 4], [5])
    assert (result["top1_first"], result["top1_second"]) == pytest.approx((5 / 6, 3 / 6))
    assert result["difference"] == pytest.approx(result["top1_first"] - result["top1_second"])
    assert result["p"] == pytest.approx(binomtest(1, 4).pvalue)


def test_swapping_the_runs_changes_the_sign_but_not_p():
    result, other = compare_evaluations(FIRST, SECOND), compare_evaluations(SECOND, FIRST)
    assert other["difference"] == -result["difference"]
    assert other["only_first"] == result["only_second"]
    assert other["p"] == result["p"]


def test_against_has_the_metrics_of_the_second_run():
    result = with_comparison(FIRST, SECOND)
    assert {key: result[key] for key in FIRST.result} == FIRST.result
    assert result.keys() - FIRST.result.keys() == {"against"}
    assert result["against"] | compare_evaluations(FIRST, SECOND) == result["against"]
    for key in ("run", "weights", "mode", "top1", "interval", "loss", "macro_f1"):
        assert result["against"][key] == SECOND.result[key]
    assert with_comparison(FIRST, None) == FIRST.result


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"split": "val"}, "first was evaluated on colours test, second on colours val"),
        ({"dataset": "cifar10"}, "first was evaluated on colours test, second on cifar10 test"),
    ],
)
def test_evaluations_on_different_splits_or_datasets_are_refused(values, sentence):
    with pytest.raises(ConfigError, match=f"against must be a run .*: {sentence}") as caught:
        compare_evaluations(FIRST, evaluated("second", [0] * 6, **values))
    assert caught.value.field == "against"


@pytest.mark.parametrize("labels", [LABELS.flip(0), LABELS[:5]])
def test_splits_with_different_images_are_refused(labels):
    second = replace(SECOND, labels=labels, logits=SECOND.logits[: len(labels)])
    with pytest.raises(ConfigError, match="the test split of colours of second differs") as caught:
        compare_evaluations(FIRST, second)
    assert caught.value.field == "against"


@pytest.mark.parametrize(
    ("first", "second"), [(1, 0), (0, 5), (3, 9), (10, 10), (11, 10), (40, 75), (120, 900)]
)
def test_mcnemar_p_agrees_with_scipy_s_binomial_test(first, second):
    expected = binomtest(first, first + second, 0.5).pvalue
    assert mcnemar_p(first, second) == pytest.approx(expected, rel=1e-9)
    assert mcnemar_p(first, second) == mcnemar_p(second, first)


def test_mcnemar_p_is_one_without_discordant_images():
    assert mcnemar_p(0, 0) == 1


def test_mcnemar_p_of_many_images_does_not_overflow():
    assert mcnemar_p(0, 5000) == 0  # 2^-4999 is below the smallest float
    assert 0 < mcnemar_p(7300, 7700) < 0.01


def test_logits_are_compared_image_by_image():
    labels = torch.tensor([0, 1, 2, 0, 1])
    first = F.one_hot(torch.tensor([0, 1, 2, 1, 0]), 3).float()
    second = F.one_hot(torch.tensor([0, 2, 0, 0, 2]), 3).float()
    result = compare_logits(first, second, labels)
    assert (result.only_first, result.only_second) == ([1, 2], [3])
    assert (result.n, result.difference) == (5, pytest.approx(0.2))
    assert result.p == 1  # three discordant images, one or two of them


def test_a_network_equals_itself():
    logits = torch.randn(1, 4, generator=torch.Generator().manual_seed(0))
    result = compare_logits(logits, logits, torch.tensor([2]))
    assert (result.difference, result.only_first, result.only_second, result.p) == (0, [], [], 1)


def test_nan_counts_as_one_class():
    labels = torch.arange(70) % 7
    result = compare_logits(F.one_hot(labels).float(), torch.full((70, 7), float("nan")), labels)
    assert result.difference == pytest.approx(6 / 7)
    assert result.p < 1e-15
