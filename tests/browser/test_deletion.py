"""Deleting a run from the page, by keyboard and on a phone."""

import shutil

import pytest
from playwright.sync_api import expect

from resnet_demo.config import make_config, to_json
from resnet_demo.events import Started, Step
from resnet_demo.runs.store import Run
from resnet_demo.tasks.status import Status, status_json
from tests.ui.conftest import OPENING, STEP

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def app(start_app):
    return start_app()


@pytest.fixture
def runs(app):
    """Return the folder of two stopped runs; the first is the newest."""
    shutil.rmtree(app.runs, ignore_errors=True)
    for name in ("some-run-2", "some-run-1"):
        folder = app.runs / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(to_json(make_config({}), "0"))
        (folder / "status.json").write_bytes(status_json(Status(state="stopped")))
    return app.runs


@pytest.mark.parametrize("width", [1280, 390])
def test_a_run_is_deleted_by_keyboard_after_a_question_that_names_it(app, runs, visit, width):
    page = visit(f"{app.url}?run=some-run-1", width=width)
    delete, question = page.locator("button#delete"), page.locator("#deletion")
    expect(delete).to_be_enabled()
    expect(question).to_be_hidden()
    delete.focus()
    page.keyboard.press("Enter")
    expect(question).to_contain_text("Move some-run-1 and its checkpoints to the trash folder?")
    expect(page.locator("button#delete-yes")).to_be_focused()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")

    page.keyboard.press("Tab")
    expect(page.locator("button#delete-no")).to_be_focused()
    page.keyboard.press("Enter")
    expect(question).to_be_hidden()
    assert (runs / "some-run-1").exists()

    delete.click()
    expect(page.locator("button#delete-yes")).to_be_focused()
    page.keyboard.press("Enter")
    expect(question).to_be_hidden()
    expect(page.locator("#run input")).to_have_value("some-run-2 · stopped")
    assert not (runs / "some-run-1").exists()
    assert (runs / ".trash" / "some-run-1" / "config.json").exists()


def test_the_scale_of_a_chart_survives_a_reload_and_a_deletion_empties_the_chart(app, runs, visit):
    log = Run(runs / "some-run-1").log()
    log.append(Started(step=0, epoch=1, **OPENING))
    for step in range(1, 9):
        log.append(Step(step=step, epoch=1 + step // 5, **STEP))
    page = visit(f"{app.url}?run=some-run-1")
    drawn = page.locator("#curves [data-plot=loss] path[data-line=training][d^='M']")
    expect(drawn).to_have_count(1)
    scale = page.get_by_role("button", name="Loss: logarithmic scale")
    scale.click()
    page.reload()
    expect(scale).to_have_attribute("aria-pressed", "true")
    expect(drawn).to_have_count(1)
    page.locator("button#delete").click()
    page.locator("button#delete-yes").click()
    expect(page.locator("#run input")).to_have_value("some-run-2 · stopped")
    expect(drawn).to_have_count(0)
