"""Counting on a real network: what `counts` knows by heart, and writing that down anew.

Run as a program, it writes `counts.json`, a row a line, so that a change can be read.
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

EVEN, ODD = 256, 255  # sides: halves without a rest to the end, with one from the start


def count_model(model: nn.Module, image_size: int) -> Counts:
    """Parameters and multiply-adds an image of image_size x image_size pixels."""
    convolutions = trace(model, image_size)
    return Counts(
        parameters=count_parameters(model),
        macs=sum(one.weights * one.side**2 for one in convolutions) + model.head.weight.numel(),
        outputs=sum(one.channels * one.side**2 for one in convolutions),
    )


def count_parameters(model: nn.Module) -> int:
    """How many numbers its weights are."""
    return sum(parameter.numel() for parameter in model.parameters())


@dataclass(frozen=True)
class Convolution:
    """How many weights it has, how many channels it puts out, and the side of their maps."""

    weights: int
    channels: int
    side: int


def trace(model: nn.Module, image_size: int) -> list[Convolution]:
    """Each convolution, in order.

    Runs a copy on the meta device: shapes without arithmetic.
    """
    seen = []
    copy = deepcopy(model).to("meta").eval()
    for module in copy.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda module, _, y: seen.append(
                    Convolution(module.weight.numel(), y.shape[1], y.shape[-1])
                )
            )
    copy.features(torch.empty(1, 3, image_size, image_size, device="meta"))
    return seen


def rows() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row of counts.json: (key, row)."""
    for name in MODELS:
        stems = STEMS if name in STEM_CHOICE_MODELS else STEMS[:1]
        for stem, batch_norm in product(stems, (True, False)):
            with torch.device("meta"):
                model = build_model(name, stem=stem, batch_norm=batch_norm)
            yield row_key(name, stem, batch_norm), row(model)


def row(model: nn.Module) -> dict[str, Any]:
    """One row; `counts.table` says what it holds."""
    trimmed = int(trace(model, EVEN)[0].side == EVEN - 1)
    weights: dict[int, int] = defaultdict(int)
    channels: dict[int, int] = defaultdict(int)
    for one in trace(model, EVEN + trimmed):
        halvings = (EVEN // one.side).bit_length() - 1
        weights[halvings] += one.weights
        channels[halvings] += one.channels
    rounds_up = any(one.side == (ODD + 1) // 2 for one in trace(model, ODD + trimmed))
    return {
        "parameters": count_parameters(model) - count_parameters(model.head),
        "trimmed": trimmed,
        "features": model.head.in_features,
        "weights": {str(halvings): weights[halvings] for halvings in sorted(weights)},
        "channels": {str(halvings): channels[halvings] for halvings in sorted(channels)},
        "rounding": "up" if rounds_up else "down",
    }


def write_table() -> None:
    """counts.json, from the networks as they are now."""
    lines = [f"  {json.dumps(name)}: {json.dumps(values)}" for name, values in rows()]
    write_atomically(TABLE, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


if __name__ == "__main__":
    write_table()
