"""From a zip of one's own pictures to an answer in a real browser: five clicks, nothing typed."""

import io
import os
import re
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

COLOURS = ("red", "green", "blue")
MAX_CLICKS = 5
PHOTOS = os.environ.get("RESNET_DEMO_TEST_PHOTOS")
# Keeps the browser's own notifications, and hides the page, as behind another tab.
LEAVE = """() => {
  const Real = window.Notification;
  window.sent = [];
  window.Notification = class extends Real {
    constructor(title, options) {
      super(title, options);
      window.sent.push(`${this.title}: ${this.body}`);
    }
  };
  Object.defineProperty(document, 'hidden', {value: true, configurable: true});
}"""
RETURN = "() => Object.defineProperty(document, 'hidden', {value: false, configurable: true})"


@pytest.fixture(scope="module")
def app(start_app, tmp_path_factory):
    """Return an app without data."""
    return start_app(data=tmp_path_factory.mktemp("data"))


def picture(channel, number):
    """Return a PNG of 40 pixels in one colour and noise."""
    pixels = np.random.default_rng([channel, number]).integers(0, 90, (40, 40, 3), np.uint8)
    pixels[..., channel] += 160
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pack(folder):
    """Return a zip with a folder of 16 pictures for each colour."""
    with zipfile.ZipFile(folder / "My Colours.zip", "w") as archive:
        for channel, label in enumerate(COLOURS):
            for number in range(16):
                archive.writestr(f"{label}/{number}.png", picture(channel, number))
    return folder / "My Colours.zip"


def test_a_zip_of_pictures_becomes_a_classifier_in_five_clicks(app, visit, tmp_path):
    page, clicks = visit(app.url), []
    page.context.grant_permissions(["notifications"])

    def click(selector):
        clicks.append(selector)
        page.locator(selector).click()

    click("#step-own")
    expect(page.locator("#import-file")).to_be_in_viewport()
    page.locator("#import-file input[type=file]").set_input_files(pack(tmp_path))
    expect(page.locator("#import-found")).to_contain_text("48 pictures of 3 classes")
    expect(page.get_by_label("Name of the dataset")).to_have_value("my-colours")
    click("#import-start")
    expect(page.locator("#import-text")).to_contain_text("images in my-colours")
    expect(page.locator("#import-train")).to_be_in_viewport()
    click("#import-train")
    expect(page.get_by_label("Dataset", exact=True).locator("visible=true")).to_have_value(
        "my-colours"
    )
    expect(page.locator("#dataset-note")).to_contain_text("Recipe transfer. 13 pictures")
    expect(page.get_by_role("radio", name="transfer", exact=True)).to_be_checked()
    expect(page.locator("#facts")).to_contain_text("Adapted to 39 training images")
    expect(page.locator("button#train")).to_be_enabled()
    click("button#train")
    expect(page).to_have_title(re.compile(" · ResNet Demo$"))
    page.evaluate(LEAVE)
    page.wait_for_function("window.sent.length", timeout=120_000)
    run = "efficientnet-lite0-my-colours-1"
    [sent] = page.evaluate("window.sent")
    assert sent.startswith(f"ResNet Demo: {run}: Finished, validation accuracy ")
    page.evaluate(RETURN)
    expect(page.locator("#figures")).to_contain_text("Finished")
    expect(page.locator("#curves [data-plot=loss] path[data-line=validation]")).to_be_attached()
    expect(page.locator("#curves [data-plot=lr]")).to_have_count(0)  # a head has no learning rate
    click("#next-classify")
    expect(page.locator("#classify-run input")).to_have_value(f"{run} · finished")
    (tmp_path / "new.png").write_bytes(picture(1, 99))
    page.locator("#picture input[type=file]").set_input_files(tmp_path / "new.png")
    expect(page.locator("#labels").get_by_test_id("label-output-value")).to_have_text("green")
    assert len(clicks) <= MAX_CLICKS
    # Fine-tuning is a click away too; on so few pictures the note advises against it.
    page.get_by_role("tab", name="Train", exact=True).click()
    expect(page.locator("#next-longer")).to_be_hidden()
    page.locator("#next-finetune").click()
    expect(page.get_by_role("radio", name="finetune", exact=True)).to_be_checked()
    expect(page.locator("#dataset-note")).to_contain_text("Suggested recipe: transfer.")
    expect(page.locator("#dataset-note")).to_contain_text("Fine-tuning gained nothing")


@pytest.mark.skipif(not PHOTOS, reason="RESNET_DEMO_TEST_PHOTOS names no tar of the ants and bees")
def test_photographs_of_ants_and_bees_reach_94_percent_with_nothing_typed(app, visit, tmp_path):
    page = visit(app.url)
    page.get_by_role("tab", name="Data", exact=True).click()
    page.locator("#import-file input[type=file]").set_input_files(PHOTOS)
    expect(page.locator("#import-found")).to_contain_text("397 pictures of 2 classes")
    page.locator("#import-start").click()
    expect(page.locator("#import-text")).to_contain_text("244 training and 153 test images")
    page.locator("#import-train").click()
    expect(page.locator("#facts")).to_contain_text("Adapted to 244 training images")
    page.locator("button#train").click()
    status = page.locator("#run-status")
    expect(status).to_contain_text("of 244 images right in cross-validation")
    page.locator("#next-evaluate").click()
    summary = page.locator("#evaluate-summary")
    expect(summary).to_contain_text("on the 153 test images")
    assert float(re.search(r"([\d.]+) %", summary.inner_text()).group(1)) >= 94.0
    page.get_by_role("tab", name="Classify", exact=True).click()
    with tarfile.open(PHOTOS) as archive:
        bee = next(name for name in archive.getnames() if re.search(r"val/bees/.+\.", name))
        (tmp_path / "bee.jpg").write_bytes(archive.extractfile(bee).read())
    page.locator("#picture input[type=file]").set_input_files(tmp_path / "bee.jpg")
    expect(page.locator("#labels").get_by_test_id("label-output-value")).to_have_text("bees")
    expect(page.locator("#gauge")).to_contain_text("left out each class in turn")
