"""The reference network for comparing machines: a fixed ResNet-9, separate from `models`.

The architecture is that of cifar10-fast (David Page 2018, "How to Train Your ResNet"), with the
pooling directly after the convolution. Do not change it: REFERENCE_RATE was measured with these
layers in this order.
"""

from torch import Tensor, nn

from resnet_demo.models.layers import LayerOptions, Network, he_init

WIDTHS = (32, 64, 128, 256)  # channels after the stem and each of the three pools


class Residual(nn.Module):
    """Two convolutions with a shortcut: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int, layers: LayerOptions) -> None:
        super().__init__()
        self.conv1 = conv_norm(channels, channels, layers)
        self.conv2 = conv_norm(channels, channels, layers)

    def forward(self, x: Tensor) -> Tensor:
        """Add the convolutions of x to x."""
        return x + self.conv2(self.conv1(x))


class ReferenceNetwork(Network):
    """Eight 3x3 convolutions, two pairs of them residual, and a linear layer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        layers, (first, second, third, fourth) = LayerOptions(), WIDTHS
        self.body = nn.Sequential(
            conv_norm(3, first, layers),
            conv_norm(first, second, layers, pool=True),
            Residual(second, layers),
            conv_norm(second, third, layers, pool=True),
            conv_norm(third, fourth, layers, pool=True),
            Residual(fourth, layers),
        )
        self.head = nn.Linear(fourth, num_classes)
        he_init(self)

    def features(self, x: Tensor) -> Tensor:
        """Compute the feature map: (B, 3, H, W) -> (B, 256, H/8, W/8), rounded down."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (B, num_classes)."""
        return self.head(self.features(x).mean(dim=(2, 3)))


def conv_norm(c_in: int, c_out: int, layers: LayerOptions, pool: bool = False) -> nn.Sequential:
    """Build 3x3 convolution, BatchNorm, ReLU: (B, c_in, H, W) -> (B, c_out, H, W).

    pool: halve H and W with a max-pool after the convolution.
    """
    layer = nn.Sequential()
    layer.add_module("conv", layers.conv(c_in, c_out, 3))
    if pool:
        layer.add_module("pool", nn.MaxPool2d(2))
    layer.add_module("bn", layers.norm(c_out))
    layer.add_module("relu", nn.ReLU())
    return layer
