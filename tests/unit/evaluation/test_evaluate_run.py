"""What is counted on a run's answers in each mode, with and without the images; and keeping it."""

import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
import safetensors.torch
import sklearn.metrics as oracle
import torch

from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.data.splits import split_indices
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
    ROBUSTNESS_KEYS,
    read_result,
    write_result,
)
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.predict import load_split
from resnet_demo.models.description import checksum
from resnet_demo.models.saved import load_model, save_model
from resnet_demo.runs.store import Run

PREDICTIONS = "test-predictions.safetensors"


@pytest.fixture
def nowhere(tmp_path):
    """The datasets of a fresh machine."""
    return Datasets(tmp_path / "data")


@pytest.fixture
def copied(packed, tmp_path):
    """The packed run, to be spoilt."""
    return Run(shutil.copytree(packed[0].path, tmp_path / "cifar10-shipped"), shipped=True)


@pytest.fixture(scope="module")
def datasets(colours):
    return Datasets(colours)


def with_other_weights(run, folder, change):
    """A copy of a run whose network was changed."""
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
    """The finished run on its training split."""
    return evaluate_run(finished, datasets, "train")


@pytest.fixture(scope="module")
def answered():
    """Logits and labels of 300 images; class 6 never occurs, and class 5 is never said."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(300) % 6
    logits = 3 * torch.randn(300, 7, generator=generator)
    logits[torch.arange(300), labels] += 3
    logits[:, 5] = -20
    return logits, labels


def shown_to(run, datasets, split):
    """The network, the split's images as it is shown them, and as they are stored."""
    saved = load_model(run.path)
    prepare = Preprocessing.from_dict(saved.preprocessing).prepare
    images, _ = load_split(run, datasets, split, "colours")
    return saved.model, prepare, images


# --- numbers


def test_all_numbers_are_scikit_learn_s(answered):
    logits, labels = answered
    result = result_metrics(logits, labels, tuple("abcdefg"))
    said, shares, classes = logits.argmax(1), logits.double().softmax(1), range(7)
    of_all = {"labels": classes, "zero_division": 0}
    assert result["n"] == 300
    assert result["top1"] == pytest.approx(oracle.accuracy_score(labels, said))
    assert 0.3 < result["top1"] < 0.9  # or else much of this would be proved by anything
    assert result["top5"] == oracle.top_k_accuracy_score(labels, logits, k=5, labels=classes)
    assert result["loss"] == pytest.approx(oracle.log_loss(labels, shares, labels=classes))
    assert result["macro_f1"] == pytest.approx(
        oracle.f1_score(labels, said, average="macro", **of_all)
    )
    assert result["confusion"] == oracle.confusion_matrix(labels, said, labels=classes).tolist()
    expected = oracle.precision_recall_fscore_support(labels, said, **of_all)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [row[name] for row in result["per_class"]] == pytest.approx(values.tolist())


def test_accuracy_has_its_interval_and_confidence_its_bins(answered):
    logits, labels = answered
    result = result_metrics(logits, labels, tuple("abcdefg"))
    right = (logits.argmax(1) == labels).sum().item()
    assert result["interval"] == [*wilson_interval(right, 300)]
    assert result["interval"][0] < result["top1"] < result["interval"][1]
    found = result["calibration"]
    sure = logits.double().softmax(1).amax(1).numpy()
    edges = np.linspace(0, 1, 16)
    bins = [(sure > low) & (sure <= high) for low, high in pairwise(edges)]
    assert found["count"] == [chosen.sum() for chosen in bins]
    good = (logits.argmax(1) == labels).numpy()
    gaps = [abs(good[chosen].mean() - sure[chosen].mean()) * chosen.mean()
            for chosen in bins if chosen.any()]  # fmt: skip
    assert found["error"] == pytest.approx(sum(gaps))
    assert sum(result["histogram"]["right"]) == right
    assert sum(result["histogram"]["wrong"]) == 300 - right


def test_a_result_is_what_is_counted_on_the_answers(evaluated, finished):
    result = evaluated.result
    assert tuple(result) == EVALUATION_KEYS
    counted = result_metrics(evaluated.logits, evaluated.labels, ("blue", "green", "red"))
    assert {key: result[key] for key in counted} == counted
    assert (result["run"], result["dataset"], result["split"]) == ("mine", "colours", "train")
    assert result["weights"] == load_model(finished.path).sha256


def test_a_split_is_the_run_s_own(finished, datasets, evaluated):
    labels = torch.tensor(datasets.load("colours", "train")[1])
    train, val = split_indices(150, finished.config().val_share, finished.config().seed)
    assert torch.equal(evaluated.labels, labels[train])
    assert torch.equal(evaluate_run(finished, datasets, "val").labels, labels[val])


def test_answers_of_a_network_that_went_astray_are_counted_and_kept(finished, datasets, tmp_path):
    def astray(model):
        model.head.bias.fill_(float("nan"))

    run = with_other_weights(finished, tmp_path, astray)
    made = evaluate_run(run, datasets, mode="flip")
    assert (made.result["loss"], made.result["calibration"]["error"]) == (None, None)
    assert made.result["beside"]["loss"] is None
    (tmp_path / "kept").mkdir()
    made.save(tmp_path / "kept")
    assert read_evaluation(tmp_path / "kept").result == made.result


# --- modes


def test_plainly_each_image_is_shown_once_and_nothing_stands_beside(finished, datasets):
    model, prepare, images = shown_to(finished, datasets, "test")
    made = evaluate_run(finished, datasets)
    torch.testing.assert_close(made.logits, model(prepare(images)).detach())
    assert (made.result["mode"], made.result["beside"]) == ("plain", None)
    assert made.result["stored"] is False


def test_flip_takes_the_mean_with_the_mirror_image_and_tells_the_difference(finished, datasets):
    model, prepare, images = shown_to(finished, datasets, "val")
    made, plain = (evaluate_run(finished, datasets, "val", mode=m) for m in ("flip", "plain"))
    both = [model(prepare(each)).detach() for each in (images, images.flip(2))]
    torch.testing.assert_close(made.logits, (both[0] + both[1]) / 2)
    assert not torch.allclose(*both)
    assert made.result["beside"] == {
        "mode": "plain", "top1": plain.result["top1"], "loss": plain.result["loss"]
    }  # fmt: skip


def test_flip_and_shift_looks_six_times(finished, datasets):
    made = evaluate_run(finished, datasets, "val", mode="flip-and-shift")
    flipped = evaluate_run(finished, datasets, "val", mode="flip")
    assert not torch.allclose(made.logits, flipped.logits)
    assert made.result["beside"] == flipped.result["beside"]


def test_the_article_s_mode_normalizes_over_each_64_images_of_a_shuffled_split(finished, datasets):
    model, prepare, images = shown_to(finished, datasets, "train")
    made = evaluate_run(finished, datasets, "train", mode="article")
    model.train()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(42))
    for start in (0, 64, 128):
        places = order[start : start + 64]
        expected = model(prepare(images[places])).detach()
        torch.testing.assert_close(made.logits[places], expected)
    assert made.result["beside"]["loss"] != made.result["loss"]


def test_the_article_s_mode_leaves_the_loaded_network_as_it_was(finished, datasets):
    classifier = Classifier.load(finished)
    model = classifier.saved.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    predict_mode(classifier, datasets, "test", "colours", "article")
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert not model.training


@pytest.mark.parametrize(("mode", "looks"), [*zip(MODES, (1, 2, 6, 10, 2), strict=True)])
def test_progress_counts_every_look_at_an_image(mode, looks, finished, datasets):
    told = []
    evaluate_run(finished, datasets, mode=mode, on_batch=lambda *now: told.append(now))
    assert told == [(30 * (look + 1), 30 * looks) for look in range(looks)]


def test_who_is_told_of_progress_may_end_it(finished, datasets):
    def stop(done, total):
        raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        evaluate_run(finished, datasets, mode="article", on_batch=stop)


@pytest.mark.parametrize("mode", ["", "Flip", None, 3])
def test_another_mode_is_refused(mode, finished, datasets):
    rule = "mode must be one of plain, flip, flip-and-shift, flip-and-five-shifts, article, got "
    with pytest.raises(ConfigError, match=rule) as caught:
        evaluate_run(finished, datasets, mode=mode)
    assert caught.value.field == "mode"


# --- keeping it


@pytest.fixture
def kept(evaluated, tmp_path):
    """A folder in which an evaluation was saved."""
    (tmp_path / "train-colours").mkdir()
    evaluated.save(tmp_path / "train-colours")
    return tmp_path / "train-colours"


def test_what_is_kept_is_read_as_it_was(kept, evaluated):
    again = read_evaluation(kept)
    assert again.result == read_result(kept) == evaluated.result
    for name in ("logits", "labels"):
        torch.testing.assert_close(getattr(again, name), getattr(evaluated, name), rtol=0, atol=0)
    assert (again.logits.dtype, again.labels.dtype) == (torch.float32, torch.int64)
    assert {path.name for path in kept.iterdir()} == {"result.json", "answers.safetensors"}


@pytest.mark.parametrize("name", ["result.json", "answers.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove"])
def test_what_is_damaged_is_named_and_not_used(name, damage, kept):
    path = kept / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"flip": content, "cut": content[: len(content) // 2], "empty": b""}
    path.unlink() if damage == "remove" else path.write_bytes(damaged[damage])
    with pytest.raises(DamagedError, match=f"{name} of train-colours is missing or damaged"):
        read_evaluation(kept)


def test_answers_of_another_evaluation_are_not_used(kept):
    tensors = {"logits": torch.zeros(135, 3), "labels": torch.zeros(135, dtype=torch.int64)}
    (kept / "answers.safetensors").write_bytes(safetensors.torch.save(tensors))
    with pytest.raises(DamagedError, match="evaluate again"):
        read_evaluation(kept)


@pytest.mark.parametrize("content", ["[]", "3", "{}", "[" * 100_000, '{"checksum": 3}', "\0"])
def test_what_is_no_result_is_none(content, kept):
    (kept / "result.json").write_text(content)
    with pytest.raises(DamagedError, match="evaluate again"):
        read_result(kept)


def test_a_result_of_an_older_version_is_not_used(kept, evaluated):
    older = {key: evaluated.result[key] for key in ("run", "top1", "loss", "confusion")}
    (kept / "result.json").write_text(json.dumps(older))
    with pytest.raises(DamagedError, match="evaluate again"):
        read_result(kept)
    write_result(kept, older)
    with pytest.raises(DamagedError, match="another version"):
        read_result(kept)


def test_an_evaluation_is_no_result_of_robustness(kept):
    with pytest.raises(DamagedError):
        read_result(kept, ROBUSTNESS_KEYS)


# --- answers that came with the run


def test_without_the_images_an_evaluation_counts_the_answers_that_are_kept(
    packed, colours, nowhere
):
    run, _ = packed
    seen = []
    kept = evaluate_run(run, nowhere, on_batch=lambda *done: seen.append(done)).result
    measured = evaluate_run(run, Datasets(colours)).result
    assert (kept.pop("stored"), measured.pop("stored")) == (True, False)
    assert kept.pop("loss") == pytest.approx(measured.pop("loss"), abs=1e-4)
    error, expected = (each.pop("calibration")["error"] for each in (kept, measured))
    assert error == pytest.approx(expected, abs=1e-3)
    assert kept == measured
    assert kept["n"] == 30
    assert seen == []  # no image was looked at


def test_where_the_images_are_here_they_are_looked_at(copied, colours):
    (copied.path / PREDICTIONS).write_bytes(b"")
    assert evaluate_run(copied, Datasets(colours)).result["stored"] is False


@pytest.mark.parametrize("asked", [{"split": "val"}, {"split": "train"}, {"dataset": "cifar10"}])
def test_answers_stand_in_for_their_own_split_and_dataset_only(asked, packed, nowhere):
    name = asked.get("dataset", "colours")
    with pytest.raises(NotFoundError, match=f"dataset must be one of shapes10, got '{name}'"):
        evaluate_run(packed[0], nowhere, **asked)


@pytest.mark.parametrize("mode", ["flip", "flip-and-shift", "flip-and-five-shifts", "article"])
def test_another_mode_needs_the_images_and_says_how_to_get_them(mode, packed, nowhere):
    with pytest.raises(NotFoundError) as caught:
        evaluate_run(packed[0], nowhere, mode=mode)
    assert str(caught.value) == (
        "mode must be plain while the images of colours are not on this machine, got "
        f"'{mode}'; the Data tab or `python -m resnet_demo data import colours PATH` brings them"
    )
    with pytest.raises(NotFoundError, match="data get cifar10` fetches them"):
        evaluate_run(packed[0], nowhere, dataset="cifar10", mode=mode)


def test_answers_that_the_run_does_not_tell_of_are_not_used(finished, packed, tmp_path, nowhere):
    run = Run(shutil.copytree(finished.path, tmp_path / "mine"))
    shutil.copy(packed[0].path / PREDICTIONS, run.path)
    with pytest.raises(NotFoundError, match="got 'colours'"):
        evaluate_run(run, nowhere)


@pytest.mark.parametrize("position", [0, 20, 200, -1])
def test_one_flipped_bit_in_the_answers_is_noticed_and_named(position, copied, nowhere):
    path = copied.path / PREDICTIONS
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=f"{PREDICTIONS} of cifar10-shipped is damaged and is n"):
        evaluate_run(copied, nowhere)


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b""), lambda path: path.unlink()])
def test_torn_or_missing_answers_are_named(spoil, copied, nowhere):
    spoil(copied.path / PREDICTIONS)
    with pytest.raises(DamagedError, match=f"{PREDICTIONS} of cifar10-shipped is "):
        evaluate_run(copied, nowhere)


def test_answers_of_other_weights_are_refused(copied, nowhere):
    saved = load_model(copied.path)
    logits, labels = read_predictions(copied.path, saved, "test", "colours")
    told = write_predictions(
        copied.path, logits, labels, split="test", dataset="colours", weights="0" * 64
    )
    path = copied.path / "model.json"
    values = json.loads(path.read_text())
    del values["checksum"]
    values["metrics"]["predictions"] = told  # right, as far as model.json can know
    path.write_text(json.dumps(values | {"checksum": checksum(values)}))
    with pytest.raises(DamagedError, match="its predictions are those of other weights"):
        evaluate_run(copied, nowhere)
