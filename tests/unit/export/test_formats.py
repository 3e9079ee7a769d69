"""Exports into a folder, and their comparison with the app."""

import json
import re
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from resnet_demo.data.pictures import decode_picture
from resnet_demo.errors import ConfigError, DemoError, NotFoundError, StoppedError
from resnet_demo.export import formats
from resnet_demo.export.formats import export_run, parity_text
from resnet_demo.export.onnx_file import write_onnx
from resnet_demo.export.parity import (
    ODD_KINDS,
    SIZES,
    app_answers,
    measure_parity,
    parity_pictures,
)
from resnet_demo.export.source import load_source
from resnet_demo.inference.classifier import Classifier
from resnet_demo.paths import REPOSITORY, Paths
from resnet_demo.runs.store import Run


@pytest.fixture
def paths(colours, tmp_path):
    return Paths(tmp_path / "runs", colours, tmp_path / "shipped")


@pytest.fixture(scope="session")
def source(finished):
    return load_source(finished)


def test_an_onnx_export_is_one_file_that_answers_as_the_app_with_its_proof(
    finished, paths, tmp_path
):
    folder, steps = tmp_path / "out", []
    for _ in range(2):  # the second replaces the first
        exported = export_run(
            finished, folder, "onnx", paths, on_progress=lambda *step: steps.append(step)
        )
    assert sorted(file.name for file in folder.iterdir()) == ["mine.onnx", "parity.json"]
    assert exported.files == ["mine.onnx", "parity.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    stored = json.loads((folder / "parity.json").read_text())
    assert stored == exported.parity.to_dict()
    assert (stored["pictures"], stored["passed"]) == (60, True)
    assert stored["origin"] == "30 test pictures of colours at twenty sizes, and 30 odd ones"
    assert steps[-1] == ("comparing with the app", 60, 60)
    session = onnxruntime.InferenceSession(folder / "mine.onnx")
    picture = np.random.default_rng(0).integers(0, 256, (31, 57, 3), dtype=np.uint8)
    found = session.run(["probabilities"], {"image": picture[None]})[0][0]
    expected = {row["label"]: row["confidence"] for row in answer(finished, picture)}
    labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
    assert dict(zip(labels, found, strict=True)) == pytest.approx(expected, abs=1e-3)


def test_the_example_in_the_docs_needs_neither_this_app_nor_torch(source, tmp_path):
    text = (REPOSITORY / "docs" / "export.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    (tmp_path / write_onnx(source, tmp_path)).rename(tmp_path / "my-run.onnx")
    rgb = np.full((50, 70, 3), (30, 200, 40), np.uint8)
    Image.fromarray(rgb).save(tmp_path / "cat.jpg", quality=95, subsampling=0)
    code += "import sys\nprint(sys.modules.keys() & {'torch', 'resnet_demo'})"
    command = [sys.executable, "-P", "-c", code]
    printed = subprocess.check_output(command, cwd=tmp_path, text=True, env={"PATH": ""})
    label, confidence, modules = printed.split()
    first = answer(source.run, decode_picture(tmp_path / "cat.jpg"))[0]
    assert (label, modules) == (first["label"], "set()")
    assert float(confidence) == pytest.approx(first["confidence"], abs=1e-4)


def answer(run, picture):
    return Classifier.load(run).classify(picture).labels


def test_the_pictures_are_of_all_sizes_and_kinds(source, paths):
    pictures = list(parity_pictures(source, paths))
    sizes = [picture.rgb.shape[1::-1] for picture in pictures[: -len(ODD_KINDS)]]
    assert set(sizes) == set(SIZES)
    assert len(ODD_KINDS) == 30
    tall, upright = (
        next(p.rgb for p in pictures if p.name == f"turned by EXIF, {tag}") for tag in (6, 3)
    )
    assert (tall.shape, upright.shape) == ((180, 120, 3), (120, 180, 3))


def test_the_apps_answers_are_those_of_its_classifier(source, finished, paths):
    pictures = list(parity_pictures(source, paths))[::7]
    for picture, probabilities in zip(pictures, app_answers(source, pictures), strict=True):
        rows = {row["label"]: row["confidence"] for row in answer(finished, picture.rgb)}
        expected = [rows[label] for label in source.labels]
        np.testing.assert_allclose(probabilities, expected, atol=1e-6)


def test_without_the_dataset_generated_pictures_serve_and_the_result_says_so(
    source, paths, tmp_path
):
    pictures = parity_pictures(source, Paths(tmp_path, tmp_path / "empty"))
    assert len(pictures) == 230
    expected = "generated and odd pictures; the images of colours are not on this machine"
    assert pictures.origin == expected


def test_agreement_and_differences_are_counted(source, paths):
    pictures = parity_pictures(source, paths)

    def predict(chunk):
        right = app_answers(source, chunk)
        wrong = [picture.name == "noise" for picture in chunk]
        return np.where(np.array(wrong)[:, None], np.roll(right, 1, axis=1), right)

    parity = measure_parity(source, predict, pictures)
    assert (parity.agreement, parity.median) == (59 / 60, 0)
    assert parity.largest > 0.01
    assert not parity.passed
    nothing = measure_parity(source, lambda chunk: app_answers(source, chunk) * np.nan, pictures)
    assert not nothing.passed


def test_an_export_that_answers_differently_or_is_stopped_leaves_nothing(
    finished, paths, tmp_path, monkeypatch
):
    def stop(*_):
        raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        export_run(finished, tmp_path / "out", "onnx", paths, on_progress=stop)
    monkeypatch.setattr("resnet_demo.export.parity.MAX_DIFFERENCE", -1.0)
    with pytest.raises(DemoError, match="answers differently from the app and is not kept: the"):
        export_run(finished, tmp_path / "out", "onnx", paths)
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_found_before_anything_is_written(finished, paths, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ConfigError, match="DIR must be a folder that is new, empty, or holds"):
        export_run(finished, tmp_path, "onnx", paths)
    with pytest.raises(ConfigError, match=r"format must be one of .*onnx.*, got 'onxx'"):
        export_run(finished, tmp_path / "out", "onxx", paths)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_bytes((finished.path / "config.json").read_bytes())
    with pytest.raises(NotFoundError, match="has no weights yet"):
        export_run(Run(tmp_path / "empty"), tmp_path / "out", "onnx", paths)
    assert not (tmp_path / "out").exists()
    assert set(formats.FORMATS) == set(formats.WRITTEN) == set(formats.EXPORTERS)


def test_the_comparison_is_one_sentence():
    compared = {
        "pictures": 1030,
        "origin": "1,000 test pictures",
        "agreement": 1.0,
        "largest": 0.00412,
        "median": 0.00031,
    }
    assert parity_text(compared) == (
        "Compared with the app on 1,030 pictures (1,000 test pictures): the same class for all; "
        "probabilities differ by at most 0.0041, in the median by 0.0003."
    )
    close = {**compared, "agreement": 0.9991, "largest": 1e-6, "median": 0.0}
    assert parity_text(close).endswith(
        "the same class for 99.91 %; probabilities differ by less than 0.0001."
    )
