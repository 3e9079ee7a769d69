import pytest
import torch

from resnet_demo.evaluation.metrics import confusion_matrix, score
from resnet_demo.evaluation.predictions import verdicts

NAN = float("nan")


def test_confidence_and_margin_are_shares_of_the_softmax():
    said = verdicts(torch.tensor([[0.0, 3.0, 1.0]]).log())  # shares 0, 3/4, 1/4
    assert said.predicted.tolist() == [1]
    assert said.confidence.tolist() == pytest.approx([0.75])
    assert said.margin.tolist() == pytest.approx([0.5])


def test_a_lone_class_is_all_there_is():
    said = verdicts(torch.tensor([[-3.0], [7.0]]))
    assert (said.predicted.tolist(), said.margin.tolist()) == ([0, 0], [1, 1])


@pytest.mark.parametrize("row", [[NAN, 1.0, 2.0], [NAN] * 3, [float("inf"), float("inf"), 0.0]])
def test_an_answer_that_is_not_a_number_has_no_confidence(row):
    said = verdicts(torch.tensor([row, [0.0, 0.0, 1.0]]))
    assert (said.confidence[0], said.margin[0]) == (0, 0)
    assert said.confidence[1] > 1 / 3


@pytest.mark.parametrize("classes", [1, 3, 7, 12])
def test_ties_are_settled_as_in_the_confusion_matrix(classes):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(0, 3, (200, classes), generator=generator).float()
    logits[:20] = NAN
    labels = torch.arange(200) % classes
    counted = confusion_matrix(labels, verdicts(logits).predicted, classes)
    assert counted.tolist() == score(logits, labels, ["x"] * classes).confusion


def test_logits_that_still_have_a_graph_are_taken_too():
    assert not verdicts(torch.zeros(2, 3, requires_grad=True)).confidence.requires_grad
