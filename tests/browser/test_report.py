"""A report in a real browser: nothing leaves the file, and it prints on A4."""

import json
import re
import shutil

import pytest
import torch

from resnet_demo.export.formats import export_run
from resnet_demo.paths import Paths
from tests.tiny import finished_run, replace_dataset

pytestmark = pytest.mark.browser

HOSTILE = (
    "<script>document.title='owned'</script>",
    '"><img src=x9 onerror="document.title=\'owned\'">',
    "\u202e{{ 7 * 7 }} ${document.title='owned'} שלום",
)


@pytest.fixture(scope="module")
def report(colours, tmp_path_factory):
    """Return the report of a run whose classes, source, title and notes are hostile."""
    torch.set_num_threads(1)
    root, data = tmp_path_factory.mktemp("report"), tmp_path_factory.mktemp("data")
    shutil.copytree(colours / "colours", data / "colours")

    def rename(classes, splits):
        classes[:] = HOSTILE

    replace_dataset(data, "colours", rename)
    info = data / "colours" / "dataset.json"
    info.write_text(json.dumps({**json.loads(info.read_text()), "source": HOSTILE[1]}))
    run = finished_run(root, data)
    run.describe(HOSTILE[0], "\n".join(HOSTILE[:2]))
    exported = export_run(run, root / "out", "report", Paths(root / "runs", data))
    assert exported.notes == []
    return root / "out" / exported.files[0]


def test_a_report_runs_loads_and_sends_nothing_and_shows_what_people_wrote(browser, report):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    wrong, requests = [], []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report.as_uri())
    assert page.title().startswith(HOSTILE[0])
    assert page.locator("h1").inner_text() == HOSTILE[0]
    assert page.locator(".notes").inner_text() == "\n".join(HOSTILE[:2])
    heads = [text.strip() for text in page.locator("tbody th").all_inner_texts()]
    assert [heads.count(name) for name in HOSTILE] == [2, 2, 2]  # scores, and survey
    assert page.get_by_text(HOSTILE[1], exact=True).count() >= 3
    images = page.locator("img")
    sizes = images.evaluate_all("images => images.map(image => image.naturalWidth)")
    assert len(sizes) > 5
    assert min(sizes) > 100
    # Wide tables scroll in their own frame.
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert wrong == []
    assert [url for url in requests if not url.startswith("data:")] == [report.as_uri()]
    page.close()


def test_a_report_prints_on_a_few_pages_of_a4(browser, report):
    page = browser.new_page()
    page.goto(report.as_uri())
    pdf = page.pdf(prefer_css_page_size=True)
    pages = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf)
    assert 4 <= len(pages) <= 8
    assert {(round(float(width)), round(float(height))) for width, height in pages} == {(595, 842)}
    # No figure, however long, is cut: each fits on a page, and may not be broken.
    page.emulate_media(media="print")
    figures = page.locator("figure, tr, .facts")
    rules = figures.evaluate_all("all => all.map(each => getComputedStyle(each).breakInside)")
    assert set(rules) == {"avoid"}
    heights = figures.evaluate_all("all => all.map(each => each.getBoundingClientRect().height)")
    assert max(heights) < 900  # of about 990 pixels
    page.close()
