"""Progressive resizing: training images that start small and grow during a run. No torch here.

Small images are cheap, and enough for what a network learns first (Tan & Le 2021,
"EfficientNetV2", section 4, who also cite earlier work).
"""

from collections.abc import Sequence
from itertools import pairwise

from resnet_demo.architectures import smallest_image
from resnet_demo.config import TrainConfig

SIZES = 4  # few, since a device tunes its kernels again for each size
GROWTH_SHARE = 0.6  # share of the run after which images have their full size


def image_sizes(config: TrainConfig) -> list[int]:
    """Return the sides in pixels that training images have in turn; the last is image_size.

    None is below the network's minimum. Where nothing grows, there is one size.
    """
    last, minimum = config.image_size, smallest_image(config.model, config.stem)
    first = max(round(config.grow_from * last), minimum)
    # A set: sizes that round to the same number count once.
    return sorted({round(first + (last - first) * i / (SIZES - 1)) for i in range(SIZES)})


def image_size_at(sizes: Sequence[int], done: float, total: float = 1.0) -> int:
    """Return the side after `done` of `total` steps.

    The sizes before the last take equal shares of the first 60 % of the run, the last one the rest.
    """
    index = int(done / total / GROWTH_SHARE * (len(sizes) - 1))
    # From the end of the growth on, `index` is beyond the last size.
    return sizes[min(max(index, 0), len(sizes) - 1)]


def relative_cost(sizes: Sequence[int], done: float = 1.0, total: float = 1.0) -> float:
    """Return the cost of the first `done` of `total` steps, in steps at the full image size.

    Counts pixels: the cost of convolutions is proportional to them, and the rest nearly so.
    """
    # max: with one size nothing grows.
    starts = [GROWTH_SHARE * i / max(len(sizes) - 1, 1) * total for i in range(len(sizes))]
    phases = zip(sizes, pairwise([*starts, total]), strict=True)
    return sum(
        (size / sizes[-1]) ** 2 * max(0.0, min(end, done) - start) for size, (start, end) in phases
    )
