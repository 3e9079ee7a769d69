"""Preprocessing: resizing, normalizing, and its stored form."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_demo.data.cifar10.original_batches import INFO as CIFAR
from resnet_demo.data.pictures import fit_to_square
from resnet_demo.data.preprocess import (
    ARTICLE_MEAN,
    ARTICLE_STD,
    Preprocessing,
    preprocessing_for,
)
from resnet_demo.data.shapes import INFO as SHAPES
from resnet_demo.errors import DamagedError

PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Return (20, 32, 32, 3) uint8 with soft and hard edges and noise, as in photographs."""
    random = np.random.RandomState(0)
    coarse = random.randint(0, 256, (20, 8, 8, 3)).astype(np.uint8)
    soft = [
        np.asarray(Image.fromarray(one).resize((32, 32), Image.Resampling.BICUBIC))
        for one in coarse
    ]
    return np.clip(np.array(soft) + random.normal(0, 8, (20, 32, 32, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("side", [16, 24, 32, 48, 224])
def test_resizing_is_pils_but_for_its_rounding(images: np.ndarray, side: int):
    prepared = Preprocessing(32, side, *PLAIN).prepare(torch.from_numpy(images))
    by_pil = [
        Image.fromarray(one).resize((side, side), Image.Resampling.BILINEAR) for one in images
    ]
    difference = np.abs(prepared.permute(0, 2, 3, 1).numpy() * 255 - np.array(by_pil, float))
    assert difference.mean() < 0.4  # of 255; twice rounding to the nearest costs about a third
    assert difference.max() <= 1.01


@pytest.mark.parametrize("side", [32, 40])
def test_pixels_are_scaled_to_0_to_1_and_normalized(images: np.ndarray, side: int):
    mean, std = (0.1, 0.5, 0.7), (0.2, 0.3, 0.4)
    plain = Preprocessing(32, side, *PLAIN).prepare(torch.from_numpy(images))
    scaled = Preprocessing(32, side, mean, std).prepare(torch.from_numpy(images))
    by_hand = (plain - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(scaled, by_hand, atol=2e-6, rtol=1e-5)
    if side == 32:
        raw = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        torch.testing.assert_close(plain, raw)


@pytest.mark.parametrize("side", [32, 64])
def test_the_result_is_float32_with_channels_last(images, side):
    prepared = Preprocessing(32, side, *PLAIN).prepare(torch.from_numpy(images))
    assert prepared.shape == (20, 3, side, side)
    assert prepared.dtype == torch.float32
    assert prepared.is_contiguous(memory_format=torch.channels_last)


def test_images_of_any_size_and_layout_are_taken(images: np.ndarray):
    flipped = torch.from_numpy(images)[:3, 4:, ::2].flip(1)
    prepared = Preprocessing(32, 32, *PLAIN).prepare(flipped)
    again = Preprocessing(32, 32, *PLAIN).prepare(flipped.contiguous())
    torch.testing.assert_close(prepared, again)
    assert prepared.shape == (3, 3, 32, 32)


def test_the_input_is_not_changed(images: np.ndarray):
    before = images.copy()
    Preprocessing(32, 32, *PLAIN).prepare(torch.from_numpy(images))
    np.testing.assert_array_equal(images, before)


def test_an_upload_becomes_what_an_import_would_store(images: np.ndarray):
    wide = np.concatenate(images[:3], axis=1)
    picture = Preprocessing(16, 32, *PLAIN).fit_picture(wide)
    middle = Image.fromarray(images[1]).resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(picture, np.asarray(middle))


def test_large_images_are_shrunk_in_parts_with_the_same_result(images: np.ndarray, monkeypatch):
    preprocessing = Preprocessing(32, 16, ARTICLE_MEAN, ARTICLE_STD)
    whole = preprocessing.prepare(torch.from_numpy(images))
    monkeypatch.setattr("resnet_demo.data.preprocess.CHUNK_PIXELS", 3 * 32 * 32)
    parts = preprocessing.prepare(torch.from_numpy(images))
    assert torch.equal(parts, whole)
    assert parts.is_contiguous(memory_format=torch.channels_last)


def test_uploads_are_made_square_as_the_datasets_pictures_were(images: np.ndarray):
    wide = np.concatenate(images[:3], axis=1)
    padded = preprocessing_for(replace(CIFAR, fit="pad"), 64)
    np.testing.assert_array_equal(padded.fit_picture(wide), fit_to_square(wide, 32, "pad"))
    squashed = fit_to_square(wide, 32, "squash")
    np.testing.assert_array_equal(padded.fit_picture(wide, "squash"), squashed)


def test_cifar10_has_the_published_numbers_and_the_tutorials_fault_on_request():
    right, wrong = preprocessing_for(CIFAR, 224), preprocessing_for(CIFAR, 224, per_image_std=True)
    assert (right.mean, right.std) == (ARTICLE_MEAN, (0.2470, 0.2435, 0.2616))
    assert (wrong.mean, wrong.std) == (ARTICLE_MEAN, ARTICLE_STD)
    assert (right.source_size, right.image_size) == (32, 224)
    np.testing.assert_allclose(CIFAR.per_image_std, ARTICLE_STD, atol=1e-4)


def test_other_datasets_have_their_own_numbers():
    assert preprocessing_for(SHAPES, 32, False).std == SHAPES.std
    assert preprocessing_for(SHAPES, 32, True).std == SHAPES.per_image_std
    assert preprocessing_for(SHAPES, 32, False).mean == SHAPES.mean


def test_it_survives_json():
    one = preprocessing_for(replace(CIFAR, fit="squash"), 64)
    assert Preprocessing.from_dict(json.loads(json.dumps(one.to_dict()))) == one


def test_older_files_do_not_name_the_fit_and_mean_crop():
    one = preprocessing_for(CIFAR, 64)
    older = {name: value for name, value in one.to_dict().items() if name != "fit"}
    assert Preprocessing.from_dict(older) == one


GOOD = Preprocessing(32, 64, *PLAIN).to_dict()


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {},
        3,
        "text",
        {**GOOD, "source_size": 0},
        {**GOOD, "image_size": 10**9},
        {**GOOD, "image_size": 32.5},
        {**GOOD, "image_size": "32"},
        {**GOOD, "image_size": True},
        {**GOOD, "std": [1.0, 1.0, 0.0]},
        {**GOOD, "std": [1.0, 1.0]},
        {**GOOD, "std": 1.0},
        {**GOOD, "mean": [0.0, 0.0, float("nan")]},
        {**GOOD, "mean": ["a", "b", "c"]},
        {**GOOD, "mean": [0, 0, 10**400]},
        {**GOOD, "mean": None},
        {**GOOD, "fit": "fill"},
        {**GOOD, "fit": None},
    ],
)
def test_nonsense_is_damaged(values):
    with pytest.raises(DamagedError, match=r"^the preprocessing "):
        Preprocessing.from_dict(values)
