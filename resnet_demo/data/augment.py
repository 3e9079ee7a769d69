"""Augmentation on the device. What happens to a batch follows from (seed, epoch, step) alone.

A few numbers per image are drawn on the CPU and sent to the images' device. So a GPU and a laptop
train on the same pixels (up to rounding, where pixels are interpolated), and a resumed run on those
it would have seen without the break.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# One random stream per purpose: equal numbers in two purposes never give equal streams.
ORDER, AUGMENT, MIRROR, PHOTO = 1, 2, 3, 4
ASPECT = 4 / 3  # a random resized crop is stretched by at most this, as in torchvision's
CHUNK_PIXELS = 2**18  # of images that are floats at the same time on a CPU: 3 MB fit in its cache


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
    crop_area: float = 1.0,
    rotation: float = 0.0,
    colour_jitter: float = 0.0,
    generator_seed: tuple[int, ...],
    fill: tuple[int, int, int] = (128, 128, 128),
    batch_size: int | None = None,
    positions: Tensor | slice = slice(None),
) -> Tensor:
    """Change images at random; (B, H, W, 3) uint8 in and out, same device.

    First come random resized crops, rotation and colours, see `change_photographs`; then mirroring,
    shifts and blank squares.

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
    if crop_area < 1 or rotation or colour_jitter:
        generator = _generator(PHOTO, generator_seed)
        uniform = torch.rand(8, batch_size or len(images), generator=generator)[:, positions]
        limits = {"crop_area": crop_area, "rotation": rotation, "colour_jitter": colour_jitter}
        images = change_photographs(images, uniform, fill, **limits)
    if mirror is None and not (crop or cutout):
        return images
    height, width = images.shape[1:3]
    generator = _generator(AUGMENT, generator_seed)
    # Drawn for the whole batch, also by a rank that has a part of it: the ranks together see what a
    # single process would.
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
        # Mirrored indices instead of pixels: the one gather below does all three changes.
        columns = torch.where(mirror[:, None], width - 1 - columns, columns)
    rows, columns = _reflect(rows + down - crop, height), _reflect(columns + right - crop, width)
    return _gather(images, rows, columns, hole, fill)


def change_photographs(
    images: Tensor,
    uniform: Tensor,
    fill: tuple[int, int, int],
    *,
    crop_area: float,
    rotation: float,
    colour_jitter: float,
) -> Tensor:
    """Crop and enlarge, rotate, and change the colours of images; (B, H, W, 3) uint8 in and out.

    uniform: (8, B) random numbers from 0 to 1, on the CPU; each change has its own.
    crop_area: the smallest share of the area that a crop keeps; 1: no crop. rotation: the largest
    angle in degrees, either way; corners get the colour `fill`. colour_jitter: brightness, contrast
    and saturation are each multiplied by a number from 1 - this to 1 + this.
    """
    boxes = crop_boxes(uniform[:4], crop_area, *images.shape[1:3])
    degrees, *factors = 2 * uniform[4:] - 1
    parameters = torch.stack(
        (*boxes, rotation * degrees, *(1 + colour_jitter * f for f in factors))
    )
    # non_blocking: a blocking copy would make the host wait until the device is idle.
    parameters = parameters.to(images.device, non_blocking=True)
    is_cpu = images.device.type == "cpu"  # a GPU would rather have all at once
    step = max(1, CHUNK_PIXELS // images[0, ..., 0].numel()) if is_cpu else len(images)
    parts = []
    for part, numbers in zip(images.split(step), parameters.split(step, dim=1), strict=True):
        # Contiguous: gathering in grid_sample and the matrices of colours are faster so.
        x = part.permute(0, 3, 1, 2).contiguous().float()
        if crop_area < 1 or rotation:
            x = resample(x, *numbers[:5], fill)
        if colour_jitter:
            x = jitter_colours(x, *numbers[5:])
        parts.append(x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous())
    return torch.cat(parts)


def crop_boxes(uniform: Tensor, crop_area: float, height: int, width: int) -> tuple[Tensor, ...]:
    """Return top, left, height and width of random crops in pixels, (B,) each.

    uniform: (4, B) from 0 to 1. The crop's share of the area is uniform from crop_area to 1, its
    aspect ratio relative to the image's log-uniform within ASPECT, as far as it fits.
    """
    area = crop_area + (1 - crop_area) * uniform[0]
    widest = torch.minimum(torch.tensor(math.log(ASPECT)), -area.log())  # more would not fit
    ratio = torch.exp((2 * uniform[1] - 1) * widest)
    heights = (height * (area / ratio).sqrt()).round().clamp(1, height)
    widths = (width * (area * ratio).sqrt()).round().clamp(1, width)
    tops = (uniform[2] * (height - heights + 1)).floor()
    lefts = (uniform[3] * (width - widths + 1)).floor()
    return tops, lefts, heights, widths


def resample(
    x: Tensor,
    top: Tensor,
    left: Tensor,
    height: Tensor,
    width: Tensor,
    degrees: Tensor,
    fill: tuple[int, int, int],
) -> Tensor:
    """Rotate images, crop them to a box and enlarge that to their size, in one bilinear pass.

    x: (B, 3, H, W) float. top, left, height, width, degrees (counter-clockwise): (B,).
    """
    size = x.shape[2:]
    # Positions of the output's pixels in the rotated image; a crop ends at its outermost pixels.
    y = _box_positions(top, height, size[0])[:, :, None]  # (B, H, 1)
    x_position = _box_positions(left, width, size[1])[:, None]  # (B, 1, W)
    y, x_position = (
        part - (side - 1) / 2 for part, side in zip((y, x_position), size, strict=True)
    )
    angle = torch.deg2rad(degrees)[:, None, None]
    source_x = angle.cos() * x_position - angle.sin() * y
    source_y = angle.sin() * x_position + angle.cos() * y
    # grid_sample counts from -1 to 1, from edge to edge.
    grid = torch.stack((source_x * 2 / size[1], source_y * 2 / size[0]), dim=-1)
    colour = x.new_tensor(fill)[:, None, None]
    # Outside of the image it samples 0, which then is the colour.
    sampled = F.grid_sample(x - colour, grid, mode="bilinear", align_corners=False)
    return sampled + colour


def _box_positions(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Return where `size` pixels across [start, start + length) lie, (B, size), in pixels."""
    steps = (torch.arange(size, device=start.device) + 0.5) / size
    inside = torch.minimum((steps * length[:, None] - 0.5).clamp(min=0), length[:, None] - 1)
    return start[:, None] + inside


def jitter_colours(x: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Return images with their colours multiplied by these factors, (B,) each.

    x: (B, 3, H, W) float. As torchvision's adjust_brightness, adjust_contrast and adjust_saturation
    one after another, but without clamping in between.
    """
    # float64, so that the sum does not depend on how the batch is divided among threads and ranks.
    mean = _greyscale(x.mean((2, 3), dtype=torch.float64)).float()
    gain, offset = brightness * contrast, (1 - contrast) * brightness * mean
    own, grey = gain * saturation, gain * (1 - saturation)
    shade = grey[:, None, None] * _greyscale(x) + offset[:, None, None]  # (B, H, W)
    return x * own[:, None, None, None] + shade[:, None]


def _greyscale(x: Tensor) -> Tensor:
    """Return the grey value of (B, 3, ...), with torchvision's weights."""
    red, green, blue = x.unbind(1)
    return 0.2989 * red + 0.587 * green + 0.114 * blue


def _generator(purpose: int, numbers: tuple[int, ...]) -> torch.Generator:
    # The length is part of the entropy: SeedSequence treats (1, 2) and (1, 2, 0) alike.
    entropy = [purpose, len(numbers), *numbers]
    seed = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed) >> 1)  # below 2**63


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
