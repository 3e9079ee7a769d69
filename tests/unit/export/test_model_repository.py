"""The folder of a model repository, and its upload to a stand-in for the Hub on this machine."""

import json
import shutil

import pytest
import safetensors.torch
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from resnet_demo.cli import main
from resnet_demo.config import make_config
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError
from resnet_demo.evaluation.evaluate_run import evaluate_run
from resnet_demo.export.formats import HUB_FILES, export_run
from resnet_demo.export.model_repository import default_licence
from resnet_demo.inference.classifier import Classifier
from resnet_demo.models.saved import load_model
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run


@pytest.fixture(scope="module")
def paths(colours, tmp_path_factory):
    root = tmp_path_factory.mktemp("repository")
    return Paths(root / "runs", colours, root / "shipped")


@pytest.fixture(scope="module")
def run(finished, paths):
    """Return the finished run with a title that is no plain word."""
    run = Run(shutil.copytree(finished.path, paths.runs / "mine"))
    run.describe(title="Red: *or* green?", notes="for me alone")
    return run


@pytest.fixture(scope="module")
def written(run, paths, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "model"
    return folder, export_run(run, folder, "hub", paths)


def test_the_card_is_one_that_the_hub_reads(written, run, colours):
    card = ModelCard.load(written[0] / "README.md")
    known = card.data.to_dict()
    assert (known["pipeline_tag"], known["library_name"]) == ("image-classification", "pytorch")
    assert (known["license"], known["metrics"]) == ("mit", ["accuracy", "f1"])
    assert "resnet20" in known["tags"]
    assert "datasets" not in known  # one's own pictures are no data set of the Hub
    name, results = model_index_to_eval_results(known["model-index"])
    assert name == "Red: *or* green?"
    scored = evaluate_run(run, Datasets(colours)).result
    values = {each.metric_type: each for each in results}
    assert values["accuracy"].metric_value == round(scored["top1"], 5)
    assert values["f1"].metric_value == pytest.approx(scored["macro_f1"], abs=1e-5)
    for each in results:
        assert (each.task_type, each.dataset_split) == ("image-classification", "test")
        assert (each.dataset_name, each.verified, each.verify_token) == ("colours", None, None)
    assert card.text.strip().startswith("# Red: \\*or\\* green?")
    for part in ("## Accuracy", "30 of 30", "## Limitations", "`mit`"):
        assert part in card.text
    assert "for me alone" not in card.content


def test_a_download_holds_the_same_weights_and_is_a_run(written, run, paths):
    folder, exported = written
    assert {file.name for file in folder.iterdir()} == {*HUB_FILES} == {*exported.files}
    assert exported.notes == []
    weights = (folder / "model.safetensors").read_bytes()
    assert weights == (run.path / "model.safetensors").read_bytes()
    downloaded = Run(folder)
    assert downloaded.config() == run.config()
    assert Classifier.load(downloaded).saved.sha256 == Classifier.load(run).saved.sha256
    # By something that is not this app.
    tensors = safetensors.torch.load(weights)
    assert tensors.keys() == load_model(run.path).model.state_dict().keys()
    described = json.loads((folder / "model.json").read_text())
    assert (described["network"]["name"], len(described["classes"])) == ("resnet20", 3)
    content = b"".join(file.read_bytes() for file in folder.iterdir())
    assert str(paths.runs).encode() not in content


def test_without_the_images_the_card_has_no_accuracy_and_says_so(run, tmp_path):
    exported = export_run(run, tmp_path / "model", "hub", Paths(tmp_path, tmp_path / "none"))
    assert exported.notes == [
        "The card has no accuracy: the images of colours are not on this machine."
    ]
    card = ModelCard.load(tmp_path / "model" / "README.md")
    assert "model-index" not in card.data.to_dict()
    assert "Not measured: the images were not on the machine" in card.text


def test_the_licence_is_that_of_the_weights_it_started_from_or_the_given_one(run, paths, tmp_path):
    transfer = {"recipe": "transfer", "dataset": "colours"}
    assert default_licence(make_config(transfer)) == "apache-2.0"
    assert (
        default_licence(make_config({**transfer, "model": "resnet18", "stem": "imagenet"}))
        == "bsd-3-clause"
    )
    export_run(run, tmp_path / "model", "hub", paths, licence="cc-by-4.0")
    card = ModelCard.load(tmp_path / "model" / "README.md")
    assert card.data.to_dict()["license"] == "cc-by-4.0"
    with pytest.raises(ConfigError, match=r"licence must be the Hub's name .*, got 'My own'"):
        export_run(run, tmp_path / "other", "hub", paths, licence="My own")
    assert not (tmp_path / "other").exists()


def test_the_command_line_uploads_a_model_and_leaves_no_copy(
    hub, run, paths, tmp_path, monkeypatch, capsys
):
    for name, value in paths.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["export", "mine", "--push", "me/demo", "--private", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["address"] == f"{hub.url}/me/demo"
    assert (printed["format"], printed["folder"]) == ("hub", None)
    assert list(tmp_path.iterdir()) == []
    made = json.loads(hub.requests[0][1])
    assert (made["name"], made["organization"], made["visibility"]) == ("demo", "me", "private")
    assert made.get("type", "model") == "model"
    commit = hub.commit()
    assert commit.files.keys() == {*HUB_FILES}
    assert commit.files["model.safetensors"] == (run.path / "model.safetensors").read_bytes()
    assert commit.deleted == []
    assert main(["export", "mine", "--push", "demo"]) == 2
    assert main(["export", "mine", "--push", "me/demo", "--format", "onnx"]) == 2
    assert main(["export", "mine"]) == 2
    mistakes = capsys.readouterr().err.splitlines()
    assert "--push: push must be OWNER/NAME at Hugging Face, got 'demo'" in mistakes[0]
    assert "--format: format must be hub with --push, got 'onnx'" in mistakes[1]
    assert "DIR must be given without --push" in mistakes[2]
