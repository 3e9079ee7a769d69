"""Evaluation of a run in each mode, with and without the images, and its files."""

import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
import safetensors.torch
import sklearn.metrics as oracle
import torch

from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.data.splits import stratified_split
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DamagedError, NotFoundError, StoppedError
from resnet_demo.evaluation.evaluate_run import (
    evaluate_run,
    predict_mode,
    read_evaluation,
    result_metrics,
)
from resnet_demo.evaluation.intervals import wilson_interval
from resnet_demo.evaluation.modes import MODES
from resnet_demo.evaluation.stored_predictions import read_predictions, write_predictions
from resnet_demo.evaluation.stored_results import (
    EVALUATION_KEYS,
    IMAGE_KEYS,
    ROBUSTNESS_KEYS,
    read_result,
    write_result,
)
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.predict import MappedImages, load_split
from resnet_demo.models.description import checksum
from resnet_demo.models.saved import load_model, save_model
from resnet_demo.runs.store import Run

PREDICTIONS = "test-predictions.safetensors"


@pytest.fixture
def no_datasets(tmp_path):
    """Return the datasets of a new machine: none but shapes10."""
    return Datasets(tmp_path / "data")


@pytest.fixture
def copied(packed, tmp_path):
    """Return a copy of the packed run, which a test may damage."""
    return Run(shutil.copytree(packed[0].path, tmp_path / "cifar10-shipped"), shipped=True)


@pytest.fixture(scope="module")
def datasets(colours):
    return Datasets(colours)


def with_other_weights(run, folder, change):
    """Return a copy of a run with a changed network."""
    run = Run(shutil.copytree(run.path, folder / "mine"))
    saved = load_model(run.path)
    with torch.no_grad():
        change(saved.model)
    save_model(
        run.path,
        saved.model,
        network=saved.network,
        classes=saved.classes,
        preprocessing=saved.preprocessing,
        metrics=saved.metrics,
    )
    return run


@pytest.fixture(scope="module")
def evaluated(finished, datasets):
    """Return the evaluation of the finished run on its training split."""
    return evaluate_run(finished, datasets, "train")


@pytest.fixture(scope="module")
def answered():
    """Return logits and labels of 300 images; class 6 never occurs, 5 is never predicted."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(300) % 6
    logits = 3 * torch.randn(300, 7, generator=generator)
    logits[torch.arange(300), labels] += 3
    logits[:, 5] = -20
    return logits, labels


def network_and_images(run, datasets, split):
    """Return the network, its preprocessing and the stored images of a split."""
    saved = load_model(run.path)
    prepare = Preprocessing.from_dict(saved.preprocessing).prepare
    images, _ = load_split(run, datasets, split, "colours")
    return saved.model, prepare, images


# --- metrics


def test_metrics_agree_with_scikit_learn(answered):
    logits, labels = answered
    result = result_metrics(logits, labels, tuple("abcdefg"))
    predicted, probabilities, classes = logits.argmax(1), logits.double().softmax(1), range(7)
    of_all = {"labels": classes, "zero_division": 0}
    assert result["n"] == 300
    assert result["top1"] == pytest.approx(oracle.accuracy_score(labels, predicted))
    assert 0.3 < result["top1"] < 0.9  # neither trivial case
    assert result["top5"] == oracle.top_k_accuracy_score(labels, logits, k=5, labels=classes)
    assert result["loss"] == pytest.approx(oracle.log_loss(labels, probabilities, labels=classes))
    present = labels.unique().tolist()  # a class without images has no recall and no F1
    assert result["macro_f1"] == pytest.approx(
        oracle.f1_score(labels, predicted, labels=present, average="macro", zero_division=0)
    )
    assert (
        result["confusion"] == oracle.confusion_matrix(labels, predicted, labels=classes).tolist()
    )
    expected = oracle.precision_recall_fscore_support(labels, predicted, **of_all)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        known = [row[name] for row in result["per_class"] if row[name] is not None]
        absent = name in ("recall", "f1")  # of class g, which has no images
        assert known == pytest.approx(values[: 6 if absent else 7].tolist())


def test_metrics_have_interval_calibration_and_histogram(answered):
    logits, labels = answered
    result = result_metrics(logits, labels, tuple("abcdefg"))
    n_correct = (logits.argmax(1) == labels).sum().item()
    assert result["interval"] == [*wilson_interval(n_correct, 300)]
    assert result["interval"][0] < result["top1"] < result["interval"][1]
    calibration = result["calibration"]
    confidence = logits.double().softmax(1).amax(1).numpy()
    edges = np.linspace(0, 1, 16)
    bins = [(confidence > low) & (confidence <= high) for low, high in pairwise(edges)]
    assert calibration["count"] == [chosen.sum() for chosen in bins]
    correct = (logits.argmax(1) == labels).numpy()
    gaps = [
        abs(correct[chosen].mean() - confidence[chosen].mean()) * chosen.mean()
        for chosen in bins
        if chosen.any()
    ]
    assert calibration["error"] == pytest.approx(sum(gaps))
    assert sum(result["histogram"]["right"]) == n_correct
    assert sum(result["histogram"]["wrong"]) == 300 - n_correct


def test_a_result_has_the_metrics_of_its_logits(evaluated, finished):
    result = evaluated.result
    assert tuple(result) == EVALUATION_KEYS
    counted = result_metrics(evaluated.logits, evaluated.labels, ("blue", "green", "red"))
    assert {key: result[key] for key in counted} == counted
    assert (result["run"], result["dataset"], result["split"]) == ("mine", "colours", "train")
    assert result["weights"] == load_model(finished.path).sha256


def test_the_split_is_that_of_the_run_s_config(finished, datasets, evaluated):
    labels = torch.tensor(datasets.load("colours", "train")[1])
    train, val = stratified_split(
        labels.numpy(), finished.config().val_share, finished.config().seed
    )
    assert torch.equal(evaluated.labels, labels[train])
    assert torch.equal(evaluate_run(finished, datasets, "val").labels, labels[val])


def test_a_diverged_network_can_be_evaluated_and_saved(finished, datasets, tmp_path):
    def diverge(model):
        model.head.bias.fill_(float("nan"))

    run = with_other_weights(finished, tmp_path, diverge)
    evaluation = evaluate_run(run, datasets, mode="flip")
    assert (evaluation.result["loss"], evaluation.result["calibration"]["error"]) == (None, None)
    assert evaluation.result["beside"]["loss"] is None
    (tmp_path / "saved").mkdir()
    evaluation.save(tmp_path / "saved")
    assert read_evaluation(tmp_path / "saved").result == evaluation.result


# --- modes


@pytest.mark.parametrize("mode", ["plain", "flip", "article"])
def test_images_that_stay_on_the_disk_get_the_same_answers(mode, finished, datasets, monkeypatch):
    loaded = evaluate_run(finished, datasets, "train", mode=mode)
    monkeypatch.setattr("resnet_demo.inference.predict.MAX_LOADED_BYTES", 0)
    images, _ = load_split(finished, datasets, "train", "colours")
    assert isinstance(images, MappedImages)
    mapped = evaluate_run(finished, datasets, "train", mode=mode)
    assert torch.equal(mapped.logits, loaded.logits)
    assert mapped.result == loaded.result


def test_plain_mode_predicts_each_image_once_without_a_baseline(finished, datasets):
    model, prepare, images = network_and_images(finished, datasets, "test")
    evaluation = evaluate_run(finished, datasets)
    torch.testing.assert_close(evaluation.logits, model(prepare(images)).detach())
    assert (evaluation.result["mode"], evaluation.result["beside"]) == ("plain", None)
    assert evaluation.result["stored"] is False


def test_flip_is_the_mean_with_the_mirror_image_and_has_a_baseline(finished, datasets):
    model, prepare, images = network_and_images(finished, datasets, "val")
    evaluation, plain = (evaluate_run(finished, datasets, "val", mode=m) for m in ("flip", "plain"))
    both = [model(prepare(each)).detach() for each in (images, images.flip(2))]
    torch.testing.assert_close(evaluation.logits, (both[0] + both[1]) / 2)
    assert not torch.allclose(*both)
    assert evaluation.result["beside"] == {
        "mode": "plain",
        "top1": plain.result["top1"],
        "loss": plain.result["loss"],
    }


def test_flip_and_shift_differs_from_flip_and_has_the_same_baseline(finished, datasets):
    evaluation = evaluate_run(finished, datasets, "val", mode="flip-and-shift")
    flipped = evaluate_run(finished, datasets, "val", mode="flip")
    assert not torch.allclose(evaluation.logits, flipped.logits)
    assert evaluation.result["beside"] == flipped.result["beside"]


def test_article_mode_normalizes_over_batches_of_64_shuffled_images(finished, datasets):
    model, prepare, images = network_and_images(finished, datasets, "train")
    evaluation = evaluate_run(finished, datasets, "train", mode="article")
    model.train()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(42))
    for start in (0, 64, 128):
        batch = order[start : start + 64]
        expected = model(prepare(images[batch])).detach()
        torch.testing.assert_close(evaluation.logits[batch], expected)
    assert evaluation.result["beside"]["loss"] != evaluation.result["loss"]


def test_article_mode_does_not_change_the_network(finished, datasets):
    classifier = Classifier.load(finished)
    model = classifier.saved.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    predict_mode(classifier, datasets, "test", "colours", "article")
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert not model.training


@pytest.mark.parametrize(("mode", "views"), [*zip(MODES, (1, 2, 6, 10, 2), strict=True)])
def test_progress_counts_every_view_of_an_image(mode, views, finished, datasets):
    calls = []
    evaluate_run(finished, datasets, mode=mode, on_batch=lambda *progress: calls.append(progress))
    assert calls == [(30 * (view + 1), 30 * views) for view in range(views)]


def test_on_batch_can_stop_the_evaluation(finished, datasets):
    def stop(done, total):
        raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        evaluate_run(finished, datasets, mode="article", on_batch=stop)


@pytest.mark.parametrize("mode", ["", "Flip", None, 3])
def test_an_unknown_mode_is_refused(mode, finished, datasets):
    rule = "mode must be one of plain, flip, flip-and-shift, flip-and-five-shifts, article, got "
    with pytest.raises(ConfigError, match=rule) as caught:
        evaluate_run(finished, datasets, mode=mode)
    assert caught.value.field == "mode"


# --- files


@pytest.fixture
def saved_folder(evaluated, tmp_path):
    """Return a folder with a saved evaluation."""
    (tmp_path / "train-colours").mkdir()
    evaluated.save(tmp_path / "train-colours")
    return tmp_path / "train-colours"


def test_a_saved_evaluation_is_read_unchanged(saved_folder, evaluated):
    again = read_evaluation(saved_folder)
    assert again.result == read_result(saved_folder) == evaluated.result
    for name in ("logits", "labels"):
        torch.testing.assert_close(getattr(again, name), getattr(evaluated, name), rtol=0, atol=0)
    assert (again.logits.dtype, again.labels.dtype) == (torch.float32, torch.int64)
    assert {path.name for path in saved_folder.iterdir()} == {"result.json", "answers.safetensors"}


@pytest.mark.parametrize("name", ["result.json", "answers.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove"])
def test_a_damaged_file_is_named_and_refused(name, damage, saved_folder):
    path = saved_folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"flip": content, "cut": content[: len(content) // 2], "empty": b""}
    path.unlink() if damage == "remove" else path.write_bytes(damaged[damage])
    with pytest.raises(DamagedError, match=f"{name} of train-colours is missing or damaged"):
        read_evaluation(saved_folder)


def test_answers_of_another_evaluation_are_refused(saved_folder):
    tensors = {"logits": torch.zeros(135, 3), "labels": torch.zeros(135, dtype=torch.int64)}
    (saved_folder / "answers.safetensors").write_bytes(safetensors.torch.save(tensors))
    with pytest.raises(DamagedError, match="evaluate again"):
        read_evaluation(saved_folder)


@pytest.mark.parametrize("content", ["[]", "3", "{}", "[" * 100_000, '{"checksum": 3}', "\0"])
def test_a_file_that_is_no_result_is_refused(content, saved_folder):
    (saved_folder / "result.json").write_text(content)
    with pytest.raises(DamagedError, match="evaluate again"):
        read_result(saved_folder)


def test_a_result_of_another_version_is_refused(saved_folder, evaluated):
    older = {key: evaluated.result[key] for key in ("run", "top1", "loss", "confusion")}
    (saved_folder / "result.json").write_text(json.dumps(older))
    with pytest.raises(DamagedError, match="evaluate again"):
        read_result(saved_folder)
    write_result(saved_folder, older)
    with pytest.raises(DamagedError, match="another version"):
        read_result(saved_folder)


def test_an_evaluation_is_not_a_robustness_result(saved_folder):
    with pytest.raises(DamagedError):
        read_result(saved_folder, ROBUSTNESS_KEYS)


def test_a_result_with_more_values_of_an_older_version_can_be_read(saved_folder):
    result = read_result(saved_folder)
    write_result(saved_folder, {**result, "interval_half_width": 0.1})
    assert read_result(saved_folder) == result


# --- predictions stored with a run


def test_without_the_images_the_stored_predictions_are_used(packed, colours, no_datasets):
    run, _ = packed
    seen = []
    stored = evaluate_run(run, no_datasets, on_batch=lambda *done: seen.append(done)).result
    measured = evaluate_run(run, Datasets(colours)).result
    assert (stored.pop("stored"), measured.pop("stored")) == (True, False)
    assert [stored.pop(key) for key in IMAGE_KEYS] == [None, None, 0]
    assert [measured.pop(key) for key in IMAGE_KEYS[1:]] == [False, 0]
    assert measured.pop("fingerprint") == Datasets(colours).fingerprint("colours").digest
    assert stored.pop("loss") == pytest.approx(measured.pop("loss"), abs=1e-4)
    error, expected = (each.pop("calibration")["error"] for each in (stored, measured))
    assert error == pytest.approx(expected, abs=1e-3)
    assert stored == measured
    assert stored["n"] == 30
    assert seen == []  # no image was predicted


def test_with_the_images_the_stored_predictions_are_not_used(copied, colours):
    (copied.path / PREDICTIONS).write_bytes(b"")
    assert evaluate_run(copied, Datasets(colours)).result["stored"] is False


@pytest.mark.parametrize("args", [{"split": "val"}, {"split": "train"}, {"dataset": "cifar10"}])
def test_stored_predictions_are_for_their_split_and_dataset_only(args, packed, no_datasets):
    name = args.get("dataset", "colours")
    with pytest.raises(NotFoundError, match=f"dataset must be one of shapes10, got '{name}'"):
        evaluate_run(packed[0], no_datasets, **args)


@pytest.mark.parametrize("mode", ["flip", "flip-and-shift", "flip-and-five-shifts", "article"])
def test_other_modes_need_the_images_and_the_error_says_how_to_get_them(mode, packed, no_datasets):
    with pytest.raises(NotFoundError) as caught:
        evaluate_run(packed[0], no_datasets, mode=mode)
    assert str(caught.value) == (
        "mode must be plain while the images of colours are not on this machine, got "
        f"'{mode}'; get them on the Data tab, or with: "
        "python -m resnet_demo data import colours PATH"
    )
    with pytest.raises(NotFoundError, match=r"data get cifar10$"):
        evaluate_run(packed[0], no_datasets, dataset="cifar10", mode=mode)


def test_predictions_that_model_json_does_not_describe_are_not_used(
    finished, packed, tmp_path, no_datasets
):
    run = Run(shutil.copytree(finished.path, tmp_path / "mine"))
    shutil.copy(packed[0].path / PREDICTIONS, run.path)
    with pytest.raises(NotFoundError, match="got 'colours'"):
        evaluate_run(run, no_datasets)


@pytest.mark.parametrize("position", [0, 20, 200, -1])
def test_a_flipped_bit_in_the_predictions_is_detected(position, copied, no_datasets):
    path = copied.path / PREDICTIONS
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=f"{PREDICTIONS} of cifar10-shipped is damaged and is n"):
        evaluate_run(copied, no_datasets)


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b""), lambda path: path.unlink()])
def test_empty_or_missing_predictions_are_named(spoil, copied, no_datasets):
    spoil(copied.path / PREDICTIONS)
    with pytest.raises(DamagedError, match=f"{PREDICTIONS} of cifar10-shipped is "):
        evaluate_run(copied, no_datasets)


def test_predictions_of_other_weights_are_refused(copied, no_datasets):
    saved = load_model(copied.path)
    logits, labels = read_predictions(copied.path, saved, "test", "colours")
    description = write_predictions(
        copied.path, logits, labels, split="test", dataset="colours", weights="0" * 64
    )
    path = copied.path / "model.json"
    values = json.loads(path.read_text())
    del values["checksum"]
    values["metrics"]["predictions"] = description
    path.write_text(json.dumps(values | {"checksum": checksum(values)}))
    with pytest.raises(DamagedError, match="its predictions are those of other weights"):
        evaluate_run(copied, no_datasets)
