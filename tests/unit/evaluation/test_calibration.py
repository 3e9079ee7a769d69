import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve

from resnet_demo.evaluation.calibration import BINS, calibration, confidence_histogram

NAN = float("nan")


def sure(confidence, right):
    """Logits of two classes and labels of such answers; class 0 is always said."""
    share = torch.tensor(confidence, dtype=torch.float64)
    return torch.stack([share, 1 - share], 1).log(), 1 - torch.tensor(right)


@pytest.fixture
def answers():
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(500) % 7
    logits = torch.randn(500, 7, generator=generator) * 2
    logits[torch.arange(500), labels] += 1
    return logits, labels


def curve(logits, labels, bins):
    """Of scikit-learn, which leaves empty bins out: accuracy, confidence and count of the rest."""
    confidence, predicted = logits.double().softmax(1).max(1)
    right = (predicted == labels).numpy()
    accuracy, mean = calibration_curve(right, confidence.numpy(), n_bins=bins)
    count = np.histogram(confidence, bins, (0, 1))[0]
    return accuracy, mean, count[count > 0], right


def test_the_diagram_is_scikit_learn_s(answers):
    result = calibration(*answers)
    accuracy, mean, count, _ = curve(*answers, BINS)
    full = [place for place in range(BINS) if result.count[place]]
    assert 8 < len(full) < BINS
    assert [result.accuracy[place] for place in full] == pytest.approx(accuracy.tolist())
    assert [result.confidence[place] for place in full] == pytest.approx(mean.tolist())
    assert [result.count[place] for place in full] == count.tolist()
    assert result.edges == pytest.approx(np.linspace(0, 1, BINS + 1).tolist())
    assert result.left_out == 0


def test_the_error_is_the_gaps_weighed_by_their_answers(answers):
    accuracy, mean, count, _ = curve(*answers, BINS)
    expected = (np.abs(accuracy - mean) * count).sum() / 500
    assert calibration(*answers).error == pytest.approx(expected)


def test_the_error_of_a_case_done_by_hand():
    # 0.9 and 0.92 share the bin up to 14/15: half right at 0.91. 0.62 is alone, and right
    result = calibration(*sure([0.9, 0.92, 0.62], [1, 0, 1]))
    assert result.error == pytest.approx((2 * (0.91 - 0.5) + (1 - 0.62)) / 3)
    assert (result.count[13], result.count[9], sum(result.count)) == (2, 1, 3)
    assert result.accuracy[0] == result.confidence[0] == 0  # an empty bin


def test_the_upper_edge_belongs_to_a_bin_and_the_whole_to_the_last():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0], [900.0, 0.0, 0.0, 0.0, 0.0]])
    count = calibration(logits, torch.zeros(2).long()).count
    assert (count[2], count[14]) == (1, 1)  # 1/5 is 3/15


def test_a_network_as_often_right_as_sure_has_no_error():
    assert calibration(*sure([0.75] * 4, [1, 1, 1, 0])).error == pytest.approx(0)


def test_right_and_wrong_answers_are_counted_apart(answers):
    result = confidence_histogram(*answers)
    confidence, predicted = answers[0].double().softmax(1).max(1)
    for counts, chosen in (
        (result.right, predicted == answers[1]),
        (result.wrong, predicted != answers[1]),
    ):
        assert counts == np.histogram(confidence[chosen], 20, (0, 1))[0].tolist()
    assert len(result.edges) == 21


def test_answers_that_are_not_a_number_are_left_out():
    logits, labels = sure([0.9, 0.9], [1, 0])
    logits[1] = NAN
    result, histogram = calibration(logits, labels), confidence_histogram(logits, labels)
    assert (result.left_out, sum(result.count)) == (1, 1)
    assert result.error == pytest.approx(0.1)
    assert (sum(histogram.right), sum(histogram.wrong)) == (1, 0)


def test_a_network_that_only_says_nan_has_no_error_but_is_json():
    result = calibration(torch.full((3, 4), NAN), torch.arange(3))
    assert (result.error, result.left_out) == (None, 3)
    json.dumps(asdict(result), allow_nan=False)
