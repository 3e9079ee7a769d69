"""A run's weights in memory. What a method only passes on is tested in its own module."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from resnet_demo.data.pictures import FITS
from resnet_demo.data.splits import stratified_split
from resnet_demo.data.store import Datasets
from resnet_demo.inference.class_maps import map_classes
from resnet_demo.inference.classification import classify
from resnet_demo.inference.classifier import SINGLE_THREAD_SIZE, Classifier

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def classifier(finished):
    return Classifier.load(finished)


def test_each_fit_has_the_answer_that_it_has_alone(classifier):
    answers = classifier.classify_each_fit(PICTURE)
    assert tuple(answers) == FITS
    for fit, answer in answers.items():
        alone = classifier.classify(PICTURE, 1, fit)
        assert answer.labels == alone.labels
        assert answer.ood == alone.ood
        np.testing.assert_array_equal(answer.seen, alone.seen)


def test_a_known_answer_is_not_computed_again(classifier, monkeypatch):
    known = classifier.classify(PICTURE, 2, "pad")
    computed = []

    def count(self, rgb, top, fit):
        computed.append(fit)
        return known

    monkeypatch.setattr(Classifier, "classify", count)
    answers = classifier.classify_each_fit(PICTURE, {"pad": known})
    assert answers["pad"] is known
    assert computed == ["crop", "squash"]


def test_a_trained_run_has_a_threshold_from_its_validation_split(classifier, colours):
    verdict = classifier.classify(PICTURE).ood
    assert (verdict.n, verdict.false_alarms) == (15, 0.05)
    images, labels = Datasets(colours).load("colours", "train")
    config = classifier.run.config()
    _, val = stratified_split(labels, config.val_share, config.seed)
    energies = [classifier.classify(image).ood.score for image in images[val]]
    # 5 % of 15 images are none, so the threshold is the highest energy.
    assert max(energies) == pytest.approx(verdict.threshold, abs=1e-4)


def test_every_stage_has_a_grid_of_feature_maps(classifier):
    stages = classifier.feature_maps(PICTURE, "pad")
    assert [name for name, _ in stages] == ["stem", "stage 1", "stage 2", "stage 3"]
    assert all(grid.dtype == np.uint8 for _, grid in stages)


def test_the_size_is_that_of_parameters_and_buffers(classifier):
    state = classifier.saved.model.state_dict().values()
    assert classifier.size == sum(tensor.numel() * tensor.element_size() for tensor in state)


def test_concurrent_threads_do_not_disturb_each_other(classifier):
    pictures = [np.roll(PICTURE, shift, 2) for shift in range(3)]
    expected = [
        (
            classify(classifier.saved, rgb).labels,
            map_classes(classifier.saved, rgb, ["red"])[0].coarse,
        )
        for rgb in pictures
    ]
    stages = [[grid for _, grid in classifier.feature_maps(rgb)] for rgb in pictures]
    wrong = []

    def use(number):
        for _ in range(5):
            rgb = pictures[number]
            result = classifier.classify(rgb).labels, classifier.class_map(rgb, "red").coarse
            grids = [grid for _, grid in classifier.feature_maps(rgb)]
            same = len(grids) == 4 and all(map(np.array_equal, grids, stages[number]))
            if result != expected[number] or not same:
                wrong.append(number)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("image_size", "threads"), [(SINGLE_THREAD_SIZE, 1), (SINGLE_THREAD_SIZE + 1, 2)]
)
def test_a_small_picture_uses_one_thread_and_the_number_is_restored(
    image_size, threads, classifier, monkeypatch
):
    preprocessing = replace(classifier.preprocessing, image_size=image_size)
    monkeypatch.setattr(Classifier, "preprocessing", preprocessing)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with classifier.exclusive():
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_picture_that_waits_for_another_restores_the_number_of_threads(classifier):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    is_waiting = threading.Event()

    def wait_for_turn():
        is_waiting.set()
        with classifier.exclusive():
            pass

    try:
        with classifier.exclusive():
            waiting = threading.Thread(target=wait_for_turn)
            waiting.start()
            is_waiting.wait()
            time.sleep(0.1)  # until it waits for the lock
        waiting.join()
        numbers = []
        new = threading.Thread(target=lambda: numbers.append(torch.get_num_threads()))
        new.start()
        new.join()
        assert numbers == [2]
    finally:
        torch.set_num_threads(before)
