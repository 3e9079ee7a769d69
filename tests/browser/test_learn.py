"""The Learn tab in a real browser: a block drawn, a duel trained, a network operated on."""

import re

import pytest
from playwright.sync_api import expect

from resnet_demo.ui.learn.duel import GUESSES
from tests.ui.fake_evaluations import untrained_runs

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(visiting, start_app):
    """A page on the Learn tab, over one run of an untrained network."""
    app = start_app()
    untrained_runs(app.runs, "mine")
    with visiting() as visit:
        page = visit(app.url)
        page.get_by_role("tab", name="Learn").click()
        yield page


def chapter(page, name):
    page.locator("#chapters").get_by_role("tab", name=name).click()


def cost_line(page):
    """What a chapter says of what its form would start."""
    return page.locator("#chapters .hint:visible").first


def test_a_block_is_drawn_anew_for_every_choice(page):
    chapter(page, "1 The block")
    drawing, words = page.locator("#block-drawing svg"), page.locator("#block-words")
    expect(drawing).to_have_attribute("aria-label", re.compile("16 × 32 × 32 in, 32 × 16 × 16 out"))
    expect(page.locator("#block-code")).to_contain_text("class BasicBlock")
    page.locator("#block-shortcut").get_by_label("identity: add the input as it is").check()
    expect(words).to_contain_text("turns 16 channels into 32 at stride 2")
    expect(drawing).to_have_count(0)
    page.locator("#block-shortcut").get_by_label("none: a plain network").check()
    expect(drawing).to_have_attribute("aria-label", re.compile("^A plain block"))
    expect(words).to_contain_text("Nothing is added")
    expect(page.locator("#network-table")).to_contain_text("stage 3")
    expect(page.locator(".katex").first).to_be_visible()  # its formula


def test_a_duel_runs_for_real_and_the_guess_is_scored(page):
    chapter(page, "2 The duel")
    depths = page.locator("#duel-depths")
    depths.get_by_label("20", exact=True).uncheck()
    expect(cost_line(page)).to_contain_text("choose at least one depth")
    depths.get_by_label("8", exact=True).check()
    page.locator("#duel-dataset input").click()
    page.get_by_role("option", name="colours").click()
    page.locator("#duel-images input").fill("0")
    page.locator("#duel-epochs input").fill("2")
    page.locator("#duel-guess").get_by_label(GUESSES[1]).check()
    expect(cost_line(page)).to_contain_text("2 runs, one after the other")
    page.get_by_role("button", name="Train them").click()
    words = page.locator("#duel-words")
    expect(words).to_contain_text("2 of 2 runs finished", timeout=180_000)
    expect(words).to_contain_text("8 layers: without shortcuts the training loss ends")
    expect(words).to_contain_text("Your guess for 8 layers was the residual one")
    expect(page.locator("#duel-table")).to_contain_text("plain8")
    expect(page.locator("#duel-loss svg, #duel-loss canvas").first).to_be_visible()
    expect(page.get_by_role("button", name="Stop").locator("visible=true")).to_have_count(0)


def test_a_network_is_operated_on(page):
    chapter(page, "6 Surgery")
    words = page.locator("#surgery-words")
    page.locator("#surgery-run input").click()
    page.get_by_role("option", name="mine").click()
    expect(words).to_contain_text("Untouched, resnet20 gets")
    slider = page.locator("#surgery-strength input[type=range]")
    slider.focus()
    slider.press("Home")
    expect(words).to_contain_text("With every branch at 0, resnet20 gets")
    page.locator("#surgery-dropped").get_by_label("stage 1, block 1").check()
    expect(words).to_contain_text("and 1 of 9 blocks left out")
    page.get_by_role("button", name="Leave out each block, one at a time").click()
    expect(page.locator("#surgery-bars")).to_be_visible()


def test_a_phone_reaches_every_chapter(page):
    page.set_viewport_size({"width": 390, "height": 844})
    wide = "document.documentElement.scrollWidth <= window.innerWidth"
    try:
        assert page.evaluate(wide)
    finally:
        page.set_viewport_size({"width": 1280, "height": 900})
