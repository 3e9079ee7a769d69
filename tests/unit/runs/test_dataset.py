"""What a run keeps of its dataset, and what is refused or reported once that has changed."""

import json
import shutil

import numpy as np
import pytest
import torch

from resnet_demo.data.digests import picture_digests
from resnet_demo.data.splits import config_split
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DamagedError
from resnet_demo.evaluation.comparison import compare_evaluations
from resnet_demo.evaluation.evaluate_run import evaluate_run
from resnet_demo.evaluation.robustness import measure_robustness
from resnet_demo.models.description import model_description
from resnet_demo.paths import Paths
from resnet_demo.runs.dataset import check_dataset, dataset_changed
from resnet_demo.runs.store import CONFIG, Run, created_at
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.snapshot import snapshot_dict
from resnet_demo.tasks.status import read_status
from resnet_demo.training.fit import fit
from tests.tiny import replace_dataset, stopped_run


def rename_a_class(classes, splits):
    classes[0] = "azure"


def add_a_class(classes, splits):
    classes.append("yellow")
    images, labels = splits["train"]
    splits["train"] = [images, np.append(labels[:-1], 3)]


def add_training_images_to_the_test_split(classes, splits):
    """Add the first 50 training images, with their labels, to the 30 test images."""
    together = zip(splits["test"], splits["train"], strict=True)
    splits["test"] = [np.concatenate([test, train[:50]]) for test, train in together]


def swap_two_labels(classes, splits):
    labels = splits["train"][1]
    labels[[0, -1]] = labels[[-1, 0]]


@pytest.fixture
def data(tmp_path, colours):
    """Return a data root with a copy of `colours`, which a test may replace."""
    torch.set_num_threads(1)
    shutil.copytree(colours, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, colours):
    torch.set_num_threads(1)
    return stopped_run(tmp_path_factory.mktemp("stopped"), colours)


@pytest.fixture
def run(tmp_path, stopped):
    """Return a copy of a run that was stopped after its first epoch."""
    return Run(shutil.copytree(stopped.path, tmp_path / "runs/mine"))


@pytest.fixture
def launcher(tmp_path, data, run):
    return Launcher(Paths(tmp_path / "runs", data, tmp_path / "shipped"))


def make_old(run):
    """Remove from a run what older versions did not write."""
    values = json.loads((run.path / CONFIG).read_text())
    del values["fingerprint"]
    (run.path / CONFIG).write_text(json.dumps(values))
    (run.path / "trained_on.npy").unlink()


def test_a_run_keeps_the_fingerprint_and_the_digests_of_its_training_split(stopped, colours):
    datasets = Datasets(colours)
    fingerprint, (images, labels) = (
        datasets.fingerprint("colours"),
        datasets.load("colours", "train"),
    )
    assert stopped.fingerprint() == fingerprint
    assert model_description(stopped.path)["fingerprint"] == fingerprint.to_dict()
    assert snapshot_dict(stopped)["fingerprint"] == fingerprint.to_dict()
    train, _ = config_split(len(images), stopped.config(), 0, labels)
    trained_on = np.load(stopped.path / "trained_on.npy")
    assert np.array_equal(trained_on, picture_digests(images[train]))


def test_recording_the_fingerprint_keeps_the_time_of_the_creation(run, colours):
    before, config = created_at(run.path), run.config()
    run.record({"fingerprint": Datasets(colours).fingerprint("shapes10").to_dict()})
    assert run.fingerprint().digest != Datasets(colours).fingerprint("colours").digest
    assert (created_at(run.path), run.config()) == (before, config)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (rename_a_class, "its classes were blue, green, red and are azure, green, red"),
        (add_a_class, "its classes were blue, green, red and are blue, green, red, yellow"),
        (
            add_training_images_to_the_test_split,
            "it had 150 training, 30 test images and has 150 training, 80 test",
        ),
        (swap_two_labels, "its pictures or their labels are others"),
    ],
)
def test_resume_refuses_a_dataset_of_other_content(launcher, run, change, difference):
    replace_dataset(launcher.paths.data, "colours", change)
    with pytest.raises(ConfigError) as caught:
        launcher.requeue(run)
    assert str(caught.value) == (
        f"run mine cannot be resumed: the dataset colours has changed since training ({difference})"
        "; import the original images under that name again, or start a new run"
    )
    assert read_status(run.path).state == "stopped"
    # where the dataset was replaced while the run waited in the queue
    with pytest.raises(ConfigError, match="the dataset colours has changed since training"):
        next(fit(run.config(), launcher.datasets, run.path))


def test_resume_continues_on_the_same_images_imported_again(launcher, run):
    replace_dataset(launcher.paths.data, "colours", lambda classes, splits: None)
    trained_on = (run.path / "trained_on.npy").read_bytes()
    *_, last = fit(run.config(), launcher.datasets, run.path)
    assert last.kind == "finished"
    assert (run.path / "trained_on.npy").read_bytes() == trained_on


def test_an_old_run_resumes_and_reports_nothing_it_cannot_know(launcher, run):
    make_old(run)
    replace_dataset(launcher.paths.data, "colours", swap_two_labels)
    check_dataset(run, launcher.datasets)
    assert dataset_changed(run, launcher.datasets) is None
    result = evaluate_run(run, launcher.datasets).result
    assert (result["dataset_changed"], result["trained_on_pictures"]) == (None, None)
    first = next(fit(run.config(), launcher.datasets, run.path))
    assert (first.kind, run.fingerprint()) == ("resumed", None)


def test_an_old_run_is_not_resumed_on_other_classes(launcher, run):
    make_old(run)
    replace_dataset(launcher.paths.data, "colours", add_a_class)
    with pytest.raises(ConfigError, match=r"cannot be resumed: .* and are blue, green, red, y"):
        launcher.requeue(run)
    for name in ("model.json", "model.safetensors"):  # stopped before its first epoch ended
        (run.path / name).unlink()
    with pytest.raises(DamagedError, match="not those of resnet20 with the 4 classes of colours"):
        next(fit(run.config(), launcher.datasets, run.path))


def test_an_evaluation_counts_the_images_that_were_trained_on(launcher, run):
    datasets, before = launcher.datasets, evaluate_run(run, launcher.datasets)
    assert (before.result["dataset_changed"], before.result["trained_on_pictures"]) == (False, 0)
    assert evaluate_run(run, datasets, "train").result["trained_on_pictures"] == 135
    assert evaluate_run(run, datasets, "val").result["trained_on_pictures"] == 0
    replace_dataset(launcher.paths.data, "colours", add_training_images_to_the_test_split)
    train, _ = config_split(150, run.config(), 0, np.repeat([0, 1, 2], 50))
    expected = int((train < 50).sum())
    after = evaluate_run(run, datasets)
    for result in (after.result, measure_robustness(run, datasets)):
        assert (result["n"], result["dataset_changed"]) == (80, True)
        assert result["trained_on_pictures"] == expected
        assert result["fingerprint"] == datasets.fingerprint("colours").digest
    with pytest.raises(ConfigError, match="colours has changed between the evaluations of mine"):
        compare_evaluations(before, after)


def test_images_trained_on_are_counted_in_another_dataset_too(launcher, run):
    data = launcher.paths.data
    shutil.copytree(data / "colours", data / "more")
    values = json.loads((data / "more/dataset.json").read_text())
    (data / "more/dataset.json").write_text(json.dumps(values | {"name": "more"}))
    replace_dataset(data, "more", add_training_images_to_the_test_split)
    result = evaluate_run(run, launcher.datasets, dataset="more").result
    assert result["dataset_changed"] is None
    assert result["trained_on_pictures"] > 40


def test_a_dataset_with_other_classes_is_not_scored(launcher, run):
    replace_dataset(launcher.paths.data, "colours", rename_a_class)
    expected = "^the dataset colours has changed since training: its classes were blue, green, red"
    with pytest.raises(ConfigError, match=expected):
        evaluate_run(run, launcher.datasets)


def test_damaged_digests_are_named(run, colours):
    (run.path / "trained_on.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DamagedError, match=r"^trained_on.npy of mine is damaged: remove it to"):
        evaluate_run(run, Datasets(colours))


@pytest.mark.parametrize("value", [3, [], {"classes": ["a", "b"]}])
def test_a_damaged_fingerprint_is_named(run, value):
    values = json.loads((run.path / CONFIG).read_text()) | {"fingerprint": value}
    (run.path / CONFIG).write_text(json.dumps(values))
    with pytest.raises(DamagedError, match=r"^config.json of run mine is damaged$"):
        run.fingerprint()
