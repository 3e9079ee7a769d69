"""Metrics, compared with scikit-learn."""

import json

import pytest
import sklearn.metrics as oracle
import torch

from resnet_demo.evaluation.metrics import confusion_matrix, macro_f1, score

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
        assert [row[name] for row in rows] == pytest.approx(values.tolist())
    assert rows[5]["precision"] == rows[6]["recall"] == 0  # nothing to divide by


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
    confusion = confusion_matrix(labels, predicted, 6)  # the sixth is neither there nor predicted
    expected = oracle.f1_score(labels, predicted, labels=range(6), average="macro", zero_division=0)
    assert macro_f1(confusion) == pytest.approx(expected)
    assert macro_f1(confusion.tolist()) == pytest.approx(expected)
