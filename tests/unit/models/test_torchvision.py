"""torchvision's networks as the oracle: same weights, same logits."""

import re

import pytest
import torch
import torchvision

from resnet_demo.models import build_model
from resnet_demo.models.measure import count_parameters

RENAMED = (
    (r"^stem\.(conv|bn)\.", r"\g<1>1."),
    (r"^stages\.0", "layer1"), (r"^stages\.1", "layer2"),
    (r"^stages\.2", "layer3"), (r"^stages\.3", "layer4"),
    (r"shortcut\.conv", "downsample.0"), (r"shortcut\.bn", "downsample.1"),
    (r"^head", "fc"),
)  # fmt: skip


def torchvision_name(name):
    for ours, theirs in RENAMED:
        name = re.sub(ours, theirs, name)
    return name


def is_conv_bias(name):
    return name.endswith(".bias") and "conv" in name


def take_weights(model, reference):
    """Copy every tensor; biases that torchvision's convolutions have not become zero."""
    theirs = reference.state_dict()
    ours = {
        name: torch.zeros_like(tensor) if is_conv_bias(name) else theirs.pop(torchvision_name(name))
        for name, tensor in model.state_dict().items()
    }
    assert not theirs
    model.load_state_dict(ours)


def reference_network(name, num_classes):
    """With running statistics as a trained network has them, so that BatchNorm does something."""
    torch.manual_seed(0)
    network = getattr(torchvision.models, name)(weights=None, num_classes=num_classes).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
            torch.nn.init.uniform_(module.weight, 0.5, 1)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    return network


@torch.inference_mode()
def largest_difference(model, reference, size):
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    return (model.eval()(images) - reference(images)).abs().max().item()


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_imagenet_resnet_is_torchvision_s(name):
    model, reference = build_model(name, 1000, stem="imagenet"), reference_network(name, 1000)
    assert count_parameters(model) == count_parameters(reference)
    take_weights(model, reference)
    assert largest_difference(model, reference, size=96) < 1e-4


def test_article_without_its_biases_is_torchvision_s_resnet34():
    model, reference = build_model("resnet34-article"), reference_network("resnet34", 10)
    take_weights(model, reference)
    assert largest_difference(model, reference, size=224) < 1e-4
