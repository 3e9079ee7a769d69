"""Progressive resizing: training images that are small at first and grow. No torch here.

Small images are cheap, and enough for what a network learns first (Tan & Le 2021, "EfficientNetV2",
section 4, who also cite where it comes from).
"""

from collections.abc import Sequence
from itertools import pairwise

from resnet_demo.architectures import smallest_image
from resnet_demo.config import TrainConfig

SIZES = 4  # a few only: for each, a device sets itself up anew
GROWTH_SHARE = 0.6  # share of the run after which the images have their full size


def image_sizes(config: TrainConfig) -> list[int]:
    """The sides in pixels that training images have in turn; the last one is image_size.

    None is smaller than the network takes. One alone where nothing grows.
    """
    last, least = config.image_size, smallest_image(config.model, config.stem)
    first = max(round(config.grow_from * last), least)
    return sorted({round(first + (last - first) * i / (SIZES - 1)) for i in range(SIZES)})


def image_size_at(sides: Sequence[int], done: float, whole: float = 1.0) -> int:
    """The side after `done` of `whole`, steps of a run say: even stretches, then the last."""
    stretch = int(done / whole / GROWTH_SHARE * (len(sides) - 1))
    return sides[min(max(stretch, 0), len(sides) - 1)]


def relative_cost(sides: Sequence[int], done: float = 1.0, whole: float = 1.0) -> float:
    """What the first `done` of `whole` cost, steps of a run say, in such of full-sized images.

    Pixels are counted: convolutions cost so, and the rest follows nearly.
    """
    starts = [GROWTH_SHARE * i / max(len(sides) - 1, 1) * whole for i in range(len(sides))]
    stretches = zip(sides, pairwise([*starts, whole]), strict=True)
    return sum(
        (side / sides[-1]) ** 2 * max(0.0, min(end, done) - start)
        for side, (start, end) in stretches
    )
