"""The Train tab on ZeroGPU, with simulated slices."""

import gradio as gr
import pytest

from resnet_demo.hosting.access import Access
from resnet_demo.hosting.zerogpu.slice import Cost, SliceError
from resnet_demo.paths import Paths
from resnet_demo.tasks.limits import LimitError, Limits, is_zerogpu
from resnet_demo.ui.app import build_app
from resnet_demo.ui.export import panel_updates
from resnet_demo.ui.services import Services
from resnet_demo.ui.train import duration_estimate, zerogpu_panel
from resnet_demo.ui.train.duration_estimate import cost_text, update_estimate
from resnet_demo.ui.train.zerogpu_panel import NextSlice, begin_run, run_slice

SETTINGS = {"dataset": "colours", "model": "resnet8", "image_size": 12, "batch_size": 16, "crop": 2}


def refused(folder, paths, seconds):
    raise SliceError("You have exceeded your quota <b>(60s requested vs. 12s left)</b>")
    yield


@pytest.fixture
def at(tmp_path, colours):
    return Paths(tmp_path / "runs", colours, tmp_path / "shipped")


@pytest.fixture
def services(at):
    services = Services(at, Access("closed"), gpu=refused)
    services.slices.warm_up = lambda run: None
    return services


@pytest.mark.parametrize(
    ("value", "is_there"),
    [("1", True), ("true", True), ("True", True), ("0", False), ("", False), (None, False)],
)
def test_zerogpu_is_recognized_by_the_environment(value, is_there):
    assert is_zerogpu({} if value is None else {"SPACES_ZERO_GPU": value}) == is_there


def elements(paths, gpu):
    parts = build_app(paths, Access("closed" if gpu else "local"), gpu=gpu).get_config_file()[
        "components"
    ]
    return {part["props"].get("elem_id") for part in parts}


def test_the_page_has_slices_only_on_zerogpu(at):
    own = {"slice-seconds", "slice-text"}
    assert own <= elements(at, refused)
    assert not own & elements(at, None)


def test_train_gives_a_visitor_a_random_name_and_requests_the_first_slice(services):
    shown, name, request = begin_run(services, SETTINGS, "")
    assert (len(name), shown["value"]) == (22, request.run_id)
    services.slices.stop(request.run_id, name, services.caller())
    assert begin_run(services, SETTINGS, name)[1] == name


def test_a_waiting_slice_asks_to_keep_the_page_open_and_a_refusal_is_quoted(services):
    _, name, request = begin_run(services, SETTINGS, "")
    texts = [text for text, _ in run_slice(services, request, name, 60)]
    assert texts[0] == "Waiting for a GPU. **Keep this page open**: it starts the next slice."
    assert texts[1].startswith(r"⚠ You have exceeded your quota \<b\>(60s requested")
    assert len(texts) == 2


def test_a_slice_requests_the_next_one_until_the_run_is_over(services):
    _, name, request = begin_run(services, SETTINGS, "")
    dues = [True, False]

    def run_one(*args):
        yield object()
        return dues.pop(0)

    services.slices.run_slice = run_one
    *_, (text, following) = run_slice(services, request, name, 60)
    assert (following.run_id, following == request) == (request.run_id, False)
    assert text.endswith("**Keep this page open**: it starts the next slice.")
    *_, (text, following) = run_slice(services, following, name, 60)
    assert not isinstance(following, NextSlice)
    assert "Keep" not in text


def test_another_visitor_s_run_is_refused(services):
    _, _, request = begin_run(services, SETTINGS, "")
    with pytest.raises(gr.Error, match="only the visitor who started"):
        list(run_slice(services, request, "another", 60))


def test_the_cost_is_shown_before_training_or_that_it_is_unknown(services):
    text, _, state = update_estimate(services, SETTINGS, None, 60)
    assert text.startswith(duration_estimate.UNKNOWN_COST)
    assert state.waits_for == "quiet"
    assert (
        update_estimate(services, SETTINGS, state, 7)[0]
        == "⚠ seconds must be a number from 20 to 120, got 7"
    )
    cost = Cost(5, 270.0, 4.4, "a-run", 10.0)
    assert cost_text(cost, 60) == (
        "**≈ 4 min 30 s** of GPU time in **5 slices** of 60 s, 4.4 epochs per slice "
        "(measured in a-run)"
    )


def test_the_real_package_does_not_change_a_slice_elsewhere(tmp_path):
    pytest.importorskip("spaces", exc_type=ImportError)
    paths, seen = Paths(tmp_path, tmp_path), []

    def slice_(folder, paths, seconds):
        seen.append((folder, paths, seconds))
        yield "an event"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zerogpu_panel, "train_slice", slice_)
        assert list(zerogpu_panel.zerogpu_slice()(tmp_path, paths, 60)) == ["an event"]
    assert seen == [(tmp_path, paths, 60)]


def test_a_visitor_s_runs_have_the_limits_of_any_public_app(at):
    services = Services(at, Access("closed"), Limits(epochs=2, runs=1), refused)
    with pytest.raises(LimitError, match="epochs must be at most 2 here, got 3"):
        begin_run(services, {**SETTINGS, "epochs": 3}, "")
    begin_run(services, {**SETTINGS, "epochs": 2}, "")
    with pytest.raises(LimitError, match="at most 1 run may be started by one person"):
        begin_run(services, {**SETTINGS, "epochs": 2}, "another-else")
    assert len(services.runs.list()) == 1


def test_a_visitor_may_export_the_run_that_they_trained(at):
    services = Services(at, Access("closed"), Limits(), refused)
    run = begin_run(services, SETTINGS, "first")[2].run_id
    theirs, others = (panel_updates(services, run, "hub", name) for name in ("first", "second"))
    assert "has no weights yet" in theirs["message"]
    assert f"only the owner of this app may export {run}" in others["message"]


def test_runs_that_wait_for_a_slice_count_as_queued(at):
    services = Services(at, Access("closed"), Limits(queue=2), refused)
    runs = [begin_run(services, SETTINGS, name)[2].run_id for name in ("first", "second")]
    with pytest.raises(LimitError, match="at most 2 runs may train or wait here at once, got 3"):
        begin_run(services, SETTINGS, "third")
    services.slices.stop(runs[0], "first", services.caller())
    begin_run(services, SETTINGS, "third")
    assert len(services.slices.paused_runs()) == 2
