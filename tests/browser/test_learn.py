"""The Learn tab in a real browser: draw a block, train a duel, remove blocks of a network."""

import re

import pytest
from playwright.sync_api import expect

from resnet_demo.ui.learn.arm_plots import COLOURS
from resnet_demo.ui.learn.duel import GUESSES, RESIDUAL
from tests.ui.fake_evaluations import untrained_runs

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(visiting, start_app):
    """Yield a page on the Learn tab; the one run has an untrained network."""
    app = start_app()
    untrained_runs(app.runs, "mine")
    with visiting() as visit:
        page = visit(app.url)
        page.get_by_role("tab", name="Learn").click()
        yield page


def open_chapter(page, name):
    page.locator("#chapters").get_by_role("tab", name=name).click()


def cost_line(page):
    """Return the line that shows the cost of what the form would start."""
    return page.locator("#chapters .hint:visible").first


def test_every_choice_redraws_the_block(page):
    open_chapter(page, "1 The block")
    drawing, text = page.locator("#block-drawing svg"), page.locator("#block-text")
    expect(drawing).to_have_attribute("aria-label", re.compile("16 × 32 × 32 in, 32 × 16 × 16 out"))
    expect(page.locator("#block-code")).to_contain_text("class BasicBlock")
    page.locator("#block-shortcut").get_by_label("identity: add the input unchanged").check()
    expect(text).to_contain_text("16 channels into 32 at stride 2")
    expect(drawing).to_have_count(0)
    page.locator("#block-shortcut").get_by_label("none: a plain network").check()
    expect(drawing).to_have_attribute("aria-label", re.compile("^A plain block"))
    expect(text).to_contain_text("nothing is added")
    expect(page.locator("#network-table")).to_contain_text("stage 3")
    expect(page.locator(".katex").first).to_be_visible()  # its formula


def test_a_duel_trains_and_the_guess_is_scored(page):
    open_chapter(page, "2 The duel")
    depths = page.locator("#duel-depths")
    depths.get_by_label("20", exact=True).uncheck()
    expect(cost_line(page)).to_contain_text("choose at least one depth")
    depths.get_by_label("8", exact=True).check()
    page.locator("#duel-dataset input").click()
    page.get_by_role("option", name="colours").click()
    page.locator("#duel-images input").fill("0")
    page.locator("#duel-epochs input").fill("2")
    page.locator("#duel-guess").get_by_label(GUESSES[RESIDUAL]).check()
    expect(cost_line(page)).to_contain_text("2 runs, one after the other")
    page.locator("#duel-start").click()
    text = page.locator("#duel-text")
    expect(text).to_contain_text("2 of 2 runs finished", timeout=180_000)
    expect(text).to_contain_text("8 layers: the plain network's training loss is")
    expect(text).to_contain_text("You guessed residual at 8 layers.")
    expect(page.locator("#duel-table")).to_contain_text("plain8")
    # The recording that was shown first has neither of these networks.
    for plot in ("#duel-loss", "#duel-accuracy"):
        lines = page.locator(f"{plot} svg g.mark-line path[stroke]")
        for arm in ("plain8", "resnet8"):
            expect(lines.and_(page.locator(f"[stroke='{COLOURS[arm]}' i]"))).to_have_count(1)
    expect(page.get_by_role("button", name="Stop").locator("visible=true")).to_have_count(0)


def test_blocks_of_a_network_are_weakened_and_removed(page):
    open_chapter(page, "6 Surgery")
    text = page.locator("#surgery-text")
    page.locator("#surgery-run input").click()
    page.get_by_role("option", name="mine").click()
    expect(text).to_contain_text("Unchanged, resnet20 classifies")
    slider = page.locator("#surgery-strength input[type=range]")
    slider.focus()
    slider.press("Home")
    expect(text).to_contain_text("With all branches at 0, resnet20 classifies")
    page.locator("#surgery-dropped").get_by_label("stage 1, block 1").check()
    expect(text).to_contain_text("and 1 of 9 blocks removed")
    page.get_by_role("button", name="Remove each block in turn").click()
    expect(page.locator("#surgery-bars")).to_be_visible()


def test_the_tab_fits_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    try:
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    finally:
        page.set_viewport_size({"width": 1280, "height": 900})
