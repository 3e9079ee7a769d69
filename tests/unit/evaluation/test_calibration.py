"""Calibration and confidence histograms, compared with scikit-learn."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve

from resnet_demo.evaluation.calibration import BINS, calibration, confidence_histogram

NAN = float("nan")


def two_class_logits(confidence, correct):
    """Return logits of two classes and labels with these confidences; class 0 is predicted."""
    probability = torch.tensor(confidence, dtype=torch.float64)
    return torch.stack([probability, 1 - probability], 1).log(), 1 - torch.tensor(correct)


@pytest.fixture
def predictions():
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(500) % 7
    logits = torch.randn(500, 7, generator=generator) * 2
    logits[torch.arange(500), labels] += 1
    return logits, labels


def curve(logits, labels, bins):
    """Return accuracy, confidence and count of the non-empty bins, by scikit-learn."""
    confidence, predicted = logits.double().softmax(1).max(1)
    correct = (predicted == labels).numpy()
    accuracy, mean = calibration_curve(correct, confidence.numpy(), n_bins=bins)
    count = np.histogram(confidence, bins, (0, 1))[0]
    return accuracy, mean, count[count > 0], correct


def test_reliability_diagram_agrees_with_scikit_learn(predictions):
    result = calibration(*predictions)
    accuracy, mean, count, _ = curve(*predictions, BINS)
    full = [index for index in range(BINS) if result.count[index]]
    assert 8 < len(full) < BINS
    assert [result.accuracy[index] for index in full] == pytest.approx(accuracy.tolist())
    assert [result.confidence[index] for index in full] == pytest.approx(mean.tolist())
    assert [result.count[index] for index in full] == count.tolist()
    assert result.edges == pytest.approx(np.linspace(0, 1, BINS + 1).tolist())
    assert result.left_out == 0


def test_error_is_the_mean_gap_weighted_by_bin_count(predictions):
    accuracy, mean, count, _ = curve(*predictions, BINS)
    expected = (np.abs(accuracy - mean) * count).sum() / 500
    assert calibration(*predictions).error == pytest.approx(expected)


def test_error_of_three_predictions_computed_by_hand():
    # 0.9 and 0.92 are in the bin up to 14/15: accuracy 0.5, confidence 0.91. 0.62 is correct.
    result = calibration(*two_class_logits([0.9, 0.92, 0.62], [1, 0, 1]))
    assert result.error == pytest.approx((2 * (0.91 - 0.5) + (1 - 0.62)) / 3)
    assert (result.count[13], result.count[9], sum(result.count)) == (2, 1, 3)
    assert result.accuracy[0] == result.confidence[0] == 0  # an empty bin


def test_bins_include_their_upper_edge():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0], [900.0, 0.0, 0.0, 0.0, 0.0]])
    count = calibration(logits, torch.zeros(2).long()).count
    assert (count[2], count[14]) == (1, 1)  # 1/5 is 3/15


def test_perfect_calibration_has_error_zero():
    assert calibration(*two_class_logits([0.75] * 4, [1, 1, 1, 0])).error == pytest.approx(0)


def test_histogram_counts_correct_and_wrong_predictions_separately(predictions):
    result = confidence_histogram(*predictions)
    confidence, predicted = predictions[0].double().softmax(1).max(1)
    for counts, chosen in (
        (result.right, predicted == predictions[1]),
        (result.wrong, predicted != predictions[1]),
    ):
        assert counts == np.histogram(confidence[chosen], 20, (0, 1))[0].tolist()
    assert len(result.edges) == 21


def test_nan_predictions_are_left_out():
    logits, labels = two_class_logits([0.9, 0.9], [1, 0])
    logits[1] = NAN
    result, histogram = calibration(logits, labels), confidence_histogram(logits, labels)
    assert (result.left_out, sum(result.count)) == (1, 1)
    assert result.error == pytest.approx(0.1)
    assert (sum(histogram.right), sum(histogram.wrong)) == (1, 0)


def test_only_nan_predictions_give_no_error_and_valid_json():
    result = calibration(torch.full((3, 4), NAN), torch.arange(3))
    assert (result.error, result.left_out) == (None, 3)
    json.dumps(asdict(result), allow_nan=False)
