"""The answer for one picture, and its out-of-distribution verdict."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from resnet_demo.data.pictures import FITS, fit_to_square
from resnet_demo.errors import ConfigError, DamagedError
from resnet_demo.inference.classification import OodVerdict, classify
from resnet_demo.models import build_model
from resnet_demo.models.saved import load_model, save_model

CLASSES = ("cat", "dog", "frog")
PREPROCESSING = {"source_size": 32, "image_size": 16, "mean": [0.5] * 3, "std": [0.25] * 3}


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    network = {"name": "resnet20", "num_classes": 3, "stem": "small", "batch_norm": True}
    save_model(
        tmp_path,
        build_model("resnet20", 3),
        network=network,
        classes=CLASSES,
        preprocessing=PREPROCESSING,
        metrics={},
    )
    return load_model(tmp_path)


def picture(height=40, width=60):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_all_classes_are_listed_most_confident_first(saved):
    labels = classify(saved, picture()).labels
    confidences = [entry["confidence"] for entry in labels]
    assert {entry["label"] for entry in labels} == set(CLASSES)
    assert confidences == sorted(confidences, reverse=True)
    assert sum(confidences) == pytest.approx(1)


def test_top_limits_the_number_of_labels(saved):
    assert classify(saved, picture(), top=1).labels == classify(saved, picture()).labels[:1]


def test_the_networks_input_has_the_size_of_the_training_images(saved):
    seen = classify(saved, picture()).seen
    assert (seen.shape, seen.dtype) == ((32, 32, 3), np.uint8)


def test_the_confidences_are_those_of_the_networks_input(saved):
    result = classify(saved, picture(32, 32))
    np.testing.assert_array_equal(result.seen, picture(32, 32))
    x = torch.from_numpy(result.seen).permute(2, 0, 1)[None].float()
    x = torch.nn.functional.interpolate(x, (16, 16), mode="bilinear", antialias=True)
    confidences = saved.model((x / 255 - 0.5) / 0.25)[0].softmax(0)
    best = result.labels[0]
    assert best["label"] == CLASSES[confidences.argmax()]
    assert best["confidence"] == pytest.approx(confidences.max().item(), rel=1e-4)


def test_a_network_that_computes_nan_is_refused(saved):
    torch.nn.init.constant_(saved.model.head.bias, float("nan"))
    with pytest.raises(DamagedError, match="computes NaN"):
        classify(saved, picture())


def test_incomplete_preprocessing_is_refused(saved):
    saved.preprocessing.pop("std")
    with pytest.raises(DamagedError):
        classify(saved, picture())


@pytest.mark.parametrize("fit", FITS)
def test_a_picture_is_made_square_by_the_given_fit(saved, fit):
    result = classify(saved, picture(), fit=fit)
    np.testing.assert_array_equal(result.seen, fit_to_square(picture(), 32, fit))
    alike = classify(saved, result.seen)  # already square: no fit changes it
    assert result.labels == alike.labels


@pytest.mark.parametrize("fit", FITS)
def test_the_default_fit_is_that_of_the_training_images(saved, fit):
    saved.preprocessing["fit"] = fit
    for other in FITS:
        same = classify(saved, picture()).labels == classify(saved, picture(), fit=other).labels
        assert same == (other == fit)


def test_older_networks_learned_from_cropped_images(saved):
    saved.preprocessing.pop("fit", None)
    assert classify(saved, picture()).labels == classify(saved, picture(), fit="crop").labels


@pytest.mark.parametrize("top", [0, -1, 6, 2.0, True, "2", None])
def test_an_invalid_number_of_labels_is_refused(saved, top):
    value = "nothing" if top is None else repr(top)
    with pytest.raises(ConfigError) as caught:
        classify(saved, picture(), top)
    assert str(caught.value) == f"top must be a whole number from 1 to 5, got {value}"


def test_an_unknown_fit_is_refused(saved):
    with pytest.raises(ConfigError, match="fit must be one of crop, squash, pad, got 'fill'"):
        classify(saved, picture(), fit="fill")


def logits_of(saved, result):
    """Compute the logits of the network's input by hand."""
    x = torch.from_numpy(result.seen).permute(2, 0, 1)[None].float()
    x = torch.nn.functional.interpolate(x, (16, 16), mode="bilinear", antialias=True)
    return saved.model((x / 255 - 0.5) / 0.25)[0].detach().numpy()


def test_without_a_threshold_there_is_no_verdict(saved):
    result = classify(saved, picture())
    assert result.ood is None
    assert result.to_dict() == {"labels": result.labels, "outside": None}


def test_a_picture_is_flagged_when_its_energy_is_above_the_threshold(saved):
    energy = -logsumexp(logits_of(saved, classify(saved, picture())))
    for step, is_ood in ((-0.01, True), (0.01, False)):
        saved.metrics["outside"] = {"threshold": energy + step, "false_alarms": 0.05, "n": 40}
        verdict = classify(saved, picture()).ood
        assert verdict.score == pytest.approx(energy, abs=1e-4)
        assert (verdict.n, verdict.is_ood) == (40, is_ood)
        assert verdict.to_dict() == {
            "energy": verdict.score,
            "threshold": energy + step,
            "false_alarms": 0.05,
            "is_outside": is_ood,
        }


def test_an_energy_equal_to_the_threshold_is_not_flagged():
    assert not OodVerdict(score=-2.5, threshold=-2.5, false_alarms=0.05, n=1).is_ood


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"threshold": -1.0},
        {"threshold": "low", "false_alarms": 0.05, "n": 9},
        {"threshold": float("inf"), "false_alarms": 0.05, "n": 9},
        {"threshold": -1.0, "false_alarms": 5, "n": 9},
        {"threshold": -1.0, "false_alarms": 0.05, "n": 0},
        -1.0,
    ],
    ids=str,
)
def test_an_invalid_threshold_is_refused(saved, stored):
    saved.metrics["outside"] = stored
    with pytest.raises(DamagedError, match=r"^the out-of-distribution threshold is "):
        classify(saved, picture())
