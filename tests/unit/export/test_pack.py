"""Packing of a finished run."""

import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy.special import logsumexp

from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DamagedError, DemoError, NotFoundError
from resnet_demo.evaluation.evaluate_run import evaluate_run
from resnet_demo.export import pack as pack_module
from resnet_demo.export.formats import export_run
from resnet_demo.export.pack import pack, pack_for_space
from resnet_demo.inference.classifier import Classifier
from resnet_demo.models.description import model_description
from resnet_demo.models.saved import add_known, load_model, save_model
from resnet_demo.paths import REPOSITORY, Paths
from resnet_demo.runs.store import Run
from resnet_demo.tasks.snapshot import run_summary, snapshot_dict
from tests.tiny import finished_run, replace_dataset

FILES = {
    "config.json",
    "events.jsonl",
    "status.json",
    "model.safetensors",
    "model.json",
    "test-predictions.safetensors",
    "trained_on.npy",
    "README.md",
}


@pytest.fixture
def datasets(colours):
    return Datasets(colours)


@pytest.fixture
def copied(finished, tmp_path):
    """Return a copy of the finished run, which a test may damage."""
    return Run(shutil.copytree(finished.path, tmp_path / "runs" / "mine"))


def test_a_packed_run_has_all_that_the_page_shows_and_no_other_files(packed, finished):
    run, result = packed
    assert {file.name for file in run.path.iterdir()} == FILES
    assert result["bytes"] == sum(file.stat().st_size for file in run.path.iterdir())
    before, after = snapshot_dict(finished), snapshot_dict(run)
    assert {**before, "run": run.id} == after
    assert after["state"] == "finished"
    assert run_summary(run)["state"] == "finished"


def test_weights_are_float16_and_counters_unchanged(packed, finished):
    run, result = packed
    stored = safetensors.torch.load_file(run.path / "model.safetensors")
    counters = {name for name in stored if name.endswith("num_batches_tracked")}
    assert counters
    for name, tensor in stored.items():
        assert tensor.dtype == (torch.int64 if name in counters else torch.float16), name
    before, after = (load_model(one.path).model.state_dict() for one in (finished, run))
    for name, tensor in after.items():
        assert tensor.dtype == before[name].dtype
        torch.testing.assert_close(tensor, before[name], rtol=1e-3, atol=1e-6)
    original = (finished.path / "model.safetensors").stat().st_size
    assert result["weights_bytes"] < 0.6 * original


def test_the_scores_are_those_of_the_rounded_weights(packed, finished, datasets):
    run, result = packed
    now, before = (evaluate_run(each, datasets).result for each in (run, finished))
    assert now["weights"] == model_description(run.path)["sha256"] != before["weights"]
    assert (result["top1"], result["n"]) == (now["top1"], 30)
    assert result["top1_float32"] == before["top1"] > 0.5  # it learned something
    assert result["loss"] == pytest.approx(now["loss"], abs=1e-4)
    metrics = model_description(run.path)["metrics"]
    assert metrics["test_top1"] == now["top1"]
    assert metrics["val_top1"] == model_description(finished.path)["metrics"]["val_top1"]


def test_the_threshold_is_that_of_the_rounded_weights(packed, finished, datasets):
    logits = evaluate_run(packed[0], datasets, "val").logits
    threshold = np.quantile(-logsumexp(logits.double(), axis=1), 0.95, method="inverted_cdf")
    metric = model_description(packed[0].path)["metrics"]["outside"]
    assert metric == {
        "threshold": pytest.approx(threshold),
        "false_alarms": 0.05,
        "n": 15,
    }
    assert metric != model_description(finished.path)["metrics"]["outside"]


def test_a_run_without_a_threshold_gets_one(copied, packed, tmp_path, datasets):
    saved = load_model(copied.path)
    metrics = {key: value for key, value in saved.metrics.items() if key != "outside"}
    about = {"network": saved.network, "preprocessing": saved.preprocessing, "metrics": metrics}
    save_model(copied.path, saved.model, classes=saved.classes, **about)
    pack(copied, datasets, tmp_path / "again")
    metric = model_description(tmp_path / "again")["metrics"]["outside"]
    assert metric == model_description(packed[0].path)["metrics"]["outside"]


def test_no_path_of_the_machine_is_packed(packed, finished):
    run, _ = packed
    content = b"".join(file.read_bytes() for file in run.path.iterdir())
    for place in (finished.path.parents[1], run.path.parent, REPOSITORY):
        assert str(place).encode() not in content
    assert json.loads((run.path / "status.json").read_text())["pid"] is None


def test_packing_does_not_change_the_run(copied, tmp_path, datasets):
    def contents():
        return {path: path.read_bytes() for path in copied.path.iterdir()}

    before = contents()
    pack(copied, datasets, tmp_path / "new" / "packed")
    assert contents() == before


def test_a_packed_run_can_be_packed_again(packed, tmp_path, datasets):
    run, result = packed
    again = pack(run, datasets, tmp_path / "again")
    assert again["top1"] == again["top1_float32"] == result["top1"]
    assert evaluate_run(Run(tmp_path / "again"), Datasets(tmp_path)).result["stored"]


def refusal(error, tmp_path, *args):
    """Return the message of a packing that must fail and leave all files unchanged."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error) as caught:
        pack(*args)
    assert sorted(tmp_path.rglob("*")) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_with_content_is_refused_and_an_empty_one_is_used(finished, tmp_path, datasets):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter").write_text("dear")
    (tmp_path / "file").write_text("dear")
    (tmp_path / "empty").mkdir()
    for name in ("taken", "file"):
        folder = tmp_path / name
        message = refusal(ConfigError, tmp_path, finished, datasets, folder)
        assert message == f"folder must be a folder that is new or empty, got {str(folder)!r}"
    assert (tmp_path / "taken" / "letter").read_text() == "dear"
    pack(finished, datasets, tmp_path / "empty")
    assert {file.name for file in (tmp_path / "empty").iterdir()} == FILES


def test_a_folder_name_that_is_no_run_id_is_refused(finished, tmp_path, datasets):
    folder = tmp_path / "My Run"
    assert "lowercase letters" in refusal(ConfigError, tmp_path, finished, datasets, folder)


def test_test_images_that_were_trained_on_are_counted_in_what_is_packed(
    finished, tmp_path, colours
):
    data, root = tmp_path / "data", tmp_path / "runs"
    shutil.copytree(colours, data)

    def copy_training_images(classes, splits):
        splits["test"] = [part[:40] for part in splits["train"]]

    replace_dataset(data, "colours", copy_training_images)
    run = finished_run(tmp_path, data, epochs=1)
    result = pack(run, Datasets(data), root / "packed")
    count = result["trained_on_pictures"]
    assert 30 < count <= 40
    card = (root / "packed/README.md").read_text()
    assert f"| images | 40, of which {count} are in the training split too |" in card
    without = evaluate_run(Run(root / "packed"), Datasets(tmp_path / "none")).result
    assert (without["stored"], without["trained_on_pictures"]) == (True, count)


def test_a_packed_run_keeps_the_fingerprint_and_another_dataset_is_refused(
    packed, finished, tmp_path, colours
):
    run, _ = packed
    fingerprint = Datasets(colours).fingerprint("colours")
    assert run.fingerprint() == fingerprint
    assert load_model(run.path).fingerprint == fingerprint.to_dict()
    shutil.copytree(colours, tmp_path / "data")
    replace_dataset(tmp_path / "data", "colours", lambda classes, splits: classes.reverse())
    message = refusal(
        ConfigError, tmp_path, finished, Datasets(tmp_path / "data"), tmp_path / "new"
    )
    assert message.startswith("run mine cannot be packed: the dataset colours has changed since")


def test_a_run_that_has_not_finished_is_refused(copied, tmp_path, datasets):
    log = copied.log().path
    log.write_text("\n".join(log.read_text().splitlines()[:-1]) + "\n")
    message = refusal(ConfigError, tmp_path, copied, datasets, tmp_path / "packed")
    assert message == "only a finished run can be packed, and mine is none"


def test_a_log_without_its_beginning_is_refused(copied, tmp_path, datasets):
    log = copied.log().path
    log.write_text("\n".join(log.read_text().splitlines()[1:]) + "\n")
    message = refusal(DamagedError, tmp_path, copied, datasets, tmp_path / "packed")
    assert "events.jsonl of run mine is damaged" in message


def test_weights_that_are_too_large_in_float16_are_refused(
    finished, tmp_path, datasets, monkeypatch
):
    monkeypatch.setattr(pack_module, "MAX_WEIGHTS", 400_000)
    message = refusal(ConfigError, tmp_path, finished, datasets, tmp_path / "packed")
    assert message.startswith(
        "only weights of at most 400 kB can be packed, and those of mine have "
    )
    result = pack_for_space(finished, datasets, tmp_path)
    assert (result["run"], result["weights"]) == ("mine", "float16")
    assert result["weights_bytes"] > 400_000


def test_a_run_without_its_test_images_is_refused(finished, packed, tmp_path):
    for run in (finished, packed[0]):  # stored predictions cannot replace the images
        message = refusal(NotFoundError, tmp_path, run, Datasets(tmp_path), tmp_path / "packed")
        assert "got 'colours'" in message


def test_a_network_that_overflows_float16_is_refused(copied, tmp_path, datasets):
    saved = load_model(copied.path)
    with torch.no_grad():
        for parameter in saved.model.head.parameters():
            parameter *= 1e7  # same predictions, but too large for float16
    about = {"network": saved.network, "preprocessing": saved.preprocessing, "metrics": {}}
    save_model(copied.path, saved.model, classes=saved.classes, **about)
    message = refusal(DemoError, tmp_path, copied, datasets, tmp_path / "packed")
    assert message.startswith("mine cannot be packed: with weights in float16 its top-1 is ")

    # A Space may have them as they are.
    result = pack_for_space(copied, datasets, tmp_path)
    assert (result["weights"], result["top1"]) == ("float32", result["top1_float32"])
    packed = Run(tmp_path / "mine")
    after = load_model(packed.path).model.state_dict()
    assert all(
        torch.equal(after[name], tensor) for name, tensor in saved.model.state_dict().items()
    )
    assert evaluate_run(packed, Datasets(tmp_path / "none")).result["top1"] == result["top1"]
    assert "and its weights in float32." in " ".join(
        (packed.path / "README.md").read_text().split()
    )


def test_an_interrupted_packing_leaves_no_folder(finished, tmp_path, datasets, monkeypatch):
    def broken(*_, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(pack_module, "model_card", broken)
    refusal(KeyboardInterrupt, tmp_path, finished, datasets, tmp_path / "packed")


def test_cross_validation_keeps_its_threshold_and_the_card_names_it(copied, datasets, tmp_path):
    config = json.loads((copied.path / "config.json").read_text())
    config |= {"train_layers": "head", "folds": 5, "val_share": 0.0}
    (copied.path / "config.json").write_text(json.dumps(config))
    pack(copied, datasets, tmp_path / "packed")
    before, after = (
        model_description(path)["metrics"]["outside"] for path in (copied.path, tmp_path / "packed")
    )
    assert before == after
    card = " ".join((tmp_path / "packed" / "README.md").read_text().split())
    assert "validated by cross-validation in 5 parts" in card


def test_a_space_and_a_model_warn_by_the_distance_to_training_images_as_the_run_does(
    copied, datasets, tmp_path
):
    saved = load_model(copied.path)
    limit = {"threshold": 0.2, "false_alarms": 0.05, "n": 4}
    add_known(copied.path, saved, limit, torch.rand(4, saved.model.head.in_features).half())
    pack(copied, datasets, tmp_path / "packed")
    export_run(copied, tmp_path / "hub", "hub", Paths(tmp_path, datasets.root))
    picture = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    expected = Classifier.load(copied).classify(picture).to_dict()["outside"]
    assert "distance" in expected
    for folder in ("packed", "hub"):
        found = Classifier.load(Run(tmp_path / folder)).classify(picture).to_dict()["outside"]
        assert found == pytest.approx(expected, abs=1e-3)
