"""How a run bears images made worse."""

import pytest
import torch

from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, NotFoundError, StoppedError
from resnet_demo.evaluation import robustness as module
from resnet_demo.evaluation.corruptions import CORRUPTIONS, brightness
from resnet_demo.evaluation.evaluate_run import evaluate_run
from resnet_demo.evaluation.intervals import wilson_interval
from resnet_demo.evaluation.robustness import RobustnessScorer, measure_robustness, sample_split
from resnet_demo.evaluation.stored_results import ROBUSTNESS_KEYS
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.predict import load_split


@pytest.fixture(scope="module")
def datasets(colours):
    return Datasets(colours)


@pytest.fixture(scope="module")
def borne(finished, datasets):
    """The result on the test split, and the progress that was told."""
    told = []
    return measure_robustness(finished, datasets, on_batch=lambda *now: told.append(now)), told


def test_every_kind_has_an_accuracy_for_each_strength(borne, finished, datasets):
    result, _ = borne
    assert tuple(result) == ROBUSTNESS_KEYS
    assert result["top1"] == evaluate_run(finished, datasets).result["top1"]
    assert result["strengths"] == [1, 2, 3, 4, 5]
    assert [*result["kinds"]] == [*CORRUPTIONS]
    assert all(len(row) == 5 for row in result["kinds"].values())
    assert all(0 <= top1 <= 1 for row in result["kinds"].values() for top1 in row)
    low, high = wilson_interval(round(30 * result["top1"]), 30)
    assert result["interval_half_width"] == (high - low) / 2
    assert (result["n"], result["dataset"], result["split"]) == (30, "colours", "test")


def test_damage_without_chance_is_done_to_the_very_images(borne, finished, datasets):
    classifier = Classifier.load(finished)
    images, labels = load_split(finished, datasets, "test", "colours")
    by_hand = RobustnessScorer(classifier, brightness(images, 2.6), labels, None).top1()
    assert borne[0]["kinds"]["brightness"][4] == by_hand


def test_progress_counts_every_version_of_an_image(borne):
    told = borne[1]
    assert told[0] == (30, 30 * 36)
    assert told[-1] == (30 * 36, 30 * 36)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_who_is_told_of_progress_may_end_it(finished, datasets):
    def stop(done, total):
        raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        measure_robustness(finished, datasets, on_batch=stop)


def test_it_is_the_same_each_time_whatever_the_network_s_batches(
    borne, finished, datasets, monkeypatch
):
    monkeypatch.setattr(module, "evaluation_batch_size", lambda preprocessing: 7)
    assert measure_robustness(finished, datasets) == borne[0]


def test_no_two_parts_are_given_the_same_chances(finished, datasets, monkeypatch):
    monkeypatch.setattr(module, "CORRUPTED_TOGETHER", 10)
    images, labels = sample_split(finished, datasets, "test", "colours")
    scorer = RobustnessScorer(Classifier.load(finished), images, labels, None)
    seeds = [seed for _, seed in scorer.batches()]
    assert len({*seeds}) == 3
    assert seeds == [seed for _, seed in scorer.batches()]


def test_a_sample_is_fixed_and_in_order_and_each_image_has_its_label(finished, datasets):
    images, labels = sample_split(finished, datasets, "train", "colours", limit=12)
    again, _ = sample_split(finished, datasets, "train", "colours", limit=12)
    assert torch.equal(images, again)
    everything, truths = load_split(finished, datasets, "train", "colours")
    places = [(everything == image).flatten(1).all(1).nonzero().item() for image in images]
    assert places == sorted({*places})
    assert len(places) == 12
    assert places != [*range(12)]  # from all over the split
    assert torch.equal(labels, truths[places])


def test_images_that_are_not_here_cannot_be_made_worse(packed, tmp_path):
    with pytest.raises(NotFoundError, match="the images of colours are not on this machine; "):
        measure_robustness(packed[0], Datasets(tmp_path))
    with pytest.raises(ConfigError, match="split must be one of"):
        measure_robustness(packed[0], Datasets(tmp_path), "all")
