"""Pictures of something else: how to notice them, and a few kinds to try it on.

Scores grow with how far outside a picture seems.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from resnet_demo.data.pictures import crop_to_square

FALSE_ALARMS = 0.05  # share of pictures of the right kind that are taken for something else
PAGE = 256  # pixels a side of a page before it is made as small as the images
LETTERS = tuple("aeioubcdfghlmnprstvw")


def energy(logits: Tensor) -> Tensor:
    """-log sum exp of the logits (N, C) at temperature 1 (Liu et al. 2020, section 3).

    (N,) float64 on the CPU. High where no class has much to say; infinite for NaN, which says
    nothing at all. The logits must be the network's own: softmax does not notice when a row is
    moved by a number, as those stored beside a run may be, but the energy does.
    """
    free = -logits.detach().cpu().double().logsumexp(1)
    return free.nan_to_num(math.inf, math.inf, -math.inf)


def energy_threshold(logits: Tensor, false_alarms: float = FALSE_ALARMS) -> float:
    """The energy that at most this share of images of the right kind lie above.

    logits (N, C) of the validation split, N from 1. The smallest such energy among them: the 95th
    percentile at a share of 0.05. A picture is outside when its energy is more than this.
    """
    energies = energy(logits).sort().values
    allowed = math.floor(false_alarms * len(energies))
    return energies[max(len(energies) - allowed, 1) - 1].item()


def outside_metric(logits: Tensor, false_alarms: float = FALSE_ALARMS) -> dict[str, Any] | None:
    """What model.json tells of the logits (N, C) of a validation split, ready for JSON.

    threshold, as `energy_threshold` has it; false_alarms, the share it allows; n, the images. None
    without images, and for a network that computes NaN: JSON has no such number.
    """
    threshold = energy_threshold(logits, false_alarms) if len(logits) else math.inf
    if not math.isfinite(threshold):
        return None
    return {"threshold": threshold, "false_alarms": false_alarms, "n": len(logits)}


def auroc(inside: Tensor, outside: Tensor) -> float:
    """The chance that a score from outside (M,) is above one from inside (N,), equals half.

    The area under the ROC curve as a sum of ranks (Hanley and McNeil 1982). Neither is empty. A
    score that is NaN counts as the highest.
    """
    scores = torch.cat([inside.detach().cpu(), outside.detach().cpu()]).double()
    scores = scores.nan_to_num(math.inf, math.inf, -math.inf)
    _, place, count = scores.unique(return_inverse=True, return_counts=True)
    rank = count.cumsum(0) - (count - 1) / 2  # equals share the middle of their ranks, from 1
    n, m = len(inside), len(outside)
    return ((rank[place[n:]].sum() - m * (m + 1) / 2) / (n * m)).item()


def noise(n: int, side: int, seed: int) -> Tensor:
    """Every channel of every pixel by chance: (n, side, side, 3) uint8 on the CPU."""
    return torch.from_numpy(_random(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8))


def flat_colours(n: int, side: int, seed: int) -> Tensor:
    """One colour all over, another by chance each: (n, side, side, 3) uint8 on the CPU."""
    colours = _random(seed).integers(0, 256, (n, 1, 1, 3), dtype=np.uint8)
    return torch.from_numpy(colours).expand(n, side, side, 3).contiguous()


def screenshots(n: int, side: int, seed: int) -> Tensor:
    """Pages of text, dark on light or light on dark: (n, side, side, 3) uint8 on the CPU.

    Drawn with PIL's own font at 256 pixels and resized as an upload would be.
    """
    random = _random(seed)
    pages = [crop_to_square(_page(random), side) for _ in range(n)]
    return torch.from_numpy(np.stack(pages))


MAKERS: dict[str, Callable[[int, int, int], Tensor]] = {
    "uniform noise": noise,
    "flat colours": flat_colours,
    "screenshots of text": screenshots,
}


def _random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _page(random: np.random.Generator) -> np.ndarray:
    """(PAGE, PAGE, 3) uint8."""
    dark, light = random.integers(0, 60, 3), random.integers(200, 256, 3)
    paper, ink = (dark, light) if random.random() < 0.5 else (light, dark)
    image = Image.new("RGB", (PAGE, PAGE), tuple(paper.tolist()))
    size = int(random.integers(12, 25))
    text = "\n".join(_line(random) for _ in range(PAGE // size))
    font = ImageFont.load_default(size)
    ImageDraw.Draw(image).text((size, size), text, tuple(ink.tolist()), font)
    return np.array(image)


def _line(random: np.random.Generator) -> str:
    lengths = random.integers(2, 9, random.integers(2, 7))
    return " ".join("".join(random.choice(LETTERS, length)) for length in lengths)
