"""The Classify tab in a real browser, over untrained networks."""

import csv
import json
import os
import re
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import TimeoutError, expect

from resnet_demo.tasks.image_indexes import build_index
from resnet_demo.tasks.status import create_task, update_status
from tests.browser.conftest import hostile_elements
from tests.ui.fake_evaluations import CLASSES

pytestmark = pytest.mark.browser

LABEL = re.compile("blue|green|red")
# Delays the response that names the event until its stream has delivered the whole answer.
DELAY_RESPONSE = """() => {
  const fetch = window.fetch;
  window.fetch = async (...args) => {
    const response = await fetch(...args);
    const isLate = String(args[0]).includes('queue/join') && args[1].body.includes('late.png');
    if (isLate) await new Promise(resolve => setTimeout(resolve, 3000));
    return response;
  };
}"""
OPACITIES = "maps => maps.map(map => Number(getComputedStyle(map).opacity))"


@pytest.fixture(scope="module")
def page(visiting, untrained):
    """Return one page for all tests; each test begins with its own picture."""
    with visiting() as visit:
        page = visit(untrained.url)
        open_tab(page)
        # At first, the network that knows 1,000 classes answers too.
        expect(page.locator("#classify-other input")).to_have_value(re.compile("imagenet"))
        choose(page, "Compare with another run", "no other run")
        yield page


@pytest.fixture
def pictures(tmp_path):
    """Return a function that saves pictures of noise under these names."""

    def make(*names, size=(30, 40)):
        for name in names:
            pixels = np.random.default_rng(len(name)).integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name)
        return [tmp_path / name for name in names]

    return make


def open_tab(page):
    """Open the Classify tab, which begins with the newest run."""
    page.get_by_role("tab", name="Classify").click()
    expect(page.locator("#classify-run input")).to_have_value(re.compile("mine"))
    expect(page.locator("#classify-classes")).to_contain_text("3 classes: ")


def choose(page, label, option):
    """Choose an option of the visible dropdown of that label."""
    page.get_by_label(label, exact=True).locator("visible=true").click()
    page.get_by_role("option", name=option).click()


def upload(page, file, where="#picture"):
    page.locator(f"{where} input[type=file]").set_input_files(file)


def map_opacities(page, figure=0):
    """Return the opacity of each map over the picture."""
    maps = page.locator("#class-maps figure").nth(figure).locator("img.map")
    return maps.evaluate_all(OPACITIES)


def test_a_picture_gets_labels_a_gauge_class_maps_and_three_fits(page, pictures):
    expect(page.locator("#classify-text")).to_contain_text("Drop a picture, paste one")
    expect(page.locator("#labels")).to_be_hidden()
    for source in ("Upload file", "Capture from camera", "Paste from clipboard"):
        expect(page.get_by_role("button", name=source)).to_be_visible()
    expect(page.locator("#classify-classes em")).to_have_text([*CLASSES])
    upload(page, *pictures("noise.png"))
    expect(page.locator("#labels").get_by_test_id("label-output-value")).to_have_text(LABEL)
    expect(page.locator("#labels dd.confidence").first).to_have_text(re.compile(r"^\d+ %$"))
    expect(page.locator("#answer-run")).to_be_hidden()  # the choice of the run names it
    expect(page.locator("#classify-text")).to_be_hidden()
    expect(page.locator("#gauge")).to_contain_text("This may be none of the classes")
    expect(page.locator("#gauge")).to_contain_text("5 % of the 15 validation images")
    expect(page.locator("#gauge").get_by_role("meter")).to_have_attribute("aria-valuenow", "99")
    expect(page.locator("#fits .caption-label")).to_have_text(
        [re.compile(rf"{way}: \w+ \d+\.\d %") for way in ("✓ centre crop", "squash", "pad")]
    )
    expect(page.locator("#fits-text")).to_contain_text("cuts off 25 %, the sides")

    assert [opacity > 0 for opacity in map_opacities(page)] == [True, False, False]
    page.locator("#map-class").get_by_role("radio").nth(2).click()
    page.wait_for_function("document.documentElement.dataset.map == '2'")
    assert map_opacities(page) == [0, 0, 0.5]
    page.locator("#opacity input[type=number]").fill("80")
    page.wait_for_function(
        "getComputedStyle(document.querySelector('#class-maps img.map-2')).opacity == 0.8"
    )
    page.locator("#fits button").nth(2).click()
    expect(page.locator("#fits .caption-label").nth(2)).to_contain_text("✓ pad")
    expect(page.get_by_role("radio", name="Pad", exact=True)).to_be_checked()
    page.wait_for_function("document.documentElement.dataset.map == '0'")  # the first class again
    assert map_opacities(page) == [0.8, 0, 0]
    page.get_by_role("radio", name="Centre crop", exact=True).click()
    expect(page.locator("#fits .caption-label").first).to_contain_text("✓ centre crop")


def test_two_runs_answer_side_by_side_also_without_a_threshold(page, pictures):
    choose(page, "Compare with another run", "yours")
    upload(page, *pictures("two.png"))
    expect(page.locator("#answer-run")).to_have_text("mine")
    expect(page.locator("#other-run")).to_have_text("yours")
    expect(page.locator("#other-gauge")).to_contain_text("No warning possible")
    expect(page.locator("#class-maps figure")).to_have_count(2)
    assert map_opacities(page, 0) == map_opacities(page, 1) == [0.8, 0, 0]
    # Both at one moment: the page may still be scrolling.
    first, second = page.evaluate(
        """['answer-run', 'other-run'].map((name) => {
          const { x, y, width } = document.getElementById(name).getBoundingClientRect();
          return { x, y, width };
        })"""
    )
    assert abs(first["y"] - second["y"]) < 2  # pixels; layouts round
    choose(page, "Compare with another run", "no other run")
    expect(page.locator("#other-run")).to_be_hidden()
    expect(page.locator("#class-maps figure")).to_have_count(1)


def test_an_answer_that_arrives_before_its_event_is_known_is_shown_completely(page, pictures):
    page.get_by_role("button", name="Remove Image").click()
    expect(page.locator("#labels")).to_be_hidden()

    page.evaluate(DELAY_RESPONSE)
    upload(page, *pictures("late.png"))
    expect(page.locator("#labels")).to_be_visible()
    expect(page.locator("#fits .caption-label")).to_have_count(3)
    expect(page.locator("#classify-text")).to_be_hidden()


@contextmanager
def started_index(app):
    """Start indexing the training images of `mine`, as a worker does; yield what finishes it."""
    services, run = app.services, app.services.runs.get("mine")
    folder = services.image_indexes.folder(run)
    asked = {"run": "mine", "weights": folder.name.split("-")[1]}
    lock = create_task(folder, {"task.json": json.dumps(asked).encode()})
    update_status(folder, done=30, total=135, unit="images")
    yield lambda: build_index(folder, lambda: run, services.datasets)
    os.close(lock)


def test_the_accordions_hold_feature_maps_and_nearest_training_images(page, untrained):
    page.locator("#examples button").nth(1).click()
    expect(page.locator("#fits-text")).to_contain_text("12 × 12 pixels")
    expect(page.locator("#stages img, #nearest img")).to_have_count(0)
    page.get_by_role("button", name="Feature maps of each stage").click()
    expect(page.locator("#stages .caption-label")).to_have_text(
        ["stem", "stage 1", "stage 2", "stage 3"]
    )
    page.get_by_role("button", name="Nearest training images").click()
    expect(page.locator("#similar-text")).to_contain_text("looks at all the training images once")
    with started_index(untrained) as finish:
        with suppress(TimeoutError):  # the button disappears if the page saw the worker first
            page.get_by_role("button", name="Find nearest images").click(timeout=5_000)
        expect(page.locator("#similar-text")).to_contain_text("30 of 135")
        expect(page.locator("#similar-progress").get_by_role("progressbar")).to_be_visible()
        expect(page.locator("#similar-cancel")).to_be_enabled()
        finish()  # the page polls by itself
    expect(page.locator("#nearest .caption-label")).to_have_text(
        [re.compile(r"(blue|green|red) [01]\.\d{3}")] * 5
    )
    expect(page.locator("#similar-text")).to_contain_text("of the 135 training images")
    expect(page.locator("#similar-start")).to_be_hidden()
    before = page.locator("#stages img").first.get_attribute("src")
    page.locator("#shipped button").nth(1).click()  # and they follow another picture
    expect(page.locator("#fits-text")).to_contain_text("451 × 300 pixels")
    expect(page.locator("#stages img").first).not_to_have_attribute("src", before)
    expect(page.locator("#nearest img")).to_have_count(5)


def test_a_photo_that_fools_the_network_is_answered_beside_it_with_the_measured_misses(page):
    choose(page, "Run", "cifar10-shipped")
    expect(page.locator("#photos-hint")).to_contain_text("it takes the coffee for a cat (66 %)")
    page.evaluate("window.scrollTo(0, 0)")
    photo = page.locator("#shipped button").nth(4)
    photo.click()
    expect(page.locator("#labels").get_by_test_id("label-output-value")).to_have_text("cat")
    gauge = page.locator("#gauge")
    expect(gauge).to_contain_text("Not flagged")
    expect(gauge).to_contain_text(re.compile(r"In a test, \d+ of 100 pictures of other things"))
    red, green, blue = gauge.locator(".gauge").evaluate(
        "box => getComputedStyle(box).borderLeftColor.match(/\\d+/g).map(Number)"
    )
    assert green <= max(red, blue), "green would call the answer right"
    # Beside what was clicked, without scrolling.
    assert page.evaluate("window.scrollY") == 0
    right = photo.bounding_box()["x"] + photo.bounding_box()["width"]
    for part in ("#labels", "#gauge", "#class-maps"):
        expect(page.locator(part)).to_be_in_viewport(ratio=1)
        assert page.locator(part).bounding_box()["x"] > right
    choose(page, "Run", "mine")
    expect(page.locator("#photos-hint")).to_have_text("Or try a photo:")


def test_examples_are_named_by_their_captions_and_links_inside_the_app_stay_in_its_tab(page):
    for name in ("airplane", "coffee", "rocket"):
        expect(page.locator("#shipped").get_by_role("button", name=name)).to_be_visible()
    for name in CLASSES:
        expect(page.locator("#examples").get_by_role("button", name=name)).to_be_visible()
    targets = page.evaluate(
        """async () => {
          const links = ['./owner', '#here', 'https://arxiv.org'].map((address) => {
            const link = document.createElement('a');
            Object.assign(link, {href: address, target: '_blank'});
            document.querySelector('#classify-classes .prose').append(link);
            return link;
          });
          await new Promise((done) => setTimeout(done, 300));
          const targets = links.map((link) => link.target);
          links.forEach((link) => link.remove());
          return targets;
        }"""
    )
    assert targets == ["", "", "_blank"]


def test_an_unreadable_picture_is_reported_in_place_of_the_answer(page, tmp_path):
    (tmp_path / "text.png").write_text("this is not a picture")
    page.get_by_role("button", name="Remove Image").click()
    expect(page.locator("#classify-text")).to_contain_text("Drop a picture")
    upload(page, tmp_path / "text.png")
    expect(page.locator("#classify-text")).to_contain_text("'text.png' is not a PNG, JPEG")
    expect(page.locator("#labels")).to_be_hidden()
    # One message, and no broken icon.
    expect(page.locator("#picture img")).to_have_class(re.compile("no-preview"))
    expect(page.locator("#picture img")).to_be_hidden()
    expect(page.get_by_test_id("toast-text")).to_have_count(0)


def test_several_pictures_get_labels_and_a_csv_with_the_same_labels(page, pictures, tmp_path):
    files = pictures("a.png", "bb.png", "=1+1.png")
    bad = tmp_path / "<img src=x9 onerror=document.title=1> ${document.title=2}.png"
    bad.write_text("this is not a picture")
    page.get_by_role("tab", name="Several pictures").click()
    expect(page.locator("#several-text")).to_contain_text("Drop up to 200 pictures")
    expect(page.locator("#classify-text")).to_be_hidden()
    upload(page, [*files[:1], bad, *files[1:]], "#pictures")
    captions = page.locator("#several .caption-label")
    expect(captions).to_have_text([re.compile(r"(blue|green|red) \d+\.\d % · may be none")] * 3)
    expect(page.locator("#several-text")).to_contain_text("3 pictures by mine (centre crop)")
    expect(page.locator("#several-text")).to_contain_text(f"'{bad.name}' is not a PNG, JPEG")
    assert page.title() == "ResNet Demo"
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    assert download.value.suggested_filename == "labels-mine.csv"
    with open(download.value.path(), encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["a.png", bad.name, "bb.png", "'=1+1.png"]
    good = [row for row in rows if not row["problem"]]
    assert len(good) == 3
    for row, caption in zip(good, captions.all_inner_texts(), strict=True):
        assert caption.startswith(f"{row['label']} {100 * float(row['confidence']):.1f} %"[:-4])
        assert row["may be none of the classes"] == "yes"
    page.get_by_role("tab", name="One picture").click()
    expect(page.locator("#several-text")).to_be_hidden()
    expect(page.locator("#classify-text")).to_be_visible()


def test_class_names_are_text_and_on_a_phone_the_answer_scrolls_into_view(page, pictures, hostile):
    page.set_viewport_size({"width": 390, "height": 844})
    choose(page, "Run", "hostile")
    expect(page.locator("#classify-classes")).to_contain_text("onerror")
    upload(page, *pictures("noise.png"))
    either = re.compile("|".join(map(re.escape, hostile)))
    expect(page.locator("#labels").get_by_test_id("label-output-value")).to_have_text(either)
    expect(page.locator("#fits .caption-label")).to_have_text([either] * 3)
    expect(page.locator("#map-class label")).to_have_text([either] * 3)
    expect(page.locator("#labels")).to_be_in_viewport()
    for name in hostile:
        assert name in page.locator("#classify-classes").text_content()
    page.wait_for_timeout(500)
    assert page.title() == "ResNet Demo"
    assert hostile_elements(page).count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
