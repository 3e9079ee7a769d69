"""The Export panel: what it shows of a run and a format, downloads, and uploads to the Hub."""

import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
from gradio.utils import get_upload_folder

from resnet_demo.errors import ConfigError, DemoError
from resnet_demo.hosting import space
from resnet_demo.hosting.access import Access
from resnet_demo.paths import Paths
from resnet_demo.tasks.exports import run_export
from resnet_demo.tasks.limits import ForbiddenError, LimitError, Limits
from resnet_demo.tasks.status import Status, read_status
from resnet_demo.ui.export import (
    HIDDEN,
    WHAT,
    download,
    panel_updates,
    publish,
    state_updates,
    status_text,
)
from resnet_demo.ui.services import Services
from tests.tiny import finished_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory, colours):
    """Return services over one finished run, `mine`, that export in this process."""
    root = tmp_path_factory.mktemp("export")
    finished_run(root, colours, epochs=1)
    services = Services(Paths(root / "runs", colours, root / "shipped"))

    def spawn(verb, folder, lock):
        os.close(lock)
        with suppress(DemoError):  # written to the status
            run_export(folder, services.paths)

    services.launcher.spawn = spawn
    return services


@pytest.fixture
def exported(trained):
    """Return a function that exports the run in a format."""

    def export(format):
        folder = trained.exports.start("mine", format, trained.caller())
        assert read_status(folder).state == "finished"

    return export


def test_the_panel_offers_an_export_and_then_its_file(trained, exported):
    before = panel_updates(trained, "mine", "hub")
    assert before["hint"] == WHAT["hub"][1]
    assert before["start"] == gr.update(visible=True, interactive=True)
    assert before["download"] == before["publish_box"] == HIDDEN
    exported("hub")
    after = panel_updates(trained, "mine", "hub")
    assert after["start"] == HIDDEN
    assert after["download"]["value"].startswith("Download (")
    assert after["publish_box"]["visible"]
    assert after["message"] == "**Ready.**"
    assert not after["timer"].active
    assert panel_updates(trained, None, "hub")["message"] == "Choose a run first."
    wrong = panel_updates(trained, "mine", "exe")
    assert "format must be one of" in wrong["message"]
    assert wrong["start"]["interactive"] is False


def test_a_live_export_shows_its_progress_and_can_be_cancelled():
    live = Status(state="running", message="comparing with the app", done=250, total=1000)
    updates = state_updates(status_text(live), live)
    assert updates["message"] == "Comparing with the app: 250 of 1,000."
    assert 'aria-valuenow="25"' in updates["progress"]["value"]
    assert updates["cancel"] == gr.update(visible=True, interactive=True)
    assert (updates["start"]["visible"], updates["timer"].active) == (False, True)
    failed = Status(state="failed", message="no <b>room</b>")
    assert status_text(failed) == "⚠ no \\<b\\>room\\</b\\>."


def test_a_visitor_downloads_only_what_came_with_the_app_and_publishes_nothing(trained, exported):
    exported("hub")
    public = replace(trained, access=Access("closed"), limits=Limits(pictures=30))
    assert (
        "only the owner of this app may export mine"
        in (panel_updates(public, "mine", "hub")["message"])
    )
    with pytest.raises(ForbiddenError):
        download(public, gr.DownloadButton(), "mine", "hub")
    with pytest.raises(ForbiddenError, match="only the owner of this app may publish"):
        publish(public, "mine", "hub", "me/demo", "", False)
    public.allowance.count_pictures(public.caller(), 20)
    with pytest.raises(LimitError):
        public.allowance.count_pictures(public.caller(), 20)


def test_a_download_is_served_from_the_upload_folder(trained, exported):
    exported("hub")
    file = Path(download(trained, gr.DownloadButton(), "mine", "hub"))
    assert file.name == "mine-hub.zip"
    assert file.resolve().is_relative_to(Path(get_upload_folder()).resolve())


def test_a_model_and_a_space_are_published_with_the_given_token(
    trained, exported, hub, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", hub.url)
    monkeypatch.setattr(space, "SHIPPED", ())  # smaller
    exported("hub")
    text = publish(trained, "mine", "hub", " me/demo ", "hf_given12345", True)
    assert text.endswith(f"]({hub.url}/me/demo)")
    assert hub.tokens == {"Bearer hf_given12345"}
    assert json.loads(hub.requests[0][1])["visibility"] == "private"
    assert "README.md" in hub.commit().files

    exported("space")
    hub.requests.clear()
    assert f"{hub.url}/spaces/me/demo" in publish(trained, "mine", "space", "me/demo", "", False)
    names = hub.commit().files.keys()
    assert {"app.py", "checkpoints/mine/model.safetensors"} <= names
    with pytest.raises(ConfigError, match="repository must be OWNER/NAME at Hugging Face, got ''"):
        publish(trained, "mine", "hub", "", "", False)
    trained.runs.get("mine").describe(title="New")
    with pytest.raises(ConfigError, match="has changed since it was exported: export it again"):
        publish(trained, "mine", "hub", "me/demo", "", False)
