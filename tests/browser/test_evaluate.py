"""The Evaluate tab in a real browser, over evaluations with random logits."""

import csv
import json
import re
import zipfile
from itertools import pairwise

import pytest
from playwright.sync_api import expect

from resnet_demo.ui.evaluate.images import PAGE
from tests.browser.conftest import EXPERIMENT, hostile_elements
from tests.ui.fake_evaluations import CLASSES

pytestmark = pytest.mark.browser

# Records every change of the results, except in Gradio's hidden timers.
RECORD_CHANGES = """() => {
  window.changes = [];
  const elementOf = ({target}) => target.nodeType == 1 ? target : target.parentElement;
  const observer = new MutationObserver((mutations) => {
    const elements = mutations.map(elementOf);
    const visible = elements.filter((element) => element && !element.closest('.wrap.hide'));
    window.changes.push(...visible.map((element) => element.outerHTML.slice(0, 200)));
  });
  const all = {subtree: true, childList: true, attributes: true, characterData: true};
  observer.observe(document.getElementById('evaluate-results'), all);
}"""

# How much of a table is below the edge of a box that scrolls.
HIDDEN_PIXELS = """table => Math.max(0, ...[...table.querySelectorAll('*')]
  .filter(box => ['auto', 'scroll'].includes(getComputedStyle(box).overflowY))
  .map(box => box.scrollHeight - box.clientHeight))"""


@pytest.fixture(scope="module")
def app(untrained):
    """Return the app; app.mine and app.yours are the evaluations."""
    return untrained


@pytest.fixture(scope="module")
def page(visiting, app):
    """Return a page that shows the newest run."""
    with visiting() as visit:
        page = visit(app.url)
        open_tab(page)
        expect(page.locator("#evaluate-summary")).to_contain_text("mine on the 30 test images")
        yield page


def open_tab(page):
    page.get_by_role("tab", name="Evaluate").click()


def options(page, dropdown):
    """Return the run ids that a dropdown offers."""
    page.locator(f"{dropdown} input").click()
    expect(page.get_by_role("option").first).to_be_visible()
    names = [
        text.split(" · ")[0].strip("✓ \n") for text in page.get_by_role("option").all_inner_texts()
    ]
    page.locator(f"{dropdown} input").blur()
    expect(page.get_by_role("option")).to_have_count(0)
    return names


def choose(page, label, option):
    page.get_by_label(label, exact=True).locator("visible=true").click()
    page.get_by_role("option", name=option).click()


def captions(evaluated, positions):
    """Return the captions of the images at these positions."""
    confidences = evaluated.logits.double().softmax(1)
    texts = []
    for position in positions:
        truth = int(evaluated.labels[position])
        predicted = int(confidences[position].argmax())
        names = f"{CLASSES[truth]} → {CLASSES[predicted]}"
        if truth == predicted:
            names = f"{CLASSES[truth]} ✓"
        texts.append(f"{names} · {100 * confidences[position].max():.1f} %")
    return texts


def mistakes(evaluated, wanted=lambda truth, predicted: truth != predicted):
    """Return the positions of these mistakes, most confident first."""
    confidence, predicted = evaluated.logits.double().softmax(1).max(1)
    positions = [
        position
        for position, truth in enumerate(evaluated.labels.tolist())
        if wanted(truth, predicted[position].item())
    ]
    return sorted(positions, key=lambda position: -confidence[position])


def expect_images(page, texts):
    """Wait for the images with these captions."""
    expect(page.locator("#shown .caption-label")).to_have_text(texts)
    expect(page.locator("#shown img")).to_have_count(len(texts))


def largest_confusion(evaluated):
    """Return count, true class and prediction of the most frequent mistake."""
    confusion = evaluated.result["confusion"]
    return max((confusion[i][j], i, j) for i in range(3) for j in range(3) if i != j)


def test_a_fresh_page_with_a_result_has_no_button_but_the_named_ones_and_the_whole_table(page):
    expect(page.locator("#save-zip")).to_be_visible()
    expect(page.get_by_role("button", name="Download", exact=True)).to_have_count(0)
    expect(page.locator("#per-class")).to_contain_text("95 % interval")
    page.wait_for_timeout(500)  # the table takes its final height
    assert page.locator("#per-class").evaluate(HIDDEN_PIXELS) <= 2


def test_experiments_of_lessons_are_listed_on_request_in_every_list(page):
    usual = ["mine", "yours", "hostile", "cifar10-shipped"]
    assert options(page, "#evaluate-run") == usual
    assert options(page, "#evaluate-other") == ["no other run", "yours"]  # of the same classes
    page.get_by_role("tab", name="Train").click()
    assert options(page, "#run") == usual
    page.locator("#run-experiments").get_by_label("show experiments").check()
    expect(page.locator("#run input")).to_have_value("mine · finished")
    page.wait_for_timeout(300)
    names = options(page, "#run")
    assert names[:5] == [EXPERIMENT, *usual]
    assert "learn-plain56" in names
    page.get_by_role("tab", name="Classify").click()
    assert options(page, "#classify-run") == [*usual, "imagenet-efficientnet-lite0"]
    page.get_by_role("tab", name="Evaluate").click()
    page.locator("#evaluate-experiments").get_by_label("show experiments").check()
    expect_option = page.get_by_role("option", name=EXPERIMENT)
    page.locator("#evaluate-run input").click()
    expect(expect_option).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#evaluate-run input")).to_have_value("mine · finished")
    page.locator("#evaluate-experiments").get_by_label("show experiments").uncheck()


def test_a_clicked_cell_shows_its_images_and_ticks_change_nothing(page, app):
    count, truth, predicted = largest_confusion(app.mine)
    name = f"{count} images of {CLASSES[truth]} classified as {CLASSES[predicted]}"
    page.get_by_role("button", name=name).click()
    scrolled = page.evaluate("window.scrollY")
    expect(page.locator("#shown-text")).to_have_text(f"{name}, most confident first.")
    cell = mistakes(app.mine, lambda *pair: pair == (truth, predicted))
    assert len(cell) == count
    expect_images(page, captions(app.mine, cell))
    # Beside what was clicked, without scrolling.
    assert page.evaluate("window.scrollY") == scrolled
    expect(page.locator("#shown-text")).to_be_in_viewport(ratio=1)
    expect(page.locator("#shown img").first).to_be_in_viewport(ratio=1)
    expect(page.get_by_role("button", name=name)).to_have_attribute("aria-current", "true")
    page.wait_for_timeout(500)
    page.evaluate(RECORD_CHANGES)
    page.wait_for_timeout(2500)  # ticks pass
    assert page.evaluate("window.changes") == []


def test_the_matrix_shows_percent_or_images(page, app):
    count, truth, predicted = largest_confusion(app.mine)
    cell = page.locator(f'#matrix [data-cell="{truth} {predicted}"]')
    expect(cell).to_have_text(f"{100 * count / 10:.1f}")
    page.get_by_label("images", exact=True).click()
    expect(cell).to_have_text(str(count))
    expect(cell).to_have_attribute("aria-current", "true")  # its images are still shown
    page.get_by_label("percent of the row").click()
    expect(cell).to_have_text(f"{100 * count / 10:.1f}")


def test_arrow_keys_move_in_the_matrix(page, app):
    cells = [(i, j) for i in range(3) for j in range(3) if app.mine.result["confusion"][i][j]]
    page.locator('#matrix button[tabindex="0"]').focus()
    page.locator('#matrix button[data-cell="0 0"]').focus()
    row = [cell for cell in cells if cell[0] == 0]
    for _, (_, column) in pairwise(row):
        page.keyboard.press("ArrowRight")
        expect(page.locator(f'#matrix [data-cell="0 {column}"]')).to_be_focused()
    page.keyboard.press("Enter")
    expect_images(
        page, captions(app.mine, mistakes(app.mine, lambda *pair: pair == row[-1])[:PAGE])
    )


def test_the_worst_mistakes_come_first(page, app):
    worst = captions(app.mine, mistakes(app.mine))
    page.get_by_label("worst mistakes").click()
    expect_images(page, worst[:PAGE])
    expect(page.locator("#matrix [aria-current]")).to_have_count(0)
    if len(worst) > PAGE:
        page.get_by_role("button", name="More").click()
        expect_images(page, worst[PAGE : 2 * PAGE])
    page.get_by_label("least certain").click()
    expect(page.locator("#shown-text")).to_contain_text("1 to 12 of 30")


def test_two_runs_are_compared_and_their_differing_images_shown(page, app):
    choose(page, "Compare with", "yours")
    expect(page.locator("#compared")).to_contain_text("McNemar's exact test")
    right = [each.logits.argmax(1) == each.labels for each in (app.mine, app.yours)]
    only = (right[0] & ~right[1]).nonzero().flatten().tolist()
    assert only
    page.get_by_label("only mine right").click()
    positions = [position for position in mistakes(app.yours) if position in only]
    expect_images(page, captions(app.yours, positions[:PAGE]))
    choose(page, "Compare with", "no other run")
    expect(page.locator("#compared")).to_be_hidden()
    expect(page.locator("#shown")).to_be_hidden()


def test_table_and_report_are_saved(page, app):
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save table (CSV)").click()
    assert saved.value.suggested_filename == "mine-test-colours-per-class.csv"
    with open(saved.value.path(), newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["label", *CLASSES]
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save numbers and figures (ZIP)").click()
    assert saved.value.suggested_filename == "mine-test-colours.zip"
    with zipfile.ZipFile(saved.value.path()) as archive:
        result = json.loads(archive.read("mine-test-colours/result.json"))
    assert result["top1"] == app.mine.result["top1"]


def test_the_hidden_download_button_stays_hidden_when_the_results_come_back(page):
    page.get_by_label("validation").first.click()  # has no result
    expect(page.locator("#evaluate-summary")).to_be_hidden()
    page.get_by_label("test", exact=True).first.click()
    expect(page.locator("#evaluate-summary")).to_be_visible()
    expect(page.locator("#save-zip")).to_be_visible()
    expect(page.get_by_role("button", name="Download", exact=True)).to_have_count(0)


def test_reliability_and_confidence_are_drawn(page):
    for name in ("reliability", "confidence"):
        expect(page.locator(f"#{name} img")).to_have_attribute("src", re.compile("^data:image"))


def test_class_names_are_text_and_never_executed(page, hostile):
    choose(page, "Run", "hostile")
    for name in hostile:
        expect(page.locator("#matrix tbody")).to_contain_text(name)
        expect(page.locator("#per-class")).to_contain_text(name)
    page.locator('#matrix [data-cell="0 0"]').click()
    expect(page.locator("#shown .caption-label").first).to_contain_text(hostile[0])
    assert hostile[0] in page.locator("#shown-text").text_content()
    page.wait_for_timeout(300)
    assert page.title() == "ResNet Demo"
    assert hostile_elements(page).count() == 0
