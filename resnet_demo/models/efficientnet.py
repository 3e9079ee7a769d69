"""EfficientNet-Lite0, small and accurate: inverted residual blocks of depthwise convolutions.

EfficientNet-B0 (Tan & Le 2019, "EfficientNet", table 1) without squeeze-and-excite and with ReLU6
in place of Swish. Its blocks are those of MobileNetV2 (Sandler et al. 2018). Weights learned on
ImageNet come with the app: `models/pretrained.py`.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from resnet_demo.models.layers import Network, he_init

STEM_WIDTH, FEATURES = 32, 1280
# Rows 2 to 8 of table 1: blocks, kernel, stride of the first block, expansion, output channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
EPSILON = 1e-3  # of BatchNorm; the weights were learned with it


class SameConv2d(nn.Conv2d):
    """A convolution with the padding that TensorFlow calls SAME, as the weights need it.

    (B, c_in, H, W) -> (B, c_out, H/stride, W/stride), rounded up. At stride 2 and an even side, the
    right and lower edges get one pixel more than the others; PyTorch's padding is symmetric.
    """

    def __init__(
        self, c_in: int, c_out: int, size: int, stride: int, groups: int, bias: bool
    ) -> None:
        # At stride 1 SAME is symmetric: the convolution does it itself, without a copy of the map.
        padding = size // 2 if stride == 1 else 0
        super().__init__(c_in, c_out, size, stride, padding, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of the padded input."""
        if self.stride[0] > 1:
            top, bottom = self.edges(x.shape[2])
            left, right = self.edges(x.shape[3])
            x = F.pad(x, (left, right, top, bottom))
        return super().forward(x)

    def edges(self, side: int) -> tuple[int, int]:
        """Return the pixels to add before and after a side of that many pixels."""
        stride, size = self.stride[0], self.kernel_size[0]
        outputs = -(-side // stride)  # rounded up, as TensorFlow does
        missing = max(0, (outputs - 1) * stride + size - side)
        return missing // 2, missing - missing // 2


class InvertedResidual(nn.Module):
    """A 1x1 expansion, a depthwise convolution and a 1x1 projection without activation.

    (B, c_in, H, W) -> (B, c_out, H/stride, W/stride), rounded up. The input is added where the
    shape stays. "Inverted": the branch is wider than what the shortcut carries.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        size: int,
        stride: int,
        expansion: int,
        batch_norm: bool,
    ) -> None:
        super().__init__()
        width = c_in * expansion
        self.branch = nn.Sequential()
        # The first stage widens nothing: a 1x1 convolution there would only cost time.
        if expansion > 1:
            self.branch.add_module("expand", conv_norm(c_in, width, 1, batch_norm=batch_norm))
        self.branch.add_module(
            "depthwise", conv_norm(width, width, size, stride, width, batch_norm=batch_norm)
        )
        # A ReLU on the few channels of the output would lose information (Sandler et al., 3.2).
        self.branch.add_module(
            "project", conv_norm(width, c_out, 1, activation=False, batch_norm=batch_norm)
        )
        # MobileNetV2 has no projection shortcuts: without the same shape nothing is added.
        self.has_shortcut = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """Return the branch, plus the input where the shape stays."""
        y = self.branch(x)
        return x + y if self.has_shortcut else y


def conv_norm(
    c_in: int,
    c_out: int,
    size: int,
    stride: int = 1,
    groups: int = 1,
    *,
    activation: bool = True,
    batch_norm: bool,
) -> nn.Sequential:
    """Return convolution, BatchNorm, ReLU6: (B, c_in, H, W) -> (B, c_out, H/stride, W/stride)."""
    layer = nn.Sequential()
    # BatchNorm's shift takes the place of the bias.
    layer.add_module("conv", SameConv2d(c_in, c_out, size, stride, groups, bias=not batch_norm))
    # Identity keeps the name, so that weights and hooks find the same layers either way.
    layer.add_module("bn", nn.BatchNorm2d(c_out, EPSILON) if batch_norm else nn.Identity())
    if activation:
        layer.add_module("relu", nn.ReLU6())
    return layer


class EfficientNetLite(Network):
    """A stem, seven stages of inverted residual blocks, a 1x1 convolution, a linear layer.

    The original's dropout and stochastic depth are left out: they act in training from scratch on
    ImageNet only.
    """

    def __init__(self, num_classes: int, batch_norm: bool) -> None:
        super().__init__()
        self.stem = conv_norm(3, STEM_WIDTH, 3, 2, batch_norm=batch_norm)
        self.stages = nn.Sequential()
        c_in = STEM_WIDTH
        for depth, size, first_stride, expansion, c_out in STAGES:
            stage = nn.Sequential()
            for stride in [first_stride] + [1] * (depth - 1):
                stage.append(InvertedResidual(c_in, c_out, size, stride, expansion, batch_norm))
                c_in = c_out
            self.stages.append(stage)
        self.last = conv_norm(c_in, FEATURES, 1, batch_norm=batch_norm)
        self.stage_names = ("stem", *(f"stages.{number}" for number in range(len(STAGES))), "last")
        self.head = nn.Linear(FEATURES, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the last map: (B, 3, H, W) -> (B, 1280, H/32, W/32), rounded up."""
        return self.last(self.stages(self.stem(x)))


def efficientnet_lite0(num_classes: int, *, batch_norm: bool) -> EfficientNetLite:
    """Return EfficientNet-Lite0: 4.7 million parameters at 1000 classes."""
    model = EfficientNetLite(num_classes, batch_norm)
    # For training from scratch; weights from ImageNet replace all of it.
    he_init(model)
    return model
