"""The ONNX file, opened by onnxruntime, against PIL and PyTorch."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from resnet_demo.config import make_config
from resnet_demo.data.pictures import FITS, fit_to_square
from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.errors import ConfigError
from resnet_demo.export import onnx_file
from resnet_demo.export.onnx_file import write_onnx
from resnet_demo.export.source import ExportSource
from resnet_demo.inference.ood import neighbour_distance
from resnet_demo.models.saved import SavedModel
from resnet_demo.models.zoo import BUILDERS, build_model
from resnet_demo.runs.store import Run

HALVES = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
NETWORKS = (  # each kind of layer and of block
    *("resnet9", "resnet11", "resnet18", "resnet50", "resnet34-article", "resnet20", "plain20"),
    *("vgg16", "efficientnet-lite0"),
)
SIZES = (
    (16, 16),
    (1, 300),
    (300, 1),
    (1, 1),
    (40, 5000),
    (47, 33),
    (99, 100),
    (24, 24),
    (375, 500),
)


def source_of(model, name, preprocessing, threshold=-1.5):
    """Return what an export needs of a network with three classes."""
    metrics = {"outside": {"threshold": threshold, "false_alarms": 0.05, "n": 9}}
    saved = SavedModel(
        model=model.eval(),
        network={"name": name, "num_classes": 3, "stem": "small", "batch_norm": True},
        classes=("ant", "bée", "<b>"),
        preprocessing=preprocessing.to_dict(),
        metrics=metrics if threshold is not None else {},
        sha256="0" * 64,
    )
    config = make_config({"model": "resnet20"})
    return ExportSource(Run(Path("/nowhere/my-run")), config, saved, "A title")


def opened(source, folder):
    """Return the written file as an onnxruntime session."""
    return onnxruntime.InferenceSession(folder / write_onnx(source, folder))


@pytest.mark.parametrize("name", NETWORKS)
@torch.inference_mode()
def test_every_network_gives_the_logits_of_pytorch(tmp_path, name):
    torch.manual_seed(0)
    model = build_model(name, 3).eval()
    for module in model.modules():  # a fresh batch norm would hide a mistake in folding it
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.uniform_(-1.5, 1.5)
            module.bias.normal_(0, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    preprocessing = Preprocessing(36, 36, *HALVES)
    images = torch.randint(0, 256, (2, 36, 36, 3), dtype=torch.uint8)
    logits = model(preprocessing.prepare(images)).double()
    session = opened(source_of(model, name, preprocessing), tmp_path)
    probabilities, energy = session.run(None, {"image": images.numpy()})
    np.testing.assert_allclose(probabilities, logits.softmax(1), atol=1e-5)
    np.testing.assert_allclose(energy, -logits.logsumexp(1), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_the_distance_to_known_images_is_in_the_file_where_the_app_warns_by_it(tmp_path):
    torch.manual_seed(0)
    preprocessing = Preprocessing(24, 24, *HALVES)
    source = source_of(build_model("resnet20", 3), "resnet20", preprocessing)
    metrics = {**source.saved.metrics, "neighbour": {"threshold": 0.2, "false_alarms": 0.05}}
    known = torch.rand(5, 64).half()
    source = replace(source, saved=replace(source.saved, metrics=metrics, known=known))
    images = torch.randint(0, 256, (2, 24, 24, 3), dtype=torch.uint8)
    session = opened(source, tmp_path)
    assert [output.name for output in session.get_outputs()] == ["probabilities", "distance"]
    assert session.get_modelmeta().custom_metadata_map["threshold"] == "0.2"
    embedded = source.saved.model.embed(preprocessing.prepare(images))
    distances = session.run(["distance"], {"image": images.numpy()})[0]
    np.testing.assert_allclose(distances, neighbour_distance(embedded, known), atol=1e-5)


def test_every_network_can_be_written(tmp_path):
    with torch.device("meta"):
        models = [build_model(name, 3) for name in BUILDERS]
    leaves = {type(m) for model in models for m in model.modules() if not list(m.children())}
    assert leaves - {torch.nn.Linear, onnx_file.SameConv2d} <= onnx_file.LAYERS.keys()


@pytest.mark.parametrize(("fit", "side"), [*((fit, 24) for fit in FITS), ("squash", 70)])
def test_pictures_become_squares_as_the_app_makes_them(tmp_path, fit, side):
    source = source_of(
        build_model("resnet20", 3), "resnet20", Preprocessing(side, side, *HALVES, fit)
    )
    model = onnx.load(tmp_path / write_onnx(source, tmp_path))
    # The network starts with the second Cast to float; what it gets are the squares.
    first = next(n for n in model.graph.node if n.op_type == "Cast" and n.attribute[0].i == 1)
    squares = onnx.helper.make_tensor_value_info(first.output[0], 1, ["N", 3, side, side])
    model.graph.output.append(squares)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    random = np.random.default_rng(0)
    for height, width in SIZES:
        pictures = random.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        found = session.run([first.output[0]], {"image": pictures})[0].transpose(0, 2, 3, 1)
        expected = np.stack([fit_to_square(picture, side, fit) for picture in pictures])
        np.testing.assert_array_equal(found, expected, str((height, width)))


@pytest.mark.parametrize(("stored", "shown"), [(16, 40), (40, 16)])
@torch.inference_mode()
def test_images_are_shown_at_the_size_of_the_training(tmp_path, stored, shown):
    torch.manual_seed(0)
    model, preprocessing = build_model("resnet20", 3).eval(), Preprocessing(stored, shown, *HALVES)
    image = torch.randint(0, 256, (1, stored, stored, 3), dtype=torch.uint8)
    expected = model(preprocessing.prepare(image)).softmax(1)
    found = opened(source_of(model, "resnet20", preprocessing), tmp_path)
    np.testing.assert_allclose(found.run(None, {"image": image.numpy()})[0], expected, atol=1e-5)


def test_labels_and_threshold_are_in_the_metadata(tmp_path):
    source = source_of(build_model("resnet20", 3), "resnet20", Preprocessing(24, 24, *HALVES))
    metadata = opened(source, tmp_path).get_modelmeta().custom_metadata_map
    assert json.loads(metadata["labels"]) == ["ant", "bée", "<b>"]
    assert json.loads(metadata["threshold"]) == -1.5
    described = json.loads(metadata["description"])
    assert described["preprocessing"] == source.saved.preprocessing
    assert (described["run"], described["title"]) == ("my-run", "A title")
    without = replace(source, saved=replace(source.saved, metrics={}))
    metadata = opened(without, tmp_path).get_modelmeta().custom_metadata_map
    assert json.loads(metadata["threshold"]) is None


def test_a_missing_package_is_named_with_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_file, "PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(ConfigError, match="pip install onnx no_such_package"):
        write_onnx(None, tmp_path)
