"""Test-time augmentation: several views of each image, and the weighted mean of their logits.

Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", section 3.5 (airbench's
`infer_mirror_translate`): the image and its mirror image, unshifted and shifted by one pixel
up-left and down-right. Five shifts of up to two pixels gave a slightly lower validation loss
(docs/performance.md).
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from resnet_demo.evaluation.corruptions import translate

Step = Callable[[Tensor], Tensor]  # (B, H, W, 3) uint8 -> the same shape


def identity(images: Tensor) -> Tensor:
    """Return the images unchanged."""
    return images


def mirror(images: Tensor) -> Tensor:
    """Mirror the images left to right."""
    return images.flip(2)


def shift(images: Tensor, down: int, right: int) -> Tensor:
    """Shift the images by whole pixels, less than a side; mirrored edges."""
    n, device = len(images), images.device
    return translate(
        images, torch.full((n,), down, device=device), torch.full((n,), right, device=device)
    )


DIAGONAL = tuple(partial(shift, down=by, right=by) for by in (-1, 1))
# Together with no shift, every row and every column from -2 to 2 occurs once.
LATIN_SHIFTS = tuple(
    partial(shift, down=down, right=right) for down, right in ((1, 2), (-2, 1), (-1, -2), (2, -1))
)

# Mode -> (weight, steps from the image to the view) of each view; the plain view comes first.
# flip-and-shift has airbench's weights: half for the two unshifted views, half for the other four.
VIEWS: dict[str, Sequence[tuple[float, tuple[Step, ...]]]] = {
    "plain": ((1.0, (identity,)),),
    "flip": ((0.5, (identity,)), (0.5, (mirror,))),
    "flip-and-shift": (
        (0.25, (identity,)),
        (0.25, (mirror,)),
        *((0.125, (move, turn)) for move in DIAGONAL for turn in (identity, mirror)),
    ),
    "flip-and-five-shifts": tuple(
        (0.1, (move, turn)) for move in (identity, *LATIN_SHIFTS) for turn in (identity, mirror)
    ),
}


def apply_view(images: Tensor, steps: Sequence[Step]) -> Tensor:
    """Apply the steps in order."""
    for step in steps:
        images = step(images)
    return images


def mean_logits(logits: Sequence[Tensor], mode: str) -> Tensor:
    """Return the weighted mean (N, C) of the logits of a mode's views, in their order."""
    weights = [weight for weight, _ in VIEWS[mode]]
    return sum(weight * view for weight, view in zip(weights, logits, strict=True))
