"""Residual blocks and shortcuts, and torchvision's networks as reference: same logits."""

import re

import pytest
import torch
import torchvision
from torch import nn

from resnet_demo.models import build_model
from resnet_demo.models.layers import LayerOptions, Padding
from resnet_demo.models.measure import count_parameters
from resnet_demo.models.resnet import BasicBlock, Bottleneck

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


def test_residual_block_with_a_silent_branch_is_the_identity():
    block = BasicBlock(16, 16, stride=1)
    nn.init.zeros_(block.bn2.weight)
    x = torch.rand(2, 16, 8, 8)  # non-negative, so the last ReLU keeps it
    torch.testing.assert_close(block(x), x)


def test_bottleneck_with_a_silent_branch_is_the_identity():
    block = Bottleneck(16, 4, stride=1)
    nn.init.zeros_(block.bn3.weight)
    x = torch.rand(2, 16, 8, 8)
    torch.testing.assert_close(block(x), x)


def test_plain_block_with_a_silent_branch_outputs_zeros():
    block = BasicBlock(16, 16, layers=LayerOptions(shortcut="none"))
    nn.init.zeros_(block.bn2.weight)
    assert not block(torch.rand(2, 16, 8, 8)).any()


def test_padding_keeps_every_second_pixel_and_adds_zero_channels():
    x = torch.rand(2, 3, 5, 5)
    y = Padding(7, stride=2)(x)
    assert y.shape == (2, 7, 3, 3)
    torch.testing.assert_close(y[:, :3], x[:, :, ::2, ::2])
    assert not y[:, 3:].any()


@pytest.mark.parametrize("shortcut", ["projection", "padding", "none"])
@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("side", [8, 9])
def test_stride_halves_the_map_and_rounds_up(block, shortcut, side):
    y = block(16, 8, stride=2, layers=LayerOptions(shortcut=shortcut))(
        torch.rand(2, 16, side, side)
    )
    assert y.shape == (2, 8 * block.expansion, (side + 1) // 2, (side + 1) // 2)


def test_stride_of_a_bottleneck_is_in_its_3x3_convolution():
    block = Bottleneck(64, 32, stride=2)
    assert (block.conv1.stride, block.conv2.stride) == ((1, 1), (2, 2))


def test_shortcut_has_parameters_only_as_a_projection():
    def parameters(shortcut):
        block = BasicBlock(8, 16, stride=2, layers=LayerOptions(shortcut=shortcut))
        return sum(parameter.numel() for parameter in block.parameters())

    projection = 8 * 16 + 2 * 16  # 1x1 convolution and its BatchNorm
    assert parameters("padding") == parameters("none")
    assert parameters("projection") == parameters("none") + projection


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
