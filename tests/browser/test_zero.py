"""The app as on ZeroGPU in a real browser: a visitor trains in slices, one of which is killed."""

import os
import re

import pytest
from playwright.sync_api import expect

from resnet_demo.events import Finished, Resumed, Started
from resnet_demo.hosting.zerogpu.slice import recorded_slices
from resnet_demo.runs.store import Run
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.browser

HERE = f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests' / 'zero'}"
SETTINGS = {"image_size": 12, "batch_size": 16, "crop": 2, "epochs": 3}


def fill(page, **settings):
    """Fill the form."""
    for name, value in settings.items():
        field = page.locator(f"#{name} input")
        field.fill(str(value))
        field.press("Enter")
        expect(field).to_have_value(str(value))


def choose(page, name, option):
    """Choose from a dropdown by mouse: Enter would take an outdated first match."""
    page.locator(f"#{name} input").click()
    page.get_by_role("option", name=option, exact=True).click()
    expect(page.locator(f"#{name} input")).to_have_value(option)


@pytest.fixture(scope="module")
def zero(start_app):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPACES_ZERO_GPU", "true")
        patch.setenv("SPACES_KILL_AT", "12")
        patch.setenv("PYTHONPATH", HERE)
        yield start_app()


def test_a_visitor_s_run_continues_from_slice_to_slice(zero, visiting):
    with visiting() as visit:
        page = visit(zero.url)
        expect(page.locator("#access")).to_contain_text("each visitor trains on their own quota")
        choose(page, "model", "resnet8")
        choose(page, "dataset", "colours")  # later: the recipe stays, as the model was chosen
        for fold in ("advanced", "group-optimizer", "group-augmentation"):
            page.locator(f"#{fold} > button").click()
        fill(page, **SETTINGS)
        expect(page.locator("#facts")).to_contain_text(
            "GPU time unknown until the first slice has run"
        )
        page.locator("button#train").click()
        expect(page.locator("#slice-text")).to_contain_text("Keep this page open")
        expect(page.locator("#run-status")).to_contain_text(re.compile("Finished"), timeout=180_000)
        expect(page.locator("#slice-text")).to_contain_text(
            re.compile(r"2 slices, .* of GPU time used\.")
        )
        expect(page.locator("#facts")).to_contain_text("of GPU time in 1 slice of 60 s")
        expect(page.locator("#resume")).to_be_disabled()
        run = Run(next(zero.runs.glob("resnet8-*")))
    kinds = [type(event) for event in run.log()]
    assert [kind for kind in kinds if issubclass(kind, Started | Finished)] == [
        *(Started, Resumed, Finished)
    ]
    assert [used.killed for used in recorded_slices(run)] == [True, False]
