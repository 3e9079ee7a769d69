"""The exported scripts: run by a plain Python, against the app's classifier and training."""

import json
import re
import runpy
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_demo.cli import main
from resnet_demo.config import make_config
from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.data.shapes import make_shapes10
from resnet_demo.export import formats, script
from resnet_demo.export.formats import export_run
from resnet_demo.export.parity import ODD_KINDS, Parity, ParityPictures, app_answers
from resnet_demo.export.script import (
    CLASSIFY,
    WEIGHTS,
    why_not_offered,
    write_script,
    write_weights,
)
from resnet_demo.export.source import ExportSource, load_source
from resnet_demo.inference.classification import classify
from resnet_demo.models.saved import SavedModel
from resnet_demo.models.zoo import build_model
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from tests.conftest import REPOSITORY
from tests.tiny import finished_run

# Runs a script where neither this program nor what it needs beside torch and pillow is installed.
BARE = """\
import runpy, sys
for name in ("numpy", "torchvision", "safetensors", "resnet_demo"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
CASES = [  # (network, stem, BatchNorm, fit, stored side, side): each branch of each template
    ("resnet9", "small", True, "crop", 24, 24),
    ("resnet11", "small", False, "squash", 24, 20),
    ("resnet8", "small", True, "pad", 24, 32),
    ("resnet8", "small", False, "crop", 24, 24),
    ("plain14", "small", True, "squash", 40, 24),
    ("resnet18", "small", True, "crop", 40, 32),
    ("resnet34", "imagenet", False, "pad", 40, 32),
    ("resnet50", "imagenet", True, "pad", 40, 32),
    ("resnet34-article", "small", True, "pad", 40, 32),
    ("vgg16", "small", True, "crop", 32, 32),
    ("efficientnet-lite0", "small", True, "pad", 40, 64),
    ("efficientnet-lite0", "small", True, "squash", 40, 75),
    ("efficientnet-lite0", "small", False, "crop", 64, 64),
]
LABELS = ("ant", "b \\ {{ 1 }}", "\u202ecat")  # the last one would reverse what follows
STEPS = 20


@pytest.fixture(scope="module")
def odd_pictures():
    """Return files of every odd kind with the app's reading of them."""
    photo = make_shapes10()["test"][0][:1]
    pictures = list(ParityPictures("", photo))[-len(ODD_KINDS) :]
    small = [picture for picture in pictures if picture.rgb.size < 500_000]
    assert len(small) > 20
    return small


def source_of(case):
    """Return an export's source: the network of a case with random weights."""
    name, stem, batch_norm, fit, stored, side = case
    torch.manual_seed(0)
    network = {"num_classes": 3, "stem": stem, "batch_norm": batch_norm}
    with torch.no_grad():
        model = build_model(name, **network).eval()
        for statistics in model.buffers():
            if statistics.is_floating_point():
                statistics += 0.3 * torch.rand_like(statistics)
    limit = {"threshold": 1.5, "false_alarms": 0.05, "n": 9}
    saved = SavedModel(
        model=model,
        network={"name": name, **network},
        classes=LABELS,
        preprocessing=Preprocessing(
            stored, side, (0.5, 0.4, 0.3), (0.2, 0.21, 0.22), fit
        ).to_dict(),
        metrics={"outside": limit, "neighbour": {**limit, "threshold": 0.5}},
        sha256="0" * 64,
        # As of a head that was trained on embeddings.
        known=torch.rand(7, 1280).half() if name == "efficientnet-lite0" else None,
    )
    config = make_config({"model": "resnet20"})
    return ExportSource(Run(Path("/nowhere/my-run")), config, saved, "A title")


@pytest.fixture
def picture_files(tmp_path):
    """Return two pictures and a file that is none."""
    files = [tmp_path / name for name in ("a b.png", "é.jpg", "broken.png")]
    Image.new("RGB", (40, 23), (220, 40, 30)).save(files[0])
    Image.new("L", (9, 50), 90).save(files[1])
    files[2].write_bytes(files[0].read_bytes()[:30])
    return files


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """Return case -> (source, the names that its script defines, the script's file)."""
    root, found = tmp_path_factory.mktemp("scripts"), {}
    for number, case in enumerate(CASES):
        source, folder = source_of(case), root / str(number)
        folder.mkdir()
        write_script(source, folder)
        write_weights(source, folder, half=False)
        found[case] = source, runpy.run_path(str(folder / CLASSIFY)), folder / CLASSIFY
    return found


def test_the_scripts_answer_as_the_app_for_every_kind_of_network(scripts, odd_pictures, tmp_path):
    chosen = [odd_pictures[0], *odd_pictures[8:12], odd_pictures[-1]]
    for case, (source, defined, file) in scripts.items():
        network = defined["build_network"]().eval()
        network.load_state_dict(torch.load(file.with_name(WEIGHTS), weights_only=True))
        for picture, expected in zip(chosen, app_answers(source, chosen), strict=True):
            (tmp_path / "picture").write_bytes(picture.data)
            result = defined["classify"](network, tmp_path / "picture", 3)
            found = {row["label"]: row["confidence"] for row in result["labels"]}
            # Exact labels: an escape of the text would be another label.
            assert [found[label] for label in LABELS] == pytest.approx([*expected], abs=1e-5), case
        verdict = classify(source.saved, picture.rgb).ood.to_dict()  # of the last picture
        assert result["outside"] == pytest.approx(verdict, abs=1e-5), case


def test_the_scripts_see_odd_pictures_as_the_app_does(scripts, odd_pictures, tmp_path):
    for case in (CASES[0], CASES[2], CASES[4]):
        source, defined, _ = scripts[case]
        for picture in odd_pictures:
            (tmp_path / "picture").write_bytes(picture.data)
            seen = np.asarray(defined["read_picture"](tmp_path / "picture"))
            expected = source.preprocessing.fit_picture(picture.rgb)
            np.testing.assert_array_equal(seen, expected, picture.name)


def test_the_scripts_are_short_and_as_ruff_formats_them(scripts):
    lengths = {case: len(file.read_text().splitlines()) for case, (_, _, file) in scripts.items()}
    assert {case: n for case, n in lengths.items() if n > 99} == {}
    files = [file for _, _, file in scripts.values()]
    for file in files:  # an escape is in the quotes that Python chooses
        file.write_text(file.read_text().replace(ascii(LABELS[2]), '"cat"'))
    ruff = [sys.executable, "-m", "ruff"]
    config = ["--config", REPOSITORY / "pyproject.toml"]
    # Types are left out for the reader; a picture may fail in any way.
    for options in (["format", "--diff"], ["check", "--ignore", "ANN,BLE"]):
        done = subprocess.run([*ruff, *options, *config, *files], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_an_export_is_a_script_that_prints_what_the_command_line_prints(
    finished, colours, tmp_path, picture_files, capsys, monkeypatch
):
    folder = tmp_path / "out"
    exported = export_run(finished, folder, "script", Paths(tmp_path, colours, tmp_path))
    names = ["classify.py", "description.json", "parity.json", "weights.pt"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(exported.files) == names
    assert exported.parity.passed
    assert "train.py is not offered" in exported.notes[0]
    assert exported.notes[1] == "weights.pt holds the weights in float16."
    done = run_bare(folder / CLASSIFY, *picture_files)
    capsys.readouterr()
    code = main(["classify", str(finished.path), *map(str, picture_files), "--json"])
    assert done.returncode == code == 1  # one of the files is no picture
    printed = zip(done.stdout.splitlines(), capsys.readouterr().out.splitlines(), strict=True)
    for line, app in ((json.loads(own), json.loads(of_app)) for own, of_app in printed):
        app.pop("fit", None)
        assert line.keys() == app.keys()
        assert line["file"] == app["file"]
        if "error" not in app:
            assert line["labels"] == [
                {"label": row["label"], "confidence": pytest.approx(row["confidence"], abs=0.01)}
                for row in app["labels"]
            ]
            assert line["outside"] == pytest.approx(app["outside"], abs=0.01)
    monkeypatch.setattr(sys, "argv", [CLASSIFY])
    with pytest.raises(SystemExit) as refused:
        runpy.run_path(str(folder / CLASSIFY), run_name="__main__")
    assert refused.value.code == 2


def run_bare(script, *arguments):
    """Run a script with torch and pillow alone."""
    command = [sys.executable, "-c", BARE, str(script), *map(str, arguments)]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=90)


def test_weights_are_float32_where_float16_answers_differently(
    finished, colours, tmp_path, monkeypatch
):
    measured = []

    def compare(job, source, predict):
        measured.append(torch.load(job.folder / WEIGHTS)["0.weight"].dtype)
        return Parity(1, "one picture", 1.0, 0.02 if len(measured) == 1 else 0.0, 0.0)

    monkeypatch.setattr(formats, "compare", compare)
    monkeypatch.setattr(script, "script_answers", nullcontext)
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "trained.pt").touch()  # of an earlier export, whose train.py has run
    exported = export_run(finished, folder, "script", Paths(tmp_path, colours, tmp_path))
    assert not (folder / "trained.pt").exists()
    assert measured == [torch.float16, torch.float32]
    assert exported.notes[1] == "weights.pt holds the weights in float32."


@pytest.mark.parametrize(
    ("reader", "settings"),
    [
        ("shapes10", {"train_images": 400, "image_size": 16, "cutout": 3, "nesterov": False}),
        (
            "arrays",
            {
                **{"model": "plain8", "batch_size": 8, "grow_from": 0.7, "flip": False},
                **{"schedule": "one-cycle", "warmup_epochs": 0.5, "stratify": False},
            },
        ),
    ],
)
def test_the_losses_of_train_py_are_those_of_the_run(
    reader, settings, colours, tmp_path, monkeypatch, capsys
):
    dataset = "shapes10" if reader == "shapes10" else "colours"
    common = {"model": "resnet8", "optimizer": "sgd", "dataset": dataset, "peak_lr": 0.1}
    run = finished_run(tmp_path, colours, **{**common, "epochs": 2, **settings})
    steps = [event.loss for event in run.log().read()[0] if event.kind == "step"][:STEPS]
    source = load_source(run)
    files, (note,) = write_script(source, tmp_path)
    assert ("train.py" in files, "shapes10.py" in files) == (True, reader == "shapes10")
    assert note.startswith("train.py repeats the training")
    train = str(tmp_path / "train.py")
    if reader == "shapes10":  # in a process of its own: it imports a file beside it
        done = subprocess.run(
            [sys.executable, train], cwd="/", capture_output=True, text=True, timeout=90
        )
        assert done.returncode == 0, done.stderr
        printed = done.stdout
    else:
        monkeypatch.setattr(sys, "argv", [train, str(colours / "colours")])
        runpy.run_path(train, run_name="__main__")
        printed = capsys.readouterr().out
    found = [float(loss) for loss in re.findall(r"step \d+: loss (\S+)", printed)]
    assert len(steps) == STEPS
    assert found[:STEPS] == pytest.approx(steps, abs=1e-4)
    assert "test accuracy" in printed
    # What it has learned can take the place of weights.pt.
    weights = torch.load(tmp_path / "trained.pt", weights_only=True)
    runpy.run_path(str(tmp_path / CLASSIFY))["build_network"]().load_state_dict(weights)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, ""),
        ({"optimizer": "adamw"}, "it is for resnetN and plainN"),
        ({"model": "resnet18"}, "it is for resnetN and plainN"),
        ({"ema_decay": 0.9}, "it has no setting ema_decay, which this run uses"),
    ],
)
def test_train_py_is_offered_for_plain_recipes(settings, reason):
    source = source_of(CASES[0])
    config = make_config({"model": "plain20", "optimizer": "sgd", **settings})
    found = why_not_offered(replace(source, config=config))
    assert found.startswith(reason)
    assert bool(found) == bool(reason)
