"""What stands beside a run: its settings, title and notes, where to go next, and its deletion."""

import re
import shutil
import zipfile

import pytest
from playwright.sync_api import expect

from resnet_demo.config import make_config, to_json
from resnet_demo.events import Started, Step
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.ui.evaluate.evaluation_status import Selection, StatusCache
from resnet_demo.ui.services import Services
from tests.ui.conftest import OPENING, STEP
from tests.ui.fake_evaluations import save_evaluation, untrained_runs

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def app(start_app):
    return start_app()


@pytest.fixture
def runs(app):
    """Return the folder of two untrained runs that count as finished; the first is the newest."""
    shutil.rmtree(app.runs, ignore_errors=True)
    return untrained_runs(app.runs, "some-run-2", "some-run-1")


def shown_run(page):
    return page.locator("#run input")


def open_run(visit, app, run_id, **size):
    """Open the page at a run, which it shows at once."""
    return visit(f"{app.url}?run={run_id}", **size)


def unfold(page, fold):
    page.locator(f"#{fold} > button").click()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_run_is_deleted_and_brought_back_by_keyboard(app, runs, visit, width):
    page = open_run(visit, app, "some-run-1", width=width)
    delete, deleted = page.locator("button#delete"), page.locator("#deleted")
    expect(delete).to_be_enabled()
    delete.focus()
    page.keyboard.press("Enter")
    expect(deleted).to_contain_text("some-run-1 moved to trash.")
    expect(page.locator("button#undo")).to_be_focused()
    expect(shown_run(page)).to_have_value("some-run-2 · finished")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert not (runs / "some-run-1").exists()
    assert (runs / ".trash" / "some-run-1" / "config.json").exists()

    page.keyboard.press("Enter")
    expect(deleted).to_be_hidden()
    expect(shown_run(page)).to_have_value("some-run-1 · finished")
    assert (runs / "some-run-1" / "config.json").exists()
    expect(page.locator("#trash")).to_be_hidden()


def test_the_trash_is_emptied_after_a_question(app, runs, visit):
    page = open_run(visit, app, "some-run-1")
    expect(page.locator("button#delete")).to_be_enabled()
    page.locator("button#delete").click()
    expect(page.locator("#trash > button")).to_contain_text("Trash: 1 run, ")
    unfold(page, "trash")
    page.locator("#empty-trash").click()
    page.locator("#empty-trash-no").click()
    expect(page.locator("#empty-trash-yes")).to_be_hidden()
    assert (runs / ".trash" / "some-run-1").exists()
    page.locator("#empty-trash").click()
    page.locator("#empty-trash-yes").click()
    expect(page.locator("#trash")).to_be_hidden()
    assert not (runs / ".trash" / "some-run-1").exists()
    page.locator("button#undo").click()
    expect(page.get_by_text("some-run-1 is no longer in the trash")).to_be_visible()


def test_the_settings_of_a_run_are_shown_and_copied_to_the_form(app, runs, visit):
    config = make_config({"recipe": "paper", "dataset": "colours", "crop": 0, "epochs": 7})
    (runs / "some-run-1" / "config.json").write_text(to_json(config, "0"))
    page = open_run(visit, app, "some-run-1")
    unfold(page, "run-details")
    expect(page.locator("#run-settings")).to_contain_text("Recipe paper on colours, with:")
    rows = page.locator("#run-settings tbody tr")
    expect(rows).to_have_text(["Epochs 7 20", "Crop (pixels) 0 4"])
    page.locator("#copy-settings").click()
    epochs = page.get_by_role("spinbutton", name="Epochs", exact=True)
    expect(epochs).to_have_value("7")
    expect(page.get_by_role("radio", name="paper", exact=True)).to_be_checked()
    expect(page.get_by_label("Dataset", exact=True).locator("visible=true")).to_have_value(
        "colours"
    )
    page.locator("#next-longer").click()
    expect(epochs).to_have_value("14")


def test_title_and_notes_are_kept_and_shown_as_text(app, runs, visit, hostile):
    page = open_run(visit, app, "some-run-1")
    unfold(page, "run-details")
    title, notes = page.get_by_label("Title"), page.get_by_label("Notes")
    for text in hostile:
        title.fill(text)
        title.press("Enter")
        expect(shown_run(page)).to_have_value(f"{text} · some-run-1 · finished")
    title.fill("saved")
    title.press("Enter")
    title.press_sequentially(" more")  # the answer with the title that was saved leaves this
    page.wait_for_timeout(1500)
    expect(title).to_have_value("saved more")
    title.fill(hostile[-1])
    notes.fill(f"one\n{hostile[1]}")
    notes.blur()
    other = open_run(visit, app, "some-run-1")
    expect(shown_run(other)).to_have_value(f"{hostile[-1]} · some-run-1 · finished")
    unfold(other, "run-details")
    expect(other.get_by_label("Notes")).to_have_value(f"one\n{hostile[1]}")
    for name in ("Evaluate", "Classify"):
        other.get_by_role("tab", name=name, exact=True).click()
        expect(other.locator(f"#{name.lower()}-run input")).to_have_value(
            f"{hostile[-1]} · some-run-1 · finished"
        )
    assert {each.title() for each in (page, other)} == {"ResNet Demo"}
    assert other.locator("img[src*=x9]").count() == 0
    about = (runs / "some-run-1" / "about.json").read_text()
    title.fill("x" * 81)
    title.blur()
    expect(page.get_by_test_id("toast-text")).to_contain_text("title must be one line of at most")
    assert (runs / "some-run-1" / "about.json").read_text() == about


def test_a_trained_run_leads_to_the_other_tabs(app, runs, visit):
    services = Services(Paths(runs, app.data, runs / "none"))
    save_evaluation(StatusCache(services), Selection("some-run-1"))  # the other one is evaluated
    page = open_run(visit, app, "some-run-2")
    run = "some-run-2 · finished"
    page.locator("#next-classify").click()
    expect(page.locator("#picture")).to_be_visible()
    expect(page.locator("#classify-run input")).to_have_value(run)
    page.get_by_role("tab", name="Train", exact=True).click()
    page.locator("#next-evaluate").click()
    expect(page.locator("#evaluate-run input")).to_have_value(run)
    summary = page.locator("#evaluate-summary")
    expect(summary).to_contain_text("some-run-2 on the 30 test images of colours")
    page.get_by_role("tab", name="Train", exact=True).click()
    page.locator("#next-compare").click()
    expect(page.locator("#evaluate-other input")).to_have_value("some-run-1 · finished")
    expect(page.locator("#compared")).to_contain_text("some-run-1")


def test_a_finished_run_becomes_a_web_page_in_two_clicks(app, runs, visit):
    page = open_run(visit, app, "some-run-1", width=390)
    unfold(page, "train-export")
    start, done = page.locator("#train-export-start"), page.locator("#train-export-download")
    expect(page.get_by_role("radio", name="Web page")).to_be_checked()
    start.click()
    expect(page.locator("#train-export-cancel")).to_be_visible()
    expect(done).to_contain_text(re.compile(r"Download \(.* [kM]B\)"))
    expect(page.locator("#train-export-text")).to_contain_text(
        "Compared with the app on 60 pictures (30 test pictures of colours at twenty sizes, and "
        "30 odd ones): the same class for all; probabilities differ by "
    )
    with page.expect_download() as saved:
        done.click()
    assert saved.value.suggested_filename == "some-run-1-web.zip"
    with zipfile.ZipFile(saved.value.path()) as archive:
        names = archive.namelist()
    assert "some-run-1-web/index.html" in names
    assert len([name for name in names if name.endswith(".onnx")]) == 1

    # It is there on the other tab too; a wrong name is explained in place.
    page.get_by_role("button", name="Publish as a static Space").click()
    expect(page.locator("#train-publish-text")).to_contain_text("repository must be OWNER/NAME")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.locator("#next-classify").click()
    unfold(page, "classify-export")
    expect(page.locator("#classify-export-download")).to_be_visible()


def test_the_scale_of_a_chart_survives_a_reload_and_a_deletion_empties_the_chart(app, runs, visit):
    log = Run(runs / "some-run-1").log()
    log.append(Started(step=0, epoch=1, **OPENING))
    for step in range(1, 9):
        log.append(Step(step=step, epoch=1 + step // 5, **STEP))
    page = open_run(visit, app, "some-run-1")
    drawn = page.locator("#curves [data-plot=loss] path[data-line=training][d^='M']")
    expect(drawn).to_have_count(1)
    scale = page.get_by_role("button", name="Log: Loss, logarithmic scale")
    scale.click()
    page.reload()
    expect(scale).to_have_attribute("aria-pressed", "true")
    expect(drawn).to_have_count(1)
    page.locator("button#delete").click()
    expect(shown_run(page)).to_have_value("some-run-2 · finished")
    expect(drawn).to_have_count(0)
