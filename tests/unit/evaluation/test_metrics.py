import json

import pytest
import sklearn.metrics as oracle
import torch

from resnet_demo.evaluation.metrics import score

CLASSES = ("a", "b", "c", "d", "e", "f", "g")


@pytest.fixture
def answers():
    """Logits and labels of 300 images; class g never occurs and f is never answered."""
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(300, 7, generator=generator) * 3, torch.arange(300) % 6
    logits[:, 5] = -20
    return logits, labels


def test_scores_are_scikit_learn_s(answers):
    logits, labels = answers
    evaluation = score(logits, labels, CLASSES)
    numbers, predicted = range(7), logits.argmax(1)
    assert evaluation.n == 300
    assert evaluation.top1 == pytest.approx(oracle.accuracy_score(labels, predicted))
    assert evaluation.top5 == pytest.approx(
        oracle.top_k_accuracy_score(labels, logits, k=5, labels=numbers)
    )
    assert evaluation.loss == pytest.approx(
        oracle.log_loss(labels, logits.double().softmax(1), labels=numbers), rel=1e-6
    )
    assert (
        evaluation.confusion == oracle.confusion_matrix(labels, predicted, labels=numbers).tolist()
    )


def test_scores_of_each_class_are_scikit_learn_s(answers):
    logits, labels = answers
    rows = score(logits, labels, CLASSES).per_class
    expected = oracle.precision_recall_fscore_support(
        labels, logits.argmax(1), labels=range(7), zero_division=0
    )
    assert [row["label"] for row in rows] == list(CLASSES)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [row[name] for row in rows] == pytest.approx(values.tolist())
    assert rows[5]["precision"] == rows[6]["recall"] == 0  # nothing to divide by


def test_top5_of_fewer_than_five_classes_is_always_right(answers):
    logits, labels = answers
    assert score(logits[:, :3], labels % 3, CLASSES[:3]).top5 == 1


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_network_that_always_says_the_same_is_no_better_than_chance(value):
    labels = torch.arange(70) % 7
    evaluation = score(torch.full((70, 7), value), labels, CLASSES)
    assert evaluation.top1 == pytest.approx(1 / 7)
    assert evaluation.top5 == pytest.approx(5 / 7)


def test_an_evaluation_is_json_even_of_a_diverged_network():
    evaluation = score(torch.full((1, 7), float("nan")), torch.tensor([0]), CLASSES)
    values = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert values["loss"] is None
    assert values["n"] == 1
