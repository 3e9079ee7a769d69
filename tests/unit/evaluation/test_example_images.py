"""Example images of an evaluated split."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.data.splits import stratified_split
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, NotFoundError
from resnet_demo.evaluation.evaluate_run import evaluate_run
from resnet_demo.evaluation.example_images import OPACITY, load_example_images
from resnet_demo.inference.class_maps import cam
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.heatmaps import heatmap


@pytest.fixture(scope="module")
def datasets(colours):
    return Datasets(colours)


@pytest.fixture(scope="module")
def classifier(finished):
    return Classifier.load(finished)


@pytest.fixture(scope="module")
def evaluated(finished, datasets):
    return evaluate_run(finished, datasets, "val")


def stored_images(run, datasets):
    """Return the validation images and labels of the dataset."""
    images, labels = datasets.load("colours", "train")
    _, val = stratified_split(labels, run.config().val_share, run.config().seed)
    return images[val], labels[val]


def test_a_picture_is_the_stored_image_with_each_pixel_enlarged(
    finished, classifier, datasets, evaluated
):
    images, labels = stored_images(finished, datasets)
    examples = load_example_images(classifier, datasets, evaluated, [3, 0, 14])
    assert [example.index for example in examples] == [3, 0, 14]
    for example in examples:
        side = len(example.picture)
        assert side >= 96
        assert side % 12 == 0
        expected = np.kron(images[example.index], np.ones((side // 12, side // 12, 1), np.uint8))
        assert np.array_equal(example.picture, expected)
        assert example.overlay.shape == example.picture.shape
        assert example.overlay.dtype == example.picture.dtype == np.uint8
        assert example.truth == ("blue", "green", "red")[labels[example.index]]


def test_prediction_and_confidence_are_those_of_the_evaluation(classifier, datasets, evaluated):
    probabilities = evaluated.logits.double().softmax(1)
    for example in load_example_images(classifier, datasets, evaluated, torch.arange(15)):
        predicted = evaluated.logits[example.index].argmax().item()
        assert example.predicted == ("blue", "green", "red")[predicted]
        assert example.confidence == pytest.approx(probabilities[example.index, predicted].item())


def test_the_overlay_is_the_class_map_of_the_prediction(classifier, finished, datasets, evaluated):
    (example,) = load_example_images(classifier, datasets, evaluated, [2])
    model = classifier.saved.model
    x = Preprocessing.from_dict(classifier.saved.preprocessing).prepare(
        torch.tensor(stored_images(finished, datasets)[0][2:3])
    )
    predicted = evaluated.logits[2].argmax().view(1, 1)
    hot = heatmap(cam(model.features(x), model.head, predicted), len(example.picture))[0, 0].numpy()
    hottest, coldest = (np.unravel_index(at, hot.shape) for at in (hot.argmax(), hot.argmin()))
    colour = np.array([252, 255, 164])  # the end of inferno
    mixed = (1 - OPACITY) * example.picture[hottest] + OPACITY * colour
    assert np.abs(example.overlay[hottest] - mixed).max() <= 1
    assert example.overlay[coldest].sum() < example.picture[coldest].sum()


def test_a_wrong_prediction_is_shown_with_its_own_class_map(classifier, datasets, evaluated):
    other = replace(evaluated, logits=evaluated.logits.roll(1, 1))
    right, changed = (
        load_example_images(classifier, datasets, each, [0])[0] for each in (evaluated, other)
    )
    assert right.truth == changed.truth
    assert right.predicted != changed.predicted
    assert not np.array_equal(right.overlay, changed.overlay)


def test_the_limit_and_small_batches_give_the_same_images(
    classifier, datasets, evaluated, monkeypatch
):
    all_at_once = load_example_images(classifier, datasets, evaluated, range(15), limit=5)
    assert [example.index for example in all_at_once] == [0, 1, 2, 3, 4]
    monkeypatch.setattr(
        "resnet_demo.evaluation.example_images.evaluation_batch_size", lambda preprocessing: 2
    )
    for example, expected in zip(
        load_example_images(classifier, datasets, evaluated, range(15), limit=5),
        all_at_once,
        strict=True,
    ):
        assert np.abs(example.overlay.astype(int) - expected.overlay).max() <= 1
    assert load_example_images(classifier, datasets, evaluated, []) == []


def test_a_nan_prediction_is_shown_with_confidence_zero(classifier, datasets, evaluated):
    diverged = replace(evaluated, logits=torch.full_like(evaluated.logits, float("nan")))
    (example,) = load_example_images(classifier, datasets, diverged, [0])
    assert example.confidence == 0


def test_without_the_images_the_error_says_how_to_get_them(packed, classifier, evaluated, tmp_path):
    with pytest.raises(NotFoundError) as caught:
        load_example_images(classifier, Datasets(tmp_path), evaluated, [0])
    assert str(caught.value) == (
        "the images of colours are not on this machine; get them on the Data tab, or with: "
        "python -m resnet_demo data import colours PATH"
    )


def test_an_evaluation_of_other_images_is_refused(classifier, datasets, evaluated):
    older = replace(evaluated, result={**evaluated.result, "fingerprint": "another"})
    with pytest.raises(ConfigError, match="colours has changed since the evaluation of mine: eval"):
        load_example_images(classifier, datasets, older, [0])


def test_an_evaluation_of_other_weights_is_refused(packed, datasets, evaluated):
    with pytest.raises(ConfigError, match="has new weights: evaluate it again"):
        load_example_images(Classifier.load(packed[0]), datasets, evaluated, [0])
