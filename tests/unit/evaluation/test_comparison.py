"""Two runs' answers to the same images."""

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

CLASSES = ("blue", "green", "red")
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def evaluated(run, said, **told):
    """What a run that says so has got."""
    logits = 4 * F.one_hot(torch.tensor(said), 3).float()
    result = {"run": run, "dataset": "colours", "split": "test", "weights": run * 8}
    result |= {
        "mode": "plain",
        "stored": False,
        **result_metrics(logits, LABELS, CLASSES),
        "beside": None,
    }
    return RunEvaluation({**result, **told}, logits, LABELS)


FIRST = evaluated("first", [0, 1, 2, 0, 1, 0])
SECOND = evaluated("second", [0, 2, 1, 0, 0, 2])


def test_who_is_right_where_and_whether_it_could_be_luck():
    told = compare_evaluations(FIRST, SECOND)
    assert (told["first"], told["second"], told["n"]) == ("first", "second", 6)
    assert (told["only_first"], told["only_second"]) == ([1, 2, 4], [5])
    assert (told["top1_first"], told["top1_second"]) == pytest.approx((5 / 6, 3 / 6))
    assert told["difference"] == pytest.approx(told["top1_first"] - told["top1_second"])
    assert told["p"] == pytest.approx(binomtest(1, 4).pvalue)


def test_the_other_way_round_the_signs_change_and_p_does_not():
    told, other = compare_evaluations(FIRST, SECOND), compare_evaluations(SECOND, FIRST)
    assert other["difference"] == -told["difference"]
    assert other["only_first"] == told["only_second"]
    assert other["p"] == told["p"]


def test_against_tells_the_other_s_own_numbers_too():
    told = with_comparison(FIRST, SECOND)
    assert {key: told[key] for key in FIRST.result} == FIRST.result
    assert told.keys() - FIRST.result.keys() == {"against"}
    assert told["against"] | compare_evaluations(FIRST, SECOND) == told["against"]
    for key in ("run", "weights", "mode", "top1", "interval", "loss", "macro_f1"):
        assert told["against"][key] == SECOND.result[key]
    assert with_comparison(FIRST, None) == FIRST.result


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"split": "val"}, "first was evaluated on colours test, second on colours val"),
        ({"dataset": "cifar10"}, "first was evaluated on colours test, second on cifar10 test"),
    ],
)
def test_evaluations_on_different_splits_or_datasets_are_not_compared(told, sentence):
    with pytest.raises(ConfigError, match=f"against must be a run .*: {sentence}") as caught:
        compare_evaluations(FIRST, evaluated("second", [0] * 6, **told))
    assert caught.value.field == "against"


@pytest.mark.parametrize("labels", [LABELS.flip(0), LABELS[:5]])
def test_splits_with_other_images_are_not_compared(labels):
    second = replace(SECOND, labels=labels, logits=SECOND.logits[: len(labels)])
    with pytest.raises(ConfigError, match="the test split of colours of second differs") as caught:
        compare_evaluations(FIRST, second)
    assert caught.value.field == "against"


@pytest.mark.parametrize(
    ("first", "second"), [(1, 0), (0, 5), (3, 9), (10, 10), (11, 10), (40, 75), (120, 900)]
)
def test_p_is_scipy_s_of_a_fair_coin(first, second):
    expected = binomtest(first, first + second, 0.5).pvalue
    assert mcnemar_p(first, second) == pytest.approx(expected, rel=1e-9)
    assert mcnemar_p(first, second) == mcnemar_p(second, first)


def test_p_is_1_where_nothing_divides_the_two():
    assert mcnemar_p(0, 0) == 1


def test_p_of_very_many_images_is_a_number_too():
    assert mcnemar_p(0, 5000) == 0  # 2^-4999, less than the least float
    assert 0 < mcnemar_p(7300, 7700) < 0.01


def test_two_networks_image_by_image():
    labels = torch.tensor([0, 1, 2, 0, 1])
    first = F.one_hot(torch.tensor([0, 1, 2, 1, 0]), 3).float()
    second = F.one_hot(torch.tensor([0, 2, 0, 0, 2]), 3).float()
    result = compare_logits(first, second, labels)
    assert (result.only_first, result.only_second) == ([1, 2], [3])
    assert (result.n, result.difference) == (5, pytest.approx(0.2))
    assert result.p == 1  # one of three coins, or two


def test_a_network_is_no_better_than_itself():
    logits = torch.randn(1, 4, generator=torch.Generator().manual_seed(0))
    result = compare_logits(logits, logits, torch.tensor([2]))
    assert (result.difference, result.only_first, result.only_second, result.p) == (0, [], [], 1)


def test_nan_is_counted_as_one_class():
    labels = torch.arange(70) % 7
    result = compare_logits(F.one_hot(labels).float(), torch.full((70, 7), float("nan")), labels)
    assert result.difference == pytest.approx(6 / 7)
    assert result.p < 1e-15
