"""Asking a network about an image more than once: the views of it, and the mean of the answers.

Jordan 2024 ("94% on CIFAR-10 in 3.29 seconds", section 3.5, airbench's `infer_mirror_translate`)
shows the image and its mirror image, unshifted and shifted by one pixel up-left and down-right.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from resnet_demo.analysis.corruptions import moved

View = Callable[[Tensor], Tensor]  # (B, H, W, 3) uint8 -> the same shape


def as_it_is(images: Tensor) -> Tensor:
    """The images themselves."""
    return images


def mirrored(images: Tensor) -> Tensor:
    """Left to right."""
    return images.flip(2)


def shifted(images: Tensor, by: int) -> Tensor:
    """So many pixels, less than a side, down and to the right, or up and left; edges mirrored."""
    pixels = torch.full((len(images),), by, device=images.device)
    return moved(images, pixels, pixels)


def up_left(images: Tensor) -> Tensor:
    """By one pixel each way."""
    return shifted(images, -1)


def down_right(images: Tensor) -> Tensor:
    """By one pixel each way."""
    return shifted(images, 1)


# Mode -> (weight, how to make it of the image) for each view; plain comes first. The weights are
# airbench's: half for the two unshifted views, half for the four shifted ones.
VIEWS: dict[str, Sequence[tuple[float, tuple[View, ...]]]] = {
    "plain": ((1.0, (as_it_is,)),),
    "flip": ((0.5, (as_it_is,)), (0.5, (mirrored,))),
    "flip-and-shift": (
        (0.25, (as_it_is,)),
        (0.25, (mirrored,)),
        *((0.125, (way, turn)) for way in (up_left, down_right) for turn in (as_it_is, mirrored)),
    ),
}


def view(images: Tensor, steps: Sequence[View]) -> Tensor:
    """The images after all steps, in order."""
    for step in steps:
        images = step(images)
    return images


def mean_of(logits: Sequence[Tensor], mode: str) -> Tensor:
    """The weighted mean (N, C) of the logits of a mode's views, in their order."""
    weights = [weight for weight, _ in VIEWS[mode]]
    return sum(weight * each for weight, each in zip(weights, logits, strict=True))
