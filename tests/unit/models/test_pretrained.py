"""Weights learned on ImageNet, against the networks that they were made for."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

from resnet_demo.architectures import PRETRAINED
from resnet_demo.data.download import DownloadTimeouts
from resnet_demo.data.preprocess import Preprocessing
from resnet_demo.errors import ConfigError, DamagedError, DemoError, NotFoundError, StoppedError
from resnet_demo.models import build_model, pretrained
from resnet_demo.models.description import model_description
from resnet_demo.models.efficientnet import STAGES
from resnet_demo.models.pretrained import (
    EFFICIENTNET_DEPTHS,
    WEIGHTS,
    download_weights,
    file_name,
    imagenet_weights,
    load_pretrained,
    own_names,
    read_weights,
    weights_available,
    weights_path,
)
from tests.conftest import REPOSITORY
from tests.loopback import serve
from tests.unit.models.test_resnet import largest_difference, reference_network

EASY = DownloadTimeouts(slow_bytes_per_s=0, pause_s=0.01)  # a busy machine is slow
PICTURES = REPOSITORY / "resnet_demo" / "ui" / "classify" / "pictures"


@pytest.fixture(scope="module")
def reference():
    """Return the reference implementation with the published weights."""
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(
        torch.load(weights_path("efficientnet-lite0", PICTURES), weights_only=True)
    )
    return model.eval()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return our network with the published weights."""
    model = build_model("efficientnet-lite0", 1000)
    load_pretrained("efficientnet-lite0", model, tmp_path_factory.mktemp("weights"))
    return model.eval()


def pictures():
    """Return the example photographs of the page as the network's input."""
    weights = WEIGHTS["efficientnet-lite0"]
    images = [
        np.asarray(Image.open(path).convert("RGB").resize((224, 224)))
        for path in sorted(PICTURES.glob("*.jpg"))
    ]
    return Preprocessing(224, 224, weights.mean, weights.std).prepare(
        torch.from_numpy(np.stack(images))
    )


def test_the_table_knows_every_network_with_weights():
    assert WEIGHTS.keys() == set(PRETRAINED)
    assert tuple(depth for depth, *_ in STAGES) == EFFICIENTNET_DEPTHS


@torch.inference_mode()
def test_efficientnet_answers_as_the_reference_does(model, reference):
    noise = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for images in (noise, pictures()):
        torch.testing.assert_close(model(images), reference(images), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_efficientnet_recognizes_photographs_on_its_own_scale(model):
    weights = WEIGHTS["efficientnet-lite0"]
    assert torch.tensor([0, 127, 255]).sub(127).div(128).tolist() == pytest.approx(
        [(x / 255 - weights.mean[0]) / weights.std[0] for x in (0, 127, 255)]
    )
    names = [path.stem for path in sorted(PICTURES.glob("*.jpg"))]
    answers = dict(zip(names, model(pictures()).argmax(1).tolist(), strict=True))
    assert answers["airplane"] in (404, 895, 908)  # airliner, warplane, wing
    assert answers["cat"] in (281, 282, 283, 284, 285)  # the five cats of ImageNet
    assert answers["coffee"] in (504, 967, 968, 969)  # mug, espresso, cup, eggnog


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_a_resnet_with_torchvisions_weights_answers_as_torchvision_does(
    name, tmp_path, monkeypatch
):
    reference = reference_network(name, 1000)
    offer(name, reference.state_dict(), tmp_path, monkeypatch)
    model = build_model(name, 1000, stem="imagenet")
    load_pretrained(name, model, tmp_path)
    assert largest_difference(model, reference, size=96) < 1e-4


def offer(name, values, folder, monkeypatch):
    """Store these values as the published weights of a network."""
    path = folder / WEIGHTS[name].file
    torch.save(values, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    known = replace(WEIGHTS[name], sha256=digest, size=path.stat().st_size)
    monkeypatch.setitem(pretrained.WEIGHTS, name, known)


def test_another_number_of_classes_keeps_the_new_head(tmp_path):
    torch.manual_seed(0)
    model = build_model("efficientnet-lite0", 3)
    before = model.head.weight.clone()
    load_pretrained("efficientnet-lite0", model, tmp_path)
    assert torch.equal(model.head.weight, before)
    published = read_weights("efficientnet-lite0", tmp_path)
    assert torch.equal(model.stem.conv.weight, published["_conv_stem.weight"])
    last = "stages.6.0.branch.project.bn.running_var"
    assert torch.equal(model.state_dict()[last], published["_blocks.15._bn2.running_var"])


def test_every_tensor_of_the_file_has_one_place():
    for name in PRETRAINED:
        with torch.device("meta"):
            model = build_model(name, 1000, stem="imagenet")
        names = [file_name(own, WEIGHTS[name].names) for own in model.state_dict()]
        assert len(set(names)) == len(names)
    assert set(names) == set(reference_network("resnet50", 1000).state_dict())


def test_weights_of_another_network_are_refused(tmp_path):
    for other in ({"stem": "small"}, {"stem": "imagenet", "batch_norm": False}):
        model = build_model("resnet18", 1000, **other)
        values = reference_network("resnet18", 1000).state_dict()
        named = own_names("resnet18", model, values)
        with pytest.raises(ConfigError, match="do not fit the network"):
            pretrained.fill(model, named)


def test_missing_weights_name_the_command_that_gets_them(tmp_path):
    assert weights_available("efficientnet-lite0", tmp_path)
    assert not weights_available("resnet18", tmp_path)
    assert not weights_available("resnet9", tmp_path)
    model = build_model("resnet18", 2, stem="imagenet")
    with pytest.raises(NotFoundError, match=r"data get resnet18-weights` downloads them \(47 MB\)"):
        load_pretrained("resnet18", model, tmp_path)


def test_the_shipped_imagenet_network_has_torchvisions_classes_and_the_weights_preprocessing():
    described = model_description(REPOSITORY / "checkpoints" / "imagenet-efficientnet-lite0")
    categories = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    assert described["classes"] == categories
    assert described["sha256"] == WEIGHTS["efficientnet-lite0"].sha256
    weights = WEIGHTS["efficientnet-lite0"]
    preprocessing = Preprocessing.from_dict(described["preprocessing"])
    assert preprocessing == Preprocessing(224, 224, weights.mean, weights.std)


@pytest.fixture
def published(loopback, monkeypatch):
    """Return a function that offers bytes as resnet18's weights, through these handlers."""

    def offer_file(data, *handlers):
        remote = loopback.offer(data, *handlers, path="/" + WEIGHTS["resnet18"].file)
        known = replace(WEIGHTS["resnet18"], size=remote.size, sha256=remote.sha256)
        monkeypatch.setitem(pretrained.WEIGHTS, "resnet18", known)
        return loopback.url("/")

    return offer_file


def test_a_download_is_checked_and_leaves_only_the_file(published, tmp_path):
    data, seen = bytes(range(256)) * 400, []
    path = download_weights(
        "resnet18", tmp_path, published(data), timeouts=EASY, report=seen.append
    )
    assert path == weights_path("resnet18", tmp_path)
    assert path.read_bytes() == data
    assert [file.name for file in tmp_path.iterdir()] == [WEIGHTS["resnet18"].file]
    assert (seen[-1].done, seen[-1].total) == (len(data), len(data))
    assert seen[-1].message == "downloading from your copy"


def test_a_stopped_download_continues_where_it_was(published, loopback, tmp_path):
    data = bytes(range(256)) * 400
    mirror = published(data, serve(data, 50_000), serve(data))
    seen = []
    stops = {
        "report": seen.append,
        "should_stop": lambda: any(now.done for now in seen),
        "timeouts": replace(EASY, pause_s=5),  # the stop comes before the second request
    }
    with pytest.raises(StoppedError, match="the next download continues it"):
        download_weights("resnet18", tmp_path, mirror, **stops)
    assert not weights_available("resnet18", tmp_path)
    download_weights("resnet18", tmp_path, mirror, timeouts=EASY)
    assert loopback.ranges() == ["", "bytes=50000-"]
    assert weights_path("resnet18", tmp_path).read_bytes() == data


def test_other_bytes_than_the_published_ones_are_not_kept(published, tmp_path):
    data = bytes(range(256)) * 400
    mirror = published(data, serve(data[::-1]))
    message = "could not be downloaded from your copy: it sent other bytes than expected"
    with pytest.raises(DemoError, match=message):
        download_weights("resnet18", tmp_path, mirror, timeouts=EASY)
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_a_changed_bit_is_refused(tmp_path):
    content = bytearray(weights_path("efficientnet-lite0", tmp_path).read_bytes())
    content[-1000] ^= 1
    (tmp_path / WEIGHTS["efficientnet-lite0"].file).write_bytes(content)
    with pytest.raises(DamagedError, match="its sha256 is not the published one"):
        read_weights("efficientnet-lite0", tmp_path)


def test_networks_without_weights_are_refused():
    with pytest.raises(ConfigError, match=r"one of efficientnet-lite0, .*, got 'resnet9'"):
        imagenet_weights("resnet9")


def test_asking_for_weights_does_not_import_torch(tmp_path):
    program = (
        "import sys, pathlib, resnet_demo.models.pretrained as p;"
        f"assert p.weights_available('efficientnet-lite0', pathlib.Path({str(tmp_path)!r}));"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
