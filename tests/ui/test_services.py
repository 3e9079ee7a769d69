"""Loaded networks, errors as the page shows them, and the choice of a run."""

import shutil
import threading

import gradio as gr
import numpy as np
import pytest

from resnet_demo.errors import DemoError, NotFoundError
from resnet_demo.inference.classifier import Classifier
from resnet_demo.runs.store import Run
from resnet_demo.ui.services import ClassifierCache, show_errors
from tests.ui.fake_evaluations import untrained_runs

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture
def runs(tmp_path):
    """Return three runs with equal weights."""
    names = ("one", "two", "six")
    root = untrained_runs(tmp_path / "runs", *names)
    return [Run(root / name) for name in names]


@pytest.fixture
def size(runs):
    """Return the bytes of one classifier."""
    return Classifier.load(runs[0]).size


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


def test_new_weights_replace_the_old_ones(runs, tmp_path):
    cache = ClassifierCache()
    before = cache.get(runs[0])
    other = untrained_runs(tmp_path / "others", "other") / "other"
    for name in ("model.json", "model.safetensors"):  # a later epoch was better
        shutil.copy(other / name, runs[0].path / name)
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


def test_a_demo_error_is_shown_as_its_sentence_and_other_errors_are_raised():
    @show_errors()
    def fail(error):
        raise error

    with pytest.raises(gr.Error) as caught:
        fail(DemoError("the disk is full"))
    assert caught.value.message == "the disk is full"
    assert caught.value.print_exception is False
    with pytest.raises(ZeroDivisionError):
        fail(ZeroDivisionError())


def test_without_runs_there_are_no_choices(services):
    assert services.run_choices() == []
    assert services.run_choices(trained=True) == []
    assert services.default_run() is None


def test_a_run_is_listed_with_its_title(services):
    [run] = [Run(untrained_runs(services.paths.runs, "one") / "one")]
    assert services.run_choices() == [("one · finished", "one")]
    for title in ("Roses", "<b>Roses</b> ${1}"):
        run.describe(title=title)
        assert services.run_choices() == [(f"{title} · one · finished", "one")]
    (run.path / "about.json").write_text("{")
    assert services.run_choices() == [("one · finished", "one")]
