"""Out-of-distribution detection of a tiny run."""

import shutil

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from resnet_demo.bench.ood import measure_ood
from resnet_demo.bench.text import ood_lines
from resnet_demo.data.pictures import crop_to_square
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, NotFoundError
from resnet_demo.evaluation.evaluate_run import evaluate_run
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.ood import OOD_IMAGES, energy
from resnet_demo.models.saved import load_model, save_model
from resnet_demo.runs.store import Run


def test_auroc_agrees_with_scikit_learn(run, datasets):
    result = measure_ood(run, datasets, images=30)
    assert list(result["kinds"]) == [*OOD_IMAGES, "shapes10"]
    evaluated = evaluate_run(run, datasets)  # there are just 30 test images
    own = energy(evaluated.logits).numpy()
    classifier = Classifier.load(run)
    threshold = classifier.saved.metrics["outside"]
    assert (result["threshold"], result["measured_now"]) == (threshold, False)
    assert result["own"] == {"n": 30, "flagged": np.mean(own > threshold["threshold"])}
    shapes = datasets.load("shapes10", "test")[0]
    shapes = shapes[np.random.default_rng(0).permutation(len(shapes))[:30]]
    images = {kind: make(30, 12, 0).numpy() for kind, make in OOD_IMAGES.items()}
    images["shapes10"] = [crop_to_square(rgb, 12) for rgb in shapes]
    for kind, row in result["kinds"].items():
        energies = [classifier.classify(rgb).ood.score for rgb in images[kind]]
        expected = roc_auc_score([0] * 30 + [1] * 30, [*own, *energies])
        assert row["auroc"] == pytest.approx(expected, abs=0.01), kind
        flagged = np.mean(np.array(energies) > threshold["threshold"])
        assert row["flagged"] == pytest.approx(flagged, abs=0.04), kind
        assert row["n"] == 30
    lines = list(ood_lines(result))
    assert "set when its weights were saved on 15 validation images" in lines[0]
    assert len(lines) == 3 + 4


def test_a_run_without_a_threshold_gets_it_from_its_validation_images(run, datasets, tmp_path):
    copied = Run(shutil.copytree(run.path, tmp_path / "mine"))
    saved = load_model(copied.path)
    about = {"network": saved.network, "preprocessing": saved.preprocessing, "metrics": {}}
    save_model(copied.path, saved.model, classes=saved.classes, **about)
    result = measure_ood(copied, datasets, images=5)
    assert result["measured_now"]
    own = measure_ood(run, datasets, images=5)["threshold"]
    assert result["threshold"] == {**own, "threshold": pytest.approx(own["threshold"], abs=1e-4)}
    assert "set now on 15" in next(ood_lines(result))


def test_the_classes_of_another_dataset_are_kinds_too(run, datasets):
    classes = datasets.get("shapes10").classes
    kinds = measure_ood(run, datasets, images=4, others="shapes10")["kinds"]
    assert list(kinds)[4:] == [f"shapes10: {label}" for label in classes]
    images, labels = datasets.load("shapes10", "test")
    classifier = Classifier.load(run)
    for number, label in enumerate(classes[:2]):
        answers = [classifier.classify(rgb) for rgb in images[labels == number][:4]]
        row = kinds[f"shapes10: {label}"]
        assert (row["n"], row["flagged"]) == (4, np.mean([a.ood.is_ood for a in answers]))
    with pytest.raises(ConfigError, match="others must be a dataset with classes that mine does"):
        measure_ood(run, datasets, images=4, others="colours")


def test_a_run_without_its_dataset_is_refused(run, tmp_path):
    with pytest.raises(NotFoundError, match="got 'colours'"):
        measure_ood(run, Datasets(tmp_path))


@pytest.mark.parametrize("name", ["ood", "outside"])
def test_the_command_prints_one_object(name, bench_json):
    assert "kinds" in bench_json(f"{name} mine --images 5")
