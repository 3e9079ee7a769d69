"""The Train tab: the form on one side, the run that is watched on the other."""

import asyncio
import time
from typing import Any

import gradio as gr

from resnet_demo.config import make_config
from resnet_demo.runs.text import escape_markdown
from resnet_demo.ui import plots
from resnet_demo.ui.components import RunDropdown
from resnet_demo.ui.form import MAIN, Form, dataset_choices, dataset_dropdown, recipe_radio
from resnet_demo.ui.services import LATEST_EVENT, QUIET_EVENT, Services, show_errors
from resnet_demo.ui.train.duration_estimate import EstimateState, estimate_line, update_estimate
from resnet_demo.ui.train.preview import preview_panel
from resnet_demo.ui.train.run_panel import NO_RUN, retry_settings
from resnet_demo.ui.train.zerogpu_panel import seconds_field, slices_panel

DOUBLE_CLICK_S = 1.0  # a second press on Train so soon, for the same, is no second wish
LOSS_TITLE = "Loss (nats)"
RETITLE = """(log) => ({__type__: 'update', title: log ? 'log10 of loss (nats)' : '%s'})"""
SYNTHETIC = "**shapes10 is synthetic**: ten shapes that this program draws, to train on at once."
ADDRESS = """(run) => {
  const url = new URL(window.location);
  if (run) { url.searchParams.set('run', run); window.history.replaceState(null, '', url); }
}"""

Pressed = tuple[dict[str, Any], str, float]  # knobs, run id, when: seconds of the steady clock

SHOW_RUN = """() => {
  if (window.innerWidth < 700) document.getElementById('run').scrollIntoView({behavior: 'smooth'});
}"""  # on a phone the curves are below the form

FOCUS = "() => document.getElementById('delete-yes').focus()"  # where a keyboard goes on


def train_tab(services: Services) -> dict[str, Any]:
    """Build the tab; the components that the page fills when it is loaded."""
    form = Form()
    with gr.Row(elem_classes="train"):
        with gr.Column(scale=5, min_width=330):
            with gr.Group():
                form.parts["recipe"] = recipe_radio()
                form.parts["dataset"] = dataset_dropdown(services.datasets.list())
                form.place(MAIN)
            note = gr.Markdown(elem_id="dataset-note", visible=False)
            expected = estimate_line()
            in_slices = services.slices is not None
            seconds = seconds_field() if in_slices else None
            start = gr.Button("Train", variant="primary", size="lg", elem_id="train")
            told = gr.Markdown(elem_id="slice-words") if in_slices else None
            with gr.Accordion("Hyperparameters", open=True, elem_id="knobs"):
                form.place(form.names(rare=False))
            with gr.Accordion("More knobs", open=False, elem_id="more-knobs"):
                form.place(form.names(rare=True))
            preview_panel(services, form)
        with gr.Column(scale=8, min_width=330):
            watched = run_panel(services)
    form.fill_from_recipe()

    pressed = gr.State(None)  # what this page started last, and when

    @show_errors()
    def on_start(before: Pressed | None, *values: Any) -> tuple[dict[str, Any], Pressed]:
        now = started(services, form.asked(values), before)
        return gr.update(choices=services.run_choices(), value=now[1], visible=True), now

    async def on_change(before: EstimateState | None, *values: Any) -> tuple[Any, ...]:
        *knobs, slice_s = values if in_slices else (*values, None)
        # In a thread: a long log that has changed takes its time, and the loop serves all pages.
        return await asyncio.to_thread(
            update_estimate, services, form.asked(knobs), before, slice_s
        )

    if in_slices:
        pressed_train = slices_panel(services, form, seconds, told, start, watched)
    else:
        pressed_train = start.click(
            on_start, [pressed, *form.components()], [watched["run"], pressed], **QUIET_EVENT
        )
    pressed_train.success(None, None, None, js=SHOW_RUN, **QUIET_EVENT)
    dataset = form.parts["dataset"]
    dataset.change(dataset_note, dataset, note, **QUIET_EVENT)
    shown = [*form.components(), *([seconds] if in_slices else [])]
    changes = [knob.change for knob in shown]
    gr.on(
        [*changes, expected["timer"].tick, watched["words"].change],
        on_change,
        [expected["estimate_state"], *shown],
        list(expected.values()),
        **LATEST_EVENT,
    )
    filled = {"form": form.parts, "dataset": dataset, "note": note}
    return {**filled, **expected, **watched}


def run_panel(services: Services) -> dict[str, Any]:
    """Everything about the run that is watched; the pulse brings it up to date, see `watched`."""
    run = RunDropdown([], label="Run", elem_id="run", interactive=True, visible=False)
    figures = gr.HTML(elem_id="figures", padding=False, container=False)
    words = gr.Markdown(NO_RUN, elem_id="words")
    with gr.Row(elem_id="controls"):
        stop = gr.Button("Stop", interactive=False, elem_id="stop", size="sm", variant="stop")
        resume = gr.Button("Resume", interactive=False, elem_id="resume", size="sm")
        retry = gr.Button(visible=False, elem_id="retry", size="sm", variant="primary")
        delete = gr.Button("Delete…", interactive=False, elem_id="delete", size="sm")
        log_scale = gr.Checkbox(label="log loss", elem_id="log-loss", container=False, min_width=90)
        gr.HTML(plots.LEGEND, elem_id="legend", padding=False)
    deletion_question(services, run, delete)
    same = {"x": "epoch", "color": "split", "color_map": plots.COLOURS, "height": 260}
    same |= {"colors_in_legend": [], "color_title": " "}  # the legend above is for both
    with gr.Row():
        loss = gr.LinePlot(y="loss", y_title=" ", elem_id="loss", title=LOSS_TITLE, **same)
        accuracy = gr.LinePlot(
            y="top-1", y_title=" ", elem_id="accuracy", title="Top-1 (%)", **same
        )
    table = gr.Dataframe(
        headers=plots.EPOCH_COLUMNS, elem_id="epoch-table", label="Epochs", interactive=False,
        show_label=True, max_height=240,
    )  # fmt: skip
    with gr.Accordion("Log", open=False):
        log = gr.Textbox(lines=12, max_lines=12, show_label=False, elem_id="log", interactive=False)
    run.change(None, run, None, js=ADDRESS, **QUIET_EVENT)
    # The title first, then the pulse: gr.LinePlot draws the old data when both come at once.
    log_scale.change(None, log_scale, loss, js=RETITLE % LOSS_TITLE, **QUIET_EVENT)

    async def on_stop(run_id: str) -> None:
        await stopped(services, run_id)

    async def on_retry(run_id: str) -> dict[str, Any]:
        return await retried(services, run_id)

    if services.slices is None:
        stop.click(on_stop, run, None, **QUIET_EVENT)
        resume.click(
            show_errors()(lambda run_id: resumed(services, run_id)), run, None, **QUIET_EVENT
        )
        retry.click(on_retry, run, run, **QUIET_EVENT)
    return {
        **{"run": run, "figures": figures, "words": words, "stop": stop, "resume": resume},
        **{"retry": retry, "delete": delete, "loss": loss, "accuracy": accuracy, "table": table},
        **{"log": log, "log_scale": log_scale},
    }


def started(services: Services, asked: dict[str, Any], before: Pressed | None) -> Pressed:
    """Queue a run of those knobs, unless a double click asks for the one that was just queued."""
    now = time.monotonic()
    if before and before[0] == asked and now - before[2] < DOUBLE_CLICK_S:
        return asked, before[1], now
    run_id = services.launcher.start(make_config(asked), services.caller())
    return asked, run_id, time.monotonic()


async def stopped(services: Services, run_id: str) -> None:
    """Stop the run, or kill it where it does not listen, and say what happens now."""
    with show_errors():
        look, launcher = services.snapshots.get_nowait(services.runs.get(run_id)), services.launcher
        end = launcher.kill if look.ignores_stop else launcher.stop
        gr.Info(await asyncio.to_thread(end, run_id, services.caller()))


async def retried(services: Services, run_id: str) -> dict[str, Any]:
    """Train again with the knobs that the failure proposes; the choice of runs, at the new one."""
    with show_errors():
        run = services.runs.get(run_id)
        knobs = {**run.config().to_dict(), **retry_settings(services.snapshots.get_nowait(run))}
        config, launcher = make_config(knobs), services.launcher
        started = await asyncio.to_thread(launcher.start, config, services.caller())
        return gr.update(choices=services.run_choices(), value=started)


def resumed(services: Services, run_id: str) -> None:
    """Queue the run again."""
    services.launcher.resume(run_id, services.caller())


def dataset_note(name: str | None) -> dict[str, Any]:
    """What to know about the chosen dataset before it is trained on."""
    return gr.update(value=SYNTHETIC, visible=name == "shapes10")


def on_load(services: Services, tab: dict[str, Any], request: gr.Request) -> list[Any]:
    """A fresh page: the datasets and runs that are here now, and the run it should watch."""
    infos = services.datasets.list()
    labels = services.run_choices()
    named = request.query_params.get("run")
    known = [run_id for _, run_id in labels]
    shown = named if named in known else services.default_run()
    values = make_config({"dataset": infos[0].name}).to_dict()
    return [
        gr.update(choices=dataset_choices(infos), value=infos[0].name),
        dataset_note(infos[0].name),
        *update_estimate(services, values, None),
        gr.update(choices=labels, value=shown, visible=bool(labels)),
    ]


def deletion_question(services: Services, run: gr.Dropdown, delete: gr.Button) -> None:
    """What comes between a press on Delete and the trash: a question that names the run."""
    with gr.Row(visible=False, elem_id="deletion") as asking:
        question = gr.Markdown(elem_id="deletion-words")
        yes = gr.Button("Delete", elem_id="delete-yes", size="sm", variant="stop")
        no = gr.Button("Keep", elem_id="delete-no", size="sm")
    doomed = gr.State(None)

    def ask(run_id: str | None) -> tuple[Any, ...]:
        words = f"Move **{escape_markdown(str(run_id))}** and its checkpoints to the trash folder?"
        return gr.update(visible=run_id is not None), words, run_id

    def on_yes(run_id: str) -> tuple[Any, ...]:
        return gr.update(visible=False), delete_run(services, run_id)

    delete.click(ask, run, [asking, question, doomed], **QUIET_EVENT).then(
        None, None, None, js=FOCUS, **QUIET_EVENT
    )
    yes.click(show_errors()(on_yes), doomed, [asking, run], **QUIET_EVENT)
    for gone in (no.click, run.change):
        gone(lambda: gr.update(visible=False), None, asking, **QUIET_EVENT)


def delete_run(services: Services, run_id: str) -> dict[str, Any]:
    """Move the run to the trash folder; the choice of runs, at another one."""
    services.launcher.delete(run_id, services.caller())
    gr.Info(f"{run_id} lies in the trash folder beside the runs")
    labels = services.run_choices()
    return gr.update(choices=labels, value=services.default_run(), visible=bool(labels))
