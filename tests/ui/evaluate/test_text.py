import pytest
import torch

from resnet_demo.evaluation.evaluate_run import result_metrics
from resnet_demo.evaluation.intervals import wilson_interval
from resnet_demo.evaluation.stored_results import IMAGE_KEYS
from resnet_demo.ui.evaluate.evaluation_status import Selection
from resnet_demo.ui.evaluate.text import (
    calibration_text,
    comparison_html,
    headline,
    robustness_text,
    signed,
    verdict,
)
from tests.ui.fake_evaluations import N, save_evaluation

MINE = Selection("mine")


def test_another_mode_shows_its_difference_to_the_plain_one(statuses):
    result = save_evaluation(statuses, MINE).result
    beside = {"mode": "plain", "top1": result["top1"] - 3 / N, "loss": 0.5}
    flip = Selection("mine", mode="flip")
    flipped = save_evaluation(statuses, flip, mode="flip", beside=beside).result
    html = headline(flipped)
    assert "<strong>+3 images</strong> against plain" in html
    assert f"accuracy {round(beside['top1'] * N)} of {N}, loss 0.5000" in html
    many = headline({**flipped, "n": 1000})
    assert "<strong>+10.00 points</strong>" in many
    assert f"accuracy {100 * beside['top1']:.2f} %, loss 0.5000" in many


def test_a_dataset_that_has_changed_is_noted_beside_each_score(statuses):
    changed = {"dataset_changed": True, "trained_on_pictures": 12}
    note = "the dataset has changed since training; 12 of the 30 test images were trained on"
    first, plain = (save_evaluation(statuses, Selection(run)).result for run in ("mine", "yours"))
    assert note in headline(first | changed)
    assert "⚠" not in headline(first)
    compared = {"first": "mine", "second": "yours", "only_first": [], "only_second": []}
    compared |= {"difference": 0.0, "p": 1.0, "n": N}
    assert f"⚠ yours: note: {note}" in comparison_html(compared, first, plain | changed)
    robust = {"split": "test", "n": 30, "top1": 0.9}
    assert note in robustness_text({**robust, **changed, "kinds": {"noise": [0.9], "blur": [0.8]}})


def test_few_images_are_counted_in_the_headline_and_in_the_comparison(statuses):
    first, second = (save_evaluation(statuses, Selection(run)).result for run in ("mine", "yours"))
    low, high = wilson_interval(round(N * first["top1"]), N)
    counted = f"{round(N * first['top1'])} of {N}"
    interval = f"{100 * low:.0f} % to {100 * high:.0f} %"
    assert f"<span>accuracy (top-1)</span><b>{counted}</b>" in headline(first)
    assert f"<strong>{interval}</strong>: likely range on new images" in headline(first)
    compared = {"first": "mine", "second": "yours", "only_first": [], "only_second": []}
    html = comparison_html({**compared, "n": N, "difference": 0.0, "p": 1.0}, first, second)
    assert html.count(f"<td>{counted}</td>") == 2
    assert html.count(f"<td>{interval}</td>") == 2


@pytest.mark.parametrize(("classes", "shown"), [(5, False), (6, True)])
def test_top_5_is_shown_from_six_classes(classes, shown):
    labels = torch.arange(24) % classes
    logits = torch.randn(24, classes, generator=torch.Generator().manual_seed(0))
    names = [f"class {number}" for number in range(classes)]
    result = {"run": "mine", "dataset": "d", "split": "test", "mode": "plain", "weights": "0" * 64}
    result |= {"stored": False, "beside": None, **dict.fromkeys(IMAGE_KEYS)}
    result |= result_metrics(logits, labels, names)
    compared = {"first": "mine", "second": "mine", "only_first": [], "only_second": []}
    html = comparison_html({**compared, "n": N, "difference": 0.0, "p": 1.0}, result, result)
    for text in (headline(result), html):
        assert ("top-5 accuracy" in text) == shown
        assert "mean F1 (macro)" in text


def test_a_diverged_network_has_a_headline_too(statuses):
    result = save_evaluation(statuses, MINE).result
    result["loss"] = result["calibration"]["error"] = None
    assert headline(result).count("not a number") == 2


@pytest.mark.parametrize(
    ("confidence", "accuracy", "text"),
    [
        ([0.5, 0.9], [0.4, 0.7], "on average 17.5 points overconfident"),
        ([0.5, 0.9], [0.7, 0.9], "on average 5.0 points underconfident"),
        ([0.5, 0.9], [0.8, 0.8], "neither over- nor underconfident on average"),
    ],
)
def test_calibration_says_in_which_direction_confidence_is_off(confidence, accuracy, text):
    bins = {"count": [10, 30], "confidence": confidence, "accuracy": accuracy}
    assert calibration_text(bins) == text


def test_calibration_of_a_diverged_network_is_no_division_by_zero():
    bins = {"count": [0, 0], "confidence": [0.0, 0.0], "accuracy": [0.0, 0.0]}
    assert calibration_text(bins) == "neither over- nor underconfident on average"


@pytest.mark.parametrize(
    ("only", "p", "text"),
    [
        (
            (3, 1),
            0.625,
            "mine is 2 images better: this may be chance.</strong> Only mine gets "
            "3 images right, only yours 1 image.",
        ),
        ((1, 9), 0.0215, "yours is 8 images better: unlikely to be chance."),
        ((4, 4), 1.0, "Both score equally: this may be chance."),
    ],
)
def test_the_verdict_says_whether_a_difference_may_be_chance(only, p, text):
    first, second = only
    compared = {
        "n": N,
        "first": "mine",
        "second": "yours",
        "p": p,
        "difference": (first - second) / N,
        "only_first": [*range(first)],
        "only_second": [*range(second)],
    }
    assert text in verdict(compared)
    assert "points better" in verdict({**compared, "n": 1000}) or only[0] == only[1]


def test_a_difference_of_zero_has_no_sign():
    values = [signed(value) for value in (0.001, -0.001, 1.5, -1.5)]
    assert values == ["0.00", "0.00", "+1.50", "−1.50"]


def test_robustness_names_the_best_and_the_worst_corruption():
    kinds = {"noise": [0.9, 0.7, 0.5, 0.3, 0.1], "jpeg": [0.9, 0.9, 0.8, 0.8, 0.7]}
    result = {"split": "test", "dataset_changed": None, "trained_on_pictures": None}
    result |= {"n": 30, "top1": 0.9, "kinds": kinds}
    text = robustness_text(result)
    assert "accuracy 27 of 30 (95 % interval 74 % to 97 %) undamaged" in text
    assert "best with **jpeg**, 24.6 of 30" in text
    assert "worst with **noise**, 15.0 of 30" in text
    text = robustness_text({**result, "n": 2000})
    assert "accuracy 90.00 % (95 % interval 88.61 % to 91.24 %) undamaged" in text
    assert "best with **jpeg**, 82.0 %" in text
