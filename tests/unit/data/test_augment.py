"""Augmentation: its results, and that they follow from the seed alone."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from resnet_demo.data.augment import PHOTO as PHOTO_STREAM
from resnet_demo.data.augment import (
    _generator,
    augment,
    change_photographs,
    crop_boxes,
    jitter_colours,
    mirror_mask,
    permutation,
    resample,
)

FILL = (1, 2, 3)
EVERY_OTHER = torch.arange(16) % 2 == 1


def noise(batch: int = 16, height: int = 12, width: int = 10) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (batch, height, width, 3)
    return torch.randint(4, 256, shape, dtype=torch.uint8, generator=generator)


def candidates(image: Tensor, *, flip: bool, crop: int, cutout: int):
    """Yield every possible result for one image, by a slow, simple loop."""
    height, width = image.shape[:2]
    seen = image.numpy()[:, ::-1] if flip else image.numpy()
    wide = np.pad(seen, ((crop, crop), (crop, crop), (0, 0)), mode="reflect")
    for top in range(2 * crop + 1):
        for left in range(2 * crop + 1):
            moved = wide[top : top + height, left : left + width]
            yield from blanked(moved, cutout) if cutout else [moved]


def blanked(image: np.ndarray, side: int):
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            result = image.copy()
            top, left = max(y - side // 2, 0), max(x - side // 2, 0)
            result[top : y - side // 2 + side, left : x - side // 2 + side] = FILL
            yield result


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("crop", "cutout"), [(0, 0), (2, 0), (0, 3), (1, 4), (9, 0)])
def test_each_image_is_one_of_the_results_of_a_slow_loop(flip: bool, crop: int, cutout: int):
    images = noise()
    settings, mirror = {"crop": crop, "cutout": cutout}, EVERY_OTHER if flip else None
    seed = {"generator_seed": (7, 1, 2)}
    results = augment(images, mirror=mirror, **settings, fill=FILL, **seed).numpy()
    for number, (image, result) in enumerate(zip(images, results, strict=True)):
        possible = candidates(image, flip=flip and number % 2 == 1, **settings)
        assert any(np.array_equal(result, expected) for expected in possible)


def test_every_offset_occurs_about_equally_often():
    images = noise(1, 8, 8).expand(2000, -1, -1, -1)
    results = augment(images, mirror=None, crop=1, cutout=0, generator_seed=(0, 0, 0))
    _, counts = results.flatten(1).unique(dim=0, return_counts=True)
    assert len(counts) == 3 * 3
    assert counts.min() > 160  # 222 expected, deviation 15
    assert counts.max() < 290


def test_an_epoch_mirrors_a_random_half_and_the_next_epoch_the_other():
    first = mirror_mask(4000, 3, 1)
    assert 1850 < first.sum() < 2150
    assert torch.equal(mirror_mask(4000, 3, 2), ~first)
    assert torch.equal(mirror_mask(4000, 3, 3), first)
    assert not torch.equal(mirror_mask(4000, 4, 1), first)


def test_a_cutout_blanks_the_part_of_a_square_inside_the_image():
    results = augment(noise(500), mirror=None, crop=2, cutout=4, fill=FILL, generator_seed=(0, 0))
    blank = (results == torch.tensor(FILL, dtype=torch.uint8)).all(-1)
    areas = blank.sum((1, 2))
    assert areas.max() == 16
    assert areas.min() >= 4  # a corner's share: its centre is always inside
    assert blank.any(0).all()


@pytest.mark.parametrize("positions", [slice(5, 11), torch.tensor([15, 0, 7])], ids=str)
def test_a_part_of_a_batch_is_augmented_as_within_the_batch(positions):
    settings = {"crop": 2, "cutout": 4, "fill": FILL, "generator_seed": (7, 1, 2)}
    whole = augment(noise(), mirror=EVERY_OTHER, **settings)
    part, mirror = noise()[positions], EVERY_OTHER[positions]
    alone = augment(part, mirror=mirror, **settings, batch_size=16, positions=positions)
    assert torch.equal(alone, whole[positions])


def test_without_augmentation_images_are_unchanged():
    images = noise()
    assert torch.equal(augment(images, mirror=None, crop=0, cutout=0, generator_seed=(1,)), images)


def test_the_same_seed_gives_the_same_images_and_leaves_global_state_alone():
    images, settings = noise(), {"mirror": EVERY_OTHER, "crop": 4, "cutout": 2}
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = augment(images, **settings, generator_seed=(1, 2, 3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(augment(images, **settings, generator_seed=(1, 2, 3)), first)
    for other in ((1, 2, 4), (1, 3, 3), (2, 2, 3), (1, 2), (1, 2, 3, 0)):
        assert not torch.equal(augment(images, **settings, generator_seed=other), first)


def test_shifts_are_the_same_with_and_without_cutout():
    images, seed = noise(), {"mirror": None, "crop": 3, "generator_seed": (5, 0, 1)}
    alone, blanked_too = (augment(images, cutout=side, fill=FILL, **seed) for side in (0, 4))
    kept = (blanked_too != torch.tensor(FILL, dtype=torch.uint8)).any(-1)
    assert torch.equal(alone[kept], blanked_too[kept])
    assert not kept.all()


PHOTO = {"crop_area": 0.3, "rotation": 25.0, "colour_jitter": 0.4}


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def whole(x: Tensor) -> tuple[Tensor, ...]:
    """Return boxes that crop nothing: top, left, height, width."""
    return tuple(torch.full((len(x),), float(side)) for side in (0, 0, *x.shape[2:]))


def test_a_resized_crop_is_torchvisions():
    x = noise(5, 40, 30).permute(0, 3, 1, 2).float()
    boxes = (column(0, 3, 5, 10, 38), column(0, 2, 4, 29, 1))  # top, left
    boxes += (column(40, 20, 33, 1, 2), column(30, 20, 26, 1, 29))  # height, width
    results = resample(x, *boxes, torch.zeros(5), FILL)
    for image, result, *box in zip(
        x, results, *(part.int().tolist() for part in boxes), strict=True
    ):
        expected = TF.resized_crop(
            image, *box, [40, 30], InterpolationMode.BILINEAR, antialias=True
        )
        torch.testing.assert_close(result, expected, rtol=0, atol=0.01)


def test_a_rotation_is_torchvisions_and_pils_with_the_colour_in_the_corners():
    x = noise(6, 41, 31).permute(0, 3, 1, 2).float()
    degrees = column(0, 10, -35, 90, 180, 3)
    results = resample(x, *whole(x), degrees, FILL)
    for image, result, angle in zip(x, results, degrees.tolist(), strict=True):
        mode = InterpolationMode.BILINEAR
        inside = TF.rotate(torch.ones_like(image), angle, mode, fill=[0.0] * 3)
        # At the edge torchvision mixes the colour in twice.
        expected = TF.rotate(image, angle, mode, fill=[float(value) for value in FILL])
        certain = (inside == 0) | (inside > 1 - 1e-4)
        assert certain.float().mean() > 0.9
        torch.testing.assert_close(result[certain], expected[certain], rtol=0, atol=0.02)
        pil = Image.fromarray(image.permute(1, 2, 0).byte().numpy())
        pil = np.asarray(pil.rotate(angle, Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        middle = (slice(None), slice(10, -10), slice(10, -10))
        np.testing.assert_allclose(result[middle], pil[middle], atol=1.5)


def test_colours_are_changed_as_by_torchvision():
    x = (noise(6).permute(0, 3, 1, 2).float() / 4 + 90).round()  # no value is cut off on the way
    factors = (
        column(0.9, 1.1, 1, 0.8, 1.2, 1),
        column(1.1, 0.9, 1, 1.2, 0, 1.2),
        column(0.7, 1.3, 1, 0.5, 1.2, 0),
    )
    results = jitter_colours(x, *factors)
    for image, result, *each in zip(x, results, *factors, strict=True):
        expected = image / 255
        changes = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation)
        for change, factor in zip(changes, each, strict=True):
            expected = change(expected, factor.item())
        torch.testing.assert_close(result, 255 * expected, rtol=0, atol=0.02)


def test_rotation_crop_and_colours_are_applied_one_after_another():
    images = noise(6, 20, 20) // 2 + 60
    uniform = torch.rand(8, 6, generator=torch.Generator().manual_seed(1))
    result = change_photographs(images, uniform, FILL, **PHOTO)
    x = images.permute(0, 3, 1, 2).float()
    boxes = crop_boxes(uniform[:4], 0.3, 20, 20)
    degrees, *factors = 2 * uniform[4:] - 1
    x = resample(x, *boxes, 25 * degrees, FILL)
    x = jitter_colours(x, *(1 + 0.4 * factor for factor in factors))
    expected = x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    assert torch.equal(result, expected)


def test_random_crops_keep_their_share_of_the_area_and_their_shape():
    uniform = torch.rand(4, 5000, generator=torch.Generator().manual_seed(0))
    uniform[:, :2] = torch.tensor([[0.0, 0.99999]])  # the smallest and the largest
    top, left, height, width = crop_boxes(uniform, 0.2, 200, 100)
    area, ratio = height * width / 20_000, (width / 100) / (height / 200)
    assert 0.195 < area.min() < 0.21
    assert area.max() <= 1
    torch.testing.assert_close(area.mean(), torch.tensor(0.6), rtol=0, atol=0.01)
    assert 0.73 < ratio.min() < 0.76
    assert 1.32 < ratio.max() < 1.36
    for start, length, side in ((top, height, 200), (left, width, 100)):
        assert start.min() == 0
        assert (start + length).max() == side
        assert ((length >= 1) & (start + length <= side)).all()


@pytest.mark.parametrize("part", [slice(5, 11), torch.tensor([15, 0, 7])], ids=str)
@pytest.mark.parametrize("chunk", [2**18, 150])
def test_photographs_are_changed_the_same_in_any_part_of_a_batch(part, chunk, monkeypatch):
    monkeypatch.setattr("resnet_demo.data.augment.CHUNK_PIXELS", chunk)
    settings = {"crop": 2, "cutout": 4, "fill": FILL, "generator_seed": (7, 1, 2), **PHOTO}
    images = noise()
    every = augment(images, mirror=EVERY_OTHER, **settings)
    alone = augment(
        images[part], mirror=EVERY_OTHER[part], **settings, batch_size=16, positions=part
    )
    assert torch.equal(alone, every[part])
    assert torch.equal(augment(images, mirror=EVERY_OTHER, **settings), every)
    assert torch.equal(images, noise())
    settings["generator_seed"] = (7, 1, 3)
    assert not torch.equal(augment(images, mirror=EVERY_OTHER, **settings), every)


@pytest.mark.parametrize("name", PHOTO)
def test_each_change_of_photographs_works_alone_with_the_draws_it_has_beside_others(name):
    settings = {"mirror": None, "crop": 0, "cutout": 0, "fill": FILL, "generator_seed": (1,)}
    off = {"crop_area": 1.0, "rotation": 0.0, "colour_jitter": 0.0}
    images = noise(4, 16, 16)
    changed = augment(images, **settings, **{**off, name: PHOTO[name]})
    assert (changed != images).flatten(1).any(1).sum() >= 3
    uniform = torch.rand(8, 4, generator=_generator(PHOTO_STREAM, (1,)))
    expected = change_photographs(images, uniform, FILL, **{**off, name: PHOTO[name]})
    assert torch.equal(changed, expected)


def test_the_input_is_not_changed():
    images = noise()
    before = images.clone()
    augment(images, mirror=EVERY_OTHER, crop=3, cutout=3, generator_seed=(0,))
    assert torch.equal(images, before)


def test_images_of_one_pixel_are_allowed():
    result = augment(noise(3, 1, 1), mirror=EVERY_OTHER[:3], crop=5, cutout=0, generator_seed=(0,))
    assert torch.equal(result, noise(3, 1, 1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_makes_the_same_images():
    images, settings = noise(), {"crop": 4, "cutout": 2, "generator_seed": (1, 2, 3)}
    on_gpu = augment(images.cuda(), mirror=EVERY_OTHER.cuda(), **settings)
    assert torch.equal(on_gpu.cpu(), augment(images, mirror=EVERY_OTHER, **settings))
    on_gpu = augment(images.cuda(), mirror=EVERY_OTHER.cuda(), **settings, **PHOTO)
    expected = augment(images, mirror=EVERY_OTHER, **settings, **PHOTO).short()
    assert (on_gpu.cpu() - expected).abs().max() <= 1  # interpolated, then rounded


def test_a_permutation_depends_on_seed_and_epoch_alone():
    order = permutation(1000, 3, 5)
    assert order.dtype == torch.int64
    assert sorted(order.tolist()) == list(range(1000))
    torch.manual_seed(9)
    assert torch.equal(permutation(1000, 3, 5), order)
    for seed, epoch in ((3, 6), (4, 5), (5, 3), (3, 0)):
        assert not torch.equal(permutation(1000, seed, epoch), order)
