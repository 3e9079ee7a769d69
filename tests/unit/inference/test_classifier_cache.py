"""Classifiers kept in memory."""

import shutil
import threading

import numpy as np
import pytest

from resnet_demo.errors import NotFoundError
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.classifier_cache import ClassifierCache
from resnet_demo.runs.store import Run

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def size(finished):
    """Return the bytes of one classifier."""
    return Classifier.load(finished).size


@pytest.fixture
def runs(finished, tmp_path):
    """Return three copies of a run, with equal weights."""
    return [Run(shutil.copytree(finished.path, tmp_path / name)) for name in ("one", "two", "six")]


def cached_runs(cache):
    return [run_id for run_id, _ in cache.classifiers]


def test_weights_are_loaded_once(runs):
    cache = ClassifierCache()
    first = cache.get(runs[0])
    assert cache.get(runs[0]) is first
    assert cache.get(runs[1]) is not first
    assert first.run.id == "one"


def test_over_the_limit_the_least_recently_used_is_evicted(runs, size):
    cache = ClassifierCache(2 * size)
    one, two, six = runs
    cache.get(one), cache.get(two)
    assert cached_runs(cache) == ["one", "two"]  # exactly as many bytes as allowed
    first = cache.get(one)
    cache.get(six)
    assert cached_runs(cache) == ["one", "six"]
    assert cache.get(one) is first


def test_a_classifier_larger_than_the_limit_is_used_all_the_same(runs, size):
    cache = ClassifierCache(size - 1)
    for run in runs[:2]:
        assert cache.get(run).classify(PICTURE).labels
        assert cached_runs(cache) == [run.id]


def test_new_weights_replace_the_old_ones(runs, packed):
    cache = ClassifierCache()
    before = cache.get(runs[0])
    for name in ("model.json", "model.safetensors"):  # a later epoch was better
        shutil.copy(packed[0].path / name, runs[0].path / name)
    after = cache.get(runs[0])
    assert before.saved.sha256 != after.saved.sha256
    assert cache.get(runs[0]) is after


def test_a_run_without_weights_is_not_cached(runs):
    (runs[0].path / "model.json").unlink()
    (runs[0].path / "model.safetensors").unlink()
    cache = ClassifierCache()
    with pytest.raises(NotFoundError, match="one has no weights yet"):
        cache.get(runs[0])
    assert cached_runs(cache) == []


def test_concurrent_threads_load_it_once(runs, monkeypatch):
    loaded, found, cache, load = [], [], ClassifierCache(), Classifier.load
    monkeypatch.setattr(Classifier, "load", lambda run: loaded.append(run) or load(run))
    threads = [threading.Thread(target=lambda: found.append(cache.get(runs[0]))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 1
    assert len(found) == 8
    assert all(classifier is found[0] for classifier in found)
