import httpx
import pytest

from resnet_demo.hosting.access import Access
from resnet_demo.learn import lessons
from resnet_demo.tasks.limits import ForbiddenError, Limits, is_public
from resnet_demo.ui.app import build_app, launch
from resnet_demo.ui.services import Services


@pytest.mark.parametrize(
    ("told", "public"),
    [
        ({}, False),
        ({"SPACE_ID": "me/demo"}, True),
        ({"RESNET_DEMO_PUBLIC": "1"}, True),
        ({"RESNET_DEMO_PUBLIC": "0"}, False),
        ({"RESNET_DEMO_ADMIN_TOKEN": "of sixteen or more"}, True),  # a lock is wanted
    ],
)
def test_it_is_public_on_a_space_and_where_its_owner_says_so(told, public):
    assert is_public(told) == public
    assert (Limits.from_environment(told) is not None) == public


def test_in_public_where_no_owner_is_set_up_nobody_changes_anything(services):
    visited = Services(services.paths, Access("closed"), Limits())
    knobs = {"dataset": "colours", "image_size": 12, "batch_size": 16, "crop": 2}
    [(_, config), *_] = arms = lessons.duel_arms([8], 1, knobs)
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
def test_an_app_whose_machine_is_too_busy_to_answer_at_once_starts_all_the_same(
    services, monkeypatch
):
    def busy(*asked, **options):
        raise httpx.ReadTimeout("timed out")

    monkeypatch.setattr("gradio.networking.httpx.head", busy)  # Gradio's look at itself
    app = build_app(services.paths)
    try:
        _, url, _ = launch(app, prevent_thread_lock=True, quiet=True)
        assert httpx.get(f"{url}config", timeout=60).is_success
    finally:
        app.close()
