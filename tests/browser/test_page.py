"""The whole page in a real browser, with a real app and real workers."""

import os
import re
import shutil
import signal
import time
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from resnet_demo.export.model_card import class_table, join_labels
from resnet_demo.tasks.locks import has_worker
from resnet_demo.tasks.status import read_status
from tests.conftest import free_port

pytestmark = pytest.mark.browser

TINY = {
    "dataset": "colours",
    "model": "resnet20",
    "batch_size": 16,
    "image_size": 12,
    "peak_lr": 0.02,
    "crop": 0,
    "epochs": 3,
}
GONE = re.compile("Connection lost; retrying|Connection to the server was lost")
TABS = {  # the last part of each that is drawn
    "Train": "#curves svg",
    "Data": "#data-images img",
    "Evaluate": "#evaluate-text",
    "Classify": "#examples img",
    "Learn": "#learn-contents",
}
POINTS = """() => document.querySelector('#curves [data-plot=loss] path[data-line=training]')
  .getAttribute('d').match(/[ML]/g)?.length ?? 0"""
# Notes the largest paint, sums the layout shifts, and collects the sentences below the choice of
# a run.
WATCH_OPENING = """
  window.paint = 0; window.shifts = 0; window.texts = '';
  const follow = (type, add) => new PerformanceObserver((list) => list.getEntries().forEach(add))
    .observe({type, buffered: true});
  follow('largest-contentful-paint', (entry) => { window.paint = entry.startTime; });
  follow('layout-shift', (entry) => { window.shifts += entry.value; });
  new MutationObserver(() => {
    window.texts += document.getElementById('run-status')?.textContent ?? '';
  }).observe(document, {childList: true, subtree: true, characterData: true});
"""
TWICE = """() => {
  const ids = [...document.querySelectorAll('[id]')].map(e => e.id).filter(id => id);
  return ids.filter((id, i) => ids.indexOf(id) != i);
}"""


@pytest.fixture(scope="module")
def app(start_app):
    """Return an app with a run of three epochs; `trained` waits for its end."""
    served = start_app(measures=True, RESNET_DEMO_STANDBY="1")  # as a person has it
    served.call("train", TINY)
    return served


@pytest.fixture(scope="module")
def other_app(start_app, app):
    """Return an app without runs. It starts while the first app's run trains."""
    return start_app()


@pytest.fixture(scope="module")
def trained(app):
    run_id = "resnet20-colours-1"
    deadline = time.monotonic() + 90
    while app.call("run", run_id)[1][0]["state"] != "finished":
        assert time.monotonic() < deadline
        time.sleep(0.3)
    return run_id


@pytest.fixture(scope="module")
def desk(visiting, app, trained):
    """Yield a page that opened with the finished run, for the tests before those of a live run."""
    with visiting() as visit:
        yield visit(app.url, script=WATCH_OPENING)


@pytest.fixture(scope="module")
def other(visiting, app, desk):
    """Yield a second page of the same app, in another browser, on a phone."""
    with visiting() as visit:
        yield visit(app.url, width=390, height=844, script=WATCH_OPENING)


@pytest.fixture(scope="module")
def first(visiting, other_app, trained):
    """Yield a page that opened in an app without runs. `trained`: two trainings would be slow."""
    with visiting() as visit:
        yield visit(other_app.url, script=WATCH_OPENING, record=True)


@pytest.fixture(scope="module")
def live(visiting, app, trained):
    """Yield a page with a run that was started from the form on a phone.

    The last test of it stops the run.
    """
    with visiting() as visit:
        page = visit(app.url, width=390, height=844)
        choose(page, "Dataset", "shapes10, synthetic")
        choose(page, "Model", "resnet20")
        page.get_by_role("spinbutton", name="Epochs", exact=True).fill("100")
        page.locator("button#train").dblclick()
        expect(tile(page, "state")).to_have_text(re.compile("Queued|Preparing|Training"))
        expect(page).to_have_url(re.compile(r"\?run=resnet20-shapes10-1$"))
        yield page


def tile(page, name):
    """Return the value of a tile."""
    cell = page.locator("#figures .tile").filter(has=page.get_by_text(name, exact=True))
    return cell.locator("b")


def tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click()


def choose(page, label, option):
    """Pick from the visible dropdown of that label."""
    page.get_by_label(label, exact=True).locator("visible=true").click()
    page.get_by_role("option", name=option).click()


def marked_steps(page):
    """Return the steps that are marked as the next one."""
    return page.locator("button.step").evaluate_all(
        """(steps) => steps.map((step) => [step.id, getComputedStyle(step, '::before').content])
          .filter(([id, mark]) => mark.includes('Next')).map(([id, mark]) => id)"""
    )


def toast(page):
    return page.get_by_test_id("toast-text")


def wait_for_points(page):
    """Wait until the training curve has more points than now."""
    expect(page.locator("#curves [data-plot=loss] svg.chart-svg")).to_be_visible()
    before = page.evaluate(POINTS)
    page.wait_for_function(f"(before) => ({POINTS})() > before", arg=before, polling=100)


def red_png(folder):
    """Write a red picture, the colour of one of the classes."""
    pixels = np.random.default_rng(1).integers(0, 120, (40, 30, 3), dtype=np.uint8)
    pixels[..., 0] += 100
    Image.fromarray(pixels).save(folder / "red.png")
    return folder / "red.png"


def upload(page, file):
    page.locator("#picture input[type=file]").set_input_files(file)


def label(page):
    """Return the top class of the picture."""
    return page.locator("#labels").get_by_test_id("label-output-value")


def is_calm(page):
    """Wait until the page has requested nothing but polls for a second."""
    page.wait_for_function(
        """() => {
          const requests = performance.getEntriesByType('resource');
          const last = requests.filter(({name}) => !name.includes('/poll?')).at(-1);
          return performance.now() - last.responseEnd > 1000;
        }""",
        polling=100,
    )


def expect_calm_opening(page):
    expect(tile(page, "state")).to_have_text("Finished")
    expect(page.locator("#curves path[data-line=validation][d^=M]").first).to_be_attached()
    is_calm(page)
    assert page.evaluate("window.shifts") < 0.03
    assert not page.evaluate("window.texts").count("Nothing trained yet")


def test_the_app_opens_with_the_shipped_network_and_one_next_step(first):
    page = first
    expect(page.locator("#run-status")).to_contain_text("Came with the app, trained in")
    expect(page.locator("#run input")).to_have_value("cifar10-shipped · came with the app")
    expect(page.locator("#dataset-note")).to_contain_text("shapes10 is synthetic")
    for name in ("stop", "resume", "delete"):
        expect(page.locator(f"button#{name}")).to_be_disabled()
    assert "may do everything" not in page.locator("body").inner_text()
    blue = page.locator("button.primary:visible")
    assert [button.inner_text() for button in blue.all()] == ["Train"]
    assert marked_steps(page) == ["step-photo"]
    expect_calm_opening(page)


def test_a_cold_load_is_light(first, other_app):
    """Check it, and print the figures that docs/reliability.md states."""
    is_calm(first)
    urls = [url for url in first.requests.values() if url.startswith("http")]
    polls = [url for url in urls if "/poll?" in url]
    size, paint, shifts = sum(first.sizes.values()), *first.evaluate("[paint, shifts]")
    print(
        f"{len(urls)} requests, {len(polls)} of them polls; {size / 1e6:.2f} MB; "
        f"largest paint after {paint / 1000:.1f} s, layout shift {shifts:.2f}"
    )
    assert 10 < len(urls) - len(polls) + 1 <= 100  # an open page polls once a second
    assert 100_000 < size <= 1_000_000
    assert not [url for url in urls if not url.startswith(other_app.url)]
    styles = [url for url in urls if ".css" in url]
    assert len(styles) <= 3, styles  # else Gradio loads those of components one by one


def test_a_first_visit_leads_to_a_classified_photo_and_to_curves_in_a_click_each(
    first, other_app, until
):
    page = first
    tab(page, "Evaluate")  # its stored test result is there without a click
    summary = page.locator("#evaluate-summary")
    expect(summary).to_contain_text("cifar10-shipped on the 10,000 test images")
    expect(page.locator("#per-class").get_by_text("truck")).to_be_visible()  # all ten rows
    page.get_by_role("button", name="Try a photo").click()
    expect(label(page)).to_have_text("cat")
    page.locator("#shipped button").first.click()
    expect(label(page)).to_have_text(re.compile("airplane|ship|bird"))
    expect(page.locator("#labels")).to_be_in_viewport()
    assert marked_steps(page) == ["step-shapes"]
    tab(page, "Data")
    page.get_by_role("button", name="Train on shapes").click()
    expect(tile(page, "state")).to_have_text("Training")
    wait_for_points(page)
    expect(page.locator("#curves [data-plot=accuracy] svg.chart-svg")).to_be_in_viewport()
    expect(page).to_have_title(re.compile(r"^\d+ % · ResNet Demo$"))
    expect(page.locator("#step-shapes")).to_be_disabled()
    assert marked_steps(page) == ["step-cifar"]
    address = page.url
    page.reload()
    expect(tile(page, "state")).to_have_text("Training")
    assert page.url == address
    wait_for_points(page)
    assert marked_steps(page) == ["step-cifar"]
    page.get_by_role("button", name="Hide", exact=True).click()
    expect(page.locator("#step-own")).to_be_hidden()
    page.get_by_role("button", name="First steps").click()
    expect(page.locator("#step-own")).to_be_disabled()  # colours is an imported dataset
    page.close()  # an open page costs a tenth of a core
    run = "resnet9-shapes10-1"
    other_app.call("stop", run)
    until(lambda: not has_worker(other_app.runs / run))
    shutil.rmtree(other_app.runs / run)


def test_a_page_opens_without_jumping_and_fits_a_phone(desk, other):
    for page in (desk, other):
        expect_calm_opening(page)
    for name, drawn in reversed(TABS.items()):  # it began on the first one, and ends there
        tab(other, name)
        expect(other.locator(drawn).first).to_be_visible()
        assert other.evaluate("document.documentElement.scrollWidth") <= 390, name


def test_the_duration_is_measured_without_a_click(desk, other):
    facts = desk.locator("#facts")
    # Pages that were open before may have been there until the measurement ended.
    expect(facts).to_have_text(re.compile("(Estimating time…|measured just now.*) · 36 steps"))
    expect(facts).to_have_text(re.compile(r"≈ \d.* \(measured just now\)"))
    desk.get_by_role("spinbutton", name="Epochs", exact=True).fill("1000")
    expect(facts).to_have_text(re.compile(r"≈ \d+ (min|h).* · 36,000 steps"))
    expect(other.locator("#facts")).to_contain_text("measured just now")


def test_an_evaluation_appears_on_every_page(desk, other, trained):
    page = desk
    for each in (page, other):
        tab(each, "Evaluate")
        choose(each, "Run", trained)
        expect(each.locator("#evaluate-text")).to_contain_text("Press Evaluate")
    page.get_by_role("button", name="Evaluate", exact=True).click()
    for each in (page, other):  # the other page updates by itself
        score = each.locator("#evaluate-summary .score-main b")
        expect(score).to_have_text(re.compile(r"^\d+ of 30$"))
        words = f"{trained} on the 30 test images of colours"
        expect(each.locator("#evaluate-summary")).to_contain_text(words)
        for label in ("blue", "green", "red"):
            expect(each.locator("#per-class")).to_contain_text(label)
        expect(each.locator("#matrix table")).to_be_visible()
        expect(each.locator("#reliability img")).to_be_visible()
    other.close()


def test_a_picture_gets_a_label_by_the_trained_network(desk, trained, tmp_path):
    page = desk
    tab(page, "Classify")
    choose(page, "Run", trained)
    upload(page, red_png(tmp_path))
    expect(label(page)).to_have_text(re.compile("blue|green|red"))
    expect(page.locator("#fits .caption-label")).to_have_count(3)
    expect(page.locator("#gauge")).to_contain_text("validation images")  # it was trained with one
    expect(page.locator("#fits img")).to_have_count(3)
    assert page.evaluate(TWICE) == []  # no two elements share an id
    page.close()


def test_names_on_a_model_card_are_text(browser, hostile):
    figures = {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 9}
    names = (*hostile, "a | b", "one\n\n# two")
    rows = [{"label": name, **figures} for name in names]
    scores = SimpleNamespace(per_class=rows, confusion=[[1] * len(rows)] * len(rows))
    card = "\n\n".join([join_labels(names), class_table(scores)])
    with gr.Blocks() as shown:
        gr.Markdown(card, elem_id="card")
    _, url, _ = shown.launch(
        server_port=free_port(), prevent_thread_lock=True, quiet=True, footer_links=[]
    )
    try:
        page = browser.new_page()
        page.goto(url)
        expect(page.locator("#card td:first-child")).to_have_text(
            [" ".join(name.split()) for name in names]
        )
        assert page.locator("#card").locator("img, a, h1, code").count() == 0
        assert page.title() != "owned"
        page.close()
    finally:
        shown.close()


def test_a_run_started_on_a_phone_comes_into_view_shows_its_progress_and_is_one_run(live, app):
    live.wait_for_function(
        "Math.abs(document.getElementById('run').getBoundingClientRect().top) < 99"
    )
    live.set_viewport_size({"width": 1280, "height": 900})
    expect(tile(live, "state")).to_have_text("Training")
    step = tile(live, "step").inner_text()
    wait_for_points(live)
    expect(tile(live, "step")).not_to_have_text(step)
    expect(tile(live, "images/s")).to_have_text(re.compile(r"\d"))
    expect(live.locator("#run-status")).to_contain_text("270 thousand parameters")
    expect(live.get_by_role("button", name="Stop")).to_be_enabled()
    expect(live.get_by_role("button", name="Resume")).to_be_disabled()
    # In spite of the double click.
    assert [path.name for path in app.runs.glob("resnet20-shapes10-*")] == ["resnet20-shapes10-1"]


def test_a_run_stops_within_ten_seconds_and_resumes(live):
    live.get_by_role("button", name="Stop").click()
    expect(tile(live, "state")).to_have_text("Stopped", timeout=10_000)
    step = tile(live, "step").inner_text()
    expect(live.get_by_role("button", name="Stop")).to_be_disabled()
    live.get_by_role("button", name="Resume").click()
    expect(tile(live, "state")).to_have_text("Training")
    expect(tile(live, "step")).not_to_have_text(step)
    assert int(tile(live, "step").inner_text().split(" / ")[0]) > int(step.split(" / ")[0])
    live.close()


def test_another_browser_opens_with_the_live_run_and_reports_a_suspended_or_killed_worker(
    live, visit, app, until
):
    """Check it, and print the seconds until the page reports it, which the README states."""
    page = visit(app.url)
    expect(page).to_have_url(re.compile(r"\?run=resnet20-shapes10-1$"))
    expect(tile(page, "state")).to_have_text("Training")
    wait_for_points(page)
    pid = until(lambda: read_status(app.runs / "resnet20-shapes10-1").pid)

    def send_and_expect(number, words):
        began = time.monotonic()
        os.kill(pid, number)
        expect(page.locator("#run-status")).to_contain_text(words)
        print(f"{words!r} after {time.monotonic() - began:.1f} s")

    send_and_expect(signal.SIGSTOP, "a signal has suspended its process")
    expect(page.get_by_role("button", name="Stop")).to_be_enabled()
    os.kill(pid, signal.SIGCONT)
    expect(page.locator("#run-status")).not_to_contain_text("suspended")
    send_and_expect(signal.SIGKILL, "killed by signal 9, probably out of memory")
    page.get_by_role("button", name="Resume").click()
    expect(tile(page, "state")).to_have_text("Training")
    page.get_by_role("button", name="Stop").click()
    expect(tile(page, "state")).to_have_text("Stopped", timeout=10_000)


def ask_often(route):
    """Answer a poll as while a run starts: the page is to ask every tenth of a second."""
    answer = route.fetch()
    body = answer.json()
    body["parts"]["poll_timer"] = ["another version", 0.1]
    route.fulfill(response=answer, json=body)


def test_a_page_polls_as_often_as_the_app_asks_for(browser, app):
    page = browser.new_page()
    page.route("**/poll?*", ask_often)
    page.goto(app.url)
    page.wait_for_function("""() => {
      const polls = performance.getEntriesByType('resource').filter(
        ({name}) => name.includes('/poll?'));
      return polls.length > 9 && polls.at(-1).startTime - polls.at(-9).startTime < 4000;
    }""")
    page.close()


def test_an_open_page_survives_lost_polls_a_restart_of_the_app_and_a_deletion_of_its_run(
    browser, app, other_app, trained
):
    shutil.copytree(app.runs / trained, other_app.runs / trained)
    page = browser.new_page()  # its console may complain: the app is gone for a while
    page.goto(other_app.url)
    expect(tile(page, "state")).to_have_text("Finished")
    page.route("**/poll?*", lambda route: route.fulfill(status=503))
    expect(page.locator("#run-status")).to_contain_text("Connection lost; retrying.")
    page.unroute("**/poll?*")
    expect(page.locator("#run-status")).to_contain_text("Finished")

    page.evaluate("window.before = true")
    other_app.kill()
    expect(page.get_by_text(GONE).first).to_be_visible()  # by polling, or by Gradio before it
    other_app.start()
    page.wait_for_function("!window.before")  # another app: the page was loaded again
    expect(tile(page, "state")).to_have_text("Finished")
    expect(page.get_by_text(GONE)).to_have_count(0)
    page.get_by_role("spinbutton", name="Epochs", exact=True).fill("4")
    expect(page.locator("#facts")).to_contain_text("144 steps")
    other_app.command("runs", "delete", trained)
    expect(page.locator("#run input")).to_have_value("cifar10-shipped · came with the app")
    expect(page.locator("#run-status")).to_contain_text("Came with the app")
    for _ in range(2):  # for another tick to fail, if it should
        page.wait_for_event("response", lambda response: "/poll?" in response.url)
    expect(toast(page)).to_have_count(0)
    page.close()
