"""What stands beside a run: its settings, title and notes, where to go next, and its deletion."""

import os
import re
import zipfile

import pytest
from playwright.sync_api import expect

from resnet_demo.config import make_config, to_json
from resnet_demo.events import Started, Step
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.tasks.status import Status, status_json
from resnet_demo.ui.evaluate.evaluation_status import Selection, StatusCache
from resnet_demo.ui.services import Services
from tests.browser.conftest import hostile_elements
from tests.ui.conftest import OPENING, STEP
from tests.ui.fake_evaluations import save_evaluation, untrained_runs

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def app(start_app, hostile):
    """Return an app with untrained runs that count as finished, but for the oldest.

    The newest, some-run-1, has a curve and is evaluated; some-run-3 has settings of its own;
    some-run-4 failed.
    """
    app = start_app()
    runs = untrained_runs(app.runs, "some-run-4", "some-run-3", "some-run-2", "some-run-1")
    failed = Status(state="failed", message=" ".join(hostile))
    (runs / "some-run-4" / "status.json").write_bytes(status_json(failed))
    config = make_config({"recipe": "paper", "dataset": "colours", "crop": 0, "epochs": 7})
    (runs / "some-run-3" / "config.json").write_text(to_json(config, "0"))
    os.utime(runs / "some-run-3" / "config.json", (1, 1))  # it is no newer for that
    log = Run(runs / "some-run-1").log()
    log.append(Started(step=0, epoch=1, **OPENING))
    for step in range(1, 9):
        log.append(Step(step=step, epoch=1 + step // 5, **STEP))
    services = Services(Paths(runs, app.data, runs / "none"))
    save_evaluation(StatusCache(services), Selection("some-run-1"))
    return app


@pytest.fixture(scope="module")
def page(visiting, app):
    """Yield one page for all tests, opened at a run that is not the newest."""
    with visiting() as visit:
        page = visit(f"{app.url}?run=some-run-2")
        expect(shown_run(page)).to_have_value("some-run-2 · finished")
        yield page


def shown_run(page):
    return page.locator("#run input")


def show_run(page, run_id, state="finished"):
    """Show a run on the Train tab."""
    page.set_viewport_size({"width": 1280, "height": 900})
    page.get_by_role("tab", name="Train", exact=True).click()
    shown_run(page).click()
    page.get_by_role("option", name=run_id).click()
    expect(shown_run(page)).to_have_value(re.compile(f"{run_id} · {state}$"))


def unfold(page, fold):
    """Open a fold, unless it is open."""
    for closed in page.locator(f"#{fold} > button:not(.open)").all():
        closed.click()


def curve(page):
    """Return the line that is drawn of the loss in training."""
    return page.locator("#curves [data-plot=loss] path[data-line=training][d^='M']")


def test_a_run_is_deleted_and_brought_back_by_keyboard(page, app):
    show_run(page, "some-run-1")
    delete, deleted = page.locator("button#delete"), page.locator("#deleted")
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        expect(delete).to_be_enabled()
        delete.focus()
        page.keyboard.press("Enter")
        expect(deleted).to_contain_text("some-run-1 moved to trash.")
        expect(page.locator("button#undo")).to_be_focused()
        expect(shown_run(page)).to_have_value("some-run-2 · finished")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert not (app.runs / "some-run-1").exists()
        assert (app.runs / ".trash" / "some-run-1" / "config.json").exists()

        page.keyboard.press("Enter")
        expect(deleted).to_be_hidden()
        expect(shown_run(page)).to_have_value("some-run-1 · finished")
        assert (app.runs / "some-run-1" / "config.json").exists()
        expect(page.locator("#trash")).to_be_hidden()


def test_the_settings_of_a_run_are_shown_and_copied_to_the_form(page):
    show_run(page, "some-run-3")
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


def test_a_trained_run_leads_to_the_other_tabs(page):
    show_run(page, "some-run-2")
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


def test_a_finished_run_becomes_a_web_page_in_two_clicks(page):
    show_run(page, "some-run-1")
    page.set_viewport_size({"width": 390, "height": 900})
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


def test_the_scale_of_a_chart_title_and_notes_survive_a_reload(page, app, hostile, until):
    """Check it, and that a title and notes are shown as text."""
    show_run(page, "some-run-1")
    unfold(page, "run-details")
    scale = page.get_by_role("button", name="Log: Loss, logarithmic scale")
    scale.click()
    title, notes = page.get_by_label("Title"), page.get_by_label("Notes")
    for text in hostile:
        title.fill(text)
        title.press("Enter")
        expect(shown_run(page)).to_have_value(f"{text} · some-run-1 · finished")
    title.fill("saved")
    title.press("Enter")
    title.press_sequentially(" more")  # the answer with the title that was saved leaves this
    expect(shown_run(page)).to_have_value("saved · some-run-1 · finished")
    for _ in range(2):
        page.wait_for_event("response", lambda response: "/poll?" in response.url)
    expect(title).to_have_value("saved more")
    title.fill(hostile[-1])
    notes.fill(f"one\n{hostile[1]}")
    notes.blur()
    expect(shown_run(page)).to_have_value(f"{hostile[-1]} · some-run-1 · finished")
    about = app.runs / "some-run-1" / "about.json"
    until(lambda: "one" in about.read_text())

    page.reload()
    expect(shown_run(page)).to_have_value(f"{hostile[-1]} · some-run-1 · finished")
    expect(scale).to_have_attribute("aria-pressed", "true")
    expect(curve(page)).to_have_count(1)
    unfold(page, "run-details")
    expect(notes).to_have_value(f"one\n{hostile[1]}")
    expect(title).to_have_value(hostile[-1])
    before = about.read_text()
    title.fill("x" * 81)
    title.blur()
    expect(page.get_by_test_id("toast-text")).to_contain_text("title must be one line of at most")
    assert about.read_text() == before
    for name in ("Evaluate", "Classify"):
        page.get_by_role("tab", name=name, exact=True).click()
        expect(page.locator(f"#{name.lower()}-run input")).to_have_value(
            f"{hostile[-1]} · some-run-1 · finished"
        )
    assert page.title() == "ResNet Demo"
    assert hostile_elements(page).count() == 0


def test_the_message_of_a_failed_run_is_text(page, hostile):
    show_run(page, "some-run-4", "failed")
    expect(page.locator("#run-status")).to_contain_text("Failed")
    for text in hostile:
        assert text in page.locator("#run-status").text_content()
    assert page.title() == "ResNet Demo"
    assert hostile_elements(page).count() == 0


def test_a_deletion_empties_the_chart_and_the_trash_is_emptied_after_a_question(page, app):
    show_run(page, "some-run-1")
    expect(curve(page)).to_have_count(1)
    expect(page.locator("button#delete")).to_be_enabled()
    page.locator("button#delete").click()
    expect(shown_run(page)).to_have_value("some-run-2 · finished")
    expect(curve(page)).to_have_count(0)
    expect(page.locator("#trash > button")).to_contain_text("Trash: 1 run, ")
    unfold(page, "trash")
    page.locator("#empty-trash").click()
    page.locator("#empty-trash-no").click()
    expect(page.locator("#empty-trash-yes")).to_be_hidden()
    assert (app.runs / ".trash" / "some-run-1").exists()
    page.locator("#empty-trash").click()
    page.locator("#empty-trash-yes").click()
    expect(page.locator("#trash")).to_be_hidden()
    assert not (app.runs / ".trash" / "some-run-1").exists()
    page.locator("button#undo").click()
    expect(page.get_by_text("some-run-1 is no longer in the trash")).to_be_visible()
