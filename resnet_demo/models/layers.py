"""What every network here is made of: convolutions, normalization, shortcuts and a common end."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class LayerOptions:
    """The choices that a network makes once and all of its blocks share.

    shortcut: what carries the input around a block where the shape changes: `projection` (1x1
    convolution, option B of He et al. 2015, section 3.3) or `padding` (no parameters, option A).
    Elsewhere both are the identity. `none` is a plain network: nothing is ever added.
    biased: a bias in every convolution; useless before BatchNorm, but the article has it.
    """

    batch_norm: bool = True
    shortcut: str = "projection"
    biased: bool = False

    def conv(self, c_in: int, c_out: int, size: int, stride: int = 1) -> nn.Conv2d:
        """(B, c_in, H, W) -> (B, c_out, H/stride, W/stride), rounded up. size is odd."""
        bias = self.biased or not self.batch_norm
        return nn.Conv2d(c_in, c_out, size, stride, padding=size // 2, bias=bias)

    def norm(self, channels: int) -> nn.Module:
        """BatchNorm, or nothing in its place."""
        return nn.BatchNorm2d(channels) if self.batch_norm else nn.Identity()

    def make_shortcut(self, c_in: int, c_out: int, stride: int) -> nn.Module | None:
        """The shortcut around a block of that shape; None in a plain network."""
        if self.shortcut == "none":
            return None
        if stride == 1 and c_in == c_out:
            return nn.Identity()
        if self.shortcut == "padding":
            return Padding(c_out, stride)
        projection = nn.Sequential()
        projection.add_module("conv", self.conv(c_in, c_out, 1, stride))
        projection.add_module("bn", self.norm(c_out))
        return projection


STANDARD = LayerOptions()


class Padding(nn.Module):
    """Shortcut without parameters: every stride-th pixel, new channels zero (He et al., option A).

    (B, C, H, W) -> (B, channels, H/stride, W/stride), rounded up as a convolution does
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        missing = self.channels - x.shape[1]
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, missing))


class Network(nn.Module):
    """A feature map, its mean over all pixels, one linear layer.

    Class activation maps need just this end (Zhou et al. 2016): the logit of a class is the mean
    over the pixels of head.weight[class] . features, plus head.bias[class].
    stage_names: the submodules, in order, after which a look at the maps is worth while. The last
    one puts out the features.
    """

    head: nn.Linear
    stage_names: tuple[str, ...] = ()

    def features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) normalized -> (B, C, H', W'), the last map before the mean."""
        raise NotImplementedError

    def init_from_data(self, images: Tensor) -> None:
        """Take from images, (B, 3, H, W) normalized, what is not learned. Mostly nothing.

        Called once, before the first step, with the first images of the training split.
        """

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) normalized -> logits (B, num_classes)."""
        maps = self.features(x)
        # not maps.mean((2, 3)), whose gradient is laid out channel by channel even where the maps
        # have channels last: a twentieth of a step of ResNet-9 (docs/performance.md)
        return self.head(F.avg_pool2d(maps, maps.shape[2:]).flatten(1))


def he_init(model: nn.Module) -> None:
    """Normal weights, variance 2 / fan-out, in every convolution (He et al. 2015, Delving Deep).

    Keeps the size of the gradient from layer to layer where ReLU drops half of it.
    """
    for module in model.modules():
        # not where saved weights will take their place: PyTorch spends two seconds on loading what
        # draws numbers on no device
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
