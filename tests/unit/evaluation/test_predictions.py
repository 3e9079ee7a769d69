"""Predictions and rankings of images."""

import pytest
import torch

from resnet_demo.evaluation.metrics import confusion_matrix, score
from resnet_demo.evaluation.predictions import (
    Predictions,
    confusion_cell,
    least_certain,
    worst_mistakes,
)

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
