"""Several visitors of one public app, by raw HTTP: what one does is not another's."""

import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image

from resnet_demo.hosting.access import Access
from resnet_demo.models.description import Description, encode_description, model_description
from resnet_demo.paths import Paths
from resnet_demo.tasks.limits import Limits
from resnet_demo.ui.app import build_app, launch
from tests.conftest import AppProcess
from tests.pages import Page
from tests.ui.fake_evaluations import untrained_runs

NAMES = {"mine": ("my lion", "my tiger", "my bear"), "yours": ("your oak", "your elm", "your ash")}


PUBLIC = {
    "RESNET_DEMO_PUBLIC": "1",
    "RESNET_DEMO_MAX_UPLOADS": "3",
    "RESNET_DEMO_MAX_PICTURES": "6",
}


@pytest.fixture(scope="module")
def app(tmp_path_factory, colours):
    """A public app that nobody owns, in this process; two runs name their classes differently."""
    root = tmp_path_factory.mktemp("public")
    untrained_runs(root / "runs", *NAMES)
    for name, classes in NAMES.items():
        told = Description(**{**model_description(root / "runs" / name), "classes": [*classes]})
        (root / "runs" / name / "model.json").write_bytes(encode_description(told))
    access, limits = Access.from_environment(PUBLIC), Limits.from_environment(PUBLIC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(root / "uploads"))
        page = build_app(Paths(root / "runs", colours, root / "shipped"), access, limits)
        _, url, _ = launch(page, access, limits, prevent_thread_lock=True, quiet=True)
        served = AppProcess(root / "runs", colours, int(url.rstrip("/").rpartition(":")[2]))
        served.page = page
        yield served
        page.close()


@pytest.fixture
def visitor(app):
    """Makes visitors, each from an address of its own."""
    return lambda number: app.with_headers(**{"x-forwarded-for": f"203.0.113.{number}"})


def upload(app, content, name="picture.png"):
    return httpx.post(
        f"{app.url}gradio_api/upload", files={"files": (name, content)}, headers=app.headers,
        timeout=60,
    )  # fmt: skip


def picture(colour):
    file = io.BytesIO()
    Image.fromarray(np.full((12, 12, 3), colour, np.uint8)).save(file, "png")
    return file.getvalue()


def sent(app, colour):
    """An uploaded picture, as a page hands it to an event."""
    answer = upload(app, picture(colour))
    assert answer.status_code == 200, answer.text
    return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}


def opened(app):
    """A page on the Classify tab."""
    page = Page(app)
    page.run_event(page.event("select", updates="classify-run"), None, "")
    return page


def classify(page, file, run):
    """What the page then shows, as text."""
    event = page.event("change", of="picture", updates="answer-run")
    done, output = page.run_event(event, file, run, "crop", "")
    assert done, output
    return json.dumps(output["data"])


def test_two_at_once_see_their_own_pictures_and_runs(visitor):
    def one(number, run):
        page = opened(visitor(number))
        file = sent(page.app, 40 * number)
        return [classify(page, file, run) for _ in range(3)]

    with ThreadPoolExecutor(2) as pool:
        told = dict(zip(NAMES, pool.map(one, (1, 2), NAMES), strict=True))
    for name, other in (("mine", "yours"), ("yours", "mine")):
        for text in told[name]:
            assert all(label in text for label in NAMES[name])
            assert not any(label in text for label in NAMES[other])


def test_uploads_go_with_the_page_that_showed_them_unless_another_shows_them_too(app, visitor):
    pages = [opened(visitor(number)) for number in (3, 4)]
    closes = [stay(page) for page in pages]
    alone, both = sent(pages[0].app, 10), sent(pages[0].app, 20)
    assert sent(pages[1].app, 20)["path"] == both["path"]  # the same file is kept once
    for page, file in ((pages[0], alone), (pages[0], both), (pages[1], both)):
        classify(page, file, "mine")
    here = {name: app.uploads / file["path"] for name, file in (("a", alone), ("b", both))}
    assert here["a"].exists()
    assert here["b"].exists()
    closes[0]()
    until(lambda: not here["a"].exists())
    assert here["b"].exists()
    closes[1]()
    until(lambda: not here["b"].exists())


def until(question):
    deadline = time.monotonic() + 60
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def stay(page):
    """Keep a page open; what closes it."""
    opened, closing = threading.Event(), threading.Event()

    def hold():
        url = f"{page.app.url}gradio_api/heartbeat/{page.session}"
        with httpx.stream("GET", url, timeout=60):
            opened.set()
            closing.wait(120)

    thread = threading.Thread(target=hold)
    thread.start()
    assert opened.wait(60)
    return lambda: (closing.set(), thread.join())


def test_a_question_over_the_api_leaves_no_session_behind(app, visitor):
    sessions, asker = app.page.state_holder.session_data, visitor(9)
    before, file = set(sessions), sent(asker, 50)
    assert asker.call("classify", file, "mine")[0] == "complete"
    assert asker.call("run", "mine")[0] == "complete"
    assert asker.call("run", "nobody")[0] == "error"
    assert asker.call("stop", "mine")[0] == "error"
    assert set(sessions) == before


def test_a_flood_of_uploads_ends_with_the_visitors_share_and_others_go_on(visitor):
    flood, other = visitor(5), visitor(6)
    codes = [upload(flood, bytes(900_000), "a.bin").status_code for _ in range(6)]
    assert codes == [200] * 3 + [429] * 3
    assert upload(other, picture(1)).status_code == 200
    whole = upload(other, bytes(3_100_000), "b.bin")
    assert (whole.status_code, whole.text) == (
        413, "at most 3 MB may be uploaded within 10 minutes\n",
    )  # fmt: skip
    endless = httpx.post(
        f"{other.url}gradio_api/upload", content=iter([b"x"] * 3), headers=other.headers, timeout=60
    )
    assert (endless.status_code, endless.text) == (411, "an upload must have a Content-Length\n")


def test_a_flood_of_questions_is_told_to_wait_and_others_go_on(visitor):
    flood, other = visitor(7), visitor(8)
    file = sent(flood, 30)
    with ThreadPoolExecutor(16) as pool:
        told = [*pool.map(lambda _: flood.call("classify", file, "mine"), range(16))]
    refused = [answer["error"] for event, answer in told if event == "error"]
    assert 1 <= len(refused) <= 10  # a slow machine may need more than a minute for all
    assert all(words.startswith("at most 6 pictures a minute may be") for words in refused)
    assert other.call("classify", file, "yours")[0] == "complete"


PICKLE = b"cos\nsystem\n(S'touch /tmp/never'\ntR."


@pytest.mark.parametrize("name", ["a.png", "a.pkl", "last.pt", "data_batch_1"])
def test_a_pickle_that_a_visitor_sends_is_no_picture(visitor, name):
    stranger = visitor(20 + len(name))  # whose share is not used up
    path = upload(stranger, PICKLE, name).json()[0]
    event, answer = stranger.call("classify", {"path": path}, "mine")
    assert event == "error"
    assert "is not a PNG, JPEG" in answer["error"]
    assert "\n" not in answer["error"]
