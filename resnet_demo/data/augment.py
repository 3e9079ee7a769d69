"""Augmentation on the device. What happens to a batch follows from (seed, epoch, step) alone.

A few numbers per image are drawn on the CPU and sent to the images' device. So a GPU and a laptop
train on the same pixels, and a resumed run on those it would have seen without the break.
"""

import numpy as np
import torch
from torch import Tensor

# One random stream per purpose: equal numbers in two purposes never give equal streams.
ORDER, AUGMENT, MIRROR = 1, 2, 3


def permutation(n: int, seed: int, epoch: int) -> Tensor:
    """Return the order of the training images in one epoch: (n,) int64, on the CPU."""
    return torch.randperm(n, generator=_generator(ORDER, (seed, epoch)))


def mirror_mask(n: int, seed: int, epoch: int) -> Tensor:
    """Return which of the training images an epoch mirrors: (n,) bool, on the CPU.

    A random half in one epoch, the other half in the next: every two epochs show each image both
    ways (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds", section 3.6).
    """
    first = torch.randint(2, (n,), generator=_generator(MIRROR, (seed,)))
    return (first + epoch) % 2 == 1


def augment(
    images: Tensor,
    *,
    mirror: Tensor | None,
    crop: int,
    cutout: int,
    generator_seed: tuple[int, ...],
    fill: tuple[int, int, int] = (128, 128, 128),
    batch_size: int | None = None,
    positions: Tensor | slice = slice(None),
) -> Tensor:
    """Mirror, shift and blank images at random; (B, H, W, 3) uint8 in and out, same device.

    mirror: (B,) bool, which images to mirror left to right; None: none.
    crop: shift by up to so many pixels each way; edges are reflected without repeating the
    outermost pixel.
    cutout: side of a square filled with the colour `fill`. Its centre lies anywhere in the image,
    so part of it may fall outside (DeVries and Taylor 2017).
    generator_seed: non-negative integers, such as (seed, epoch, step). The draws for crop are the
    same with and without cutout.
    batch_size, positions: the images are those at these positions (from 0) of a batch of that size,
    and each gets the draws of its position. None: they are the whole batch.
    """
    if mirror is None and not (crop or cutout):
        return images
    height, width = images.shape[1:3]
    generator = _generator(AUGMENT, generator_seed)
    shape = (batch_size or len(images), 1)
    ranges = (2 * crop + 1, 2 * crop + 1, height, width)
    draws = torch.stack([torch.randint(n, shape, generator=generator) for n in ranges])
    draws = draws[:, positions]
    # non_blocking: a blocking copy would make the host wait until the device is idle.
    down, right, middle_y, middle_x = draws.to(images.device, non_blocking=True)
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    hole = None
    if cutout:
        in_rows = _within(rows, middle_y - cutout // 2, cutout)
        in_columns = _within(columns, middle_x - cutout // 2, cutout)
        hole = in_rows[:, :, None] & in_columns[:, None]
    if mirror is not None:
        columns = torch.where(mirror[:, None], width - 1 - columns, columns)
    rows, columns = _reflect(rows + down - crop, height), _reflect(columns + right - crop, width)
    return _gather(images, rows, columns, hole, fill)


def _generator(purpose: int, numbers: tuple[int, ...]) -> torch.Generator:
    # The length is part of the entropy: SeedSequence treats (1, 2) and (1, 2, 0) alike.
    entropy = [purpose, len(numbers), *numbers]
    seed = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed) >> 1)


def _within(position: Tensor, start: Tensor, length: int) -> Tensor:
    return (position >= start) & (position < start + length)


def _reflect(index: Tensor, size: int) -> Tensor:
    """Mirror an index beyond either edge back inside: -1 becomes 1, size becomes size - 2."""
    period = max(2 * (size - 1), 1)
    index = index % period
    return torch.where(index < size, index, period - index)


def _gather(
    images: Tensor, rows: Tensor, columns: Tensor, hole: Tensor | None, fill: tuple[int, int, int]
) -> Tensor:
    """Return images[b, rows[b, y], columns[b, x]], or fill where hole[b, y, x].

    hole: (B, H, W) bool.
    """
    # One gather of whole pixels from a flat list; the fill colour is appended as its last entry.
    batch, height, width = images.shape[:3]
    pixels = images.reshape(-1, 3)
    first = torch.arange(batch, device=images.device)[:, None, None] * (height * width)
    index = first + rows[:, :, None] * width + columns[:, None]
    if hole is not None:
        colour = torch.tensor([fill], dtype=torch.uint8).to(images.device, non_blocking=True)
        index = index.masked_fill_(hole, len(pixels))
        pixels = torch.cat((pixels, colour))
    return pixels.index_select(0, index.flatten()).view(images.shape)
