"""Work that begins once a page is open."""

from dataclasses import replace

import pytest

from resnet_demo.hosting.access import Access
from resnet_demo.ui import open_page
from resnet_demo.ui.open_page import OpenPage
from tests.tiny import finished_run


@pytest.fixture
def page(services, monkeypatch):
    """Return an OpenPage without a standby worker, on a machine with free memory."""
    monkeypatch.setattr(open_page, "free_memory", lambda: open_page.START_MEMORY)
    page = OpenPage({}, services)
    page.keeps_standby = False
    return page


def test_a_standby_worker_is_kept_by_a_private_app_unless_it_is_switched_off(services):
    kept = []
    services.launcher.keep_standby = lambda: kept.append(1)
    page = OpenPage({}, services)
    page.loads_network = False
    page()
    assert kept == [1]
    off = OpenPage({"RESNET_DEMO_STANDBY": "0"}, services)
    assert (off.keeps_standby, off.loads_network) == (False, False)
    public = replace(services, access=Access("closed"))
    assert not OpenPage({}, public).keeps_standby


def test_the_network_that_classify_offers_first_is_loaded_once(page, tmp_path, colours, until):
    run = finished_run(tmp_path, colours, epochs=1)
    page()
    cached = until(lambda: [*page.services.classifiers.classifiers])
    assert [run_id for run_id, _ in cached] == [run.id]
    assert not page.loads_network


def test_it_is_loaded_later_if_memory_is_short_or_a_run_trains(page, monkeypatch):
    loaded = []
    monkeypatch.setattr(type(page.services), "default_trained_run", lambda self: loaded.append(1))
    monkeypatch.setattr(open_page, "free_memory", lambda: open_page.START_MEMORY - 1)
    page._load_network()
    monkeypatch.setattr(open_page, "free_memory", lambda: open_page.START_MEMORY)
    monkeypatch.setattr(open_page, "live_runs", lambda root: ["a run"])
    page._load_network()
    assert (loaded, page.loads_network) == ([], True)
    monkeypatch.setattr(open_page, "live_runs", lambda root: [])
    page._load_network()
    assert (loaded, page.loads_network) == ([1], False)
