"""Validation during training: its faulty mode, and the out-of-distribution threshold."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from resnet_demo.models.saved import load_model
from resnet_demo.training.batches import Batches
from resnet_demo.training.checkpoint import load_last
from resnet_demo.training.fit import fit
from resnet_demo.training.state import Training
from resnet_demo.training.validate import validate


def test_validation_in_training_mode_moves_the_running_statistics(datasets, tiny, tmp_path):
    right, fault = tmp_path / "right", tmp_path / "fault"
    for folder, as_article in ((right, False), (fault, True)):
        folder.mkdir()
        list(fit(tiny(epochs=1, validate_in_training_mode=as_article), datasets, folder))
    right, fault = (load_last(folder)[0]["model"] for folder in (right, fault))
    mean = next(name for name in right if name.endswith("running_mean"))
    assert torch.equal(right["head.weight"], fault["head.weight"])
    assert not torch.equal(right[mean], fault[mean])


def test_one_validation_image_in_twenty_is_over_the_kept_threshold(datasets, tiny, tmp_path):
    config = tiny(val_share=0.4)
    list(fit(config, datasets, tmp_path))
    saved = load_model(tmp_path)
    batches = Batches.load(config, datasets, torch.device("cpu"))
    with torch.inference_mode():
        logits = saved.model(batches.preprocessing.prepare(batches.val_images[:])).double()
    expected = np.quantile(-logsumexp(logits, axis=1), 0.95, method="inverted_cdf")
    threshold = saved.metrics["outside"]
    assert threshold == {
        "threshold": pytest.approx(expected, abs=1e-4),
        "false_alarms": 0.05,
        "n": 60,
    }
    assert saved.metrics.keys() == {"epoch", "val_top1", "val_loss", "outside"}


def test_validation_in_training_mode_sets_no_threshold(datasets, tiny, tmp_path):
    list(fit(tiny(epochs=1, validate_in_training_mode=True), datasets, tmp_path))
    assert load_model(tmp_path).metrics.keys() == {"epoch", "val_top1", "val_loss"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_network_that_computes_nan_or_infinity_sets_no_threshold(datasets, tiny, value):
    training = Training.begin(tiny(), datasets, None)
    torch.nn.init.constant_(training.model.head.bias, value)
    validation = validate(training, lambda: False)
    assert not np.isfinite(validation.loss)
    assert validation.ood_threshold is None
