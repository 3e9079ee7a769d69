"""The preview on the Train tab in a real browser."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from resnet_demo.data.importer.import_images import import_images

pytestmark = pytest.mark.browser

HOSTILE = ("<img src=x9 onerror=\"document.title='owned'\">", "${document.title='owned'}")


@pytest.fixture(scope="module")
def app(start_app):
    """Return an app that has not loaded torch for anything else."""
    return start_app()


@pytest.fixture(scope="module")
def hostile(app, tmp_path_factory):
    """Yield the name of a dataset with hostile class names."""
    source = tmp_path_factory.mktemp("pictures")
    for split in ("train", "test"):
        for label in HOSTILE:
            (source / split / label).mkdir(parents=True)
            for number in range(10):
                pixels = np.full((12, 12, 3), 20 * number, np.uint8)
                Image.fromarray(pixels).save(source / split / label / f"{number}.png")
    import_images(app.data, "hostile", source, size=12)
    yield "hostile"
    shutil.rmtree(app.data / "hostile")


@pytest.fixture(scope="module")
def page(visiting, app, hostile):
    """Yield one page for all tests. The preview is closed at first."""
    with visiting() as visit:
        yield visit(app.url)


@pytest.fixture(scope="module")
def before(page, app):
    """Return the number of images and whether torch is loaded, before the preview is opened."""
    for fold in ("advanced", "group-optimizer", "group-augmentation"):
        page.locator(f"#{fold} > button").click()
    page.get_by_role("spinbutton", name="Epochs", exact=True).fill("2")
    number(page, "Crop (pixels)").fill("5")
    expect(page.locator("#facts")).to_contain_text("parameters")
    page.wait_for_timeout(1000)
    return page.locator("#preview img").count(), has_torch(app)


@pytest.fixture(scope="module")
def opened(page, before):
    """Return that page with the preview open."""
    page.get_by_role("button", name="Preview of the training images").click()
    expect(page.locator("#preview-shown img")).to_have_count(8)
    expect(page.locator("#preview-stored img")).to_have_count(8)
    return page


def number(page, label):
    """Return the field with that label."""
    return page.get_by_label(label, exact=True)


def has_torch(app):
    """Return whether the app's process has loaded torch; None on systems without /proc."""
    maps = Path(f"/proc/{app.process.pid}/maps")
    return "libtorch" in maps.read_text() if maps.exists() else None


@pytest.mark.skipif(not Path("/proc").exists(), reason="/proc lists what a process has loaded")
def test_torch_is_loaded_when_the_preview_is_opened_and_not_before(before, opened, app):
    assert before[1] is False
    assert has_torch(app)


def test_the_preview_is_empty_until_it_is_opened_and_then_follows_the_form(before, opened):
    page, words = opened, opened.locator("#preview-text")
    assert before[0] == 0
    expect(page.locator("#preview-stored-text")).to_contain_text("shapes10, synthetic, 32 × 32")
    expect(words).to_contain_text("moved by up to 5 pixels each way, no cutout; resized")
    expect(words).to_contain_text("to 20 × 20, growing to 32 × 32")
    expect(page.locator("#preview-shown .caption-label")).to_have_text(["step 1"] * 8)

    number(page, "Image size (pixels)").fill("7")
    sentence = "⚠ Image size (pixels): enter 8 to 256 pixels"
    expect(words).to_have_text(sentence)
    expect(page.locator("#facts")).to_have_text(sentence)
    expect(page.locator("#preview-shown")).to_have_class(re.compile("grid-4.* stale"))
    number(page, "Image size (pixels)").fill("48")
    expect(words).to_contain_text("to 30 × 30, growing to 48 × 48")
    expect(page.locator("#preview-shown")).not_to_have_class(re.compile("stale"))

    picture = page.locator("#preview-shown img").first
    before = picture.get_attribute("src")
    page.get_by_role("button", name="Next epoch").click()
    expect(words).to_contain_text("After augmentation, epoch 2 of 2")
    expect(picture).not_to_have_attribute("src", before)
    page.get_by_role("button", name="Other images").click()
    expect(page.locator("#preview-stored-text")).to_contain_text("images 9 to 16")
    page.get_by_role("button", name="Back to the first").click()
    expect(words).to_contain_text("After augmentation, epoch 1 of 2")
    expect(page.get_by_role("button", name="Back to the first")).to_be_disabled()


def test_on_a_phone_a_row_has_four_images_and_class_names_are_text(opened, hostile):
    page = opened
    page.set_viewport_size({"width": 390, "height": 844})
    number(page, "Batch size (images)").fill("8")
    page.get_by_label("Dataset", exact=True).click()
    page.get_by_role("option", name=hostile).click()
    expect(page.locator("#preview-stored-text")).to_contain_text(hostile)
    expect(page.locator("#preview-shown img")).to_have_count(8)
    either = re.compile("|".join(map(re.escape, HOSTILE)))
    expect(page.locator("#preview-stored .caption-label")).to_have_text([either] * 8)
    page.wait_for_timeout(500)  # until the last picture has its place
    tops = [image.bounding_box()["y"] for image in page.locator("#preview-shown img").all()]
    for row in (tops[:4], tops[4:]):
        assert max(row) - min(row) < 2  # pixels; layouts round
    assert tops[3] + 20 < tops[4]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.title() == "ResNet Demo"
    assert page.locator("img[src*=x9]").count() == 0
