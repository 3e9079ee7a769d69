"""Images of a split as they are looked at."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.data.splits import split_indices
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


def stored_val(run, datasets):
    """The validation images as they lie in the dataset, and their labels."""
    images, labels = datasets.load("colours", "train")
    _, val = split_indices(len(labels), run.config().val_share, run.config().seed)
    return images[val], labels[val]


def test_a_picture_is_the_stored_one_each_pixel_a_square(finished, classifier, datasets, evaluated):
    images, labels = stored_val(finished, datasets)
    seen = load_example_images(classifier, datasets, evaluated, [3, 0, 14])
    assert [one.index for one in seen] == [3, 0, 14]
    for one in seen:
        side = len(one.picture)
        assert side >= 96
        assert side % 12 == 0
        expected = np.kron(images[one.index], np.ones((side // 12, side // 12, 1), np.uint8))
        assert np.array_equal(one.picture, expected)
        assert one.overlay.shape == one.picture.shape
        assert one.overlay.dtype == one.picture.dtype == np.uint8
        assert one.truth == ("blue", "green", "red")[labels[one.index]]


def test_what_was_said_and_how_surely_is_what_the_evaluation_has(classifier, datasets, evaluated):
    shares = evaluated.logits.double().softmax(1)
    for one in load_example_images(classifier, datasets, evaluated, torch.arange(15)):
        said = evaluated.logits[one.index].argmax().item()
        assert one.predicted == ("blue", "green", "red")[said]
        assert one.confidence == pytest.approx(shares[one.index, said].item())


def test_the_overlay_shows_where_the_answer_was_seen(classifier, finished, datasets, evaluated):
    (one,) = load_example_images(classifier, datasets, evaluated, [2])
    model = classifier.saved.model
    x = Preprocessing.from_dict(classifier.saved.preprocessing).prepare(
        torch.tensor(stored_val(finished, datasets)[0][2:3])
    )
    said = evaluated.logits[2].argmax().view(1, 1)
    hot = heatmap(cam(model.features(x), model.head, said), len(one.picture))[0, 0].numpy()
    hottest, coldest = (np.unravel_index(at, hot.shape) for at in (hot.argmax(), hot.argmin()))
    colour = np.array([252, 255, 164])  # the end of inferno
    mixed = (1 - OPACITY) * one.picture[hottest] + OPACITY * colour
    assert np.abs(one.overlay[hottest] - mixed).max() <= 1
    assert one.overlay[coldest].sum() < one.picture[coldest].sum()


def test_the_answer_of_a_wrong_one_is_shown_and_not_the_truth(classifier, datasets, evaluated):
    wrong = replace(evaluated, logits=evaluated.logits.roll(1, 1))
    right, turned = (
        load_example_images(classifier, datasets, each, [0])[0] for each in (evaluated, wrong)
    )
    assert right.truth == turned.truth
    assert right.predicted != turned.predicted
    assert not np.array_equal(right.overlay, turned.overlay)


def test_at_most_so_many_are_shown_in_batches_as_small_as_need_be(
    classifier, datasets, evaluated, monkeypatch
):
    all_at_once = load_example_images(classifier, datasets, evaluated, range(15), limit=5)
    assert [one.index for one in all_at_once] == [0, 1, 2, 3, 4]
    monkeypatch.setattr(
        "resnet_demo.evaluation.example_images.evaluation_batch_size", lambda preprocessing: 2
    )
    for one, other in zip(
        load_example_images(classifier, datasets, evaluated, range(15), limit=5),
        all_at_once,
        strict=True,
    ):
        assert np.abs(one.overlay.astype(int) - other.overlay).max() <= 1
    assert load_example_images(classifier, datasets, evaluated, []) == []


def test_answers_that_are_not_a_number_are_shown_too(classifier, datasets, evaluated):
    astray = replace(evaluated, logits=torch.full_like(evaluated.logits, float("nan")))
    (one,) = load_example_images(classifier, datasets, astray, [0])
    assert one.confidence == 0


def test_images_that_are_not_here_are_named_with_the_way_to_get_them(
    packed, classifier, evaluated, tmp_path
):
    with pytest.raises(NotFoundError) as caught:
        load_example_images(classifier, Datasets(tmp_path), evaluated, [0])
    assert str(caught.value) == (
        "the images of colours are not on this machine; the Data tab or "
        "`python -m resnet_demo data import colours PATH` brings them"
    )


def test_answers_of_other_weights_are_not_shown(packed, datasets, evaluated):
    with pytest.raises(ConfigError, match="has new weights: evaluate it again"):
        load_example_images(Classifier.load(packed[0]), datasets, evaluated, [0])
