"""Residual blocks and shortcuts."""

import pytest
import torch
from torch import nn

from resnet_demo.models.blocks import BasicBlock, Bottleneck
from resnet_demo.models.layers import LayerOptions, Padding


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
