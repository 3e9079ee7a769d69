"""Augmentation: its results, and that they follow from the seed alone."""

import numpy as np
import pytest
import torch
from torch import Tensor

from resnet_demo.data.augment import augment, mirror_mask, permutation

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


def test_a_permutation_depends_on_seed_and_epoch_alone():
    order = permutation(1000, 3, 5)
    assert order.dtype == torch.int64
    assert sorted(order.tolist()) == list(range(1000))
    torch.manual_seed(9)
    assert torch.equal(permutation(1000, 3, 5), order)
    for seed, epoch in ((3, 6), (4, 5), (5, 3), (3, 0)):
        assert not torch.equal(permutation(1000, seed, epoch), order)
