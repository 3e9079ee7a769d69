"""Metrics, compared with scikit-learn."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import sklearn.metrics as oracle
import torch
from sklearn.calibration import calibration_curve

from resnet_demo.evaluation.metrics import (
    BINS,
    Predictions,
    calibration,
    confidence_histogram,
    confusion_cell,
    confusion_matrix,
    least_certain,
    macro_f1,
    score,
    worst_mistakes,
)

CLASSES = ("a", "b", "c", "d", "e", "f", "g")


@pytest.fixture
def predictions():
    """Return logits and labels of 300 images; class g never occurs, f is never predicted."""
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(300, 7, generator=generator) * 3, torch.arange(300) % 6
    logits[:, 5] = -20
    return logits, labels


def test_scores_agree_with_scikit_learn(predictions):
    logits, labels = predictions
    scores = score(logits, labels, CLASSES)
    numbers, predicted = range(7), logits.argmax(1)
    assert scores.n == 300
    assert scores.top1 == pytest.approx(oracle.accuracy_score(labels, predicted))
    assert scores.top5 == pytest.approx(
        oracle.top_k_accuracy_score(labels, logits, k=5, labels=numbers)
    )
    assert scores.loss == pytest.approx(
        oracle.log_loss(labels, logits.double().softmax(1), labels=numbers), rel=1e-6
    )
    assert scores.confusion == oracle.confusion_matrix(labels, predicted, labels=numbers).tolist()


def test_scores_per_class_agree_with_scikit_learn(predictions):
    logits, labels = predictions
    rows = score(logits, labels, CLASSES).per_class
    expected = oracle.precision_recall_fscore_support(
        labels, logits.argmax(1), labels=range(7), zero_division=0
    )
    assert [row["label"] for row in rows] == list(CLASSES)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [row[name] or 0 for row in rows] == pytest.approx(values.tolist())
    assert rows[5]["precision"] == 0  # never predicted
    assert (rows[6]["recall"], rows[6]["f1"]) == (None, None)  # no image
    assert None not in [value for row in rows[:6] for value in row.values()]


def test_top5_of_fewer_than_five_classes_is_one(predictions):
    logits, labels = predictions
    assert score(logits[:, :3], labels % 3, CLASSES[:3]).top5 == 1


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_constant_logits_score_at_chance(value):
    labels = torch.arange(70) % 7
    scores = score(torch.full((70, 7), value), labels, CLASSES)
    assert scores.top1 == pytest.approx(1 / 7)
    assert scores.top5 == pytest.approx(5 / 7)


def test_scores_of_a_diverged_network_are_valid_json():
    scores = score(torch.full((1, 7), float("nan")), torch.tensor([0]), CLASSES)
    values = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert values["loss"] is None
    assert values["n"] == 1


def test_macro_f1_agrees_with_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    labels, predicted = torch.randint(0, 5, (2, 200), generator=generator)
    confusion = confusion_matrix(labels, predicted, 6)  # the sixth has no images: left out
    expected = oracle.f1_score(labels, predicted, labels=range(5), average="macro", zero_division=0)
    assert macro_f1(confusion) == pytest.approx(expected)
    assert macro_f1(confusion.tolist()) == pytest.approx(expected)


NAN = float("nan")


def two_class_logits(confidence, correct):
    """Return logits of two classes and labels with these confidences; class 0 is predicted."""
    probability = torch.tensor(confidence, dtype=torch.float64)
    return torch.stack([probability, 1 - probability], 1).log(), 1 - torch.tensor(correct)


@pytest.fixture
def calibration_predictions():
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


def test_reliability_diagram_agrees_with_scikit_learn(calibration_predictions):
    result = calibration(*calibration_predictions)
    accuracy, mean, count, _ = curve(*calibration_predictions, BINS)
    full = [index for index in range(BINS) if result.count[index]]
    assert 8 < len(full) < BINS
    assert [result.accuracy[index] for index in full] == pytest.approx(accuracy.tolist())
    assert [result.confidence[index] for index in full] == pytest.approx(mean.tolist())
    assert [result.count[index] for index in full] == count.tolist()
    assert result.edges == pytest.approx(np.linspace(0, 1, BINS + 1).tolist())
    assert result.left_out == 0


def test_error_is_the_mean_gap_weighted_by_bin_count(calibration_predictions):
    accuracy, mean, count, _ = curve(*calibration_predictions, BINS)
    expected = (np.abs(accuracy - mean) * count).sum() / 500
    assert calibration(*calibration_predictions).error == pytest.approx(expected)


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


def test_histogram_counts_correct_and_wrong_predictions_separately(calibration_predictions):
    result = confidence_histogram(*calibration_predictions)
    confidence, predicted = calibration_predictions[0].double().softmax(1).max(1)
    for counts, chosen in (
        (result.right, predicted == calibration_predictions[1]),
        (result.wrong, predicted != calibration_predictions[1]),
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


NAN = float("nan")


def test_confidence_and_margin_are_softmax_probabilities():
    predictions = Predictions.from_logits(
        torch.tensor([[0.0, 3.0, 1.0]]).log()
    )  # probabilities 0, 3/4, 1/4
    assert predictions.predicted.tolist() == [1]
    assert predictions.confidence.tolist() == pytest.approx([0.75])
    assert predictions.margin.tolist() == pytest.approx([0.5])


def test_with_one_class_the_margin_is_the_confidence():
    predictions = Predictions.from_logits(torch.tensor([[-3.0], [7.0]]))
    assert (predictions.predicted.tolist(), predictions.margin.tolist()) == ([0, 0], [1, 1])


@pytest.mark.parametrize("row", [[NAN, 1.0, 2.0], [NAN] * 3, [float("inf"), float("inf"), 0.0]])
def test_a_nan_prediction_has_confidence_zero(row):
    predictions = Predictions.from_logits(torch.tensor([row, [0.0, 0.0, 1.0]]))
    assert (predictions.confidence[0], predictions.margin[0]) == (0, 0)
    assert predictions.confidence[1] > 1 / 3


@pytest.mark.parametrize("classes", [1, 3, 7, 12])
def test_ties_are_broken_as_in_the_confusion_matrix(classes):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(0, 3, (200, classes), generator=generator).float()
    logits[:20] = NAN
    labels = torch.arange(200) % classes
    counted = confusion_matrix(labels, Predictions.from_logits(logits).predicted, classes)
    assert counted.tolist() == score(logits, labels, ["x"] * classes).confusion


def test_logits_with_a_graph_are_detached():
    predictions = Predictions.from_logits(torch.zeros(2, 3, requires_grad=True))
    assert not predictions.confidence.requires_grad


# Probabilities of three classes, and the true class.
PROBABILITIES = torch.tensor(
    [[0.6, 0.3, 0.1], [0.9, 0.05, 0.05], [0.1, 0.45, 0.45], [0.2, 0.8, 0.0], [0.7, 0.2, 0.1]]
)
LOGITS, LABELS = PROBABILITIES.double().log(), torch.tensor([1, 1, 2, 1, 0])


def test_a_cell_lists_its_images_most_confident_first():
    assert confusion_cell(LOGITS, LABELS, truth=1, predicted=0).tolist() == [1, 0]
    assert confusion_cell(LOGITS, LABELS, truth=0, predicted=0).tolist() == [4]
    assert confusion_cell(LOGITS, LABELS, truth=0, predicted=2).tolist() == []


def test_every_cell_has_as_many_images_as_the_confusion_matrix_counts():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(100, 4, generator=generator), torch.arange(100) % 4
    counted = confusion_matrix(labels, logits.argmax(1), 4)
    for truth in range(4):
        for predicted in range(4):
            assert (
                len(confusion_cell(logits, labels, truth, predicted)) == counted[truth, predicted]
            )


def test_the_worst_mistakes_are_the_most_confident():
    labels = torch.tensor([1, 1, 0, 1, 0])
    assert worst_mistakes(LOGITS, labels).tolist() == [1, 0, 2]
    assert worst_mistakes(LOGITS, labels, 2).tolist() == [1, 0]


def test_the_least_certain_have_the_smallest_margins():
    assert least_certain(LOGITS).tolist() == [2, 0, 4, 3, 1]  # margins 0, .3, .5, .6, .85
    assert least_certain(LOGITS, 1).tolist() == [2]


def test_ties_keep_the_order_of_the_split():
    logits = torch.zeros(40, 3)
    logits[:, 1] = 1
    assert worst_mistakes(logits, torch.zeros(40).long()).tolist() == list(range(40))
    assert least_certain(logits).tolist() == list(range(40))


def test_nan_is_least_certain_and_last_of_the_mistakes():
    logits, labels = LOGITS.clone(), torch.tensor([1, 1, 0, 0, 1])
    logits[3] = float("nan")
    labels[3] = (logits[3:4].topk(3).indices[0, 0] + 1) % 3  # never the predicted class
    assert least_certain(logits)[:2].tolist() == [2, 3]  # both have margin 0
    assert worst_mistakes(logits, labels)[-1] == 3


def test_one_image_of_one_class_can_be_ranked():
    logits, labels = torch.zeros(1, 1), torch.zeros(1).long()
    assert least_certain(logits).tolist() == confusion_cell(logits, labels, 0, 0).tolist() == [0]
    assert worst_mistakes(logits, labels).tolist() == []
