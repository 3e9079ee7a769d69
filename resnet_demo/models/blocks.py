"""The residual blocks: relu(branch(x) + shortcut(x)), and the same without the shortcut."""

import torch.nn.functional as F
from torch import Tensor, nn

from resnet_demo.models.layers import STANDARD, LayerOptions


class Block(nn.Module):
    """What both blocks share: the sum at the end (He et al. 2015, eq. 1)."""

    expansion: int  # channels out, in widths
    shortcut: nn.Module | None

    def branch(self, x: Tensor) -> Tensor:
        """The residual that the block learns."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """See the block."""
        y = self.branch(x)
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        return F.relu(y)


class BasicBlock(Block):
    """Two 3x3 convolutions; the shortcut adds the input back.

    (B, c_in, H, W) -> (B, width, H/stride, W/stride)
    """

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
        """(B, c_in, H, W) -> (B, width, H/stride, W/stride)."""
        return self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))


class Bottleneck(Block):
    """1x1 down, 3x3, 1x1 up: a deeper block at the cost of a BasicBlock (He et al. 2015, fig. 5).

    The stride is in the 3x3, not in the first 1x1 as in the paper: the variant known as v1.5, half
    a percent better and what torchvision has.
    (B, c_in, H, W) -> (B, 4 width, H/stride, W/stride)
    """

    expansion = 4

    def __init__(
        self, c_in: int, width: int, stride: int = 1, layers: LayerOptions = STANDARD
    ) -> None:
        super().__init__()
        c_out = width * self.expansion
        self.conv1 = layers.conv(c_in, width, 1)
        self.bn1 = layers.norm(width)
        self.conv2 = layers.conv(width, width, 3, stride)
        self.bn2 = layers.norm(width)
        self.conv3 = layers.conv(width, c_out, 1)
        self.bn3 = layers.norm(c_out)
        self.shortcut = layers.make_shortcut(c_in, c_out, stride)

    def branch(self, x: Tensor) -> Tensor:
        """(B, c_in, H, W) -> (B, 4 width, H/stride, W/stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return self.bn3(self.conv3(y))
