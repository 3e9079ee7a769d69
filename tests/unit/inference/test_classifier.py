"""A run's weights asked about pictures: what is only passed on is tested where it is done."""

import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from resnet_demo.data.pictures import FITS
from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.data.splits import split_indices
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, NotFoundError, StoppedError
from resnet_demo.inference.class_maps import map_classes
from resnet_demo.inference.classification import classify
from resnet_demo.inference.classifier import SINGLE_THREAD_SIZE, Classifier
from resnet_demo.inference.classifier_cache import ClassifierCache
from resnet_demo.inference.neighbours import embed_images, index_training_images
from resnet_demo.runs.store import Run

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def classifier(finished):
    return Classifier.load(finished)


@pytest.fixture(scope="module")
def datasets(colours):
    return Datasets(colours)


@pytest.fixture(scope="module")
def index(finished, datasets):
    return index_training_images(Classifier.load(finished), datasets)


def test_each_way_to_fit_has_the_answer_that_it_alone_would_have(classifier):
    answers = classifier.classify_each_fit(PICTURE)
    assert tuple(answers) == FITS
    for fit, answer in answers.items():
        alone = classifier.classify(PICTURE, 1, fit)
        assert answer.labels == alone.labels
        assert answer.ood == alone.ood
        np.testing.assert_array_equal(answer.seen, alone.seen)


def test_a_run_trained_here_knows_when_not_to_believe_it(classifier, datasets):
    outside = classifier.classify(PICTURE).ood
    assert (outside.n, outside.false_alarms) == (15, 0.05)
    images, labels = datasets.load("colours", "train")
    config = classifier.run.config()
    _, val = split_indices(len(labels), config.val_share, config.seed)
    energies = [classifier.classify(image).ood.energy for image in images[val]]
    assert max(energies) == pytest.approx(outside.threshold, abs=1e-4)  # of 15 none may be over


def test_every_stage_of_the_network_is_shown(classifier):
    stages = classifier.feature_maps(PICTURE, "pad")
    assert [name for name, _ in stages] == ["stem", "stage 1", "stage 2", "stage 3"]
    assert all(picture.dtype == np.uint8 for _, picture in stages)


def test_the_index_holds_the_features_of_the_training_split_and_of_no_other_image(
    finished, datasets, index, classifier
):
    images, labels = datasets.load("colours", "train")
    config = finished.config()
    train, _ = split_indices(len(labels), config.val_share, config.seed)
    assert index.places.tolist() == sorted(train)
    np.testing.assert_array_equal(index.labels, labels[index.places])
    assert (index.features.dtype, index.weights) == (torch.float16, classifier.saved.sha256)
    preprocessing = Preprocessing.from_dict(classifier.saved.preprocessing)
    chosen = torch.from_numpy(images[index.places.numpy()])
    features = embed_images(classifier.saved.model, preprocessing.prepare, chosen).numpy()
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(index.features.float(), features, atol=2e-3)


@pytest.mark.parametrize("fit", FITS)
def test_similar_images_are_those_of_the_largest_cosine_by_numpy(classifier, index, datasets, fit):
    seen = classifier.classify(PICTURE, fit=fit).seen
    preprocessing = Preprocessing.from_dict(classifier.saved.preprocessing)
    query = embed_images(classifier.saved.model, preprocessing.prepare, torch.tensor(seen)[None])
    library, query = index.features.double().numpy(), query[0].double().numpy()
    cosines = library @ query / np.linalg.norm(library, axis=1) / np.linalg.norm(query)
    best = np.argsort(-cosines, kind="stable")[:5]
    found = classifier.similar_images(PICTURE, index, fit)
    assert [cosine for _, cosine, _ in found] == pytest.approx(cosines[best], abs=1e-3)
    classes, labels = classifier.saved.classes, datasets.load("colours", "train")[1]
    for place, cosine, label in found:
        assert cosine == pytest.approx(cosines[index.places.tolist().index(place)], abs=1e-3)
        assert label == classes[labels[place]]


def test_a_training_image_is_most_alike_to_itself(classifier, index, datasets):
    images, _ = datasets.load("colours", "train")
    for place in index.places[:5].tolist():
        assert classifier.similar_images(images[place], index, limit=1)[0][1] == pytest.approx(
            1, abs=1e-3
        )


def test_an_index_of_other_weights_is_refused(classifier, index):
    with pytest.raises(ConfigError, match="made with other weights"):
        classifier.similar_images(PICTURE, replace(index, weights="0" * 64))


def test_an_index_is_told_of_after_each_batch_and_can_be_stopped(finished, datasets, monkeypatch):
    monkeypatch.setattr("resnet_demo.inference.neighbours.evaluation_batch_size", lambda _: 50)
    told = []
    index = index_training_images(
        Classifier.load(finished), datasets, lambda *done: told.append(done)
    )
    assert told == [(50, 135), (100, 135), (135, 135)]
    assert len(index.features) == 135

    def stop(done, total):
        raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        index_training_images(Classifier.load(finished), datasets, stop)


def test_an_index_needs_the_images(finished, tmp_path):
    with pytest.raises(NotFoundError, match="got 'colours'"):
        index_training_images(Classifier.load(finished), Datasets(tmp_path))


def test_threads_that_ask_at_once_do_not_see_each_other_s_work(classifier):
    pictures = [np.roll(PICTURE, shift, 2) for shift in range(3)]
    expected = [
        (
            classify(classifier.saved, rgb).labels,
            map_classes(classifier.saved, rgb, ["red"])[0].coarse,
        )
        for rgb in pictures
    ]
    stages = [classifier.feature_maps(rgb) for rgb in pictures]
    wrong = []

    def ask(number):
        for _ in range(5):
            rgb = pictures[number]
            said = classifier.classify(rgb).labels, classifier.class_map(rgb, "red").coarse
            grids = zip(classifier.feature_maps(rgb), stages[number], strict=True)
            same = all(np.array_equal(one[1], other[1]) for one, other in grids)
            if said != expected[number] or not same:
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- kept in memory


@pytest.fixture
def runs(finished, tmp_path):
    """Three copies of a run. Their weights are alike, but whose they are is not."""
    return [Run(shutil.copytree(finished.path, tmp_path / name)) for name in ("one", "two", "six")]


def kept(classifiers):
    return [run_id for run_id, _ in classifiers.classifiers]


def test_weights_are_loaded_once(runs):
    classifiers = ClassifierCache()
    first = classifiers.get(runs[0])
    assert classifiers.get(runs[0]) is first
    assert classifiers.get(runs[1]) is not first
    assert first.run.id == "one"


def test_a_classifier_s_size_is_that_of_its_numbers(classifier):
    state = classifier.saved.model.state_dict().values()
    assert classifier.size == sum(tensor.numel() * tensor.element_size() for tensor in state)


def test_over_the_limit_the_one_not_asked_for_longest_goes_first(runs, classifier):
    classifiers = ClassifierCache(2 * classifier.size)
    one, two, six = runs
    classifiers.get(one), classifiers.get(two)
    assert kept(classifiers) == ["one", "two"]  # as many bytes as allowed
    first = classifiers.get(one)
    classifiers.get(six)
    assert kept(classifiers) == ["one", "six"]
    assert classifiers.get(one) is first


def test_one_that_alone_is_over_the_limit_is_used_all_the_same(runs, classifier):
    classifiers = ClassifierCache(classifier.size - 1)
    for run in runs[:2]:
        assert classifiers.get(run).classify(PICTURE).labels
        assert kept(classifiers) == [run.id]


def test_better_weights_take_the_place_of_those_before(runs, packed):
    classifiers = ClassifierCache()
    before = classifiers.get(runs[0])
    for name in ("model.json", "model.safetensors"):  # a later epoch was better
        shutil.copy(packed[0].path / name, runs[0].path / name)
    after = classifiers.get(runs[0])
    assert before.saved.sha256 != after.saved.sha256
    assert classifiers.get(runs[0]) is after


def test_a_run_without_weights_is_not_kept(runs):
    (runs[0].path / "model.json").unlink()
    (runs[0].path / "model.safetensors").unlink()
    classifiers = ClassifierCache()
    with pytest.raises(NotFoundError, match="one has no weights yet"):
        classifiers.get(runs[0])
    assert kept(classifiers) == []


def test_threads_that_ask_at_once_load_it_once(runs, monkeypatch):
    loaded, classifiers, seen = [], ClassifierCache(), []
    of = Classifier.load
    monkeypatch.setattr(Classifier, "load", lambda run: loaded.append(run) or of(run))
    threads = [
        threading.Thread(target=lambda: seen.append(classifiers.get(runs[0]))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 1
    assert len(seen) == 8
    assert all(one is seen[0] for one in seen)


@pytest.mark.parametrize(
    ("image_size", "threads"), [(SINGLE_THREAD_SIZE, 1), (SINGLE_THREAD_SIZE + 1, 2)]
)
def test_a_small_picture_is_one_threads_and_afterwards_all_is_as_before(
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
