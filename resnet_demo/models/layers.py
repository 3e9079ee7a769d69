"""Parts that all networks share: convolutions, normalization, shortcuts and the head."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class LayerOptions:
    """Options that all blocks of a network share; also the factory of their layers.

    shortcut: how the input bypasses a block that changes its shape: `projection` (1x1 convolution,
    option B of He et al. 2015, section 3.3) or `padding` (no parameters, option A). Elsewhere both
    are the identity. `none` is a plain network, which adds nothing.
    biased: a bias in every convolution, as in the article; BatchNorm makes it useless.
    """

    batch_norm: bool = True
    shortcut: str = "projection"
    biased: bool = False

    def conv(self, c_in: int, c_out: int, size: int, stride: int = 1) -> nn.Conv2d:
        """Return a convolution: (B, c_in, H, W) -> (B, c_out, H/stride, W/stride), rounded up.

        size: of the kernel, odd.
        """
        bias = self.biased or not self.batch_norm
        return nn.Conv2d(c_in, c_out, size, stride, padding=size // 2, bias=bias)

    def norm(self, channels: int) -> nn.Module:
        """Return BatchNorm, or the identity without it."""
        return nn.BatchNorm2d(channels) if self.batch_norm else nn.Identity()

    def make_shortcut(self, c_in: int, c_out: int, stride: int) -> nn.Module | None:
        """Return the shortcut of a block of that shape; None in a plain network."""
        if self.shortcut == "none":
            return None
        if stride == 1 and c_in == c_out:
            return nn.Identity()
        if self.shortcut == "padding":
            return Padding(c_out, stride)
        projection = nn.Sequential()
        # 1x1 at a stride: it skips pixels.
        projection.add_module("conv", self.conv(c_in, c_out, 1, stride))
        projection.add_module("bn", self.norm(c_out))
        return projection


STANDARD = LayerOptions()


class Padding(nn.Module):
    """Shortcut without parameters: every stride-th pixel, zeros for new channels (option A).

    (B, C, H, W) -> (B, channels, H/stride, W/stride), rounded up as by a convolution.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x: Tensor) -> Tensor:
        """Return the input subsampled and padded with zero channels."""
        # F.pad counts dimensions from the last one: width, height, then channels.
        missing = self.channels - x.shape[1]
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, missing))


class Network(nn.Module):
    """Base of all networks: a feature map, its mean over all pixels, one linear layer.

    Class activation maps need exactly this end (Zhou et al. 2016): the logit of a class is the
    mean over the pixels of head.weight[class] . features, plus head.bias[class].
    stage_names: submodules in order whose outputs are worth showing; the last outputs the features.
    """

    head: nn.Linear
    stage_names: tuple[str, ...] = ()

    def features(self, x: Tensor) -> Tensor:
        """Return the last feature map: (B, 3, H, W) normalized -> (B, C, H', W')."""
        raise NotImplementedError

    def init_from_data(self, images: Tensor) -> None:
        """Set the weights that are computed from images and not learned; most networks have none.

        Called once before the first step with training images, (B, 3, H, W) normalized.
        """

    def embed(self, x: Tensor) -> Tensor:
        """Return what the head gets: (B, 3, H, W) normalized -> (B, C)."""
        maps = self.features(x)  # (B, C, H', W')
        # The gradient of maps.mean((2, 3)) is not channels-last even if the maps are, which costs
        # a twentieth of a step of ResNet-9 (docs/performance.md).
        return F.avg_pool2d(maps, maps.shape[2:]).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits: (B, 3, H, W) normalized -> (B, num_classes)."""
        return self.head(self.embed(x))


def he_init(model: nn.Module) -> None:
    """Set normal weights of variance 2 / fan-out in every convolution.

    This keeps the size of the gradient from layer to layer, since ReLU drops half of it (He et al.
    2015, "Delving Deep into Rectifiers", section 2.2).
    """
    for module in model.modules():
        # Meta tensors get saved weights later. Drawing numbers for them would make PyTorch load
        # code for two seconds.
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.groups > 1:  # PyTorch's fan-out counts the outputs of all groups
                with torch.no_grad():
                    module.weight.mul_(module.groups**0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
