"""The app as a whole: public mode, authorization of every launcher, and the launch."""

import os
import time

import httpx
import pytest

import app as program
from resnet_demo import file_locks, files
from resnet_demo.hosting.access import Access
from resnet_demo.learn import lessons
from resnet_demo.tasks.limits import ForbiddenError, Limits, is_public
from resnet_demo.ui.app import build_app, launch
from resnet_demo.ui.services import Services
from tests import plain_http
from tests.conftest import free_port


@pytest.mark.parametrize(
    ("environment", "public"),
    [
        ({}, False),
        ({"SPACE_ID": "me/demo"}, True),
        ({"RESNET_DEMO_PUBLIC": "1"}, True),
        ({"RESNET_DEMO_PUBLIC": "0"}, False),
        ({"RESNET_DEMO_ADMIN_TOKEN": "of sixteen or more"}, True),  # a token implies public mode
    ],
)
def test_the_app_is_public_on_a_space_or_if_the_environment_sets_it(environment, public):
    assert is_public(environment) == public
    assert (Limits.from_environment(environment) is not None) == public


def test_a_public_app_without_owner_lets_no_visitor_change_anything(services):
    visited = Services(services.paths, Access("closed"), Limits())
    settings = {"dataset": "colours", "image_size": 12, "batch_size": 16, "crop": 2}
    [(_, config), *_] = arms = lessons.duel_arms([8], 1, settings)
    caller = visited.caller()
    for change in (
        lambda: visited.launcher.start(config, caller),
        lambda: visited.launcher.stop("a", caller),
        lambda: visited.launcher.kill("a", caller),
        lambda: visited.launcher.resume("a", caller),
        lambda: visited.launcher.delete("a", caller),
        lambda: visited.run_groups.start("duel", arms, caller),
        lambda: visited.run_groups.stop("a", caller),
        lambda: visited.data.get("cifar10", caller),
        lambda: visited.data.delete("colours", caller),
    ):
        with pytest.raises(ForbiddenError, match="only the owner of this app may"):
            change()
    assert not visited.paths.runs.exists()


@pytest.mark.filterwarnings(r"ignore:unclosed <socket\.socket fd=\d+, family=2:ResourceWarning")
def test_an_app_starts_on_a_machine_that_is_too_busy_to_answer_at_once(services, monkeypatch):
    def busy(*args, **options):
        raise httpx.ReadTimeout("timed out")

    monkeypatch.setattr("gradio.networking.httpx.head", busy)  # Gradio's check of its own page
    app = build_app(services.paths)
    try:
        _, url, _ = launch(app, server_port=free_port(), prevent_thread_lock=True, quiet=True)
        assert plain_http.get(f"{url}config", timeout=60).is_success
    finally:
        app.close()


def test_a_start_empties_the_old_trash_and_the_uploads_of_killed_apps_and_names_the_system(
    tmp_path, monkeypatch, caplog
):
    def start(self, **options):
        assert options["max_file_size"]
        started.append(self)

    started, uploads = [], tmp_path / "uploads"
    for name, folder in (("RUNS", "runs"), ("DATA", "data")):
        monkeypatch.setenv(f"RESNET_DEMO_{name}", str(tmp_path / folder))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(uploads))
    monkeypatch.setattr("gradio.Blocks.launch", start)
    monkeypatch.setattr("gc.freeze", lambda: None)
    monkeypatch.setattr("sys.platform", "darwin")
    files.warn_once.cache_clear()
    old, new = (tmp_path / "runs" / ".trash" / name for name in ("old", "new"))
    for folder in (old, new, uploads):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 31 * 24 * 3600,) * 2)
    (uploads / "tmp_ab12xyz").write_text("broken off")
    program.main()
    assert len(started) == 1
    assert not old.exists()
    assert new.exists()
    assert not (uploads / "tmp_ab12xyz").exists()
    assert [record.getMessage() for record in caplog.records] == [file_locks.MACOS_NOTE]
