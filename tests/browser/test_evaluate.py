"""The Evaluate tab in a real browser, over evaluations with made-up answers."""

import csv
import json
import re
import zipfile
from itertools import pairwise

import pytest
from playwright.sync_api import expect

from resnet_demo.ui.evaluate.images import PAGE
from tests.ui.fake_evaluations import CLASSES

pytestmark = pytest.mark.browser

CHANGES = """() => {
  window.changes = [];
  const its = ({target}) => target.nodeType == 1 ? target : target.parentElement;
  const look = new MutationObserver((seen) => {  // but for Gradio's clocks, which nobody sees
    const shown = seen.map(its).filter((one) => one && !one.closest('.wrap.hide'));
    window.changes.push(...shown.map((one) => one.outerHTML.slice(0, 200)));
  });
  const all = {subtree: true, childList: true, attributes: true, characterData: true};
  look.observe(document.getElementById('evaluate-results'), all);
}"""


@pytest.fixture(scope="module")
def app(untrained):
    """The app, and what `mine` and `yours` answered."""
    return untrained


@pytest.fixture(scope="module")
def page(visiting, app):
    """A page that shows the newest run."""
    with visiting() as visit:
        page = visit(app.url)
        tab(page)
        expect(page.locator("#evaluate-summary")).to_contain_text("mine on the 30 test images")
        yield page


def tab(page):
    page.get_by_role("tab", name="Evaluate").click()


def choose(page, label, option):
    page.get_by_label(label, exact=True).locator("visible=true").click()
    page.get_by_role("option", name=option).click()


def captions(evaluated, places):
    """What stands under the images at these places."""
    confidences = evaluated.logits.double().softmax(1)
    told = []
    for place in places:
        truth, said = int(evaluated.labels[place]), int(confidences[place].argmax())
        names = f"{CLASSES[truth]} ✓" if truth == said else f"{CLASSES[truth]} → {CLASSES[said]}"
        told.append(f"{names} · {confidences[place].max():.1%}")
    return told


def mistakes(evaluated, wanted=lambda truth, said: truth != said):
    """Places of the answers that are wrong in that way, the surest first."""
    confidence, said = evaluated.logits.double().softmax(1).max(1)
    places = [
        place
        for place, truth in enumerate(evaluated.labels.tolist())
        if wanted(truth, said[place].item())
    ]
    return sorted(places, key=lambda place: -confidence[place])


def shows(page, told):
    """Waits for the images with these captions."""
    expect(page.locator("#shown .caption-label")).to_have_text(told)
    expect(page.locator("#shown img")).to_have_count(len(told))


def largest_confusion(evaluated):
    """Count, truth and answer of the commonest mistake."""
    confusion = evaluated.result["confusion"]
    return max((confusion[i][j], i, j) for i in range(3) for j in range(3) if i != j)


def test_a_cell_that_is_clicked_shows_its_images_and_ticks_leave_them(page, app):
    count, truth, said = largest_confusion(app.mine)
    name = f"{count} images of {CLASSES[truth]} taken for {CLASSES[said]}"
    page.get_by_role("button", name=name).click()
    expect(page.locator("#shown-words")).to_have_text(f"{name}, the surest first.")
    cell = mistakes(app.mine, lambda *pair: pair == (truth, said))
    assert len(cell) == count
    shows(page, captions(app.mine, cell))
    expect(page.get_by_role("button", name=name)).to_have_attribute("aria-current", "true")
    page.wait_for_timeout(500)
    page.evaluate(CHANGES)
    page.wait_for_timeout(2500)  # ticks pass
    assert page.evaluate("window.changes") == []


def test_the_matrix_shows_percent_or_images(page, app):
    count, truth, said = largest_confusion(app.mine)
    cell = page.locator(f'#matrix [data-cell="{truth} {said}"]')
    expect(cell).to_have_text(f"{100 * count / 10:.1f}")
    page.get_by_label("images", exact=True).click()
    expect(cell).to_have_text(str(count))
    expect(cell).to_have_attribute("aria-current", "true")  # its images are still shown
    page.get_by_label("percent of the row").click()
    expect(cell).to_have_text(f"{100 * count / 10:.1f}")


def test_the_matrix_is_walked_by_keyboard(page, app):
    cells = [(i, j) for i in range(3) for j in range(3) if app.mine.result["confusion"][i][j]]
    page.locator('#matrix button[tabindex="0"]').focus()
    page.locator('#matrix button[data-cell="0 0"]').focus()
    row = [cell for cell in cells if cell[0] == 0]
    for _, (_, column) in pairwise(row):
        page.keyboard.press("ArrowRight")
        expect(page.locator(f'#matrix [data-cell="0 {column}"]')).to_be_focused()
    page.keyboard.press("Enter")
    shows(page, captions(app.mine, mistakes(app.mine, lambda *pair: pair == row[-1])[:PAGE]))


def test_the_worst_mistakes_come_first(page, app):
    worst = captions(app.mine, mistakes(app.mine))
    page.get_by_label("worst mistakes").click()
    shows(page, worst[:PAGE])
    expect(page.locator("#matrix [aria-current]")).to_have_count(0)
    if len(worst) > PAGE:
        page.get_by_role("button", name="More").click()
        shows(page, worst[PAGE : 2 * PAGE])
    page.get_by_label("least certain").click()
    expect(page.locator("#shown-words")).to_contain_text("1 to 12 of 30")


def test_two_runs_are_compared_and_the_images_between_them_shown(page, app):
    choose(page, "Compare with", "yours")
    expect(page.locator("#compared")).to_contain_text("McNemar's exact test")
    right = [each.logits.argmax(1) == each.labels for each in (app.mine, app.yours)]
    only = (right[0] & ~right[1]).nonzero().flatten().tolist()
    assert only
    page.get_by_label("only mine right").click()
    places = [place for place in mistakes(app.yours) if place in only]
    shows(page, captions(app.yours, places[:PAGE]))
    choose(page, "Compare with", "no other run")
    expect(page.locator("#compared")).to_be_hidden()
    expect(page.locator("#shown")).to_be_hidden()


def test_table_and_report_are_saved(page, app):
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save this table (CSV)").click()
    assert saved.value.suggested_filename == "mine-test-colours-per-class.csv"
    with open(saved.value.path(), newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["label", *CLASSES]
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save numbers and figures (ZIP)").click()
    assert saved.value.suggested_filename == "mine-test-colours.zip"
    with zipfile.ZipFile(saved.value.path()) as archive:
        told = json.loads(archive.read("mine-test-colours/result.json"))
    assert told["top1"] == app.mine.result["top1"]


def test_the_reliability_and_the_confidence_are_drawn(page):
    for name in ("reliability", "confidence"):
        expect(page.locator(f"#{name} img")).to_have_attribute("src", re.compile("^data:image"))


def test_names_of_classes_are_text_and_never_run(page, hostile):
    choose(page, "Run", "hostile")
    for name in hostile:
        expect(page.locator("#matrix tbody")).to_contain_text(name)
        expect(page.locator("#per-class")).to_contain_text(name)
    page.locator('#matrix [data-cell="0 0"]').click()
    expect(page.locator("#shown .caption-label").first).to_contain_text(hostile[0])
    assert hostile[0] in page.locator("#shown-words").text_content()
    page.wait_for_timeout(300)
    assert page.title() == "ResNet Demo"
    assert page.locator("img[src=x9]").count() == 0
