"""Parameters and multiply-adds of every network by name, without torch.

`counts.json` was measured on the real networks; `python -m resnet_demo.models.measure` rewrites it.
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
    """Counts of a network: parameters, and per image:

    macs: multiply-adds of convolutions and linear layers. outputs: numbers that the convolutions
    output, which the backward pass keeps in memory.
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
    """Return the counts of build_model's network at image_size x image_size pixels.

    Raises ConfigError for an unknown name or stem.
    """
    check_architecture(name, stem)
    # Computed from a row, so that the page can count for any image size and number of classes.
    row = load_table()[row_key(name, stem, batch_norm)]
    return Counts(
        # The last layer has a weight per feature and a bias, for each class.
        parameters=row["parameters"] + (row["features"] + 1) * num_classes,
        # A convolution uses each of its weights once for every pixel that it outputs.
        macs=sum_over_pixels(row, "weights", image_size) + row["features"] * num_classes,
        outputs=sum_over_pixels(row, "channels", image_size),
    )


def sum_over_pixels(row: dict[str, Any], name: str, image_size: int) -> int:
    """Return the sum of `weights` or `channels` times the pixels of the convolutions' maps."""
    total, side, halved = 0, image_size - row["trimmed"], 0
    for halvings, numbers in row[name].items():
        # The side depends on every halving before it, because each one rounds.
        while halved < int(halvings):
            side = (side + 1) // 2 if row["rounding"] == "up" else side // 2
            halved += 1
        total += numbers * side**2
    return total


def row_key(name: str, stem: str, batch_norm: bool) -> str:
    """Return the name of a row in counts.json."""
    # Other networks have one stem whatever the setting: one row serves both.
    network = f"{name}, {stem} stem" if name in STEM_CHOICE_MODELS else name
    return network if batch_norm else f"{network}, no BatchNorm"


@cache
def load_table() -> dict[str, dict[str, Any]]:
    """Return the rows of counts.json.

    parameters: without the last layer. features: inputs of the last layer. trimmed: pixels that
    the stem removes from the side, 1 for a 2x2 convolution without padding. weights, channels:
    sums over the convolutions, by how often the map was halved before them ("0", "1", …, in
    order). rounding: of an odd side when halved, `up` (strided convolutions) or `down` (2x2 pools).
    """
    return json.loads(TABLE.read_text(encoding="utf-8"))
