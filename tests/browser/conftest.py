"""A browser, and pages that fail a test on any error in the browser."""

import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from resnet_demo.models.description import Description, encode_description, model_description
from resnet_demo.paths import Paths
from resnet_demo.runs.groups import Membership, write_membership
from resnet_demo.ui.evaluate.evaluation_status import Selection, StatusCache
from resnet_demo.ui.services import Services
from tests.conftest import REPOSITORY
from tests.ui.fake_evaluations import save_evaluation, untrained_runs

HOSTILE = (
    "<img src=x9 onerror=\"document.title='owned'\">",
    "${document.title='owned'}",
    "{{this}} `x` ![](x9) [x](javascript:1) <http://x9> http://x9 www.x9.org a@x9.org",
)
EXPERIMENT = "duel-1-1-plain8"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE_MS = 60_000  # on a machine that does other things too


def npm_package(name):
    """Return the folder of a package of package-lock.json; skip the test without npm."""
    if not shutil.which("npm"):
        pytest.skip(f"no npm on this machine, which fetches {name}: install Node.js")
    folder = Path(__file__).with_name("node_modules") / name
    if not folder.exists():
        script = REPOSITORY / "scripts" / "machine.sh"
        got = subprocess.run([script, "axe"], cwd=REPOSITORY, capture_output=True, text=True)
        assert folder.exists(), f"`make axe` could not fetch {name}: {got.stderr}"
    return folder


@pytest.fixture(scope="module")
def browser(chromium_path):
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=FLAGS)
        yield browser
        browser.close()
    expect.set_options(timeout=5_000)


@pytest.fixture(scope="module")
def visiting(browser):
    """Return a context manager that opens pages and fails on any browser error at its end."""

    @contextmanager
    def visits():
        contexts, wrong = [], []

        def visit(url, width=1280, height=900, script="", record=False):
            contexts.append(browser.new_context(viewport={"width": width, "height": height}))
            page = contexts[-1].new_page()
            if record:
                record_requests(page)
            page.add_init_script(script)
            page.set_default_timeout(PATIENCE_MS)
            page.on(
                "console", lambda message: message.type == "error" and wrong.append(message.text)
            )
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on(
                "request", lambda request: is_foreign(request.url) and wrong.append(request.url)
            )
            page.on(
                "requestfailed", lambda request: was_lost(request) and wrong.append(request.url)
            )
            page.on("response", lambda got: got.status >= 400 and wrong.append(got.url))
            page.goto(url)
            expect(page.locator("button#train")).to_be_visible()
            return page

        yield visit
        for context in contexts:
            context.close()
        assert wrong == [], wrong

    return visits


@pytest.fixture(scope="session")
def untrained(start_app):
    """Return an app over runs with untrained networks, for tests that change nothing.

    `mine` has a gauge, `yours` has none, `hostile` has classes of hostile names. These were
    evaluated, with made-up answers; served.mine and served.yours are those of two. The newest run
    is an experiment of a lesson.
    """
    served = start_app()
    untrained_runs(served.runs, "hostile", "yours", "mine", EXPERIMENT)
    member = Membership(group="duel-1", kind="duel", arm="plain8")
    write_membership(served.runs / EXPERIMENT, member)
    threshold = {"threshold": -1e6, "false_alarms": 0.05, "n": 15}
    change_description(served.runs / "mine", metrics={"outside": threshold})
    change_description(served.runs / "hostile", classes=[*HOSTILE])
    served.services = Services(Paths(served.runs, served.data, served.runs / "none"))
    statuses = StatusCache(served.services)
    served.mine = save_evaluation(statuses, Selection("mine"))
    served.yours = save_evaluation(statuses, Selection("yours"), seed=1)
    save_evaluation(statuses, Selection("hostile"), classes=HOSTILE)
    return served


def change_description(folder, **values):
    """Change fields of a run's model.json."""
    (folder / "model.json").write_bytes(
        encode_description(Description(**(model_description(folder) | values)))
    )


@pytest.fixture(scope="session")
def hostile():
    """Return hostile class names."""
    return HOSTILE


@pytest.fixture
def visit(visiting):
    with visiting() as visit:
        yield visit


def hostile_elements(page):
    """Return the images and links that hostile text would become as HTML or Markdown."""
    links = "a[href*='x9.org'], a[href^='http://x9'], a[href^=javascript]"
    return page.locator(f"img[src*=x9]:not([src^='data:']), {links}")


def record_requests(page):
    """Collect the address and the bytes of each request in page.requests and page.sizes."""
    network, page.requests, page.sizes = page.context.new_cdp_session(page), {}, {}
    network.send("Network.enable")
    network.on(
        "Network.requestWillBeSent",
        lambda sent: page.requests.update({sent["requestId"]: sent["request"]["url"]}),
    )
    network.on(
        "Network.loadingFinished",
        lambda done: page.sizes.update({done["requestId"]: done["encodedDataLength"]}),
    )


def is_foreign(url):
    return not url.startswith(("http://127.0.0.1:", "data:", "blob:"))


def was_lost(request):
    return request.failure != "net::ERR_ABORTED"  # streams that the page itself closes
