"""The preview shows the images that training gets."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from resnet_demo.errors import ConfigError
from resnet_demo.training.batches import Batches
from resnet_demo.training.preview import PAGE_SIZE, preview

ALL = {"flip": True, "crop": 3, "cutout": 5}
PHOTO = {"crop_area": 0.3, "rotation": 20.0, "colour_jitter": 0.4}
NONE = {"flip": False, "crop": 0, "cutout": 0}


@pytest.fixture
def batches(datasets):
    return lambda config: Batches.load(config, datasets, torch.device("cpu"))


def as_pixels(batches, x):
    """Return a normalized batch as pixels, computed in float64."""
    mean, std = (np.array(part) for part in (batches.preprocessing.mean, batches.preprocessing.std))
    pixels = (x.double().permute(0, 2, 3, 1).numpy() * std + mean) * 255
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "knobs",
    [
        *(ALL, {}, {"cutout": 12}, {**NONE, "crop": 11}, {**ALL, **PHOTO}, {**NONE, **PHOTO}),
        *({**ALL, "model": "resnet20", "image_size": side} for side in (8, 20)),
        *({"seed": 7, "val_share": 0.3}, {**ALL, "per_image_std": True}),
    ],
    ids=str,
)
def test_the_first_page_is_the_start_of_the_first_training_batch(knobs, datasets, batches, tiny):
    config = tiny(**knobs)
    trained = batches(config)
    plan = trained.plan(1)
    x, labels = trained.train_batch(plan, 0)
    page = preview(config, datasets)
    assert_same_pictures(np.stack(page.shown), as_pixels(trained, x[:PAGE_SIZE]))
    np.testing.assert_array_equal(page.stored, trained.train_images[plan.order[:PAGE_SIZE]])
    assert page.labels == tuple(trained.classes[label] for label in labels[:PAGE_SIZE])
    assert (page.steps, page.epoch, page.first) == ((1,) * PAGE_SIZE, 1, 0)


def test_in_a_later_epoch_each_image_is_shown_as_in_its_own_step(datasets, batches, tiny):
    config = tiny(**ALL)
    trained = batches(config)
    plan = trained.plan(2)
    page = preview(config, datasets, epoch=2)
    assert len(set(page.steps)) > 2
    for stored, shown, step in zip(page.stored, page.shown, page.steps, strict=True):
        same = (trained.train_images[plan.order] == torch.from_numpy(stored)).flatten(1).all(1)
        [place] = same.nonzero().flatten().tolist()
        x, _ = trained.train_batch(plan, step - 1)
        assert place // config.batch_size == step - 1
        assert_same_pictures(shown, as_pixels(trained, x)[place % config.batch_size])


def test_growing_images_have_the_size_of_their_own_step(datasets, batches, tiny):
    config = tiny(**ALL, model="resnet20", image_size=16, grow_from=0.5, epochs=2)
    trained, seen = batches(config), set()
    for epoch in (1, 2):
        page = preview(config, datasets, epoch)
        for shown, step in zip(page.shown, page.steps, strict=True):
            x, _ = trained.train_batch(trained.plan(epoch), step - 1)
            seen.add(len(shown))
            assert shown.shape == (*x.shape[2:], 3)
            images = as_pixels(trained, x)
            nearest = np.abs(images.astype(int) - shown).max(axis=(1, 2, 3)).min()
            assert nearest <= 1  # it is one of its batch
    assert {8, 16} <= seen <= {8, 11, 13, 16}


def test_without_augmentation_the_shown_images_are_the_stored_ones(datasets, tiny):
    for knobs in (NONE, {**NONE, "per_image_std": True}):
        for epoch in (1, 2):
            page = preview(tiny(**knobs), datasets, epoch)
            np.testing.assert_array_equal(page.shown, page.stored)


def test_another_epoch_augments_the_same_images_differently(datasets, tiny):
    one, two = (preview(tiny(**ALL), datasets, epoch) for epoch in (1, 2))
    np.testing.assert_array_equal(one.stored, two.stored)
    assert one.labels == two.labels
    changed = np.stack(one.shown) != np.stack(two.shown)
    assert changed.any(axis=(1, 2, 3)).all()  # the other half is mirrored


def test_another_seed_shows_other_images(datasets, tiny):
    one, two = (preview(tiny(seed=seed), datasets) for seed in (1, 2))
    assert (one.stored != two.stored).any()


def test_the_pages_show_every_training_image_once_then_start_over(datasets, batches, tiny):
    config = tiny()
    trained = batches(config)
    pages = [preview(config, datasets, page=page) for page in range(18)]  # 135 images
    assert [len(page.labels) for page in pages] == [*[8] * 16, 7, 8]
    np.testing.assert_array_equal(
        np.concatenate([page.stored for page in pages[:-1]]),
        trained.train_images[trained.plan(1).order],
    )
    assert pages[-1].first == 0
    np.testing.assert_array_equal(pages[-1].shown, pages[0].shown)


def test_after_the_last_epoch_the_first_one_follows(datasets, tiny):
    page, first = (preview(tiny(**ALL, epochs=3), datasets, epoch) for epoch in (4, 1))
    assert page.epoch == 1
    np.testing.assert_array_equal(page.shown, first.shown)


def test_an_image_that_the_epoch_leaves_out_has_no_step(datasets, tiny):
    page = preview(tiny(batch_size=67), datasets, page=16)  # 135 = 2 × 67 + 1
    assert page.steps == (2, 2, 2, 2, 2, 2, None)
    assert preview(tiny(batch_size=1), datasets, page=16).steps[-1] == 135


def test_a_config_that_the_data_does_not_allow_is_refused(datasets, tiny):
    with pytest.raises(ConfigError, match=r"^crop must be less than 12, .+, got 12$"):
        preview(tiny(crop=12), datasets)
    with pytest.raises(ConfigError, match=r"^dataset must be one of .+, got 'nothing'$"):
        preview(replace(tiny(), dataset="nothing"), datasets)


def assert_same_pictures(one, other):
    """Check equality, up to the rounding of values between two whole numbers."""
    assert one.shape == other.shape
    assert one.dtype == other.dtype == np.uint8
    assert np.abs(one.astype(int) - other.astype(int)).max() <= 1
    assert (one != other).mean() < 5e-3  # halves that round either way
