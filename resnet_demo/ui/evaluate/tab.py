"""The Evaluate tab: select a run and a split, start the evaluation, follow it, see the result."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_demo.errors import ConfigError, DemoError
from resnet_demo.evaluation.modes import MODES
from resnet_demo.ui.components import (
    NO_COMPARISON,
    Parts,
    experiments_box,
    keep_choice,
    run_choices,
)
from resnet_demo.ui.evaluate.evaluation_status import (
    NO_RUN,
    STATES,
    Selection,
    StatusCache,
    changed_states,
    is_stored,
)
from resnet_demo.ui.evaluate.result import connect_result, result_panel
from resnet_demo.ui.evaluate.text import MODE_LABELS
from resnet_demo.ui.services import LATEST_EVENT, QUIET_EVENT, Services, show_errors

SPLITS = [("test", "test"), ("validation", "val")]
# In the browser: the server draws the figures, and only the page knows its colours.
IS_DARK = "() => document.body.classList.contains('dark')"


def evaluate_tab(services: Services, tab: gr.Tab, mark: gr.Textbox) -> dict[str, Any]:
    """Build the tab and return its components by name. mark: changes whenever a tick is due."""
    parts: Parts = {}
    with gr.Row(), gr.Column(elem_classes="panel"):  # a column right below a tab loses its class
        selectors = control_panel(parts)
    parts["dark"], parts["now"] = gr.Checkbox(False, visible="hidden"), gr.State(None)
    result_panel(parts)
    statuses = StatusCache(services)

    # Async, because a tick must not wait for one of Gradio's threads.
    async def on_tick(unit: str, dark: bool, before: Any, *values: Any) -> dict[Any, Any]:
        selection = Selection.from_page(*values)
        if selection.run is None and before is None:  # the tab has not been opened
            return {parts["now"]: gr.skip()}
        changed = changed_states(statuses, selection, unit == "percent", dark, before)
        updates = {parts[name]: value for name, value in changed.items()}
        return {parts["now"]: gr.skip()} | updates  # Gradio refuses an empty dict

    triggers = [part.change for part in (mark, parts["unit"], parts["dark"], *selectors)]
    gr.on(
        triggers,
        on_tick,
        [parts["unit"], parts["dark"], parts["now"], *selectors],
        [parts[name] for name in (*STATES, "now")],
        **LATEST_EVENT,
    )
    connect_tasks(services, statuses, parts, selectors)
    connect_lists(services, tab, parts, selectors)
    connect_result(services, statuses, parts, selectors)
    return parts


def connect_tasks(
    services: Services, statuses: StatusCache, parts: Parts, selectors: list[Any]
) -> None:
    """Connect both buttons, and start an evaluation that costs nothing without a click."""

    @show_errors()
    def on_start(*values: Any) -> None:
        start_evaluations(services, Selection.from_page(*values))

    @show_errors()
    def on_cancel(*values: Any) -> None:
        cancel_evaluations(statuses, Selection.from_page(*values))

    # Async, because `statuses` belongs to the event loop.
    async def on_select(*values: Any) -> None:
        selection = Selection.from_page(*values)
        if is_cheap(statuses, selection):
            with suppress(DemoError):  # the button remains, and names the error
                await asyncio.to_thread(start_evaluations, services, selection)

    parts["start"].click(on_start, selectors, None, **QUIET_EVENT)
    parts["cancel"].click(on_cancel, selectors, None, **QUIET_EVENT)
    gr.on([part.change for part in selectors], on_select, selectors, None, **QUIET_EVENT)


def connect_lists(services: Services, tab: gr.Tab, parts: Parts, selectors: list[Any]) -> None:
    """List the runs when the tab is opened, and those to compare with for each other selection."""
    run, other, experiments = (parts[name] for name in ("run", "other", "experiments"))
    # When the tab is opened: meanwhile runs may have been trained or deleted.
    gr.on(
        [tab.select, experiments.change],
        lambda *values: list_updates(services, *values),
        [experiments, *selectors],
        [run, other, experiments],
        **LATEST_EVENT,
    )
    replaced = gr.State(False)  # was the split chosen for the person?
    run.change(
        lambda *values: usable_split(services, *values),
        [run, parts["split"], replaced],
        [parts["split"], replaced],
        **LATEST_EVENT,
    )
    with_split = [run.change, parts["split"].change, parts["mode"].change]
    gr.on(
        with_split,
        lambda *values: comparison_choices(services, *values),
        [experiments, *selectors],
        other,
        **LATEST_EVENT,
    )


def control_panel(parts: Parts) -> list[Any]:
    """Build the controls; return those that select, in the order of Selection.from_page."""
    dropdown = {"interactive": True, "scale": 3, "min_width": 220}
    with gr.Row(equal_height=False):
        parts["run"] = gr.Dropdown([], label="Run", elem_id="evaluate-run", **dropdown)
        parts["other"] = gr.Dropdown(
            [NO_COMPARISON], value="", label="Compare with", elem_id="evaluate-other", **dropdown
        )
        parts["mode"] = gr.Dropdown(
            [(MODE_LABELS[mode], mode) for mode in MODES],
            value="plain",
            label="Mode",
            elem_id="evaluate-mode",
            **dropdown,
        )
    with gr.Row(equal_height=False, elem_id="evaluate-controls"):
        parts["split"] = gr.Radio(
            SPLITS,
            value="test",
            label="Split",
            show_label=False,
            container=False,
            interactive=True,
            elem_id="evaluate-split",
            scale=0,
            min_width=220,
        )
        parts["start"] = gr.Button("Evaluate", variant="primary", elem_id="evaluate", scale=0)
        parts["cancel"] = gr.Button("Cancel", interactive=False, elem_id="evaluate-cancel", scale=0)
        parts["experiments"] = experiments_box("evaluate-experiments")
        parts["message"] = gr.Markdown(NO_RUN, elem_id="evaluate-text")
    parts["progress"] = gr.HTML(padding=False, elem_id="evaluate-progress", visible=False)
    return [parts[name] for name in ("run", "split", "mode", "other")]


def usable_split(
    services: Services, run_id: str | None, split: str, replaced: bool
) -> tuple[Any, bool]:
    """Return `val` in place of the test split if the run's dataset has no test images.

    replaced: whether that was done for the run before; then a dataset with test images brings the
    test split back. Returns the update of the split, and the new `replaced`.
    """
    try:
        dataset = services.datasets.get(services.runs.get(run_id).config().dataset)
    except DemoError:  # its images are not here, but its predictions may be stored
        has_test = True  # so the split stays as the person chose it
    else:
        has_test = dataset.test > 0
    if not has_test and split == "test":
        return "val", True
    if has_test and split == "val" and replaced:
        return "test", False
    return gr.skip(), replaced


def list_updates(
    services: Services, experiments: bool, run_id: str | None, split: str, mode: str, other: str
) -> list[Any]:
    """Return the updates of both choices of a run and of the switch for experiments."""
    return [
        run_choices(services, run_id, experiments),
        comparison_choices(services, experiments, run_id, split, mode, other),
        gr.update(visible=services.has_experiments(trained=True)),
    ]


def comparison_choices(
    services: Services,
    experiments: bool,
    run_id: str | None,
    split: str,
    mode: str,
    other_id: str | None,
) -> dict[str, Any]:
    """Return an update: the runs that can be evaluated on the same images as the run.

    The selected one stays if it is one of them.
    """
    # Other runs could be started, but not compared image by image.
    labels = [
        (label, name)
        for label, name in services.run_choices(trained=True, experiments=experiments)
        if name != run_id
        and run_id is not None
        and services.evaluations.can_compare(run_id, name, split, mode)
    ]
    return keep_choice([NO_COMPARISON, *labels], other_id, "")


def start_evaluations(services: Services, selection: Selection) -> None:
    """Start evaluating the run, and the other one on the same images. Raises DemoError."""
    if selection.run is None:
        raise ConfigError("there is no run to evaluate yet: train a network first", "run")
    evaluations, caller, split = services.evaluations, services.caller(), selection.split
    evaluations.start(selection.run, split, caller, mode=selection.mode)
    # On the first run's dataset: answers are compared image by image.
    if selection.other:
        dataset = services.runs.get(selection.run).config().dataset
        evaluations.start(selection.other, split, caller, dataset=dataset, mode=selection.mode)


def is_cheap(statuses: StatusCache, selection: Selection) -> bool:
    """Return whether a new evaluation only scores answers that came with the run: no click needed.

    That takes seconds, and no images.
    """
    if selection.run is None or selection.other:
        return False
    status = statuses.evaluation(selection)
    return status.state == "none" and is_stored(status.folder)


def cancel_evaluations(statuses: StatusCache, selection: Selection) -> None:
    """Stop the selected runs' evaluations. Raises DemoError."""
    # Visitors share an evaluation of the same run: others may wait for it.
    statuses.services.caller().require_owner("cancel an evaluation")
    for status in statuses.evaluations(selection):
        if status.is_live:
            statuses.services.launcher.stop_task(Path(status.folder))
