"""Residual networks of He et al. 2015, for ImageNet (4.1) and CIFAR (4.2), and the article's.

A residual block is relu(branch(x) + shortcut(x)); a plain one has no shortcut.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from resnet_demo.models.layers import STANDARD, LayerOptions, Network, he_init

WIDTHS = (64, 128, 256, 512)  # channels of the four stages, table 1
CIFAR_WIDTHS = (16, 32, 64)


class Block(nn.Module):
    """Base of both blocks: the sum at the end (He et al. 2015, eq. 1)."""

    expansion: int  # output channels per unit of width
    shortcut: nn.Module | None

    def branch(self, x: Tensor) -> Tensor:
        """Return the residual that the block learns."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(branch(x) + shortcut(x)); see the block for the shapes."""
        y = self.branch(x)
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        return F.relu(y)


class BasicBlock(Block):
    """Two 3x3 convolutions and a shortcut: (B, c_in, H, W) -> (B, width, H/stride, W/stride)."""

    expansion = 1

    def __init__(
        self, c_in: int, width: int, stride: int = 1, layers: LayerOptions = STANDARD
    ) -> None:
        super().__init__()
        self.conv1 = layers.conv(c_in, width, 3, stride)
        self.bn1 = layers.norm(width)
        self.conv2 = layers.conv(width, width, 3)
        self.bn2 = layers.norm(width)
        self.shortcut = layers.make_shortcut(c_in, width, stride)

    def branch(self, x: Tensor) -> Tensor:
        """Return the residual: (B, c_in, H, W) -> (B, width, H/stride, W/stride)."""
        # No ReLU at the end: it would make the residual non-negative, and a block could only add to
        # its input (He et al. 2016, "Identity Mappings", section 4.1).
        return self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))


class Bottleneck(Block):
    """1x1, 3x3 and 1x1 convolutions: a deeper block at the cost of a BasicBlock.

    He et al. 2015, fig. 5: (B, c_in, H, W) -> (B, 4 width, H/stride, W/stride).
    """

    expansion = 4

    def __init__(
        self, c_in: int, width: int, stride: int = 1, layers: LayerOptions = STANDARD
    ) -> None:
        super().__init__()
        c_out = width * self.expansion
        self.conv1 = layers.conv(c_in, width, 1)
        self.bn1 = layers.norm(width)
        # The stride is here and not in conv1 as in the paper: "v1.5", half a percent more accurate,
        # as in torchvision.
        self.conv2 = layers.conv(width, width, 3, stride)
        self.bn2 = layers.norm(width)
        self.conv3 = layers.conv(width, c_out, 1)
        self.bn3 = layers.norm(c_out)
        self.shortcut = layers.make_shortcut(c_in, c_out, stride)

    def branch(self, x: Tensor) -> Tensor:
        """Return the residual: (B, c_in, H, W) -> (B, 4 width, H/stride, W/stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return self.bn3(self.conv3(y))


class ResNet(Network):
    """A stem, then stages of blocks; each stage but the first halves the map.

    depths: number of blocks per stage. widths: their widths; a block outputs width x expansion
    channels.
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
            # Only a stage's first block changes the shape: it halves the map and widens the
            # channels. The first stage keeps the stem's map.
            strides = [1 if number == 0 else 2] + [1] * (depth - 1)
            stage = nn.Sequential()
            for stride in strides:
                stage.append(block(c_in, width, stride, layers))
                c_in = width * block.expansion
            self.stages.append(stage)
        self.stage_names = ("stem", *(f"stages.{number}" for number in range(len(depths))))
        self.head = nn.Linear(c_in, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the last stage's map; with a small stem H/4 after three stages, H/8 after four."""
        return self.stages(self.stem(x))


def make_stem(kind: str, width: int, layers: LayerOptions) -> nn.Sequential:
    """Return a stem: (B, 3, H, W) -> (B, width, H, W) if `small`, or H/4, W/4 if `imagenet`."""
    large = kind == "imagenet"
    stem = nn.Sequential()
    stem.add_module("conv", layers.conv(3, width, 7 if large else 3, 2 if large else 1))
    stem.add_module("bn", layers.norm(width))
    stem.add_module("relu", nn.ReLU())
    if large:
        stem.add_module("pool", nn.MaxPool2d(3, stride=2, padding=1))  # (B, width, H/4, W/4)
    return stem


def resnet18(num_classes: int, *, stem: str, batch_norm: bool) -> ResNet:
    """Return ResNet-18: 11.7 million parameters at 1000 classes."""
    return imagenet_resnet(BasicBlock, (2, 2, 2, 2), num_classes, stem, batch_norm)


def resnet34(num_classes: int, *, stem: str, batch_norm: bool) -> ResNet:
    """Return ResNet-34: 21.8 million parameters at 1000 classes."""
    return imagenet_resnet(BasicBlock, (3, 4, 6, 3), num_classes, stem, batch_norm)


def resnet50(num_classes: int, *, stem: str, batch_norm: bool) -> ResNet:
    """Return ResNet-50: 25.6 million parameters at 1000 classes."""
    return imagenet_resnet(Bottleneck, (3, 4, 6, 3), num_classes, stem, batch_norm)


def imagenet_resnet(
    block: type[Block], depths: Sequence[int], num_classes: int, stem: str, batch_norm: bool
) -> ResNet:
    """Return a network of table 1, with projections where the shape changes."""
    model = ResNet(block, depths, WIDTHS, num_classes, stem, LayerOptions(batch_norm))
    he_init(model)
    return model


def resnet34_article(num_classes: int, *, batch_norm: bool) -> ResNet:
    """Return the tutorial's ResNet-34: biased convolutions, PyTorch's default initial weights.

    The tutorial ends in a 7x7 average pool. At 224 pixels the map is 7x7, so the mean over all
    pixels is the same; the mean also works at other sizes.
    """
    layers = LayerOptions(batch_norm, biased=True)
    return ResNet(BasicBlock, (3, 4, 6, 3), WIDTHS, num_classes, "imagenet", layers)


def cifar_resnet(num_classes: int, *, depth: int, shortcut: str, batch_norm: bool) -> ResNet:
    """Return a network for CIFAR of depth 6n + 2: a 3x3 stem, three stages of n blocks, a head.

    shortcut: `padding` for resnetN, `none` for plainN. Neither has parameters, so both networks of
    a depth have the same number.
    """
    blocks = (depth - 2) // 6
    layers = LayerOptions(batch_norm, shortcut)
    model = ResNet(BasicBlock, (blocks,) * 3, CIFAR_WIDTHS, num_classes, "small", layers)
    he_init(model)
    return model
