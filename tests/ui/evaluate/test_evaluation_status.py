from dataclasses import astuple, replace

import pytest

from resnet_demo.models.description import Description, encode_description, model_description
from resnet_demo.ui.evaluate.evaluation_status import (
    DONE,
    NO_RUN,
    READY,
    Selection,
    StatusCache,
    changed_states,
    robustness_updates,
)
from tests.ui.fake_evaluations import page_updates, save_evaluation

MINE = Selection("mine")
PAIR = Selection("mine", other="yours")


def changes(statuses, selection=MINE, before=None, percent=True, dark=False):
    return changed_states(statuses, selection, percent, dark, before)


def test_without_a_run_the_page_says_what_to_do(statuses):
    updates = page_updates(statuses, Selection(None))
    assert updates["message"] == NO_RUN
    assert updates["start"]["interactive"]  # a click on it is answered with a sentence
    assert not updates["results"]["visible"]


def test_before_an_evaluation_the_page_says_what_to_press(statuses):
    updates = page_updates(statuses, MINE)
    assert updates["message"] == READY
    assert updates["start"]["interactive"]
    assert not updates["cancel"]["interactive"]
    assert not updates["results"]["visible"]


def test_a_running_evaluation_shows_progress_and_can_be_cancelled_once(statuses, put_task):
    put_task(statuses.folder(MINE), state="running")
    message = page_updates(statuses, MINE)["message"]
    assert message == "Running: loading the network and the images"
    put_task(statuses.folder(MINE), state="running", done=10, total=40, unit="images", rate=2.0)
    updates = page_updates(statuses, MINE)
    assert updates["message"] == "Running: 10 of 40 images, about 15 s left"
    assert 'aria-valuenow="25"' in updates["progress"]["value"]
    assert not updates["start"]["interactive"]
    assert updates["cancel"]["interactive"]


@pytest.mark.parametrize("done", [{}, {"done": 10, "total": 40, "unit": "images"}])
def test_a_stopping_evaluation_says_so_in_one_sentence(statuses, put_task, done):
    put_task(statuses.folder(MINE), state="stopping", message="asked to stop", **done)
    updates = page_updates(statuses, MINE)
    assert updates["message"] == "Stopping after this batch."
    assert not updates["cancel"]["interactive"]


def test_a_failure_is_shown_as_text_and_can_be_retried(statuses, put_task):
    put_task(statuses.folder(MINE), state="failed", message="<b>no</b> room")
    updates = page_updates(statuses, MINE)
    assert updates["message"] == r"Failed: \<b\>no\</b\> room"
    assert updates["start"]["interactive"]


def test_a_result_is_shown_with_its_interval(statuses):
    result = save_evaluation(statuses, MINE).result
    updates = page_updates(statuses, MINE)
    low, high = result["interval"]
    assert updates["message"] == DONE
    assert not updates["start"]["interactive"]
    assert updates["results"]["visible"]
    for number in (
        f"<b>{round(result['top1'] * 30)} of 30</b>",
        f"{100 * low:.0f} % to {100 * high:.0f} %",
        f"{100 * result['macro_f1']:.2f} %",
        f"{100 * result['calibration']['error']:.2f} %",
        f"{result['loss']:.4f}",
        "the 30 test images of colours",
    ):
        assert number in updates["headline"]
    nonzero = sum(bool(count) for row in result["confusion"] for count in row)
    assert updates["matrix"].count("<button") == nonzero


def test_an_unchanged_page_gets_no_update_and_reads_no_file(statuses, monkeypatch):
    save_evaluation(statuses, MINE)
    save_evaluation(statuses, PAIR, other=True)
    before = changes(statuses, PAIR)["now"]

    def fail(*_):
        raise AssertionError("read")

    for name in ("status", "folder", "robustness_folder"):
        monkeypatch.setattr(statuses.services.evaluations, name, fail)
    assert changes(statuses, PAIR, before) == {}
    assert changes(statuses, PAIR, before, percent=False).keys() == {"now", "result"}
    assert changes(statuses, PAIR, before, dark=True).keys() == {"now", "figures", "curve"}


def test_only_the_changed_part_is_updated(statuses, put_task):
    save_evaluation(statuses, MINE)
    before = changes(statuses)["now"]
    folder = statuses.robustness_folder(MINE)
    put_task(folder, state="running", done=1, total=2, unit="images")
    updates = page_updates(statuses, MINE, before)
    names = ("message", "progress", "start", "cancel")
    assert updates.keys() == {f"robustness_{name}" for name in names}
    assert updates["robustness_message"] == "Running: 1 of 2 images"


def test_new_weights_have_no_result_yet(statuses):
    save_evaluation(statuses, MINE)
    before = changes(statuses)["now"]
    run = statuses.services.runs.get("mine").path
    fields = model_description(run) | {"sha256": "f" * 64}
    (run / "model.json").write_bytes(encode_description(Description(**fields)))
    updates = page_updates(statuses, MINE, before)
    assert updates["message"] == READY
    assert not updates["results"]["visible"]


def test_a_damaged_run_is_reported(statuses):
    (statuses.services.runs.get("mine").path / "model.json").unlink()
    assert page_updates(statuses, MINE)["message"].startswith("⚠ model.json of mine is missing")


def test_a_damaged_result_can_be_computed_again(statuses):
    save_evaluation(statuses, MINE)
    (statuses.folder(MINE) / "result.json").write_text("{}")
    updates = page_updates(statuses, MINE)
    assert (updates["message"], updates["start"]["interactive"]) == (READY, True)


def test_a_comparison_needs_both_results(statuses):
    save_evaluation(statuses, MINE)
    updates = page_updates(statuses, PAIR)
    message = "yours: not evaluated in this mode yet, press **Evaluate**"
    assert updates["message"].endswith(message)
    assert updates["start"]["interactive"]
    assert not updates["comparison_box"]["visible"]
    save_evaluation(statuses, PAIR, other=True, seed=1)
    assert page_updates(statuses, PAIR)["comparison_box"]["visible"]


def test_a_run_is_not_compared_with_itself():
    assert Selection.from_page("mine", "test", "plain", "mine").other is None
    assert Selection.from_page("mine", "test", "plain", "").other is None
    assert Selection.from_page("mine", "val", "flip", "yours") == replace(
        PAIR, split="val", mode="flip"
    )


def test_robustness_without_images_says_why(without_images):
    status = StatusCache(without_images).robustness(MINE)
    updates = robustness_updates(list(astuple(status)))
    message = updates["robustness_message"]
    assert message.startswith("⚠ The images of colours are not on this machine")
    assert not updates["robustness_start"]["interactive"]
