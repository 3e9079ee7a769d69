"""Out-of-distribution detection, and synthetic images to measure it with.

A higher score means farther from the training images. The score is the energy of the logits, or,
for a head that was trained on embeddings, the distance to the nearest of these: there, the energy
misses most of what is not a picture of the classes (docs/experiments.md).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from resnet_demo.data.pictures import crop_to_square

FALSE_ALARMS = 0.05  # share of in-distribution pictures that are flagged
MAX_KNOWN = 1000  # training images that a picture is compared with: 2.5 MB of a run's folder
MISS_TEST = 100  # images of other things that a threshold is tried on
PAGE = 256  # pixels a side of a page of text before it is resized
LETTERS = tuple("aeioubcdfghlmnprstvw")


def energy(logits: Tensor) -> Tensor:
    """Return -log sum exp of logits (N, C), temperature 1 (Liu et al. 2020, section 3).

    (N,) float64 on the CPU; infinite for NaN. The logits must be the network's own: energy, unlike
    softmax, changes when a constant is added to a row.
    """
    negative = -logits.detach().cpu().double().logsumexp(1)
    return negative.nan_to_num(math.inf, math.inf, -math.inf)


def energy_threshold(logits: Tensor, false_alarms: float = FALSE_ALARMS) -> float:
    """Return the smallest energy that at most this share of the images exceeds.

    logits: (N, C) of the validation split, N from 1. With a share of 0.05 it is the 95th
    percentile. A picture is out of distribution when its energy is higher.
    """
    return highest_allowed(energy(logits), false_alarms)


def highest_allowed(scores: Tensor, false_alarms: float) -> float:
    """Return the smallest of the scores (N,) that at most this share of them exceeds."""
    scores = scores.sort().values
    # Rounded down: the promise is a share at most, also on few images.
    allowed = math.floor(false_alarms * len(scores))
    return scores[max(len(scores) - allowed, 1) - 1].item()


def neighbour_distance(x: Tensor, known: Tensor) -> Tensor:
    """Return 1 minus the cosine similarity of each embedding to the nearest known one.

    x: (N, C), known: (M, C); (N,) float32 from 0 to 2; 2 for NaN. Sun et al. 2022 take the distance
    to the k-th neighbour; with a few hundred images the first does best.
    """
    similarity = F.normalize(x.float(), dim=1) @ F.normalize(known.float(), dim=1).T
    return 1 - similarity.amax(1).nan_to_num(-1.0)


def sample_known(images: int, seed: int) -> Tensor:
    """Return the positions of at most MAX_KNOWN of so many images, in ascending order."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(images, generator=generator)[:MAX_KNOWN].sort().values


def neighbour_metric(
    known: Tensor, labels: Tensor, held_out: Tensor | None, false_alarms: float = FALSE_ALARMS
) -> tuple[dict[str, Any], Tensor] | None:
    """Return what model.json stores about the distance, and the known embeddings, float16.

    known: embeddings (M, C) of training images, see `sample_known`; labels: (M,), their classes.
    held_out: embeddings of validation images, on which the threshold is set. Without them, each
    known image is compared with the others. None with fewer than two images.
    """
    known = known.half()
    if len(known) < 2:
        return None
    rows = F.normalize(known.float(), dim=1)
    similarity = (rows @ rows.T).fill_diagonal_(-1.0)  # none is compared with itself
    distances = 1 - similarity.amax(1)
    if held_out is not None:
        distances = neighbour_distance(held_out, known)
    threshold = highest_allowed(distances, false_alarms)
    if not math.isfinite(threshold):
        return None
    metric = {"threshold": threshold, "false_alarms": false_alarms, "n": len(distances)}
    missed, images = missed_of_left_out(similarity, labels, false_alarms)
    if images:
        metric["left_out"] = {"missed": missed, "n": images}
    return metric, known


def missed_of_left_out(
    similarity: Tensor, labels: Tensor, false_alarms: float = FALSE_ALARMS
) -> tuple[int, int]:
    """Return how many images of a class are not flagged if it is left out, and of how many.

    Each class is left out in turn, and the threshold is set on the images of the others, each
    compared with the others of these. similarity: (M, M) cosines of known images, below all others
    on the diagonal. labels: (M,).
    """
    missed, images = 0, 0
    for label in labels.unique():
        is_left_out = labels == label
        rest = similarity[~is_left_out]
        if len(rest) < 2:
            continue
        limit = highest_allowed(1 - rest[:, ~is_left_out].amax(1), false_alarms)
        distances = 1 - similarity[is_left_out][:, ~is_left_out].amax(1)
        missed += int((distances <= limit).sum())
        images += len(distances)
    return missed, images


def ood_metric(logits: Tensor, false_alarms: float = FALSE_ALARMS) -> dict[str, Any] | None:
    """Return what model.json stores about the logits (N, C) of a validation split.

    threshold: see `energy_threshold`. false_alarms: the share it allows. n: images. None without
    images, and for a network that computes NaN, which JSON cannot hold.
    """
    threshold = energy_threshold(logits, false_alarms) if len(logits) else math.inf
    if not math.isfinite(threshold):
        return None
    return {"threshold": threshold, "false_alarms": false_alarms, "n": len(logits)}


def auroc(inside: Tensor, outside: Tensor) -> float:
    """Return the area under the ROC curve, as a sum of ranks (Hanley and McNeil 1982).

    It is the probability that a score of `outside` (M,) is higher than one of `inside` (N,); a tie
    counts half. Neither is empty. NaN counts as the highest score.
    """
    scores = torch.cat([inside.detach().cpu(), outside.detach().cpu()]).double()
    scores = scores.nan_to_num(math.inf, math.inf, -math.inf)
    # Ranks by place among the distinct scores, so that ties share one.
    _, place, count = scores.unique(return_inverse=True, return_counts=True)
    rank = count.cumsum(0) - (count - 1) / 2  # from 1; ties share the mean of their ranks
    n, m = len(inside), len(outside)
    return ((rank[place[n:]].sum() - m * (m + 1) / 2) / (n * m)).item()


def noise(n: int, side: int, seed: int) -> Tensor:
    """Return uniform noise, (n, side, side, 3) uint8 on the CPU."""
    return torch.from_numpy(
        np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    )


def flat_colours(n: int, side: int, seed: int) -> Tensor:
    """Return images of one random colour each, (n, side, side, 3) uint8 on the CPU."""
    colours = np.random.default_rng(seed).integers(0, 256, (n, 1, 1, 3), dtype=np.uint8)
    return torch.from_numpy(colours).expand(n, side, side, 3).contiguous()


def screenshots(n: int, side: int, seed: int) -> Tensor:
    """Return pages of text, dark on light or light on dark: (n, side, side, 3) uint8 on the CPU.

    Drawn with PIL's built-in font at PAGE pixels a side, then resized as an upload is.
    """
    random = np.random.default_rng(seed)
    pages = [crop_to_square(_page(random), side) for _ in range(n)]
    return torch.from_numpy(np.stack(pages))


# Name -> function of (number, pixels a side, seed).
OOD_IMAGES: dict[str, Callable[[int, int, int], Tensor]] = {
    "uniform noise": noise,
    "flat colours": flat_colours,
    "screenshots of text": screenshots,
}


def other_images(side: int) -> Tensor:
    """Return MISS_TEST images of plain colours and of text, half each: (N, side, side, 3) uint8.

    The same ones each time, to count how many of them a threshold misses.
    """
    half = MISS_TEST // 2
    return torch.cat([flat_colours(half, side, seed=0), screenshots(half, side, seed=0)])


def _page(random: np.random.Generator) -> np.ndarray:
    """Draw a page of text, (PAGE, PAGE, 3) uint8."""
    dark, light = random.integers(0, 60, 3), random.integers(200, 256, 3)
    paper, ink = (dark, light) if random.random() < 0.5 else (light, dark)
    image = Image.new("RGB", (PAGE, PAGE), tuple(paper.tolist()))
    size = int(random.integers(12, 25))  # points
    text = "\n".join(_line(random) for _ in range(PAGE // size))
    font = ImageFont.load_default(size)
    ImageDraw.Draw(image).text((size, size), text, tuple(ink.tolist()), font)
    return np.array(image)


def _line(random: np.random.Generator) -> str:
    """Return a line of two to six words of random letters."""
    lengths = random.integers(2, 9, random.integers(2, 7))
    return " ".join("".join(random.choice(LETTERS, length)) for length in lengths)
