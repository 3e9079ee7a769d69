"""Parameters and multiply-adds of every network of the zoo, without torch.

`counts.json` was read off the real networks; `python -m resnet_demo.models.measure` writes it anew.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from resnet_demo.architectures import STEM_CHOICE_MODELS, check_architecture

TABLE = Path(__file__).with_name("counts.json")


@dataclass(frozen=True)
class Counts:
    """parameters: all weights. macs: multiply-adds of convolutions and linear, an image.

    outputs: numbers that the convolutions put out for an image; the backward pass needs them.
    """

    parameters: int
    macs: int
    outputs: int


def model_counts(
    name: str,
    num_classes: int = 10,
    image_size: int = 32,
    stem: str = "small",
    batch_norm: bool = True,
) -> Counts:
    """What build_model's network has and does at image_size x image_size pixels.

    Raises ConfigError for a name or a stem that is not there.
    """
    check_architecture(name, stem)
    row = table()[row_key(name, stem, batch_norm)]
    return Counts(
        parameters=row["parameters"] + (row["features"] + 1) * num_classes,
        # a convolution multiplies all of its weights once for every pixel that it puts out
        macs=sum_over_maps(row, "weights", image_size) + row["features"] * num_classes,
        outputs=sum_over_maps(row, "channels", image_size),
    )


def sum_over_maps(row: dict[str, Any], what: str, image_size: int) -> int:
    """What the convolutions have, `weights` or `channels`, for each pixel of their maps."""
    total, side, halved = 0, image_size - row["trimmed"], 0
    for halvings, numbers in row[what].items():
        while halved < int(halvings):
            side = (side + 1) // 2 if row["rounding"] == "up" else side // 2
            halved += 1
        total += numbers * side**2
    return total


def row_key(name: str, stem: str, batch_norm: bool) -> str:
    """The name of a row in counts.json."""
    network = f"{name}, {stem} stem" if name in STEM_CHOICE_MODELS else name
    return network if batch_norm else f"{network}, no BatchNorm"


@cache
def table() -> dict[str, dict[str, Any]]:
    """The rows of counts.json, each:

    parameters: without the last layer; trimmed: pixels that the stem takes off the side, which 2x2
    without padding does; features: the last layer's inputs; weights, and channels that are put out:
    of the convolutions, by how often the map was halved before ("0", "1", …, in order); rounding:
    what halving does to an odd side, `up` (convolutions with stride) or `down` (2x2 pools).
    """
    return json.loads(TABLE.read_text(encoding="utf-8"))
