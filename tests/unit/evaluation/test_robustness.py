"""Robustness of a run to corrupted images."""

import pytest
import torch

from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, NotFoundError, StoppedError
from resnet_demo.evaluation import robustness as robustness_module
from resnet_demo.evaluation.corruptions import CORRUPTIONS, brightness
from resnet_demo.evaluation.evaluate_run import evaluate_run
from resnet_demo.evaluation.robustness import RobustnessScorer, measure_robustness, sample_split
from resnet_demo.evaluation.stored_results import ROBUSTNESS_KEYS
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.predict import load_split


@pytest.fixture(scope="module")
def datasets(colours):
    return Datasets(colours)


@pytest.fixture(scope="module")
def measured(finished, datasets):
    """Return the result on the test split, and the reported progress."""
    calls = []
    result = measure_robustness(finished, datasets, on_batch=lambda *call: calls.append(call))
    return result, calls


def test_every_kind_has_an_accuracy_for_each_strength(measured, finished, datasets):
    result, _ = measured
    assert tuple(result) == ROBUSTNESS_KEYS
    assert result["top1"] == evaluate_run(finished, datasets).result["top1"]
    assert result["strengths"] == [1, 2, 3, 4, 5]
    assert [*result["kinds"]] == [*CORRUPTIONS]
    assert all(len(row) == 5 for row in result["kinds"].values())
    assert all(0 <= top1 <= 1 for row in result["kinds"].values() for top1 in row)
    assert (result["n"], result["dataset"], result["split"]) == (30, "colours", "test")


def test_brightness_is_applied_to_the_images_themselves(measured, finished, datasets):
    classifier = Classifier.load(finished)
    images, labels = load_split(finished, datasets, "test", "colours")
    by_hand = RobustnessScorer(classifier, brightness(images, 2.6), labels, None).top1()
    assert measured[0]["kinds"]["brightness"][4] == by_hand


def test_progress_counts_every_version_of_an_image(measured):
    calls = measured[1]
    assert calls[0] == (30, 30 * 36)
    assert calls[-1] == (30 * 36, 30 * 36)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_on_batch_can_stop_the_measurement(finished, datasets):
    def stop(done, total):
        raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        measure_robustness(finished, datasets, on_batch=stop)


def test_the_result_does_not_depend_on_the_batch_size(measured, finished, datasets, monkeypatch):
    monkeypatch.setattr(robustness_module, "evaluation_batch_size", lambda preprocessing: 7)
    assert measure_robustness(finished, datasets) == measured[0]


def test_every_batch_has_its_own_seed(finished, datasets, monkeypatch):
    monkeypatch.setattr(robustness_module, "CORRUPTED_TOGETHER", 10)
    images, labels = sample_split(finished, datasets, "test", "colours")
    scorer = RobustnessScorer(Classifier.load(finished), images, labels, None)
    seeds = [seed for _, seed in scorer.batches()]
    assert len({*seeds}) == 3
    assert seeds == [seed for _, seed in scorer.batches()]


def test_a_sample_is_fixed_and_keeps_order_and_labels(finished, datasets):
    images, labels = sample_split(finished, datasets, "train", "colours", limit=12)
    again, _ = sample_split(finished, datasets, "train", "colours", limit=12)
    assert torch.equal(images, again)
    everything, truths = load_split(finished, datasets, "train", "colours")
    indices = [(everything == image).flatten(1).all(1).nonzero().item() for image in images]
    assert indices == sorted({*indices})
    assert len(indices) == 12
    assert indices != [*range(12)]  # from the whole split
    assert torch.equal(labels, truths[indices])


def test_without_the_images_or_with_an_unknown_split_it_is_refused(packed, tmp_path):
    with pytest.raises(NotFoundError, match="the images of colours are not on this machine; "):
        measure_robustness(packed[0], Datasets(tmp_path))
    with pytest.raises(ConfigError, match="split must be one of"):
        measure_robustness(packed[0], Datasets(tmp_path), "all")
