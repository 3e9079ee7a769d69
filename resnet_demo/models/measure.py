"""Counts of parameters and multiply-adds on real networks.

Run as a program, it writes `counts.json`, from which `counts` answers without torch.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import nn

from resnet_demo.architectures import MODELS, STEM_CHOICE_MODELS, STEMS
from resnet_demo.files import write_atomically
from resnet_demo.models.counts import TABLE, Counts, row_key
from resnet_demo.models.zoo import build_model

EVEN, ODD = 256, 255  # image sides: one that halves without rest, one that is odd at once


def count_model(model: nn.Module, image_size: int) -> Counts:
    """Return the counts of a network at image_size x image_size pixels."""
    convolutions = trace_convolutions(model, image_size)
    return Counts(
        parameters=count_parameters(model),
        # A convolution uses each of its weights once for every pixel that it outputs.
        macs=sum(c.weights * c.side**2 for c in convolutions) + model.head.weight.numel(),
        outputs=sum(c.channels * c.side**2 for c in convolutions),
    )


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


@dataclass(frozen=True)
class Convolution:
    """A convolution: its number of weights, and channels and side of its output."""

    weights: int
    channels: int
    side: int


def trace_convolutions(model: nn.Module, image_size: int) -> list[Convolution]:
    """Return the convolutions of a network in the order of execution."""
    seen = []
    # On the meta device only shapes are computed.
    copy = deepcopy(model).to("meta").eval()
    for module in copy.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda module, _, y: seen.append(
                    Convolution(module.weight.numel(), y.shape[1], y.shape[-1])
                )
            )
    # One image: counts are per image.
    copy.features(torch.empty(1, 3, image_size, image_size, device="meta"))
    return seen


def table_rows() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (key, row) of counts.json."""
    for name in MODELS:
        stems = STEMS if name in STEM_CHOICE_MODELS else STEMS[:1]
        for stem, batch_norm in product(stems, (True, False)):
            with torch.device("meta"):
                model = build_model(name, stem=stem, batch_norm=batch_norm)
            yield row_key(name, stem, batch_norm), table_row(model)


def table_row(model: nn.Module) -> dict[str, Any]:
    """Return a row of counts.json; `counts.load_table` documents it."""
    # The 2x2 stem of resnet9 has no padding and removes one pixel. Adding it back below makes every
    # later map halve without a rest.
    trimmed = int(trace_convolutions(model, EVEN)[0].side == EVEN - 1)
    weights: dict[int, int] = defaultdict(int)
    channels: dict[int, int] = defaultdict(int)
    for convolution in trace_convolutions(model, EVEN + trimmed):
        halvings = (EVEN // convolution.side).bit_length() - 1  # log2 of the ratio
        weights[halvings] += convolution.weights
        channels[halvings] += convolution.channels
    # On an odd side strided convolutions round up, and pools round down.
    odd_convolutions = trace_convolutions(model, ODD + trimmed)
    rounds_up = any(convolution.side == (ODD + 1) // 2 for convolution in odd_convolutions)
    return {
        "parameters": count_parameters(model) - count_parameters(model.head),
        "trimmed": trimmed,
        "features": model.head.in_features,
        "weights": {str(halvings): weights[halvings] for halvings in sorted(weights)},
        "channels": {str(halvings): channels[halvings] for halvings in sorted(channels)},
        "rounding": "up" if rounds_up else "down",
    }


def write_table() -> None:
    """Write counts.json, one row per line, so that a diff shows what changed."""
    lines = [f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in table_rows()]
    write_atomically(TABLE, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


if __name__ == "__main__":
    write_table()
