"""Operating on a trained network: branches made weaker or stronger, blocks left out.

Veit, Wilber & Belongie 2016, "Residual networks behave like ensembles of relatively shallow
networks": without one of its blocks a residual network hardly suffers; a plain one is lost.
"""

from collections.abc import Collection
from copy import deepcopy

import torch.nn.functional as F
from torch import Tensor, nn

from resnet_demo.errors import ConfigError
from resnet_demo.models.layers import Network


class Operated(nn.Module):
    """A block whose branch counts `strength` times; at 0 the shortcut alone is left.

    A plain block has no shortcut: at 0 nothing goes on. (B, c_in, H, W) -> as the block
    """

    def __init__(self, block: nn.Module, strength: float) -> None:
        super().__init__()
        self.block, self.strength = block, strength

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        branch = self.strength * self.block.branch(x)
        if isinstance(self.block.branch, nn.Module):  # resnet9's: nothing after the sum
            return x + branch
        around = self.block.shortcut
        return F.relu(branch if around is None else branch + around(x))


def block_names(model: Network) -> list[str]:
    """The blocks, in order, by the name of the submodule."""
    return [name for name, module in model.named_modules() if hasattr(module, "branch")]


def removable(model: Network) -> list[str]:
    """The blocks without which the rest still fits together.

    All that have a shortcut; of a plain network those that keep the shape of the map.
    """
    return [name for name in block_names(model) if can_go(model.get_submodule(name))]


def operated(model: Network, strength: float = 1.0, dropped: Collection[str] = ()) -> Network:
    """A copy of the network whose branches count `strength` times, without the dropped blocks.

    Without: the shortcut goes on alone; in a plain network the block before feeds the one behind.
    Raises ConfigError for a block that is not there, or without which the rest does not fit.
    """
    allowed, copy = removable(model), deepcopy(model)
    for name in dropped:
        if name not in allowed:
            raise ConfigError.rule("dropped", "blocks that can be left out", name)
    for name in block_names(model):
        block = copy.get_submodule(name)
        if name in dropped:
            put(copy, name, Operated(block, 0.0) if has_shortcut(block) else nn.Identity())
        elif strength != 1:
            put(copy, name, Operated(block, strength))
    return copy


def put(model: nn.Module, name: str, module: nn.Module) -> None:
    """In the place of the submodule of that name."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def has_shortcut(block: nn.Module) -> bool:
    """Whether the input is added to what the branch puts out."""
    return isinstance(block.branch, nn.Module) or block.shortcut is not None


def can_go(block: nn.Module) -> bool:
    """Whether what comes after fits what came before, without the block."""
    if has_shortcut(block):
        return True
    return block.conv1.stride == (1, 1) and block.conv1.in_channels == block.conv2.out_channels
