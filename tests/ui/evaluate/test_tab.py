import asyncio
import inspect
from dataclasses import replace

import gradio as gr

from resnet_demo.ui.app import build_app
from resnet_demo.ui.evaluate import result, tab
from resnet_demo.ui.evaluate.evaluation_status import Selection


def test_both_runs_are_evaluated_on_the_images_of_the_first(statuses, monkeypatch):
    started = []

    def start(run, split, caller, dataset=None, mode="plain"):
        started.append((run, split, dataset, mode))

    monkeypatch.setattr(statuses.services.evaluations, "start", start)
    tab.start_evaluations(statuses.services, Selection("mine", "val", "flip", "yours"))
    assert started == [("mine", "val", None, "flip"), ("yours", "val", "colours", "flip")]


def test_a_run_can_be_compared_with_the_other_runs_of_its_classes(statuses, describe_again):
    def update(run, other):
        return tab.comparison_choices(statuses.services, False, run, "test", "plain", other)

    assert [run for _, run in update("mine", "yours")["choices"]] == ["", "yours"]
    assert "value" not in update("mine", "yours")  # the choice stays
    assert update("yours", "yours")["value"] == ""
    describe_again(statuses.services.paths.runs / "yours", classes=["a", "b", "c"])
    assert [run for _, run in update("mine", "yours")["choices"]] == [""]
    assert update("mine", "yours")["value"] == ""
    assert update(None, "")["choices"] == [tab.NO_COMPARISON]


def test_a_dataset_without_test_images_is_evaluated_on_its_validation_images(statuses, monkeypatch):
    services, info = statuses.services, statuses.services.datasets.get("colours")

    def split_after(run, split, replaced):
        return tab.usable_split(services, run, split, replaced)

    assert split_after("mine", "test", False) == (gr.skip(), False)
    assert split_after("mine", "val", False) == (gr.skip(), False)  # as the person chose
    assert split_after("mine", "val", True) == ("test", False)
    assert split_after(None, "test", False) == (gr.skip(), False)
    monkeypatch.setattr(services.datasets, "get", lambda name: replace(info, test=0))
    assert split_after("mine", "test", False) == ("val", True)
    assert split_after("mine", "val", False) == (gr.skip(), False)


def test_a_page_that_was_left_changes_nothing(statuses):
    """Gradio has forgotten its states by then, and gives None for each."""
    events = [
        event
        for event in build_app(statuses.services.paths).fns.values()
        if event.name == "on_change" and event.fn.__module__ == result.__name__
    ]
    assert len(events) >= 8
    for event in events:
        answer = event.fn(*[None for _ in event.inputs])
        answer = asyncio.run(answer) if inspect.iscoroutine(answer) else answer
        assert answer == gr.skip()
