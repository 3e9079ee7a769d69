"""Corruptions, compared with PIL and torchvision."""

import io

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from PIL import Image, ImageEnhance

from resnet_demo.errors import ConfigError
from resnet_demo.evaluation.corruptions import (
    CORRUPTIONS,
    blur,
    brightness,
    contrast,
    corrupt,
    jpeg,
    noise,
    rotate,
    shift,
    translate,
)

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 256, (3, 24, 36, 3), dtype=torch.uint8, generator=GENERATOR)
# Smooth, because in pure noise a corruption would destroy everything.
PHOTOS = TF.gaussian_blur(IMAGES.permute(0, 3, 1, 2), 9, 2).permute(0, 2, 3, 1).contiguous()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def channels_first(images):
    return images.permute(0, 3, 1, 2)


def difference(images, others):
    return (images.int() - torch.as_tensor(others).int()).abs()


@pytest.mark.parametrize("factor", [0.3, 1, 1.4, 2.6])
@pytest.mark.parametrize(
    ("corruption", "oracle"),
    [(brightness, ImageEnhance.Brightness), (contrast, ImageEnhance.Contrast)],
)
def test_brightness_and_contrast_agree_with_pil(corruption, oracle, factor):
    for ours, image in zip(corruption(IMAGES, factor), IMAGES, strict=True):
        theirs = oracle(Image.fromarray(image.numpy())).enhance(factor)
        assert difference(ours, np.array(theirs)).max() <= 1  # PIL truncates, ours rounds


@pytest.mark.parametrize("percent", [1.5, 6, 20])
def test_blur_agrees_with_torchvision(percent):
    sigma = percent / 100 * 24
    size = 2 * int(np.ceil(3 * sigma)) + 1
    theirs = TF.gaussian_blur(channels_first(IMAGES), [size, size], [sigma, sigma])
    assert difference(channels_first(blur(IMAGES, percent)), theirs).max() <= 1


def test_noise_has_the_requested_standard_deviation():
    grey = torch.full((4, 50, 50, 3), 128, dtype=torch.uint8)
    noisy = noise(grey, 20, seeded()).double()
    assert noisy.std().item() == pytest.approx(20, rel=0.02)
    assert noisy.mean().item() == pytest.approx(128, abs=0.5)
    assert not torch.equal(noisy[0], noisy[1])


@pytest.mark.parametrize("quality", [7, 70])
def test_jpeg_agrees_with_pil(quality):
    file = io.BytesIO()
    Image.fromarray(PHOTOS[2].numpy()).save(file, "JPEG", quality=quality)
    np.testing.assert_array_equal(jpeg(PHOTOS, quality)[2], np.array(Image.open(file)))


def test_translate_moves_each_image_by_its_own_pixels():
    result = translate(IMAGES, torch.tensor([2, 0, -3]), torch.tensor([0, -5, 1]))
    assert torch.equal(result[0, 2:], IMAGES[0, :-2])
    assert torch.equal(result[1, :, :-5], IMAGES[1, :, 5:])
    assert torch.equal(result[2, :-3, 1:], IMAGES[2, 3:, :-1])
    assert torch.equal(result[0, :2], IMAGES[0, [2, 1]])  # mirrored, the outermost row only once
    assert torch.equal(result[1, :, -5:], IMAGES[1, :, [-2, -3, -4, -5, -6]])


def test_shift_moves_in_all_four_directions_by_percent_of_the_shorter_side():
    images = torch.arange(24 * 36).view(1, 24, 36, 1).expand(60, -1, -1, 3)
    middle = shift(images, 13, seeded())[:, 12, 18, 0]  # 13 % of 24 is 3
    expected = {12 * 36 + 18 + down * 36 + right for down in (3, -3) for right in (3, -3)}
    assert set(middle.tolist()) == expected


@pytest.mark.parametrize("degrees", [-45, -10, 5, 90])
def test_rotation_agrees_with_torchvision_away_from_the_edges(degrees):
    angles = torch.tensor([0.0, degrees, 0.0])
    ours = channels_first(rotate(PHOTOS, angles))
    options = {"angle": degrees, "interpolation": TF.InterpolationMode.BILINEAR}
    theirs = TF.rotate(channels_first(PHOTOS)[1:2], **options)
    inside = TF.rotate(torch.full((1, 3, 24, 36), 255, dtype=torch.uint8), **options) == 255
    assert inside.float().mean() > 0.5
    assert difference(ours[1:2], theirs)[inside].max() <= 1
    assert torch.equal(ours[0], channels_first(PHOTOS)[0])
    assert ours[1:2][~inside].min() > 0  # no black corners


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_kind_is_deterministic_and_changes_more_with_strength(name):
    worse = [
        difference(corrupt(PHOTOS, name, strength, 7), PHOTOS).float().mean()
        for strength in range(1, 6)
    ]
    assert worse == sorted(worse)
    assert 0 < worse[0] < worse[4]
    first, same = corrupt(PHOTOS, name, 3, 7), corrupt(PHOTOS, name, 3, 7)
    assert (first.dtype, first.shape) == (torch.uint8, PHOTOS.shape)
    assert torch.equal(first, same)


@pytest.mark.parametrize("name", ["noise", "shift", "rotation"])
def test_another_seed_gives_other_pixels(name):
    many = PHOTOS.repeat(4, 1, 1, 1)
    assert not torch.equal(corrupt(many, name, 3, 0), corrupt(many, name, 3, 1))


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("side", [1, 2, 9])
def test_a_single_small_image_can_be_corrupted(name, side):
    image = torch.full((1, side, side, 3), 100, dtype=torch.uint8)
    assert corrupt(image, name, 5).shape == (1, side, side, 3)


def test_the_input_is_not_changed():
    before = PHOTOS.clone()
    for name in CORRUPTIONS:
        corrupt(PHOTOS, name, 5)
    assert torch.equal(PHOTOS, before)


@pytest.mark.parametrize("name", ["fog", "", None, ["noise"]])
def test_an_unknown_kind_is_refused(name):
    with pytest.raises(ConfigError, match="corruption must be one of brightness, contrast"):
        corrupt(PHOTOS, name, 1)


@pytest.mark.parametrize("strength", [0, 6, 2.5, "3", None])
def test_a_strength_outside_1_to_5_is_refused(strength):
    with pytest.raises(ConfigError, match="strength must be a whole number from 1 to 5"):
        corrupt(PHOTOS, "noise", strength)
