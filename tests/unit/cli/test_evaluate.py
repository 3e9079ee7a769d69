"""`evaluate`: splits, modes, comparison, robustness, figures."""

import json
import shutil

import pytest
import torch

from resnet_demo.models.saved import load_model, save_model
from tests.unit.cli.conftest import TINY, CommandLine


def test_an_evaluation_counts_every_image_of_the_split(trained):
    demo, _ = trained
    for split, n in (("test", 30), ("val", 15), ("train", 135)):
        answer = demo("evaluate", "mine", "--split", split, "--json")
        assert (answer.code, answer.err) == (0, "")
        (result,) = answer.objects
        assert result["n"] == sum(map(sum, result["confusion"])) == n
        assert result["top1"] == sum(result["confusion"][k][k] for k in range(3)) / n
        assert result["loss"] > 0
        assert (result["run"], result["split"], result["dataset"]) == ("mine", split, "colours")
    assert demo("evaluate", "mine", "--json", "--split", "test").objects == (
        demo("evaluate", "mine", "--json", "--dataset", "colours").objects
    )


def test_the_validation_split_is_that_of_the_training(trained):
    demo, answer = trained
    (result,) = demo("evaluate", "mine", "--split", "val", "--json").objects
    epochs = [event for event in answer.objects if event["event"] == "epoch"]
    best = max(epochs, key=lambda event: event["val_top1"])
    assert result["top1"] == pytest.approx(best["val_top1"])
    assert result["loss"] == pytest.approx(best["val_loss"], rel=1e-4)


def test_the_validation_score_of_a_cross_validated_run_is_not_that_of_training(trained, tmp_path):
    demo, folder = trained[0].copy(tmp_path), tmp_path / "packed"
    head = ["--train-layers", "head", "--folds", 3, "--val-share", 0, "--weight-decay", 1]
    events = demo(*TINY, *head, "--epochs", 2, "--run-id", "parts", "--json").objects
    (fitted,) = [event for event in events if event["event"] == "head"]
    (result,) = demo("evaluate", "parts", "--split", "val", "--json").objects
    assert (result["n"], result["folds"], result["trained_on_pictures"]) == (150, 3, 0)
    assert result["top1"] == pytest.approx(fitted["val_top1"])
    assert result["loss"] == pytest.approx(fitted["val_loss"], rel=1e-4)
    answer = demo("evaluate", "parts", "--split", "val")
    assert "cross-validation in 3 parts: each image was predicted by a head" in answer.out
    for option in (["--robustness"], ["--mode", "flip"]):
        answer = demo("evaluate", "parts", "--split", "val", *option)
        assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert demo("evaluate", "parts", "--split", "train", "--json").objects[0]["n"] == 150

    assert demo("runs", "pack", "parts", folder).code == 0
    elsewhere = CommandLine(tmp_path / "none", tmp_path / "no-data")
    (packed,) = elsewhere("evaluate", folder, "--split", "val", "--json").objects
    assert (packed["top1"], packed["n"]) == (result["top1"], 150)

    (demo.runs / "parts" / "cross-validation.safetensors").write_bytes(b"")
    assert demo("evaluate", "parts", "--split", "val").code == 1
    rewrite_metrics(demo.runs / "parts", lambda metrics: metrics.pop("head"))
    answer = demo("evaluate", "parts", "--split", "val")
    assert (answer.code, answer.out) == (2, "")
    assert (
        f"as it was cross-validated: its accuracy is {100 * fitted['val_top1']:.2f} % in 3"
        in answer.err
    )


def rewrite_metrics(folder, change):
    """Change the metrics in a run's model.json."""
    saved = load_model(folder)
    change(saved.metrics)
    about = {"network": saved.network, "preprocessing": saved.preprocessing}
    save_model(folder, saved.model, classes=saved.classes, metrics=saved.metrics, **about)


def test_an_evaluation_as_text_has_a_line_for_each_class(trained):
    out = trained[0]("evaluate", "mine").out.splitlines()
    (result,) = trained[0]("evaluate", "mine", "--json").objects
    low, high = result["interval"]
    assert out[0].startswith(
        f"mine on colours test (30 images): top-1 {round(30 * result['top1'])} of 30, "
        f"95 % interval {100 * low:.0f} % to {100 * high:.0f} %; loss "
    )
    assert out[1] == f"mean F1 over all classes {100 * result['macro_f1']:.2f} %"
    assert out[2].endswith(f"calibration error {100 * result['calibration']['error']:.0f} %")
    assert [line.split()[0] for line in out[3:]] == ["blue", "green", "red"]


def test_a_mode_is_compared_with_plain(trained):
    demo, _ = trained
    (plain,) = demo("evaluate", "mine", "--json", "--split", "train").objects
    answer = demo("evaluate", "mine", "--json", "--split", "train", "--mode", "article")
    (result,) = answer.objects
    assert (plain["mode"], plain["beside"]) == ("plain", None)
    assert result["mode"] == "article"
    assert result["beside"] == {"mode": "plain", "top1": plain["top1"], "loss": plain["loss"]}
    text = demo("evaluate", "mine", "--split", "train", "--mode", "article").out
    assert f"plain ({100 * plain['top1']:.2f} %, loss {plain['loss']:.4f})" in text


@pytest.fixture(scope="module")
def three_runs(trained, tmp_path_factory):
    """Return a command line with the runs `mine`, `weak` (never predicts blue), `other-split`."""
    from resnet_demo.models.saved import load_model, save_model

    demo = trained[0].copy(tmp_path_factory.mktemp("three_runs"))
    weak = shutil.copytree(demo.runs / "mine", demo.runs / "weak")
    saved = load_model(weak)
    with torch.no_grad():
        saved.model.head.bias[0] = -1000
    about = {"network": saved.network, "classes": saved.classes, "metrics": saved.metrics}
    save_model(weak, saved.model, preprocessing=saved.preprocessing, **about)
    other = shutil.copytree(demo.runs / "mine", demo.runs / "other-split")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "seed": 8}))
    return demo


def test_two_runs_are_compared_on_the_same_images(three_runs):
    (result,) = three_runs("evaluate", "mine", "--against", "weak", "--json").objects
    (alone,) = three_runs("evaluate", "mine", "--json").objects
    (other,) = three_runs("evaluate", "weak", "--json").objects
    against = result.pop("against")
    assert result == alone
    assert (against["first"], against["second"], against["n"]) == ("mine", "weak", 30)
    for key in ("run", "weights", "top1", "interval", "loss", "macro_f1"):
        assert against[key] == other[key]
    assert against["difference"] == pytest.approx(alone["top1"] - other["top1"])
    assert against["difference"] > 0
    disagreements = len(against["only_first"]) - len(against["only_second"])
    assert disagreements == pytest.approx(30 * against["difference"])
    text = three_runs("evaluate", "mine", "--against", three_runs.runs / "weak").out
    assert f"mine is {round(30 * against['difference'])} images above weak (" in text
    assert "two equally good networks would differ as much or more in " in text


def test_a_run_with_another_split_is_not_compared(three_runs):
    answer = three_runs("evaluate", "mine", "--split", "val", "--against", "other-split", "--json")
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert "--against: against must be a run with the same images" in answer.err


def test_robustness_has_a_line_for_each_corruption(trained):
    answer = trained[0]("evaluate", "mine", "--split", "val", "--robustness", "--json")
    assert (answer.code, answer.err) == (0, "")
    robustness = answer.objects[0]["robustness"]
    assert (robustness["n"], robustness["split"], len(robustness["kinds"])) == (15, "val", 7)
    out = trained[0]("evaluate", "mine", "--split", "val", "--robustness").out.splitlines()
    assert "mine on damaged images, strengths 1 to 5 (15 images; undamaged " in out[-8]
    assert [line.split()[0] for line in out[-7:]] == [*robustness["kinds"]]
    assert all(line.count(" of 15") == 5 for line in out[-7:])


def test_figures_and_tables_are_written_to_the_folder(trained, tmp_path):
    folder = tmp_path / "new" / "report"
    answer = trained[0]("evaluate", "mine", "--figures", folder)
    assert answer.code == 0
    assert answer.out.endswith(f"Figures and tables are in {folder}.\n")
    (result,) = trained[0]("evaluate", "mine", "--figures", folder, "--json").objects
    assert json.loads((folder / "result.json").read_text()) == result
    assert {path.name for path in folder.iterdir()} == {
        *("result.json", "per-class.csv", "confusion.csv"),
        *("confusion.png", "reliability.png", "confidence.png"),
    }


def test_a_run_is_found_by_the_path_of_its_directory(trained, tmp_path, monkeypatch):
    demo, _ = trained
    shutil.copytree(demo.runs / "mine", tmp_path / "elsewhere" / "A Copy")
    by_id = demo("evaluate", "mine", "--json").objects[0]
    monkeypatch.chdir(tmp_path)
    for name in (demo.runs / "mine", "elsewhere/A Copy", "./elsewhere/A Copy/"):
        answer = demo("evaluate", name, "--json")
        assert answer.code == 0, answer.err
        assert {**answer.objects[0], "run": "mine"} == by_id
    assert demo("runs", "show", "elsewhere/A Copy", "--json").objects[0]["state"] == "finished"


def test_damaged_weights_are_refused(trained, tmp_path, picture):
    demo = trained[0].copy(tmp_path)
    weights = demo.runs / "mine" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for args in (["evaluate", "mine"], ["classify", "mine", picture("a.png", "red")]):
        answer = demo(*args, "--json")
        assert (answer.code, answer.out, answer.err.count("\n")) == (1, "", 1)
        assert "model.safetensors of mine is damaged" in answer.err
