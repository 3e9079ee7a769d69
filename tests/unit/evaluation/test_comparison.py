"""Two runs' answers to the same images."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binomtest

from resnet_demo.errors import ConfigError
from resnet_demo.evaluation.comparison import compare_evaluations, with_against
from resnet_demo.evaluation.evaluate_run import Evaluated, numbers

CLASSES = ("blue", "green", "red")
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def evaluated(run, said, **told):
    """What a run that says so has got."""
    logits = 4 * F.one_hot(torch.tensor(said), 3).float()
    result = {"run": run, "dataset": "colours", "split": "test", "weights": run * 8}
    result |= {"mode": "plain", "stored": False, **numbers(logits, LABELS, CLASSES), "beside": None}
    return Evaluated({**result, **told}, logits, LABELS)


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
    told = with_against(FIRST, SECOND)
    assert {key: told[key] for key in FIRST.result} == FIRST.result
    assert told.keys() - FIRST.result.keys() == {"against"}
    assert told["against"] | compare_evaluations(FIRST, SECOND) == told["against"]
    for key in ("run", "weights", "mode", "top1", "interval", "loss", "macro_f1"):
        assert told["against"][key] == SECOND.result[key]
    assert with_against(FIRST, None) == FIRST.result


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"split": "val"}, "first was asked about colours test, second about colours val"),
        ({"dataset": "cifar10"}, "first was asked about colours test, second about cifar10 test"),
    ],
)
def test_evaluations_on_different_splits_or_datasets_are_not_compared(told, sentence):
    with pytest.raises(ConfigError, match=f"against must be a run .*: {sentence}") as caught:
        compare_evaluations(FIRST, evaluated("second", [0] * 6, **told))
    assert caught.value.field == "against"


@pytest.mark.parametrize("labels", [LABELS.flip(0), LABELS[:5]])
def test_splits_with_other_images_are_not_compared(labels):
    second = replace(SECOND, labels=labels, logits=SECOND.logits[: len(labels)])
    with pytest.raises(ConfigError, match="second keeps other images in its test split") as caught:
        compare_evaluations(FIRST, second)
    assert caught.value.field == "against"
