"""ResNet-9: a small residual network that learns fast. ResNet-11 is a deeper one.

Its ancestors are the network of cifar10-fast (David Page, 2018), of which it has the name and the
nine layers, and airbench's (Keller Jordan 2024, "94% on CIFAR-10 in 3.29 seconds"), of which it
has the whitening stem, GELU and the pool right after the convolution.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_demo.models.layers import LayerOptions, Network, he_init

WIDTHS = (64, 160, 224)  # channels of the three stages: minutes on a CPU
WIDE = (64, 256, 256)  # airbench94's; a third more time for each image, and it learns more
RESIDUALS = (1, 1, 2)  # convolutions of each stage after its first
DEEP = (2, 2, 2)  # three convolutions a stage, as in airbench96
PATCH = 2  # pixels, the side of what the stem looks at
STEM_WIDTH = 2 * 3 * PATCH**2  # each direction and its opposite
LEAST_VARIANCE = 5e-4  # added to each direction's, or noise in the weakest would be blown up
STEM_BIAS = 0.7  # learns as fast as learned ones; with 0 it learns less (docs/performance.md)
SOME = 50  # images at a time: patches are four times as many numbers


class Residual(nn.Module):
    """x plus a convolution of it; the activation comes before the sum, as in cifar10-fast.

    (B, C, H, W) -> (B, C, H, W)
    """

    def __init__(self, channels: int, layers: LayerOptions) -> None:
        super().__init__()
        self.branch = conv_norm(channels, channels, layers)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x + self.branch(x)


class ResNet9(Network):
    """A whitening stem, seven 3x3 convolutions or nine, all but three residual, a linear layer.

    Each stage opens with a convolution that halves the map by a pool; residual ones follow.
    Airbench ends in a max-pool and a fixed scale of the logits; the mean instead gives class
    activation maps. widths: channels of the stages; residuals: their residual convolutions.
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
        self.stem.requires_grad_(False)  # see `adapt`; so nobody needs the largest map's gradient
        self.stem_bias = STEM_BIAS if layers.batch_norm else 0.0  # which takes the mean away again
        self.stage1 = stage(STEM_WIDTH, first, residuals[0], layers)
        self.stage2 = stage(first, second, residuals[1], layers)
        self.stage3 = stage(second, third, residuals[2], layers)
        self.head = nn.Linear(third, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, widths[2], (H-1)/8, (W-1)/8), rounded down."""
        return self.stage3(self.stage2(self.stage1(F.gelu(self.stem(x)))))

    def init_from_data(self, images: Tensor) -> None:
        """Let the stem whiten patches of these images: what it puts out is uncorrelated.

        Its weights are the principal directions of all 2x2 patches, each divided by the deviation
        along it, and the opposites (Jordan 2024, section 3.2). They stay. So do the biases, which
        Jordan learns for some epochs: STEM_BIAS is as good, and saves a twelfth of a step.
        Nothing takes away the mean that they bring where there is no BatchNorm: there they are 0.
        """
        with torch.no_grad():
            directions = whitening(images)
            self.stem.weight.copy_(torch.cat((directions, -directions)).view_as(self.stem.weight))
            self.stem.bias.fill_(self.stem_bias)


def patches(images: Tensor) -> Tensor:
    """All PATCH x PATCH patches of (B, 3, H, W), a row each: (N, 3 PATCH²)."""
    grid = images.unfold(2, PATCH, 1).unfold(3, PATCH, 1)  # (B, 3, H', W', PATCH, PATCH)
    return grid.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)


def whitening(images: Tensor) -> Tensor:
    """Rows: a unit eigenvector each of the patches' second moments, over its root eigenvalue.

    images: (B, 3, H, W). In double precision on the CPU, so that all devices find the same.
    """
    total, n = torch.zeros(1, dtype=torch.float64), 0
    for few in images.cpu().split(SOME):
        rows = patches(few).double()
        total, n = total + rows.T @ rows, n + len(rows)
    variances, directions = torch.linalg.eigh(total / n)
    return (directions / (variances + LEAST_VARIANCE).sqrt()).T


def stage(c_in: int, c_out: int, residuals: int, layers: LayerOptions) -> nn.Sequential:
    """(B, c_in, H, W) -> (B, c_out, H/2, W/2), rounded down."""
    blocks = (Residual(c_out, layers) for _ in range(residuals))
    return nn.Sequential(conv_norm(c_in, c_out, layers, pool=True), *blocks)


def conv_norm(c_in: int, c_out: int, layers: LayerOptions, pool: bool = False) -> nn.Sequential:
    """3x3 convolution, BatchNorm, GELU: (B, c_in, H, W) -> (B, c_out, H, W), or halved by a pool.

    The max-pool stands right after the convolution, where BatchNorm and GELU then have a quarter
    of the pixels left to do.
    """
    layer = nn.Sequential()
    layer.add_module("conv", layers.conv(c_in, c_out, 3))
    if pool:
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
    """He's first weights instead of PyTorch's."""
    model = ResNet9(num_classes, LayerOptions(batch_norm), widths, residuals)
    he_init(model)
    return model
