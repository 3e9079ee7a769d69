"""The exported web page in a real browser, served by a plain web server."""

import base64
import io
import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import expect

from resnet_demo.data.pictures import decode_picture
from resnet_demo.export.parity import (
    ORIENTATION,
    Parity,
    ParityPicture,
    app_answers,
    parity_pictures,
)
from resnet_demo.export.source import load_source
from resnet_demo.export.web import CDN, RUNTIME, write_page, write_web
from resnet_demo.inference.classification import classify
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from tests.browser.conftest import HOSTILE, npm_package
from tests.browser.test_accessibility import RUN_AXE, TAGS
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.browser

PICTURES = REPOSITORY / "resnet_demo" / "ui" / "classify" / "pictures"
PARITY = Parity(1030, "pictures", 1.0, 0.000002, 0.0)
CLASSIFY = """async (data) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  return await decode(new Blob([bytes])).then(classify);
}"""
# Give the page a picture as a drop or as a paste does.
GIVE = """([kind, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const files = new DataTransfer();
  files.items.add(new File([bytes], kind + '.png'));
  document.dispatchEvent(kind == 'paste'
    ? new ClipboardEvent(kind, {clipboardData: files, bubbles: true})
    : new DragEvent(kind, {dataTransfer: files, bubbles: true, cancelable: true}));
}"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and logs nothing."""

    def log_message(self, *_):
        pass


@contextmanager
def served(folder):
    """Yield the address of a web server for a folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def runtime():
    """Return the package of onnxruntime-web, of the version in package-lock.json."""
    return npm_package("onnxruntime-web")


@pytest.fixture(scope="module")
def axe():
    """Return the script of axe-core."""
    return (npm_package("axe-core") / "axe.min.js").read_text()


@pytest.fixture(scope="module")
def source():
    """Return the shipped network under a hostile title, with a hostile first label."""
    source = load_source(Run(REPOSITORY / "checkpoints" / "cifar10-shipped", shipped=True))
    labels = (HOSTILE[0], *source.labels[1:])
    return replace(source, title=HOSTILE[0], saved=replace(source.saved, classes=labels))


@pytest.fixture(scope="module")
def source_by_distance(source):
    """Return the network with embeddings of training images, which the app then warns by."""
    width = source.saved.model.head.in_features
    limit = {"threshold": 0.3, "false_alarms": 0.05, "n": 9}
    metrics = {**source.saved.metrics, "neighbour": limit}
    known = torch.rand(9, width, generator=torch.Generator().manual_seed(0)).half()
    return replace(source, saved=replace(source.saved, metrics=metrics, known=known))


@pytest.fixture(scope="module")
def folders(source, source_by_distance, runtime, tmp_path_factory):
    """Return two exported folders: one with the runtime in it, one that loads it from the CDN.

    The network of the second one has known embeddings.
    """
    offline, online = (tmp_path_factory.mktemp(name) for name in ("offline", "online"))
    write_web(source, offline, runtime)
    write_web(source_by_distance, online, None)
    write_page(source, offline, PARITY, runtime)
    write_page(source, online, PARITY, None)
    return offline, online


@contextmanager
def opened(browser, address, **options):
    """Yield a page, and fail on errors in the browser and requests to other hosts."""
    context, wrong = browser.new_context(**options), []
    page = context.new_page()
    page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda request: request.url.startswith((address, "blob:")) or wrong.append(request.url),
    )
    page.goto(address)
    yield page
    context.close()
    assert wrong == []


def turned_webp(orientation):
    """Return a WebP picture that its EXIF tag turns, which Chromium leaves as it is."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = io.BytesIO()
    with Image.open(PICTURES / "cat.jpg") as photo:
        photo.resize((120, 80)).save(file, "WEBP", lossless=True, exif=exif.tobytes())
    return ParityPicture(
        f"webp {orientation}", decode_picture(io.BytesIO(file.getvalue())), file.getvalue()
    )


def as_base64(data):
    return base64.b64encode(data).decode()


def test_the_page_answers_as_the_app_for_every_size_and_kind(
    browser, folders, source, monkeypatch, tmp_path
):
    monkeypatch.setattr("resnet_demo.export.parity.GENERATED", 20)
    pictures = list(parity_pictures(source, Paths(tmp_path, tmp_path)))
    pictures += [turned_webp(tag) for tag in range(1, 9)]
    assert len(pictures) == 58
    with served(folders[0]) as address, opened(browser, address) as page:
        found = [page.evaluate(CLASSIFY, as_base64(picture.data)) for picture in pictures]
    expected = app_answers(source, pictures)
    probabilities = np.array([answer["probabilities"] for answer in found])
    np.testing.assert_allclose(probabilities, expected, atol=0.01)
    assert (probabilities.argmax(1) == expected.argmax(1)).all()


def test_pictures_are_chosen_dropped_and_pasted_and_it_works_without_a_connection(
    browser, folders, tmp_path
):
    (tmp_path / "note.png").write_text("no picture")
    plane = (PICTURES / "airplane.jpg").read_bytes()
    with served(folders[0]) as address, opened(browser, address) as page:
        expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE[0])
        page.keyboard.press("Tab")  # the first stop of the keyboard
        expect(page.locator("#files")).to_be_focused()
        outline = "label => getComputedStyle(label).outlineStyle"
        assert page.locator("label.button").evaluate(outline) == "solid"
        page.locator("#files").set_input_files([tmp_path / "note.png", PICTURES / "cat.jpg"])
        cat = page.get_by_role("article").first
        expect(cat).to_contain_text("cat, 9")
        expect(cat).to_contain_text("cat.jpg")
        expect(page.get_by_text("note.png: This is no picture")).to_be_visible()
        for count, kind in ((2, "drop"), (3, "paste")):
            page.evaluate(GIVE, [kind, as_base64(plane)])
            expect(page.get_by_role("article")).to_have_count(count)
            expect(page.get_by_role("article").first).to_contain_text(f"{kind}.png")
        expect(page.get_by_role("article").first).to_contain_text(HOSTILE[0])
        assert page.title() == HOSTILE[0]
        assert page.locator("main img").count() == 0
        page.evaluate("() => navigator.serviceWorker.ready.then(() => true)")
        page.context.set_offline(True)
        page.reload()
        page.set_viewport_size({"width": 390, "height": 844})
        page.locator("#files").set_input_files([PICTURES / "horse.jpg"])
        expect(page.get_by_role("article").first).to_contain_text("horse, ")
        width = page.evaluate("() => document.documentElement.scrollWidth")
        assert width <= 390


def offering(folder):
    """Return a handler that answers the page's requests with the files of a folder."""

    def answer(route):
        path = folder / route.request.url.rpartition("/")[2]
        route.fulfill(path=path, headers={"access-control-allow-origin": "*"})

    return answer


def test_from_the_cdn_only_the_published_runtime_runs(
    browser, folders, source_by_distance, tmp_path
):
    for name, _ in RUNTIME.values():
        (tmp_path / name).write_text("document.title = 'owned'")
    unlike = "The network could not be loaded."
    for folder, text in ((folders[0] / "ort", "Ready."), (tmp_path, unlike)):
        with served(folders[1]) as address:
            context = browser.new_context(service_workers="block")
            context.route(f"{CDN}/**", offering(folder))
            page = context.new_page()
            page.goto(address)
            expect(page.get_by_role("status")).to_have_text(text)
            assert page.title() == HOSTILE[0]
            if text == "Ready.":
                cat = (PICTURES / "cat.jpg").read_bytes()
                found = page.evaluate(CLASSIFY, as_base64(cat))
                verdict = classify(source_by_distance.saved, decode_picture(io.BytesIO(cat))).ood
                assert found["score"] == pytest.approx(verdict.score, abs=1e-3)
                assert found["isOutside"] == verdict.is_ood
            context.close()


def test_the_page_passes_the_rules_of_accessibility(browser, folders, axe):
    with served(folders[0]) as address, opened(browser, address, bypass_csp=True) as page:
        page.locator("#files").set_input_files([PICTURES / "rocket.jpg"])
        expect(page.get_by_role("article")).to_have_count(1)
        page.evaluate(axe)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate(RUN_AXE, TAGS) == []
