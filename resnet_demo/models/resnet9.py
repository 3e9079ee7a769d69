"""ResNet-9, a small residual network that learns fast, and the deeper ResNet-11.

The name and the nine layers are from cifar10-fast (David Page, 2018). The whitening stem, GELU and
the pool right after the convolution are from airbench (Keller Jordan 2024, "94% on CIFAR-10 in 3.29
seconds").
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_demo.models.layers import LayerOptions, Network, he_init

WIDTHS = (64, 160, 224)  # channels of the three stages, small enough for a CPU
WIDE = (64, 256, 256)  # as airbench94; a third more time per image, more accurate
RESIDUALS = (1, 1, 2)  # residual convolutions of each stage
DEEP = (2, 2, 2)  # three convolutions a stage, as in airbench96
PATCH = 2  # side of the stem's kernel in pixels
STEM_WIDTH = 2 * 3 * PATCH**2  # every direction and its opposite
EXTRA_VARIANCE = 5e-4  # added to every direction, or noise in the weakest would be amplified
STEM_BIAS = 0.7  # as good as learned biases, and better than 0 (docs/performance.md)
CHUNK = 50  # images at a time: patches hold four times as many numbers


class Residual(nn.Module):
    """x plus a convolution of x: (B, C, H, W) -> (B, C, H, W).

    The activation comes before the sum, as in cifar10-fast.
    """

    def __init__(self, channels: int, layers: LayerOptions) -> None:
        super().__init__()
        self.branch = conv_norm(channels, channels, layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus its branch."""
        return x + self.branch(x)


class ResNet9(Network):
    """A whitening stem, seven or nine 3x3 convolutions, all but three residual, a linear layer.

    Each stage starts with a convolution and a pool that halves the map; residual ones follow.
    Airbench ends in a max-pool and scales the logits; the mean here allows class activation maps.
    widths: channels of the stages. residuals: their numbers of residual convolutions.
    """

    stage_names = ("stem", "stage1", "stage2", "stage3")

    def __init__(
        self,
        num_classes: int,
        layers: LayerOptions,
        widths: Sequence[int],
        residuals: Sequence[int],
    ) -> None:
        super().__init__()
        first, second, third = widths
        self.stem = nn.Conv2d(3, STEM_WIDTH, PATCH)
        # The stem is set from images, not learned, which saves the gradient of the largest map.
        self.stem.requires_grad_(False)
        # Without BatchNorm nothing would remove the mean that a bias adds.
        self.stem_bias = STEM_BIAS if layers.batch_norm else 0.0
        self.stage1 = stage(STEM_WIDTH, first, residuals[0], layers)
        self.stage2 = stage(first, second, residuals[1], layers)
        self.stage3 = stage(second, third, residuals[2], layers)
        self.head = nn.Linear(third, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the last map: (B, 3, H, W) -> (B, widths[2], (H-1)/8, (W-1)/8), rounded down."""
        x = F.gelu(self.stem(x))  # (B, STEM_WIDTH, H-1, W-1)
        x = self.stage1(x)  # (B, widths[0], (H-1)/2, (W-1)/2), as in every stage half the side
        return self.stage3(self.stage2(x))

    def init_from_data(self, images: Tensor) -> None:
        """Set the stem to whiten 2x2 patches of these images: its outputs are uncorrelated.

        The weights are the principal directions of the patches, each divided by the deviation along
        it, and their opposites (Jordan 2024, section 3.2). Jordan learns the biases for some
        epochs; a constant is as good and saves a twelfth of a step.
        """
        with torch.no_grad():
            directions = whitening(images)
            self.stem.weight.copy_(torch.cat((directions, -directions)).view_as(self.stem.weight))
            self.stem.bias.fill_(self.stem_bias)


def patches(images: Tensor) -> Tensor:
    """Return all PATCH x PATCH patches as rows: (B, 3, H, W) -> (N, 3 PATCH²)."""
    grid = images.unfold(2, PATCH, 1).unfold(3, PATCH, 1)  # (B, 3, H', W', PATCH, PATCH)
    return grid.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)


def whitening(images: Tensor) -> Tensor:
    """Return the whitening directions of the images' patches: (B, 3, H, W) -> (D, D) rows.

    Each is a unit eigenvector of the second moments, divided by the root of its eigenvalue.
    """
    # In double precision on the CPU, so that the result is the same on every device.
    total, n = torch.zeros(1, dtype=torch.float64), 0
    for chunk in images.cpu().split(CHUNK):
        rows = patches(chunk).double()  # (N, D)
        total, n = total + rows.T @ rows, n + len(rows)  # (D, D), D = 3 PATCH²
    variances, directions = torch.linalg.eigh(total / n)
    # eigh returns eigenvectors as columns; the rows of the result are the kernels.
    return (directions / (variances + EXTRA_VARIANCE).sqrt()).T


def stage(c_in: int, c_out: int, residuals: int, layers: LayerOptions) -> nn.Sequential:
    """Return a stage: (B, c_in, H, W) -> (B, c_out, H/2, W/2), rounded down."""
    blocks = (Residual(c_out, layers) for _ in range(residuals))
    return nn.Sequential(conv_norm(c_in, c_out, layers, pool=True), *blocks)


def conv_norm(c_in: int, c_out: int, layers: LayerOptions, pool: bool = False) -> nn.Sequential:
    """Return 3x3 convolution, BatchNorm, GELU: (B, c_in, H, W) -> (B, c_out, H, W).

    pool: halve the map too.
    """
    layer = nn.Sequential()
    layer.add_module("conv", layers.conv(c_in, c_out, 3))
    if pool:  # before BatchNorm and GELU, which then process a quarter of the pixels
        layer.add_module("pool", nn.MaxPool2d(2))
    layer.add_module("bn", layers.norm(c_out))
    layer.add_module("gelu", nn.GELU())
    return layer


def resnet9(
    num_classes: int,
    *,
    batch_norm: bool,
    widths: Sequence[int] = WIDTHS,
    residuals: Sequence[int] = RESIDUALS,
) -> ResNet9:
    """Return ResNet-9 with He's initial weights."""
    model = ResNet9(num_classes, LayerOptions(batch_norm), widths, residuals)
    he_init(model)
    return model
