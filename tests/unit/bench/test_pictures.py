"""Answers about pictures, timed and counted, on a run of a moment."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from resnet_demo.bench import latency as timing
from resnet_demo.bench.latency import (
    classify_picture,
    make_jpeg,
    measure_latency,
    time_calls,
    untrained_run,
)
from resnet_demo.bench.ood import measure_ood
from resnet_demo.bench.text import latency_lines, ood_lines
from resnet_demo.cli import main
from resnet_demo.config import make_config
from resnet_demo.data.pictures import crop_to_square
from resnet_demo.data.store import Datasets
from resnet_demo.errors import DemoError, NotFoundError
from resnet_demo.evaluation.evaluate_run import evaluate_run
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.ood import OOD_IMAGES, energy
from resnet_demo.models.description import model_description
from resnet_demo.models.saved import load_model, save_model
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.worker import train


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """On tensors this small, threads that wait for a busy core cost fifty times more."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def run(tmp_path_factory, colours):
    """A finished run on `colours`."""
    root = tmp_path_factory.mktemp("bench")
    launcher = Launcher(Paths(root / "runs", colours, root / "shipped"))
    knobs = {"dataset": "colours", "model": "resnet20", "image_size": 12, "batch_size": 16}
    knobs["precision"] = "float32"  # bf16, where the hardware has it, rounds what is compared
    run, lock = launcher.make(make_config({**knobs, "epochs": 1}), "mine")
    train(run, launcher.paths)
    os.close(lock)
    return run


@pytest.fixture
def datasets(colours):
    return Datasets(colours)


class Time:
    """A clock that stands still but for what is done while it is looked at."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_the_first_calls_do_not_count_and_the_median_is_of_the_others():
    clock, costs = Time(), iter([90.0, 80.0, 70.0, 3.0, 1.0, 8.0])

    def work():
        clock.now += next(costs)

    assert time_calls(work, 3, clock) == {"median": 3.0, "min": 1.0, "max": 8.0}


def test_an_answer_is_timed_from_a_file_s_bytes_to_the_picture_under_its_map(run, monkeypatch):
    classifier = Classifier.load(run)
    drawn = classify_picture(classifier, make_jpeg())
    assert (drawn.shape, drawn.dtype) == ((480, 640, 3), np.uint8)
    monkeypatch.setattr(timing, "run_process", lambda *_: None)
    told = measure_latency(run, rounds=2, fresh=2, images=5)
    for name in ("picture", "batch", "fresh"):
        assert 0 < told[name]["min"] <= told[name]["median"] <= told[name]["max"]
    assert (told["run"], told["model"], told["image_size"]) == ("mine", "resnet20", 12)
    text = "\n".join(latency_lines(told))
    assert "JPEG of 640 x 480, label and map" in text
    assert text.count(" ms (") == 3
    json.dumps(told, allow_nan=False)


def test_a_new_process_answers_about_a_network_that_was_never_trained(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with untrained_run() as run:
        assert model_description(run.path)["network"]["name"] == "resnet20"
        timing.run_process(run, make_jpeg())
        with pytest.raises(
            DemoError, match=r"failed to classify the picture: .* is cut short or damaged"
        ):
            timing.run_process(run, make_jpeg()[:500])
    assert not run.path.exists()


def test_each_kind_is_told_from_the_test_images_as_scikit_learn_says(run, datasets):
    told = measure_ood(run, datasets, images=30)
    assert list(told["kinds"]) == [*OOD_IMAGES, "shapes10"]
    evaluated = evaluate_run(run, datasets)  # there are just 30 test images
    own = energy(evaluated.logits).numpy()
    classifier = Classifier.load(run)
    threshold = classifier.saved.metrics["outside"]
    assert (told["threshold"], told["measured_now"]) == (threshold, False)
    assert told["own"] == {"n": 30, "flagged": np.mean(own > threshold["threshold"])}
    shapes = datasets.load("shapes10", "test")[0]
    shapes = shapes[np.random.default_rng(0).permutation(len(shapes))[:30]]
    images = {kind: make(30, 12, 0).numpy() for kind, make in OOD_IMAGES.items()}
    images["shapes10"] = [crop_to_square(rgb, 12) for rgb in shapes]
    for kind, row in told["kinds"].items():
        energies = [classifier.classify(rgb).ood.energy for rgb in images[kind]]
        expected = roc_auc_score([0] * 30 + [1] * 30, [*own, *energies])
        assert row["auroc"] == pytest.approx(expected, abs=0.01), kind
        flagged = np.mean(np.array(energies) > threshold["threshold"])
        assert row["flagged"] == pytest.approx(flagged, abs=0.04), kind
        assert row["n"] == 30
    lines = list(ood_lines(told))
    assert "set when its weights were saved on 15 validation images" in lines[0]
    assert len(lines) == 3 + 4


def test_a_run_without_a_threshold_has_it_set_on_its_validation_images_now(run, datasets, tmp_path):
    copied = Run(shutil.copytree(run.path, tmp_path / "mine"))
    saved = load_model(copied.path)
    about = {"network": saved.network, "preprocessing": saved.preprocessing, "metrics": {}}
    save_model(copied.path, saved.model, classes=saved.classes, **about)
    told = measure_ood(copied, datasets, images=5)
    assert told["measured_now"]
    own = measure_ood(run, datasets, images=5)["threshold"]
    assert told["threshold"] == {**own, "threshold": pytest.approx(own["threshold"], abs=1e-4)}
    assert "set now on 15" in next(ood_lines(told))


def test_without_the_dataset_nothing_is_measured(run, tmp_path):
    with pytest.raises(NotFoundError, match="got 'colours'"):
        measure_ood(run, Datasets(tmp_path))


def test_both_are_told_as_one_object_by_the_command_line(run, colours, monkeypatch, capsys):
    monkeypatch.setenv("RESNET_DEMO_RUNS", str(run.path.parent))
    monkeypatch.setenv("RESNET_DEMO_DATA", str(colours))
    monkeypatch.setattr(timing, "run_process", lambda *_: None)
    for words, key in (
        ("classify mine --rounds 1 --fresh 1", "picture"),
        ("classify --rounds 1 --fresh 1", "picture"),
        ("outside mine --images 5", "kinds"),
    ):
        assert main(["bench", *words.split(), "--json"]) in (0, None), words
        out, err = capsys.readouterr()
        assert (len(out.splitlines()), err) == (1, "")
        assert key in json.loads(out)
