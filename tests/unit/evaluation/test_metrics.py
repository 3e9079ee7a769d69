import json

import pytest
import sklearn.metrics as oracle
import torch
from torch import nn

from resnet_demo.errors import StoppedError
from resnet_demo.evaluation.metrics import score
from resnet_demo.inference.predict import predict

CLASSES = ("a", "b", "c", "d", "e", "f", "g")
IMAGES = torch.randint(
    0, 256, (13, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def prepare(images):
    return images.permute(0, 3, 1, 2).float() / 255


@pytest.fixture
def model():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 7)
    return nn.Sequential(*layers).eval()


@pytest.fixture
def answers():
    """Logits and labels of 300 images; class g never occurs and f is never answered."""
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(300, 7, generator=generator) * 3, torch.arange(300) % 6
    logits[:, 5] = -20
    return logits, labels


def test_predictions_do_not_depend_on_the_batches(model):
    expected = model(prepare(IMAGES)).detach()
    for batch_size in (1, 4, 6, 13, 500):  # 4 and 6 leave one image over
        torch.testing.assert_close(predict(model, prepare, IMAGES, batch_size), expected)


def test_predictions_are_float32_whatever_the_network_computes_in(model):
    logits = predict(model.bfloat16(), lambda images: prepare(images).bfloat16(), IMAGES)
    assert (logits.dtype, logits.shape) == (torch.float32, (13, 7))


def test_predicting_evaluates_and_leaves_the_mode_as_it_was(model):
    expected = predict(model, prepare, IMAGES)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    torch.testing.assert_close(predict(model, prepare, IMAGES), expected)
    assert model.training
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_training_mode_normalizes_by_the_batch_and_moves_the_running_statistics(model):
    before = model[1].running_mean.clone()
    in_order = predict(model, prepare, IMAGES, 6, training_mode=True)
    shuffled = predict(model, prepare, IMAGES.flip(0), 6, training_mode=True).flip(0)
    assert not torch.allclose(in_order, shuffled)  # the score of the article hangs on the order
    assert not torch.allclose(model[1].running_mean, before)
    assert not model.training


def test_training_mode_never_meets_a_single_pixel_of_a_single_image():
    layers = nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 7)
    logits = predict(nn.Sequential(*layers), prepare, IMAGES, 4, training_mode=True)
    assert logits.shape == (13, 7)


def test_progress_is_told_after_each_batch(model):
    told = []
    predict(model, prepare, IMAGES, 5, on_batch=lambda *progress: told.append(progress))
    assert told == [(5, 13), (10, 13), (13, 13)]


def test_stopping_ends_it_and_restores_the_mode(model):
    def stop(done, total):
        raise StoppedError("stopped")

    model.train()
    with pytest.raises(StoppedError):
        predict(model, prepare, IMAGES, 5, on_batch=stop)
    assert model.training


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
