"""What a network sees after each of its stages: the feature maps that answer most."""

from dataclasses import dataclass

import torch
from torch import Tensor

from resnet_demo.analysis.hooks import evaluating, outputs_of
from resnet_demo.models.layers import Network


@dataclass(frozen=True)
class StageMaps:
    """The strongest maps after one stage: channels (B, k) int64, maps (B, k, h, w) float32.

    name: the submodule's. all_channels: how many there are to choose from. On the model's device.
    """

    name: str
    all_channels: int
    channels: Tensor
    maps: Tensor


@torch.no_grad()
def strongest_maps(model: Network, x: Tensor, k: int) -> list[StageMaps]:
    """For each stage, in order, the k channels of the largest mean, the largest first.

    x (B, 3, H, W) normalized, each image for itself. Fewer than k where a stage has not as many; no
    stage at all of a network that names none. NaN counts as the smallest. `maps.heat` makes the
    maps fit to be shown.
    """
    with evaluating(model), outputs_of(model, model.stage_names) as outputs:
        model.features(x)
    return [_strongest(name, output.float(), k) for name, output in outputs.items()]


def _strongest(name: str, output: Tensor, k: int) -> StageMaps:
    means = output.mean((2, 3)).nan_to_num(-torch.inf, torch.inf, -torch.inf)
    channels = means.topk(min(k, output.shape[1])).indices
    maps = output[torch.arange(len(output), device=output.device)[:, None], channels]
    return StageMaps(name, output.shape[1], channels, maps)
