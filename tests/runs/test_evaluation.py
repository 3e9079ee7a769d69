"""Evaluating a run whose answers are kept beside its weights, with and without the images."""

import json
import shutil

import pytest

from resnet_demo.data.store import Datasets
from resnet_demo.errors import DamagedError, NotFoundError
from resnet_demo.models.description import checksum
from resnet_demo.models.saved import load_model
from resnet_demo.runs.evaluation import evaluate_run
from resnet_demo.runs.predictions import read_predictions, write_predictions
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


def test_without_the_images_an_evaluation_counts_the_answers_that_are_kept(
    packed, colours, nowhere
):
    run, _ = packed
    seen = []
    kept = evaluate_run(run, nowhere, on_batch=lambda *done: seen.append(done))
    measured = evaluate_run(run, Datasets(colours))
    assert (kept.pop("stored"), measured.pop("stored")) == (True, False)
    assert kept.pop("loss") == pytest.approx(measured.pop("loss"), abs=1e-4)
    assert kept == measured
    assert kept["n"] == 30
    assert seen == []  # no image was looked at


def test_where_the_images_are_here_they_are_looked_at(copied, colours):
    (copied.path / PREDICTIONS).write_bytes(b"")
    assert evaluate_run(copied, Datasets(colours))["stored"] is False


@pytest.mark.parametrize("asked", [{"split": "val"}, {"split": "train"}, {"dataset": "cifar10"}])
def test_answers_stand_in_for_their_own_split_and_dataset_only(asked, packed, nowhere):
    name = asked.get("dataset", "colours")
    with pytest.raises(NotFoundError, match=f"dataset must be one of shapes10, got '{name}'"):
        evaluate_run(packed[0], nowhere, **asked)


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
    with pytest.raises(DamagedError, match="its answers are those of other weights"):
        evaluate_run(copied, nowhere)
