"""Residual networks of He et al. 2015: ImageNet's (section 4.1), CIFAR's (4.2), the article's."""

from collections.abc import Sequence

from torch import Tensor, nn

from resnet_demo.models.blocks import BasicBlock, Block, Bottleneck
from resnet_demo.models.layers import LayerOptions, Network, he_init

WIDTHS = (64, 128, 256, 512)  # channels of the four stages, table 1
CIFAR_WIDTHS = (16, 32, 64)


class ResNet(Network):
    """A stem, then stages of blocks; each stage but the first halves the map.

    depths: blocks in each stage; widths: their width (channels out: width x expansion).
    """

    def __init__(
        self,
        block: type[Block],
        depths: Sequence[int],
        widths: Sequence[int],
        num_classes: int,
        stem: str,
        layers: LayerOptions,
    ) -> None:
        super().__init__()
        self.stem = make_stem(stem, widths[0], layers)
        self.stages = nn.Sequential()
        c_in = widths[0]
        for number, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            strides = [1 if number == 0 else 2] + [1] * (depth - 1)
            stage = nn.Sequential()
            for stride in strides:
                stage.append(block(c_in, width, stride, layers))
                c_in = width * block.expansion
            self.stages.append(stage)
        self.stage_names = ("stem", *(f"stages.{number}" for number in range(len(depths))))
        self.head = nn.Linear(c_in, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> the last stage's map; H/8 at three stages and a small stem."""
        return self.stages(self.stem(x))


def make_stem(kind: str, width: int, layers: LayerOptions) -> nn.Sequential:
    """(B, 3, H, W) -> (B, width, H, W) for `small`, (B, width, H/4, W/4) for `imagenet`."""
    large = kind == "imagenet"
    stem = nn.Sequential()
    stem.add_module("conv", layers.conv(3, width, 7 if large else 3, 2 if large else 1))
    stem.add_module("bn", layers.norm(width))
    stem.add_module("relu", nn.ReLU())
    if large:
        stem.add_module("pool", nn.MaxPool2d(3, stride=2, padding=1))
    return stem


def resnet18(num_classes: int, *, stem: str, batch_norm: bool) -> ResNet:
    """11.7 million parameters at 1000 classes."""
    return imagenet_resnet(BasicBlock, (2, 2, 2, 2), num_classes, stem, batch_norm)


def resnet34(num_classes: int, *, stem: str, batch_norm: bool) -> ResNet:
    """21.8 million parameters at 1000 classes."""
    return imagenet_resnet(BasicBlock, (3, 4, 6, 3), num_classes, stem, batch_norm)


def resnet50(num_classes: int, *, stem: str, batch_norm: bool) -> ResNet:
    """25.6 million parameters at 1000 classes."""
    return imagenet_resnet(Bottleneck, (3, 4, 6, 3), num_classes, stem, batch_norm)


def imagenet_resnet(
    block: type[Block], depths: Sequence[int], num_classes: int, stem: str, batch_norm: bool
) -> ResNet:
    """A row of table 1, projections where the shape changes."""
    model = ResNet(block, depths, WIDTHS, num_classes, stem, LayerOptions(batch_norm))
    he_init(model)
    return model


def resnet34_article(num_classes: int, *, batch_norm: bool) -> ResNet:
    """The tutorial's ResNet-34: a bias in every convolution, PyTorch's own first weights.

    Its 7x7 average pool sees a 7x7 map at 224 pixels, so the mean over all pixels is the same;
    unlike it, the mean also works at other sizes.
    """
    layers = LayerOptions(batch_norm, biased=True)
    return ResNet(BasicBlock, (3, 4, 6, 3), WIDTHS, num_classes, "imagenet", layers)


def cifar_resnet(num_classes: int, *, depth: int, shortcut: str, batch_norm: bool) -> ResNet:
    """depth = 6n + 2: a 3x3 convolution, three stages of n blocks of two, a linear layer.

    shortcut: `padding` for resnetN, `none` for plainN. Neither has parameters: twins count alike.
    """
    blocks = (depth - 2) // 6
    layers = LayerOptions(batch_norm, shortcut)
    model = ResNet(BasicBlock, (blocks,) * 3, CIFAR_WIDTHS, num_classes, "small", layers)
    he_init(model)
    return model
