import numpy as np
import pytest
import torch

from resnet_demo.analysis.classify import classify
from resnet_demo.errors import DamagedError
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


def test_all_classes_are_named_the_surest_first(saved):
    labels = classify(saved, picture()).labels
    confidences = [entry["confidence"] for entry in labels]
    assert {entry["label"] for entry in labels} == set(CLASSES)
    assert confidences == sorted(confidences, reverse=True)
    assert sum(confidences) == pytest.approx(1)


def test_only_the_top_is_named_when_asked(saved):
    assert classify(saved, picture(), top=1).labels == classify(saved, picture()).labels[:1]


def test_what_was_seen_has_the_size_of_the_training_images(saved):
    seen = classify(saved, picture()).seen
    assert (seen.shape, seen.dtype) == ((32, 32, 3), np.uint8)


def test_the_confidences_are_those_of_the_picture_that_was_seen(saved):
    result = classify(saved, picture(32, 32))
    np.testing.assert_array_equal(result.seen, picture(32, 32))
    x = torch.from_numpy(result.seen).permute(2, 0, 1)[None].float()
    x = torch.nn.functional.interpolate(x, (16, 16), mode="bilinear", antialias=True)
    confidences = saved.model((x / 255 - 0.5) / 0.25)[0].softmax(0)
    best = result.labels[0]
    assert best["label"] == CLASSES[confidences.argmax()]
    assert best["confidence"] == pytest.approx(confidences.max().item(), rel=1e-4)


def test_a_network_that_computes_nan_has_no_answer(saved):
    torch.nn.init.constant_(saved.model.head.bias, float("nan"))
    with pytest.raises(DamagedError, match="not a number"):
        classify(saved, picture())


def test_preprocessing_that_cannot_be_is_refused(saved):
    saved.preprocessing.pop("std")
    with pytest.raises(DamagedError):
        classify(saved, picture())
