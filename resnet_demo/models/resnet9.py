"""ResNet-9: the small residual network of cifar10-fast (David Page, 2018) and DAWNBench."""

from collections.abc import Sequence

from torch import Tensor, nn

from resnet_demo.models.layers import Layers, Network, he_init

WIDTHS = (16, 48, 96, 192)  # a quarter of his and less: minutes on a CPU


class Residual(nn.Module):
    """x plus two convolutions of it; the last ReLU comes before the sum, as in cifar10-fast.

    (B, C, H, W) -> (B, C, H, W)
    """

    def __init__(self, channels: int, layers: Layers) -> None:
        super().__init__()
        self.conv1 = conv_norm(channels, channels, layers)
        self.conv2 = conv_norm(channels, channels, layers)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x + self.conv2(self.conv1(x))


class ResNet9(Network):
    """Eight 3x3 convolutions, two pairs of them residual, and a linear layer.

    The original ends in a max-pool and a fixed scale of the logits; the mean instead gives class
    activation maps. widths: channels after the stem and each of the three pools.
    """

    def __init__(self, num_classes: int, layers: Layers, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.prep = conv_norm(3, first, layers)
        self.layer1 = conv_norm(first, second, layers, pool=True)
        self.residual1 = Residual(second, layers)
        self.layer2 = conv_norm(second, third, layers, pool=True)
        self.layer3 = conv_norm(third, fourth, layers, pool=True)
        self.residual3 = Residual(fourth, layers)
        self.head = nn.Linear(fourth, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, widths[3], H/8, W/8), rounded down."""
        x = self.residual1(self.layer1(self.prep(x)))
        return self.residual3(self.layer3(self.layer2(x)))


def conv_norm(c_in: int, c_out: int, layers: Layers, pool: bool = False) -> nn.Sequential:
    """3x3 convolution, BatchNorm, ReLU: (B, c_in, H, W) -> (B, c_out, H, W), or halved by a pool.

    The max-pool stands right after the convolution, where BatchNorm and ReLU then have a quarter
    of the pixels left to do.
    """
    layer = nn.Sequential()
    layer.add_module("conv", layers.conv(c_in, c_out, 3))
    if pool:
        layer.add_module("pool", nn.MaxPool2d(2))
    layer.add_module("bn", layers.norm(c_out))
    layer.add_module("relu", nn.ReLU())
    return layer


def resnet9(num_classes: int, *, batch_norm: bool) -> ResNet9:
    """He's first weights instead of PyTorch's."""
    model = ResNet9(num_classes, Layers(batch_norm))
    he_init(model)
    return model
