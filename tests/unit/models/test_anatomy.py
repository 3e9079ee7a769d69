"""Shapes and counts inside blocks and networks."""

from itertools import product

import pytest
import torch

from resnet_demo.errors import ConfigError
from resnet_demo.models.anatomy import (
    BLOCKS,
    SHORTCUTS,
    block_anatomy,
    block_source,
    network_anatomy,
)
from resnet_demo.models.layers import LayerOptions
from resnet_demo.models.measure import count_model
from resnet_demo.models.zoo import build_model
from tests.unit.models.test_zoo import KINDS

SHAPES = list(product(BLOCKS, SHORTCUTS, (16, 64), (16, 32), (1, 2), (8, 15)))


def build_block(kind, c_in, width, stride, shortcut):
    way = "padding" if shortcut == "identity" else shortcut
    return BLOCKS[kind](c_in, width, stride, LayerOptions(shortcut=way))


@pytest.mark.parametrize(("kind", "shortcut", "c_in", "width", "stride", "side"), SHAPES)
def test_the_anatomy_of_a_block_agrees_with_the_block(kind, shortcut, c_in, width, stride, side):
    c_out = width * BLOCKS[kind].expansion
    if shortcut == "identity" and (stride, c_in) != (1, c_out):
        with pytest.raises(ConfigError, match=f"turns {c_in} channels into {c_out} at stride"):
            block_anatomy(kind, c_in, width, stride, shortcut, side)
        return
    if shortcut == "padding" and c_in > c_out:
        with pytest.raises(
            ConfigError, match=f"padding can only add channels, .* turns {c_in} channels"
        ):
            block_anatomy(kind, c_in, width, stride, shortcut, side)
        return
    anatomy = block_anatomy(kind, c_in, width, stride, shortcut, side)
    block = build_block(kind, c_in, width, stride, shortcut)
    x = torch.rand(2, c_in, side, side)
    assert anatomy.output == tuple(block(x).shape[1:])
    assert anatomy.branch[-1].shape == tuple(block.branch(x).shape[1:]) == anatomy.output
    assert anatomy.input == (c_in, side, side)
    assert (anatomy.shortcut is None) == (block.shortcut is None)
    if anatomy.shortcut:
        assert anatomy.shortcut[-1].shape == anatomy.output
    assert anatomy.parameters == sum(p.numel() for p in block.parameters())
    assert anatomy.parameters == sum(
        layer.parameters for layer in anatomy.branch + (anatomy.shortcut or [])
    )


def test_a_basic_block_agrees_with_a_calculation_by_hand():
    anatomy = block_anatomy("basic", 16, 32, 2, "projection", 32)
    assert [layer.name for layer in anatomy.branch] == ["conv1", "bn1", "conv2", "bn2"]
    assert [layer.description for layer in anatomy.shortcut] == [
        "1×1 convolution, stride 2",
        "BatchNorm",
    ]
    assert anatomy.branch[0].macs == 9 * 16 * 32 * 16 * 16
    assert anatomy.macs == (9 * 16 + 9 * 32 + 16) * 32 * 16 * 16
    assert (
        block_anatomy("basic", 16, 16, 1, "identity", 32).shortcut == []
    )  # the input is added unchanged


@pytest.mark.parametrize("name", KINDS)
def test_the_parts_of_a_network_add_up(name):
    parts, model = network_anatomy(name, 32), build_model(name)
    whole = count_model(model, 32)
    assert sum(part.parameters for part in parts) == whole.parameters
    assert sum(part.macs for part in parts) == whole.macs
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert parts[-1].shape == (10,)
    assert parts[-2].shape == tuple(model.eval().features(torch.rand(1, 3, 32, 32)).shape[1:])


@pytest.mark.parametrize(("name", "blocks"), [("resnet20", 9), ("plain56", 27), ("resnet50", 16)])
def test_blocks_are_counted(name, blocks):
    assert sum(part.blocks for part in network_anatomy(name, 32)) == blocks


@pytest.mark.parametrize("kind", BLOCKS)
def test_the_shown_code_is_the_code_that_runs(kind):
    code = block_source(kind)
    assert f"class {BLOCKS[kind].__name__}(Block):" in code
    assert "y = y + self.shortcut(x)" in code
    compile(code, kind, "exec")
