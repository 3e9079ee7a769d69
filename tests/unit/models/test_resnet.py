"""torchvision's networks as reference: same weights, same logits."""

import re

import pytest
import torch
import torchvision

from resnet_demo.models import build_model
from resnet_demo.models.measure import count_parameters

TORCHVISION_NAMES = (
    (r"^stem\.(conv|bn)\.", r"\g<1>1."),
    (r"^stages\.0", "layer1"),
    (r"^stages\.1", "layer2"),
    (r"^stages\.2", "layer3"),
    (r"^stages\.3", "layer4"),
    (r"shortcut\.conv", "downsample.0"),
    (r"shortcut\.bn", "downsample.1"),
    (r"^head", "fc"),
)


def torchvision_name(name):
    for ours, theirs in TORCHVISION_NAMES:
        name = re.sub(ours, theirs, name)
    return name


def is_conv_bias(name):
    return name.endswith(".bias") and "conv" in name


def copy_weights(model, reference):
    """Copy every tensor; biases that torchvision does not have become zero."""
    theirs = reference.state_dict()
    ours = {
        name: torch.zeros_like(tensor) if is_conv_bias(name) else theirs.pop(torchvision_name(name))
        for name, tensor in model.state_dict().items()
    }
    assert not theirs
    model.load_state_dict(ours)


def reference_network(name, num_classes):
    """Return torchvision's network with random running statistics, so that BatchNorm matters."""
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
def test_an_imagenet_resnet_computes_the_same_as_torchvision(name):
    model, reference = build_model(name, 1000, stem="imagenet"), reference_network(name, 1000)
    assert count_parameters(model) == count_parameters(reference)
    copy_weights(model, reference)
    assert largest_difference(model, reference, size=96) < 1e-4


def test_the_article_with_zero_biases_is_torchvisions_resnet34():
    model, reference = build_model("resnet34-article"), reference_network("resnet34", 10)
    copy_weights(model, reference)
    assert largest_difference(model, reference, size=224) < 1e-4
