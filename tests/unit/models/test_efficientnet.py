"""EfficientNet-Lite0: its layers; `test_pretrained.py` compares it with another implementation."""

import pytest
import torch
import torch.nn.functional as F

from resnet_demo.models import build_model
from resnet_demo.models.efficientnet import SameConv2d
from resnet_demo.models.measure import count_parameters


def test_it_has_the_published_number_of_parameters():
    assert count_parameters(build_model("efficientnet-lite0", 1000)) == 4_652_008


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2), (1, 1)])
@pytest.mark.parametrize("side", [1, 7, 8, 15, 16])
def test_a_convolution_pads_as_tensorflow_does(size, stride, side):
    layer = SameConv2d(2, 4, size, stride, groups=2, bias=False)
    x = torch.randn(1, 2, side, side)
    # By the definition: the kernel begins at stride * i - before, and what lies outside is zero.
    outputs = -(-side // stride)
    before = max(0, (outputs - 1) * stride + size - side) // 2
    wide = F.pad(x, (before, size, before, size))
    expected = F.conv2d(wide, layer.weight, stride=stride, groups=2)[..., :outputs, :outputs]
    torch.testing.assert_close(layer(x), expected)


def test_depthwise_convolutions_begin_with_he_s_deviation_for_their_own_fan_out():
    torch.manual_seed(0)
    model = build_model("efficientnet-lite0")
    depthwise = [m.weight for m in model.modules() if isinstance(m, SameConv2d) and m.groups > 1]
    assert len(depthwise) == 16
    for weight in depthwise:
        deviation = (2 / weight[0].numel()) ** 0.5
        torch.testing.assert_close(weight.std().item(), deviation, rtol=0.2, atol=0)


def test_the_input_is_added_where_the_shape_stays():
    blocks = [block for stage in build_model("efficientnet-lite0").stages for block in stage]
    with_shortcut = [number for number, block in enumerate(blocks) if block.has_shortcut]
    assert with_shortcut == [2, 4, 6, 7, 9, 10, 12, 13, 14]
    block = blocks[2].eval()
    x = torch.randn(1, 24, 8, 8)
    torch.testing.assert_close(block(x), x + block.branch(x))
