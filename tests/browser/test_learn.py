"""The Learn tab in a real browser: guess, train a duel, remove blocks, read on a phone."""

import re

import pytest
from playwright.sync_api import expect

from resnet_demo.ui.learn.arm_plots import COLOURS
from resnet_demo.ui.learn.guess import QUESTIONS
from resnet_demo.ui.learn.tab import CHAPTERS, chapter_title
from tests.ui.fake_evaluations import untrained_runs

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(visiting, start_app):
    """Yield a page on the Learn tab; the one run has an untrained network."""
    app = start_app()
    untrained_runs(app.runs, "mine")
    with visiting() as visit:
        page = visit(app.url)
        page.get_by_role("tab", name="Learn", exact=True).click()
        yield page


def open_chapter(page, number):
    page.locator("#chapters").get_by_role("tab", name=chapter_title(number)).click()


def selected(page):
    return page.locator("#chapters [role=tab][aria-selected=true]")


def cost_line(page):
    """Return the line that shows the cost of what the form would start."""
    return page.locator("#chapters .hint:visible").first


def lines(page, chart):
    """Return the stroke of each line that is drawn in a chart, by the name of the line."""
    return page.locator(f"{chart} path.chart-line").evaluate_all(
        "all => Object.fromEntries(all.filter(path => path.getAttribute('d'))"
        ".map(path => [path.dataset.line, path.getAttribute('stroke')]))"
    )


def test_links_lead_through_the_chapters_and_back(page):
    page.locator("#learn-contents").get_by_role("link", name="3 The gradient").click()
    expect(selected(page)).to_have_text("3 The gradient")
    page.locator(".learn-links:visible").get_by_role("link", name="2 The duel").click()
    expect(selected(page)).to_have_text("2 The duel")
    page.go_back()
    expect(selected(page)).to_have_text("3 The gradient")
    page.locator(".learn-links:visible").get_by_role("link", name="Contents").click()
    expect(page.locator("#learn-contents li")).to_have_count(len(CHAPTERS) - 1)


def test_every_choice_redraws_the_block_beside_it(page):
    open_chapter(page, 1)
    drawing, text = page.locator("#block-drawing svg"), page.locator("#block-text")
    expect(drawing).to_have_attribute("aria-label", re.compile("16 × 32 × 32 in, 32 × 16 × 16 out"))
    plain = page.locator("#block-shortcut").get_by_label("none: a plain network")
    identity = page.locator("#block-shortcut").get_by_label("identity: add the input unchanged")
    identity.check()
    expect(text).to_contain_text("16 channels into 32 at stride 2")
    expect(drawing).to_have_count(0)
    plain.check()
    expect(drawing).to_have_attribute("aria-label", re.compile("^A plain block"))
    expect(text).to_contain_text("nothing is added")
    for part in (plain, drawing):
        expect(part).to_be_in_viewport(ratio=1)
    page.get_by_role("button", name="The code of this block").click()
    expect(page.locator("#block-code")).to_contain_text("class BasicBlock")
    expect(page.locator("#network-table")).to_contain_text("stage 3")
    expect(page.locator(".katex").first).to_be_visible()  # its formula


def test_no_result_stands_beside_an_open_guess(page):
    for kind, question in QUESTIONS.items():
        open_chapter(page, question.chapter)
        expect(page.locator(f"#{kind}-guess input").first).to_be_enabled()
        expect(page.locator(f"#{kind}-show")).to_be_visible()
        panel = page.locator("#chapters [role=tabpanel]:visible")
        expect(panel.get_by_text("the results appear here afterwards")).to_be_visible()
        expect(
            panel.locator(".learn-answer, .line-chart svg, img").locator("visible=true")
        ).to_have_count(0)
        expect(panel).not_to_contain_text("The recording")


def test_a_guess_shows_the_recording_and_is_scored(page):
    open_chapter(page, 2)
    page.locator("#duel-guess").get_by_label("plain", exact=True).check()
    text = page.locator("#duel-text")
    expect(text).to_contain_text("Recording, made on another machine")
    expect(text).to_contain_text("You guessed plain. The result: residual.")
    expect(page.locator("#chapters")).to_contain_text("They called it degradation.")
    expect(page.locator("#duel-show")).to_be_hidden()
    expect(page.locator("#duel-guess").get_by_label("residual", exact=True)).to_be_disabled()
    expect(page.locator("#duel-chart [data-plot=learn-loss] .chart-svg")).to_be_visible()
    arms = ("plain20", "plain56", "resnet20", "resnet56")
    assert lines(page, "#duel-chart") == {arm: COLOURS[arm] for arm in arms}
    # The browser keeps the guess.
    page.reload()
    page.get_by_role("tab", name="Learn", exact=True).click()
    open_chapter(page, 0)
    expect(page.locator("#learn-contents")).to_contain_text("✗ wrong")
    expect(page.locator("#learn-score")).to_contain_text("Your guesses: 0 of 1 right")


def test_a_duel_trains_and_every_line_is_drawn(page):
    open_chapter(page, 2)
    page.get_by_role("button", name="Run it yourself").locator("visible=true").click()
    depths = page.locator("#duel-depths")
    depths.get_by_label("20", exact=True).uncheck()
    expect(cost_line(page)).to_contain_text("choose at least one depth")
    depths.get_by_label("8", exact=True).check()
    page.locator("#duel-dataset input").click()
    page.get_by_role("option", name="colours").click()
    page.locator("#duel-images input").fill("0")
    page.locator("#duel-epochs input").fill("2")
    expect(cost_line(page)).to_contain_text("2 runs, one after the other")
    page.locator("#duel-start").click()
    text = page.locator("#duel-text")
    expect(text).to_contain_text("2 of 2 runs finished", timeout=180_000)
    expect(text).to_contain_text("8 layers: the plain network's training loss is")
    expect(text).to_contain_text("You guessed plain.")
    expect(page.locator("#duel-table")).to_contain_text("plain8")
    # The recording that was shown first has neither of these networks.
    assert lines(page, "#duel-chart") == {arm: COLOURS[arm] for arm in ("plain8", "resnet8")}
    expect(page.get_by_role("button", name="Stop").locator("visible=true")).to_have_count(0)


def test_blocks_of_a_network_are_weakened_and_removed(page):
    open_chapter(page, 6)
    page.locator("#surgery-show").click()
    text = page.locator("#surgery-text")
    # The chart opens with the recorded networks, whatever becomes of this one.
    expect(page.locator("#surgery-strengths path[data-line=resnet56]")).to_be_visible()
    page.locator("#surgery-run input").click()
    page.get_by_role("option", name="mine").click()
    expect(text).to_contain_text("Unchanged, resnet20 classifies")
    own = page.locator("#surgery-strengths circle.chart-dot")
    expect(own).to_have_count(1)
    slider = page.locator("#surgery-strength input[type=range]")
    slider.focus()
    slider.press("Home")
    expect(text).to_contain_text("With all branches at 0, resnet20 classifies")
    expect(own).to_have_count(2)
    page.locator("#surgery-dropped").get_by_label("stage 1, block 1").check()
    expect(text).to_contain_text("and 1 of 9 blocks removed")
    page.get_by_role("button", name="Remove each block in turn").click()
    expect(page.locator("#surgery-blocks circle.chart-dot")).to_have_count(9)


def test_the_settings_of_a_range_test_are_copied_to_the_train_form(page):
    open_chapter(page, 7)
    page.locator("#range-guess").get_by_label("about 0.1").check()
    expect(page.locator("#range-text")).to_contain_text("You guessed about 0.1. Correct.")
    page.locator("#range-use").click()
    expect(page.locator("button#train")).to_be_visible()
    expect(page.locator("#peak_lr input")).to_have_value("0.0089")
    page.locator("#advanced > button").click()
    for group in ("optimizer", "regularization"):
        page.locator(f"#group-{group} button").first.click()
    for name, value in {"momentum": "0.9", "label_smoothing": "0"}.items():
        expect(page.locator(f"#{name} input").first).to_have_value(value)
    page.get_by_role("tab", name="Learn", exact=True).click()


def test_the_last_chapter_compares_borrowed_features_and_counts_the_guesses(page):
    page.get_by_role("tab", name="Learn", exact=True).click()
    open_chapter(page, 8)
    page.locator("#transfer-guess").get_by_label("about 75 %").check()
    expect(page.locator("#transfer-text")).to_contain_text("You guessed about 75 %. Correct.")
    assert [*lines(page, "#transfer-chart")] == ["from scratch", "transfer"]
    expect(page.locator(".block.learn-final")).to_contain_text(
        "Your guesses: 2 of 3 right (1 shown without a guess"
    )


def test_every_chapter_fits_a_phone_and_the_result_follows_the_guess(page):
    page.set_viewport_size({"width": 390, "height": 844})
    try:
        open_chapter(page, 0)
        page.locator("#learn-contents a").first.click()
        for number in range(1, len(CHAPTERS)):
            links = page.locator(".learn-links:visible")
            expect(links).to_contain_text(f"← {chapter_title(number - 1)}")
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            links.locator("a").last.click()
        page.locator("#learn-contents a").nth(1).click()
        order = ["#duel-guess", "#duel-chart", ".block.learn-answer:visible", ".learn-form:visible"]
        tops = [page.locator(part).bounding_box()["y"] for part in order]
        assert tops == sorted(tops)
    finally:
        page.set_viewport_size({"width": 1280, "height": 900})


def test_guesses_can_be_forgotten(page):
    open_chapter(page, 0)
    page.locator("#learn-again").click()
    expect(page.locator("#learn-contents").get_by_text("guess open")).to_have_count(len(QUESTIONS))
    open_chapter(page, 2)
    expect(page.locator("#duel-text")).to_contain_text("Guess first")
    expect(page.locator("#duel-chart")).to_be_hidden()
