"""Asking a network about an image more than once: the views of it, and the mean of the answers.

Jordan 2024 ("94% on CIFAR-10 in 3.29 seconds", section 3.5, airbench's `infer_mirror_translate`)
shows the image and its mirror image, unshifted and shifted by one pixel up-left and down-right.
Five shifts of up to two pixels gave a slightly lower loss on validation (docs/performance.md).
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from resnet_demo.evaluation.corruptions import translate

View = Callable[[Tensor], Tensor]  # (B, H, W, 3) uint8 -> the same shape


def identity(images: Tensor) -> Tensor:
    """The images themselves."""
    return images


def mirror(images: Tensor) -> Tensor:
    """Left to right."""
    return images.flip(2)


def shift(images: Tensor, down: int, right: int) -> Tensor:
    """So many pixels, less than a side, down and to the right, or back; edges mirrored."""
    ways = (torch.full((len(images),), by, device=images.device) for by in (down, right))
    return translate(images, *ways)


DIAGONAL = tuple(partial(shift, down=by, right=by) for by in (-1, 1))
# With no shift every row and every column from -2 to 2 once, as five rooks stand none of which can
# take another.
ROOKS = tuple(
    partial(shift, down=down, right=right) for down, right in ((1, 2), (-2, 1), (-1, -2), (2, -1))
)

# Mode -> (weight, how to make it of the image) for each view; plain comes first. The weights are
# airbench's where two are shifted: half for the unshifted views, half for the four others.
VIEWS: dict[str, Sequence[tuple[float, tuple[View, ...]]]] = {
    "plain": ((1.0, (identity,)),),
    "flip": ((0.5, (identity,)), (0.5, (mirror,))),
    "flip-and-shift": (
        (0.25, (identity,)),
        (0.25, (mirror,)),
        *((0.125, (way, turn)) for way in DIAGONAL for turn in (identity, mirror)),
    ),
    "flip-and-five-shifts": tuple(
        (0.1, (way, turn)) for way in (identity, *ROOKS) for turn in (identity, mirror)
    ),
}


def apply_view(images: Tensor, steps: Sequence[View]) -> Tensor:
    """The images after all steps, in order."""
    for step in steps:
        images = step(images)
    return images


def mean_logits(logits: Sequence[Tensor], mode: str) -> Tensor:
    """The weighted mean (N, C) of the logits of a mode's views, in their order."""
    weights = [weight for weight, _ in VIEWS[mode]]
    return sum(weight * each for weight, each in zip(weights, logits, strict=True))
