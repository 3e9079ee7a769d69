import numpy as np
import pytest
import torch
from torch import Tensor

from resnet_demo.data.augment import augment, permutation

FILL = (1, 2, 3)


def noise(batch: int = 16, height: int = 12, width: int = 10) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (batch, height, width, 3)
    return torch.randint(4, 256, shape, dtype=torch.uint8, generator=generator)


def candidates(image: Tensor, *, flip: bool, crop: int, cutout: int):
    """Every result one image may have, one after another: slow and plain."""
    height, width = image.shape[:2]
    for mirrored in (False, True) if flip else (False,):
        seen = image.numpy()[:, ::-1] if mirrored else image.numpy()
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
def test_each_image_is_one_of_what_a_slow_loop_can_make(flip: bool, crop: int, cutout: int):
    images = noise()
    knobs = {"flip": flip, "crop": crop, "cutout": cutout}
    results = augment(images, **knobs, fill=FILL, generator_seed=(7, 1, 2)).numpy()
    for image, result in zip(images, results, strict=True):
        assert any(np.array_equal(result, made) for made in candidates(image, **knobs))


def test_every_flip_and_offset_comes_about_as_often():
    images = noise(1, 8, 8).expand(4000, -1, -1, -1)
    results = augment(images, flip=True, crop=1, cutout=0, generator_seed=(0, 0, 0))
    _, counts = results.flatten(1).unique(dim=0, return_counts=True)
    assert len(counts) == 2 * 3 * 3
    assert counts.min() > 160  # 222 expected, deviation 15
    assert counts.max() < 290


def test_a_cutout_blanks_a_square_or_what_of_it_is_inside():
    results = augment(noise(500), flip=True, crop=2, cutout=4, fill=FILL, generator_seed=(0, 0))
    blank = (results == torch.tensor(FILL, dtype=torch.uint8)).all(-1)
    areas = blank.sum((1, 2))
    assert areas.max() == 16
    assert areas.min() >= 4  # a corner's share: its centre is always inside
    assert blank.any(0).all()


def test_nothing_asked_is_nothing_done():
    images = noise()
    assert torch.equal(augment(images, flip=False, crop=0, cutout=0, generator_seed=(1,)), images)


def test_the_same_numbers_give_the_same_images_and_no_global_state_is_touched():
    images, knobs = noise(), {"flip": True, "crop": 4, "cutout": 2}
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = augment(images, **knobs, generator_seed=(1, 2, 3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(augment(images, **knobs, generator_seed=(1, 2, 3)), first)
    for other in ((1, 2, 4), (1, 3, 3), (2, 2, 3), (1, 2), (1, 2, 3, 0)):
        assert not torch.equal(augment(images, **knobs, generator_seed=other), first)


def test_a_flip_is_the_same_whether_or_not_images_are_moved_too():
    images = torch.full((64, 8, 8, 3), 255, dtype=torch.uint8)
    images[:, :, :2] = 0  # the side of the dark columns tells which were mirrored
    seed = {"generator_seed": (5, 0, 1), "cutout": 0}
    alone = (augment(images, flip=True, crop=0, **seed)[:, 4, 4:, 0] == 0).any(1)
    moved = (augment(images, flip=True, crop=1, **seed)[:, 4, 4:, 0] == 0).any(1)
    assert 16 < alone.sum() < 48
    assert torch.equal(alone, moved)


def test_the_input_is_not_changed():
    images = noise()
    before = images.clone()
    augment(images, flip=True, crop=3, cutout=3, generator_seed=(0,))
    assert torch.equal(images, before)


def test_an_images_smallest_size_is_one_pixel():
    result = augment(noise(3, 1, 1), flip=True, crop=5, cutout=0, generator_seed=(0,))
    assert torch.equal(result, noise(3, 1, 1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_makes_the_same_images():
    images, knobs = noise(), {"flip": True, "crop": 4, "cutout": 2, "generator_seed": (1, 2, 3)}
    assert torch.equal(augment(images.cuda(), **knobs).cpu(), augment(images, **knobs))


def test_a_permutation_follows_from_seed_and_epoch_alone():
    order = permutation(1000, 3, 5)
    assert order.dtype == torch.int64
    assert sorted(order.tolist()) == list(range(1000))
    torch.manual_seed(9)
    assert torch.equal(permutation(1000, 3, 5), order)
    for seed, epoch in ((3, 6), (4, 5), (5, 3), (3, 0)):
        assert not torch.equal(permutation(1000, seed, epoch), order)
