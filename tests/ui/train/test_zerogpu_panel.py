"""The Train tab on ZeroGPU, whose slices a test acts."""

import subprocess
import sys

import gradio as gr
import pytest

from resnet_demo.hosting.access import Access
from resnet_demo.hosting.zerogpu.quota import Cost
from resnet_demo.hosting.zerogpu.slice import SliceError
from resnet_demo.paths import Paths
from resnet_demo.tasks.limits import LimitError, Limits, is_zerogpu
from resnet_demo.ui.app import build_app
from resnet_demo.ui.services import Services
from resnet_demo.ui.train import duration_estimate, zerogpu_panel
from resnet_demo.ui.train.duration_estimate import cost_text, update_estimate
from resnet_demo.ui.train.zerogpu_panel import NextSlice, begin_run, run_slice

KNOBS = {"dataset": "colours", "model": "resnet8", "image_size": 12, "batch_size": 16, "crop": 2}


def refused(folder, paths, seconds):
    raise SliceError("You have exceeded your quota <b>(60s requested vs. 12s left)</b>")
    yield


@pytest.fixture
def at(tmp_path, colours):
    return Paths(tmp_path / "runs", colours, tmp_path / "shipped")


@pytest.fixture
def visited(at):
    services = Services(at, Access("closed"), gpu=refused)
    services.slices.warm_up = lambda run: None
    return services


@pytest.mark.parametrize(
    ("told", "is_there"),
    [("1", True), ("true", True), ("True", True), ("0", False), ("", False), (None, False)],
)
def test_it_is_zero_gpu_where_the_platform_says_so(told, is_there):
    assert is_zerogpu({} if told is None else {"SPACES_ZERO_GPU": told}) == is_there


def elements(paths, gpu):
    parts = build_app(paths, Access("closed" if gpu else "local"), gpu=gpu).get_config_file()[
        "components"
    ]
    return {part["props"].get("elem_id") for part in parts}


def test_the_page_has_slices_on_zero_gpu_alone(at):
    own = {"slice-seconds", "slice-words"}
    assert own <= elements(at, refused)
    assert not own & elements(at, None)


def test_train_gives_a_visitor_a_name_that_nobody_guesses_and_a_first_turn(visited):
    shown, name, turn = begin_run(visited, KNOBS, "")
    assert (len(name), shown["value"]) == (22, turn.run_id)
    visited.slices.stop(turn.run_id, name, visited.caller())
    assert begin_run(visited, KNOBS, name)[1] == name


def test_while_it_waits_the_page_is_to_stay_open_and_a_refusal_is_told_to_the_letter(visited):
    _, name, turn = begin_run(visited, KNOBS, "")
    told = [words for words, _ in run_slice(visited, turn, name, 60)]
    assert told[0] == "Waiting for a GPU. **Keep this page open**: it starts the next slice."
    assert told[1].startswith(r"⚠ You have exceeded your quota \<b\>(60s requested")
    assert len(told) == 2


def test_a_slice_that_is_over_asks_for_the_next_until_the_run_is(visited):
    _, name, turn = begin_run(visited, KNOBS, "")
    dues = [True, False]

    def go_on(*asked):
        yield object()
        return dues.pop(0)

    visited.slices.run_slice = go_on
    *_, (words, following) = run_slice(visited, turn, name, 60)
    assert (following.run_id, following == turn) == (turn.run_id, False)
    assert words.endswith("**Keep this page open**: it starts the next slice.")
    *_, (words, following) = run_slice(visited, following, name, 60)
    assert not isinstance(following, NextSlice)
    assert "Keep" not in words


def test_another_s_run_is_refused_as_a_mistake(visited):
    _, _, turn = begin_run(visited, KNOBS, "")
    with pytest.raises(gr.Error, match="only the visitor who started"):
        list(run_slice(visited, turn, "somebody", 60))


def test_before_train_the_cost_is_told_or_that_nobody_knows_it(visited):
    told, _, asked = update_estimate(visited, KNOBS, None, 60)
    assert told.startswith(duration_estimate.UNKNOWN_COST)
    assert asked.waits_for == "quiet"
    assert (
        update_estimate(visited, KNOBS, asked, 7)[0]
        == "⚠ seconds must be a number from 20 to 120, got 7"
    )
    cost = Cost(5, 270.0, 4.4, "a-run", 10.0)
    assert cost_text(cost, 60) == (
        "**≈ 4 min 30 s** of GPU time in **5 slices** of 60 s, 4.4 epochs per slice "
        "(measured in a-run)"
    )


def test_the_real_package_leaves_a_slice_as_it_is_away_from_the_platform(tmp_path):
    pytest.importorskip("spaces", exc_type=ImportError)
    paths, seen = Paths(tmp_path, tmp_path), []

    def slice_(folder, paths, seconds):
        seen.append((folder, paths, seconds))
        yield "told"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zerogpu_panel, "train_slice", slice_)
        assert list(zerogpu_panel.zerogpu_slice()(tmp_path, paths, 60)) == ["told"]
    assert seen == [(tmp_path, paths, 60)]


def test_the_real_package_is_loaded_on_zero_gpu_alone():
    code = "import sys, resnet_demo.ui.app; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert not {"spaces.zero.client", "torch"} & set(loaded)


def test_a_visitor_s_runs_have_the_limits_of_any_public_app(at):
    services = Services(at, Access("closed"), Limits(epochs=2, runs=1), refused)
    with pytest.raises(LimitError, match="epochs must be at most 2 here, got 3"):
        begin_run(services, {**KNOBS, "epochs": 3}, "")
    begin_run(services, {**KNOBS, "epochs": 2}, "")
    with pytest.raises(LimitError, match="at most 1 runs may be started by one person"):
        begin_run(services, {**KNOBS, "epochs": 2}, "somebody-else")
    assert len(services.runs.list()) == 1
