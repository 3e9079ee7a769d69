"""The Train tab: the form on one side, the watched run on the other."""

import asyncio
import time
from typing import Any

import gradio as gr

from resnet_demo.config import chosen_values, make_config
from resnet_demo.data.recipe_fit import fit_recipe
from resnet_demo.ui import plots
from resnet_demo.ui.components import RunDropdown, experiments_box
from resnet_demo.ui.export import connect_export, export_panel
from resnet_demo.ui.form import Form, dataset_choices
from resnet_demo.ui.services import LATEST_EVENT, QUIET_EVENT, Services, show_errors
from resnet_demo.ui.train.duration_estimate import EstimateState, estimate_line, update_estimate
from resnet_demo.ui.train.form_notes import (
    connect_dataset,
    dataset_note,
    follow_weights,
    note_updates,
    weights_row,
)
from resnet_demo.ui.train.preview import preview_panel
from resnet_demo.ui.train.run_details import (
    connect_details,
    deletion,
    details_panel,
    next_steps,
)
from resnet_demo.ui.train.run_panel import NO_RUN, retry_settings, run_parts
from resnet_demo.ui.train.zerogpu_panel import seconds_field, slices_panel, visitor_name

DOUBLE_CLICK_S = 1.0  # within it, a second press on Train for the same run is ignored
# Scripts in the browser.
PUT_RUN_INTO_URL = """(run) => {
  const url = new URL(window.location);
  if (run) { url.searchParams.set('run', run); window.history.replaceState(null, '', url); }
}"""
SCROLL_TO_RUN = """() => {
  if (window.innerWidth < 700) document.getElementById('run').scrollIntoView({behavior: 'smooth'});
}"""  # on a phone the curves are below the form
# The components that loading the page updates, in the order of `on_load`.
LOADED = ("dataset", "box", "note", "use", "facts", "timer", "estimate_state", "run")
# Not in a page that is just opened: large, or of no component of this tab.
LATER_PARTS = ("curves", "table", "log", "progress", "poll_timer")

LastStart = tuple[dict[str, Any], str, float]  # settings, run id, seconds of the monotonic clock


def train_tab(services: Services, version: gr.Textbox) -> dict[str, Any]:
    """Build the tab; return the components that polling and loading the page update.

    version: changes with the state of a download.
    """
    in_slices = services.slices is not None
    with gr.Row(elem_classes="train"):
        with gr.Column(scale=5, min_width=330):
            # Five controls are in sight; all others are under Advanced.
            with gr.Group(elem_classes="main-form"):
                form = Form(services.datasets.list())
            note = dataset_note()
            estimated = estimate_line()
            weights = weights_row()
            seconds = seconds_field() if in_slices else None
            start = gr.Button("Train", variant="primary", size="lg", elem_id="train")
            slice_text = gr.Markdown(elem_id="slice-text") if in_slices else None
            with gr.Accordion("Advanced", open=False, elem_id="advanced") as advanced:
                form.place_folded()
            # After the last component of the form, because it follows the changes of each.
            preview_panel(services, form)
        with gr.Column(scale=8, min_width=330):
            panel = run_panel(services)
    if in_slices:
        started = slices_panel(services, form, seconds, slice_text, start, panel)
    else:
        started = connect_start(services, form, start, panel["run"])
    # `success`, not `then`: after an error a person stays at the form.
    started.success(None, None, None, js=SCROLL_TO_RUN, **QUIET_EVENT)
    dataset = form.parts["dataset"]
    connect_dataset(services, form, note)
    marks = connect_estimate(services, form, estimated, start, seconds, panel["status"])
    form.connect_marks(marks, advanced)
    connect_details(services, form, panel)
    form.offer_runs(services)
    follow_weights(services, weights, form.parts, version)
    saved = form.remember(services)
    return {
        "form": form,
        "saved": saved,
        "dataset": dataset,
        **note,
        **estimated,
        **panel,
    }


def connect_estimate(
    services: Services,
    form: Form,
    estimated: dict[str, Any],
    start: gr.Button,
    seconds: gr.Number | None,
    status: gr.Markdown,
) -> gr.State:
    """Update the expected duration, and dim Train while the form is wrong.

    seconds: of a slice, on ZeroGPU. status: of the shown run. Returns the fields to be marked.
    """
    marks = gr.State({"wrong": {}, "adapted": {}})

    async def on_change(before: EstimateState | None, *values: Any) -> tuple[Any, ...]:
        *settings, slice_s = values if seconds is not None else (*values, None)
        # In a thread: reading a long log that has changed takes time, and all pages share the loop.
        *line, state = await asyncio.to_thread(
            update_estimate, services, form.to_dict(settings), before, slice_s
        )
        if not isinstance(state, EstimateState) or (before and state.marks == before.marks):
            return *line, state, gr.skip(), gr.skip()
        return *line, state, gr.update(interactive=not state.wrong), state.marks

    inputs = [*form.components(), *([seconds] if seconds is not None else [])]
    changes = [component.change for component in inputs]
    # The status of the run too: when a run ends, its duration is known, or a measurement may start.
    gr.on(
        [*changes, estimated["timer"].tick, status.change],
        on_change,
        [estimated["estimate_state"], *inputs],
        [*estimated.values(), start, marks],
        **LATEST_EVENT,
    )
    return marks


def connect_start(
    services: Services, form: Form, start: gr.Button, run: gr.Dropdown
) -> gr.events.Dependency:
    """Connect the Train button; return its event."""
    last_start = gr.State(None)  # of this page: others may start the same settings at once

    @show_errors()
    def on_start(last: LastStart | None, *values: Any) -> tuple[dict[str, Any], LastStart]:
        settings = form.to_dict(values)
        if is_double_click(last, settings, time.monotonic()):
            run_id = last[1]
        else:
            config, _ = fit_recipe(chosen_values(settings), services.datasets)
            run_id = services.launcher.start(config, services.caller())
        # The start itself takes a moment, so the time of the click would let a slow second one in.
        started = (settings, run_id, time.monotonic())
        return gr.update(choices=services.run_choices(), value=run_id, visible=True), started

    return start.click(on_start, [last_start, *form.components()], [run, last_start], **QUIET_EVENT)


def run_panel(services: Services) -> dict[str, Any]:
    """Build the panel that shows a run. Polling updates it with `run_parts`."""
    run = RunDropdown([], label="Run", elem_id="run", interactive=True, visible=False)
    experiments = experiments_box("run-experiments")
    figures = gr.HTML(elem_id="figures", padding=False, container=False)
    status = gr.Markdown(NO_RUN, elem_id="run-status")
    controls = run_buttons()
    deletion(services, run, controls["delete"])
    steps = next_steps()
    export = export_panel("train", visible=False)
    curves = plots.line_chart("curves", plots.empty_curves())
    table = gr.Dataframe(
        headers=plots.EPOCH_COLUMNS,
        elem_id="epoch-table",
        label="Epochs",
        interactive=False,
        show_label=True,
        max_height=240,
    )
    with gr.Accordion("Log", open=False):
        log = gr.Textbox(lines=12, max_lines=12, show_label=False, elem_id="log", interactive=False)
    details = details_panel()
    visitor = gr.State("") if services.slices is None else visitor_name()
    connect_export(services, export, run, visitor)
    run.change(None, run, None, js=PUT_RUN_INTO_URL, **QUIET_EVENT)
    if services.slices is None:
        connect_controls(services, run, controls)
    return {
        "run": run,
        "experiments": experiments,
        "figures": figures,
        "status": status,
        **controls,
        "curves": curves,
        "table": table,
        "log": log,
        **steps,
        "export": export["box"],
        "visitor": visitor,
        **details,
    }


def run_buttons() -> dict[str, gr.Button]:
    """Build Stop, Resume, Retry and Delete; return them by name."""
    with gr.Row(elem_id="controls"):
        return {
            "stop": gr.Button("Stop", interactive=False, elem_id="stop", size="sm", variant="stop"),
            "resume": gr.Button("Resume", interactive=False, elem_id="resume", size="sm"),
            "retry": gr.Button(visible=False, elem_id="retry", size="sm", variant="primary"),
            "delete": gr.Button("Delete", interactive=False, elem_id="delete", size="sm"),
        }


def connect_controls(services: Services, run: gr.Dropdown, buttons: dict[str, gr.Button]) -> None:
    """Connect Stop, Resume and Retry."""

    # Async, because `services.snapshots` may be used on the event loop only.
    async def on_stop(run_id: str) -> None:
        await stop_run(services, run_id)

    async def on_retry(run_id: str) -> dict[str, Any]:
        return await retry_run(services, run_id)

    @show_errors()
    def on_resume(run_id: str) -> None:
        services.launcher.resume(run_id, services.caller())

    buttons["stop"].click(on_stop, run, None, **QUIET_EVENT)
    buttons["resume"].click(on_resume, run, None, **QUIET_EVENT)
    buttons["retry"].click(on_retry, run, run, **QUIET_EVENT)


def is_double_click(last: LastStart | None, settings: dict[str, Any], now: float) -> bool:
    """Return whether the same settings were started less than DOUBLE_CLICK_S ago."""
    return last is not None and last[0] == settings and now - last[2] < DOUBLE_CLICK_S


async def stop_run(services: Services, run_id: str) -> None:
    """Stop the run, or kill it if it ignores that, and show a message."""
    with show_errors():
        seen, launcher = services.snapshots.get_nowait(services.runs.get(run_id)), services.launcher
        end = launcher.kill if seen.ignores_stop else launcher.stop
        # In a thread: it reads and writes files, and all pages share the loop.
        gr.Info(await asyncio.to_thread(end, run_id, services.caller()))


async def retry_run(services: Services, run_id: str) -> dict[str, Any]:
    """Start a run with the settings that a failure proposes; return the update of the choice."""
    with show_errors():
        run = services.runs.get(run_id)
        settings = {**run.config().to_dict(), **retry_settings(services.snapshots.get_nowait(run))}
        config, launcher = make_config(settings), services.launcher
        started = await asyncio.to_thread(launcher.start, config, services.caller())
        return gr.update(choices=services.run_choices(), value=started)


def on_load(services: Services, requested: str | None) -> list[Any]:
    """Return the updates of a new page: datasets, note, duration, and the run to show.

    requested: the run in its address, if any.
    """
    infos = services.datasets.list()
    choices = services.run_choices(keep=requested)
    known = [run_id for _, run_id in choices]
    # The query string is foreign text: only an id of a listed run is used.
    run_id = requested if requested in known else services.default_run()
    settings = make_config({"dataset": infos[0].name}).to_dict()
    return [
        gr.update(choices=dataset_choices(infos), value=infos[0].name),
        *note_updates(services.datasets, infos[0].name, settings["recipe"]),
        *update_estimate(services, settings, None),
        gr.update(choices=choices, value=run_id, visible=bool(choices)),
    ]


def first_updates(
    services: Services, tab: dict[str, Any], requested: str | None
) -> tuple[dict[Any, Any], dict[str, Any]]:
    """Return component -> update of a page that opens, and part name -> version for polling.

    tab: what `train_tab` returns. requested: the run in the address of the page, if any.
    """
    # The same function as for the event of loading: what the page opens with is not changed by it.
    opened = dict(zip(LOADED, on_load(services, requested), strict=True))
    parts = run_parts(services, opened["run"]["value"])
    parts = {name: part for name, part in parts.items() if name not in LATER_PARTS}
    now = {name: make() for name, (_, make) in parts.items()}
    now |= {name: opened[name] for name in ("dataset", "box", "note", "use", "facts", "run")}
    versions = {name: version for name, (version, _) in parts.items()}
    return {tab[name]: update for name, update in now.items()}, versions
