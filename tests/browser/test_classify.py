"""The Classify tab in a real browser, over networks that learned nothing."""

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
from tests.ui.fake_evaluations import CLASSES

pytestmark = pytest.mark.browser

LABEL = re.compile("blue|green|red")
LATE_RECEIPT = """() => {
  const real = window.fetch;
  window.fetch = async (...asked) => {
    const receipt = await real(...asked);
    const late = String(asked[0]).includes('queue/join') && asked[1].body.includes('late.png');
    // meanwhile the stream of other events tells the whole answer
    if (late) await new Promise(resolve => setTimeout(resolve, 3000));
    return receipt;
  };
}"""
LAYERS = "maps => maps.map(map => Number(getComputedStyle(map).opacity))"


@pytest.fixture(scope="module")
def page(visiting, untrained):
    """One page for all tests: each begins with a picture of its own."""
    with visiting() as visit:
        page = visit(untrained.url)
        tab(page)
        yield page


@pytest.fixture
def pictures(tmp_path):
    """Makes pictures of noise by these names."""

    def make(*names, size=(30, 40)):
        for name in names:
            pixels = np.random.default_rng(len(name)).integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name)
        return [tmp_path / name for name in names]

    return make


def tab(page):
    """The Classify tab, which begins with the newest run."""
    page.get_by_role("tab", name="Classify").click()
    expect(page.locator("#classify-run input")).to_have_value(re.compile("mine"))
    expect(page.locator("#classify-classes")).to_contain_text("mine knows 3 classes")


def choose(page, label, option):
    """Pick from the visible dropdown of that label."""
    page.get_by_label(label, exact=True).locator("visible=true").click()
    page.get_by_role("option", name=option).click()


def upload(page, file, where="#picture"):
    page.locator(f"{where} input[type=file]").set_input_files(file)


def seen_maps(page, figure=0):
    """Opacity of each map that lies over the picture."""
    maps = page.locator("#looked figure").nth(figure).locator("img.map")
    return maps.evaluate_all(LAYERS)


def test_a_picture_gets_labels_a_gauge_a_map_and_three_ways_to_see_it(page, pictures):
    expect(page.locator("#classify-words")).to_contain_text("Drop a picture, paste one")
    expect(page.locator("#labels")).to_be_hidden()
    for source in ("Upload file", "Capture from camera", "Paste from clipboard"):
        expect(page.get_by_role("button", name=source)).to_be_visible()
    expect(page.locator("#classify-classes em")).to_have_text([*CLASSES])
    upload(page, *pictures("noise.png"))
    expect(page.locator("#labels").get_by_test_id("label-output-value")).to_have_text(LABEL)
    expect(page.locator("#sure")).to_have_text(re.compile(r"mine is \d+\.\d% sure of \w+\."))
    expect(page.locator("#classify-words")).to_be_hidden()
    expect(page.locator("#gauge")).to_contain_text("This may be none of the classes.")
    expect(page.locator("#gauge")).to_contain_text("5% of the 15 validation images")
    expect(page.locator("#gauge").get_by_role("meter")).to_have_attribute("aria-valuenow", "99")
    expect(page.locator("#ways .caption-label")).to_have_text(
        [re.compile(rf"{way}: \w+ \d+\.\d%") for way in ("✓ centre crop", "squash", "pad")]
    )
    expect(page.locator("#ways-words")).to_contain_text("leaves out 25% of it, the sides")

    assert [opacity > 0 for opacity in seen_maps(page)] == [True, False, False]
    page.locator("#looked-for").get_by_role("radio").nth(2).click()
    page.wait_for_function("document.documentElement.dataset.map == '2'")
    assert seen_maps(page) == [0, 0, 0.5]
    page.locator("#opacity input[type=number]").fill("80")
    page.wait_for_function(
        "getComputedStyle(document.querySelector('#looked img.map-2')).opacity == 0.8"
    )
    page.locator("#ways button").nth(2).click()
    expect(page.locator("#ways .caption-label").nth(2)).to_contain_text("✓ pad")
    expect(page.get_by_role("radio", name="Pad", exact=True)).to_be_checked()
    page.wait_for_function("document.documentElement.dataset.map == '0'")  # the first class again
    assert seen_maps(page) == [0.8, 0, 0]
    page.get_by_role("radio", name="Centre crop", exact=True).click()
    expect(page.locator("#ways .caption-label").first).to_contain_text("✓ centre crop")


def test_two_runs_answer_side_by_side_and_one_without_a_gauge_says_why(page, pictures):
    choose(page, "Compare with another run", "yours")
    upload(page, *pictures("two.png"))
    expect(page.locator("#sure")).to_contain_text("mine is")
    expect(page.locator("#other-sure")).to_contain_text("yours is")
    expect(page.locator("#other-gauge")).to_contain_text("trained before there was a gauge")
    expect(page.locator("#looked figure")).to_have_count(2)
    assert seen_maps(page, 0) == seen_maps(page, 1) == [0.8, 0, 0]
    first, second = (page.locator(f"#{name}").bounding_box() for name in ("sure", "other-sure"))
    assert first["x"] + first["width"] <= second["x"]
    assert abs(first["y"] - second["y"]) < 2  # pixels; layouts round
    choose(page, "Compare with another run", "nothing")
    expect(page.locator("#other-sure")).to_be_hidden()
    expect(page.locator("#looked figure")).to_have_count(1)


def test_an_answer_that_arrives_before_its_receipt_is_shown_whole(page, pictures):
    page.get_by_role("button", name="Remove Image").click()
    expect(page.locator("#sure")).to_be_hidden()

    page.evaluate(LATE_RECEIPT)
    upload(page, *pictures("late.png"))
    expect(page.locator("#sure")).to_contain_text("mine is")
    expect(page.locator("#ways .caption-label")).to_have_count(3)
    expect(page.locator("#classify-words")).to_be_hidden()


@contextmanager
def looking(app):
    """A worker that has begun with the training images of `mine`; what makes it go on to the end.

    This process stands in for one of its own.
    """
    services, run = app.services, app.services.runs.get("mine")
    folder = services.image_indexes.folder(run)
    asked = {"run": "mine", "weights": folder.name.rpartition("-")[2]}
    lock = create_task(folder, {"task.json": json.dumps(asked).encode()})
    update_status(folder, done=30, total=135, unit="images")
    yield lambda: build_index(folder, lambda: run, services.datasets)
    os.close(lock)


def test_behind_the_folds_are_the_stages_and_the_most_similar_training_images(page, untrained):
    page.locator("#examples button").nth(1).click()
    expect(page.locator("#sure")).to_contain_text("mine is")
    expect(page.locator("#stages img, #nearest img")).to_have_count(0)
    page.get_by_role("button", name="Inside: what each stage sees").click()
    expect(page.locator("#stages .caption-label")).to_have_text(
        ["stem", "stage 1", "stage 2", "stage 3"]
    )
    page.get_by_role("button", name="Most similar training images").click()
    expect(page.locator("#similar-words")).to_contain_text("look at all the training images once")
    with looking(untrained) as go_on:  # for whoever asked a moment ago
        with suppress(TimeoutError):  # it goes where a look on its way has found the worker already
            page.get_by_role("button", name="Find the five most similar").click(timeout=5_000)
        expect(page.locator("#similar-words")).to_contain_text("30 of 135")
        expect(page.locator("#similar-progress").get_by_role("progressbar")).to_be_visible()
        expect(page.locator("#similar-cancel")).to_be_enabled()
        go_on()  # and the page asks again by itself
    expect(page.locator("#nearest .caption-label")).to_have_text(
        [re.compile(r"(blue|green|red) [01]\.\d{3}")] * 5
    )
    expect(page.locator("#similar-words")).to_contain_text("of the 135 training images")
    expect(page.locator("#similar-start")).to_be_hidden()
    before = page.locator("#stages img").first.get_attribute("src")
    page.locator("#shipped button").nth(1).click()  # and they follow another picture
    expect(page.locator("#ways-words")).to_contain_text("451 × 300 pixels")
    expect(page.locator("#stages img").first).not_to_have_attribute("src", before)
    expect(page.locator("#nearest img")).to_have_count(5)


def test_what_is_no_picture_gets_a_sentence_in_the_place_of_the_answer(page, tmp_path):
    (tmp_path / "text.png").write_text("this is not a picture")
    page.get_by_role("button", name="Remove Image").click()
    expect(page.locator("#classify-words")).to_contain_text("Drop a picture")
    upload(page, tmp_path / "text.png")
    expect(page.locator("#classify-words")).to_contain_text("'text.png' is not a PNG, JPEG")
    expect(page.locator("#sure")).to_be_hidden()


def test_several_pictures_get_a_label_each_and_a_csv_that_says_the_same(page, pictures, tmp_path):
    files = pictures("a.png", "bb.png", "=1+1.png")
    bad = tmp_path / "<img src=x9 onerror=document.title=1> ${document.title=2}.png"
    bad.write_text("this is not a picture")
    page.get_by_role("tab", name="Several pictures").click()
    expect(page.locator("#several-words")).to_contain_text("Drop up to 200 pictures")
    expect(page.locator("#classify-words")).to_be_hidden()
    upload(page, [*files[:1], bad, *files[1:]], "#pictures")
    captions = page.locator("#several .caption-label")
    expect(captions).to_have_text([re.compile(r"(blue|green|red) \d+\.\d% · may be none")] * 3)
    expect(page.locator("#several-words")).to_contain_text("mine says of 3 pictures (centre crop)")
    expect(page.locator("#several-words")).to_contain_text(f"'{bad.name}' is not a PNG, JPEG")
    assert page.title() == "ResNet Demo"
    with page.expect_download() as told:
        page.get_by_role("button", name="Download as CSV").click()
    assert told.value.suggested_filename == "labels-mine.csv"
    with open(told.value.path(), encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["a.png", bad.name, "bb.png", "'=1+1.png"]
    good = [row for row in rows if not row["problem"]]
    assert len(good) == 3
    for row, caption in zip(good, captions.all_inner_texts(), strict=True):
        assert caption.startswith(f"{row['label']} {float(row['confidence']):.1%}"[:-4])
        assert row["may be none of the classes"] == "yes"
    page.get_by_role("tab", name="One picture").click()
    expect(page.locator("#several-words")).to_be_hidden()
    expect(page.locator("#classify-words")).to_be_visible()


def test_class_names_are_text_wherever_they_stand_and_on_a_phone_the_answer_comes_into_view(
    page, pictures, hostile
):
    page.set_viewport_size({"width": 390, "height": 844})
    choose(page, "Run", "hostile")
    expect(page.locator("#classify-classes")).to_contain_text("hostile knows 3 classes")
    upload(page, *pictures("noise.png"))
    either = re.compile("|".join(map(re.escape, hostile)))
    expect(page.locator("#labels").get_by_test_id("label-output-value")).to_have_text(either)
    expect(page.locator("#ways .caption-label")).to_have_text([either] * 3)
    expect(page.locator("#looked-for label")).to_have_text([either] * 3)
    expect(page.locator("#sure")).to_be_in_viewport()
    for name in hostile:
        assert name in page.locator("#classify-classes").text_content()
    page.wait_for_timeout(500)
    assert page.title() == "ResNet Demo"
    assert page.locator("img[src*=x9]:not([src^='data:'])").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
