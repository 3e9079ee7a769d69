"""The preview of the training images: texts, images and buttons."""

import gradio as gr
import numpy as np
import pytest

from resnet_demo.config import make_config
from resnet_demo.training import preview as training
from resnet_demo.ui.components import enlarge
from resnet_demo.ui.train.duration_estimate import update_estimate
from resnet_demo.ui.train.preview import (
    CLOSED,
    LOADING,
    STALE,
    describe_augmentation,
    describe_size,
    draw,
)

OPEN = {**CLOSED, "open": True}
COLOURS = {"dataset": "colours", "batch_size": 16, "epochs": 2, "image_size": 12, "grow_from": 1.0}
PLAIN = {"flip": False, "crop": 0, "cutout": 0}


@pytest.fixture
def ask(services):
    """Return a function that draws for some settings and returns the last updates."""

    def draw_all(at=OPEN, before=None, **settings):
        *_, last = draw(services, {**COLOURS, **settings}, at, before, {"colours"})
        return last

    return draw_all


def plain_spaces(update):
    return update.replace("\u00a0", " ")


def test_a_closed_preview_computes_nothing(services, monkeypatch):
    monkeypatch.setattr(training, "preview", None)  # any call would fail
    for values in (COLOURS, {"epochs": 0}):
        [updates] = draw(services, values, CLOSED, None, set())
        assert all(part == gr.skip() for part in updates)


def test_only_the_first_pictures_of_a_dataset_show_a_loading_message(services):
    ready = set()
    first, second = draw(services, COLOURS, OPEN, None, ready)
    assert (first[2], first[1], first[3]) == (LOADING, STALE, STALE)
    assert ready == {"colours"}
    [again] = draw(services, COLOURS, OPEN, None, ready)
    assert again[2] == second[2] != LOADING


def test_the_rows_are_the_run_s_images_with_classes_and_steps(ask, services):
    _, stored, _, shown, *_ = ask({**OPEN, "epoch": 2, "page": 1}, crop=2)
    page = training.preview(make_config({**COLOURS, "crop": 2}), services.datasets, 2, 1)
    for row, images, captions in (
        (stored, page.stored, page.labels),
        (shown, page.shown, [f"step {step}" for step in page.steps]),
    ):
        pictures, below = zip(*row["value"], strict=True)
        assert list(below) == list(captions)
        for picture, image in zip(pictures, images, strict=True):
            np.testing.assert_array_equal(picture, enlarge(image))


def test_without_augmentation_and_resizing_both_rows_are_the_same(ask):
    above, stored, words, shown, *_ = ask(**PLAIN)
    assert plain_spaces(above) == (
        "**As stored**: colours, 12 × 12 pixels. The first 8 in the order of epoch 1, seed 42."
    )
    assert words == (
        "**After augmentation**, epoch 1 of 2: no augmentation and no resizing, both rows are the "
        "same."
    )
    for (before, _), (after, _) in zip(stored["value"], shown["value"], strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("settings", "augmentation", "size"),
    [
        (
            {},
            "mirrored in every other epoch, moved by up to 2 pixels each way, no cutout",
            "enlarged to 32 × 32",
        ),
        (
            {"flip": False, "crop": 1, "cutout": 6, "image_size": 12},
            "not mirrored, moved by up to 1 pixel each way, a square of 6 × 6 blanked out",
            "shown at 12 × 12, as stored",
        ),
        (
            {**PLAIN, "grow_from": 0.625},
            "not mirrored, not moved, no cutout",
            "resized to 20 × 20, growing to 32 × 32 for the last 40 % of the run",
        ),
        ({**PLAIN, "image_size": 9}, "not mirrored, not moved, no cutout", "shrunk to 9 × 9"),
        (
            {**PLAIN, "crop_area": 0.35, "rotation": 12.5, "colour_jitter": 0.2, "image_size": 12},
            "not mirrored, not moved, no cutout, cropped to between 35 % and 100 % of the area, "
            "rotated by up to 12.5° either way, brightness, contrast and saturation changed by up "
            "to 20 %",
            "shown at 12 × 12, as stored",
        ),
    ],
)
def test_augmentation_and_resizing_are_described(settings, augmentation, size, ask):
    config = make_config({"dataset": "colours", "grow_from": 1.0, **settings})
    settings = {"image_size": 32} | settings
    text = plain_spaces(ask(**settings)[2])
    assert plain_spaces(describe_augmentation(config)) == augmentation
    assert plain_spaces(describe_size(config, 12)) == size
    assert text == f"**After augmentation**, epoch 1 of 2: {augmentation}; {size}."


def test_synthetic_images_are_labelled(ask):
    assert ask(dataset="shapes10")[0].startswith("**As stored**: shapes10, synthetic, ")


def test_the_back_button_leads_to_the_first_epoch_and_page(ask):
    def buttons(**at):
        further, back = ask({**OPEN, **at})[4:6]
        return further["interactive"], back["interactive"]

    assert buttons() == (True, False)
    assert buttons(epoch=2) == buttons(page=1) == (True, True)
    assert buttons(epoch=3) == (True, False)  # of two: the first again
    assert plain_spaces(ask({**OPEN, "page": 1})[0]).endswith(
        "The images 9 to 16 in the order of epoch 1, seed 42."
    )
    few = {"epochs": 1, "train_images": 100}  # else there would be more epochs
    assert ask(**few)[4]["interactive"] is False


@pytest.mark.parametrize(
    "wrong",
    [
        *({"epochs": 0}, {"crop": None}, {"image_size": 6.5}, {"cutout": 40}, {"flip": 1}),
        *({"batch_size": 200}, {"dataset": "none"}, {"dataset": None}, {"seed": "x"}),
        *({"crop": 12}, {"cutout": 13, "image_size": 32}),
    ],
    ids=str,
)
def test_wrong_settingsare_explained_and_the_old_images_fade(wrong, ask, services):
    above, stored, words, shown, *rest = ask(**wrong)
    assert words.replace("\\", "") == update_estimate(services, {**COLOURS, **wrong}, None)[0]
    assert words.startswith("⚠ ")
    assert shown == STALE
    assert all(part == gr.skip() for part in (above, stored, *rest))


def test_a_damaged_dataset_is_explained(ask, services, monkeypatch, colours, tmp_path):
    monkeypatch.setattr(services.launcher.datasets, "root", tmp_path)
    (tmp_path / "colours").mkdir()
    for file in (colours / "colours").iterdir():
        (tmp_path / "colours" / file.name).write_bytes(file.read_bytes())
    labels = tmp_path / "colours" / "train-labels.npy"
    labels.write_bytes(labels.read_bytes()[:-8] + b"\x09" + b"\0" * 7)
    assert ask()[2].startswith("⚠ the dataset 'colours' is damaged: its labels name a class")


def test_pictures_that_the_page_has_are_not_sent_again(ask):
    *_, now = ask()
    _, stored, _, shown, *_ = ask(before=now, peak_lr=0.05)
    assert "value" not in stored
    assert "value" not in shown
    _, stored, _, shown, *_ = ask(before=now, crop=1)
    assert "value" not in stored
    assert shown["value"]


def test_a_small_picture_is_enlarged_by_whole_pixels_and_a_large_one_is_not():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    large = enlarge(image)
    assert large.shape == (128, 128, 3)
    np.testing.assert_array_equal(large[::64, ::64], image)
    np.testing.assert_array_equal(large[63::64, 63::64], image)
    assert enlarge(np.zeros((224, 224, 3), np.uint8)).shape == (224, 224, 3)
