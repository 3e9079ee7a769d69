"""Residual blocks, relu(branch(x) + shortcut(x)), and plain ones without the shortcut."""

import torch.nn.functional as F
from torch import Tensor, nn

from resnet_demo.models.layers import STANDARD, LayerOptions


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
