"""The Data tab in a real browser: get CIFAR-10, import own images, delete a dataset."""

import io
import re
import zipfile
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.loopback import Loopback, cifar_zip, serve, serve_slowly

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x9 onerror=\"document.title='owned'\">"
NOWHERE = "http://127.0.0.1:9"  # no server listens there


def png(number, size=32):
    noise = np.random.default_rng(number).integers(0, 256, (size, size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def zip_of(names):
    """Return a zip with a different picture for each name."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(name, png(number))
    return packed.getvalue()


def large(archive, size):
    """Return the archive with a file of this many bytes that is not a picture."""
    file = io.BytesIO(archive)
    with zipfile.ZipFile(file, "a") as more:
        more.writestr("about.bin", bytes(size))
    return file.getvalue()


CIFAR = large(cifar_zip(10), 40_000_000)  # few pictures, but a slow download


@pytest.fixture(scope="module")
def server():
    server = Loopback()
    server.offer(CIFAR, serve_slowly(CIFAR, 0.1, 60_000), serve(CIFAR))
    weights = bytes(46_830_571)
    server.offer(weights, serve_slowly(weights, 0.1, 60_000), path="/resnet18-f37072fd.pth")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def app(start_app, server, tmp_path_factory):
    """Return an app with an empty data folder, no network, and local copies of what it gets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTPS_PROXY", NOWHERE)
        patch.setenv("RESNET_DEMO_CIFAR10", f"{server.url()}#sha256={sha256(CIFAR).hexdigest()}")
        patch.setenv("RESNET_DEMO_WEIGHTS", server.url("/"))
        return start_app(data=tmp_path_factory.mktemp("empty"))


@pytest.fixture(scope="module")
def page(visiting, app):
    """Yield one page for all tests, opened before there is any data."""
    with visiting() as visit:
        yield visit(app.url)


def open_tab(page, name):
    page.get_by_role("tab", name=name).click()


def dataset(page):
    return page.locator("#dataset input")


def test_every_page_shows_the_progress_of_the_cifar10_download(page, visit, app):
    banner, step = page.locator("#get-banner"), page.locator("#step-cifar")
    expect(banner).to_be_hidden()
    expect(dataset(page)).to_have_value("shapes10, synthetic")
    step.click()
    late = visit(app.url)  # as after a reload: it continues without a page
    for viewer in (page, late):
        expect(viewer.locator("#get-text")).to_contain_text(f"of {len(CIFAR) / 1e6:.0f} MB")
        expect(viewer.locator("#get-progress").get_by_role("progressbar")).to_be_visible()
        expect(viewer.locator("#step-cifar")).to_be_disabled()
    late.get_by_role("button", name="Cancel").first.click()
    expect(banner).to_contain_text("Download cancelled; it will continue from")
    banner.get_by_role("button", name="Get CIFAR-10").click()  # the server is fast now
    for viewer in (page, late):
        expect(viewer.locator("#get-banner")).to_be_hidden()
        expect(viewer.locator("#step-cifar")).to_have_class(re.compile("done"))
        expect(dataset(viewer)).to_have_value("cifar10")


def test_missing_weights_are_offered_below_the_form_and_their_download_is_cancelled(page):
    row = page.locator("#get-weights-banner")
    expect(row).to_be_hidden()
    page.locator("#model input").fill("resnet18")
    page.get_by_role("option", name="resnet18", exact=True).click()
    for fold in ("advanced", "group-transfer"):
        page.locator(f"#{fold} > button").click()
    page.locator("#weights input").click()
    page.get_by_role("option", name="imagenet: learned on photographs").click()
    expect(row).to_contain_text("One-time download, 47 MB, from your copy.")
    row.get_by_role("button", name="Get the weights").click()
    expect(row).to_contain_text(re.compile(r"[1-9]\S* .B of 47 MB"))  # some bytes are here
    row.get_by_role("button", name="Cancel").click()
    expect(row).to_contain_text("Download cancelled; it will continue from")
    page.locator("#weights input").click()
    page.get_by_role("option", name="random", exact=True).click()
    expect(row).to_be_hidden()


def test_pictures_are_uploaded_surveyed_imported_and_deleted(page, app, tmp_path):
    names = [f"pets/{label}/{n}.png" for label in (HOSTILE, "frog 🐸") for n in range(10)]
    dropped = tmp_path / "my pets 🐾.zip"
    dropped.write_bytes(zip_of(names))
    page.get_by_role("button", name="Bring your own pictures").click()
    expect(page.locator("#import-file")).to_be_in_viewport()
    page.locator("#import-file input[type=file]").set_input_files(dropped)
    found = page.locator("#import-found")
    expect(found).to_contain_text("20 pictures of 2 classes")
    expect(found).to_contain_text("2 classes have fewer than 20 pictures")
    expect(page.locator("#import-classes")).to_contain_text(HOSTILE)
    expect(page.locator("#import-samples img")).to_have_count(8)
    expect(page.locator("#import-space")).to_have_text("20 pictures of 32 × 32 pixels take 61 kB.")
    size = page.locator("#import-size input[type=number]")
    size.fill("100")
    size.press("Enter")
    expect(page.locator("#import-space")).to_contain_text("100 × 100 pixels take 600 kB")
    page.locator("#import-fit").get_by_text("Pad", exact=True).click()
    name = page.get_by_role("textbox", name="Name of the dataset")
    expect(name).to_have_value("my-pets")
    name.fill("No!")
    page.get_by_role("button", name="Import").click()
    expect(page.locator(".toast-body.error")).to_contain_text("name must be at most 64 lowercase")
    name.fill("pets")
    page.get_by_role("button", name="Import").click()
    words = page.locator("#import-text")
    expect(words).to_contain_text("16 training and 4 test images in pets.")
    expect(page.locator("#data-facts")).to_contain_text("pets: 16 training and 4 test images")
    expect(page.locator("#data-facts")).to_contain_text("of 100 pixels, made square by pad")
    expect(page.locator("#data-images img")).to_have_count(16)
    page.get_by_role("button", name="Delete…").click()
    expect(page.locator("#data-delete-question")).to_contain_text("Delete pets?")
    page.get_by_role("button", name="Delete it").click()
    expect(page.locator("#data-name input")).to_have_value("cifar10")
    assert not (app.data / "pets").exists()
    assert page.title() == "ResNet Demo"


def test_a_folder_of_this_machine_is_scanned_and_mistakes_are_explained(page, tmp_path):
    open_tab(page, "Data")
    folder = page.get_by_role("textbox", name="or a folder on this machine")
    for wrong, sentence in (
        (
            "",
            "folder must be the whole path of a folder or an archive on this machine, got nothing",
        ),
        (str(tmp_path / "none"), "there is no file or folder"),
    ):
        folder.fill(wrong)
        page.get_by_role("button", name="Scan folder").click()
        expect(page.locator(".toast-body.error").last).to_contain_text(sentence)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.png").write_bytes(png(0))
    folder.fill(str(tmp_path))
    page.get_by_role("button", name="Scan folder").click()
    expect(page.locator("#import-text")).to_contain_text("at least two class folders")


def test_the_data_tab_is_no_wider_than_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    open_tab(page, "Data")
    expect(page.locator("#data-images img").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
