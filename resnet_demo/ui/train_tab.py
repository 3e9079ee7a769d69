"""The Train tab: the form on one side, the run that is watched on the other."""

import asyncio
import time
from typing import Any

import gradio as gr

from resnet_demo.config import make_config
from resnet_demo.errors import DemoError
from resnet_demo.tasks.look import Look
from resnet_demo.ui import live, plots
from resnet_demo.ui.curves import moment
from resnet_demo.ui.deletion import deletion
from resnet_demo.ui.expected import Asked, expected_line, follow
from resnet_demo.ui.form import MAIN, Form, dataset_choice, dataset_labels, recipe_choice
from resnet_demo.ui.preview import preview_panel
from resnet_demo.ui.services import QUIET, TICK, Services, plainly
from resnet_demo.ui.slices_panel import seconds_field, slices_panel

TICK_S = 1.0
DOUBLE_CLICK_S = 1.0  # a second press on Train so soon, for the same, is no second wish
LOSS_TITLE = {False: "Loss (nats)", True: "log10 of loss (nats)"}
NO_RUN = "Nothing trained yet. Choose a recipe and press **Train**: the curves grow here."
SYNTHETIC = "**shapes10 is synthetic**: ten shapes that this program draws, to train on at once."
ADDRESS = """(run) => {
  const url = new URL(window.location);
  if (run) { url.searchParams.set('run', run); window.history.replaceState(null, '', url); }
}"""

Pressed = tuple[dict[str, Any], str, float]  # knobs, run id, when: seconds of the steady clock

SHOW_RUN = """() => {
  if (window.innerWidth < 700) document.getElementById('run').scrollIntoView({behavior: 'smooth'});
}"""  # on a phone the curves are below the form


def train_tab(services: Services) -> dict[str, Any]:
    """Build the tab; the components that the page fills when it is loaded."""
    form = Form()
    with gr.Row(elem_classes="train"):
        with gr.Column(scale=5, min_width=330):
            with gr.Group():
                form.parts["recipe"] = recipe_choice()
                form.parts["dataset"] = dataset_choice(services.datasets.list())
                form.place(MAIN)
            note = gr.Markdown(elem_id="dataset-note", visible=False)
            expected = expected_line()
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
            watched = watch_panel(services)
    form.fill_from_recipe()

    pressed = gr.State(None)  # what this page started last, and when

    @plainly()
    def on_start(before: Pressed | None, *values: Any) -> tuple[dict[str, Any], Pressed]:
        now = started(services, form.asked(values), before)
        return gr.update(choices=services.run_labels(), value=now[1], visible=True), now

    async def on_change(before: Asked | None, *values: Any) -> tuple[Any, ...]:
        *knobs, slice_s = values if in_slices else (*values, None)
        return follow(services, form.asked(knobs), before, slice_s)

    if in_slices:
        pressed_train = slices_panel(services, form, seconds, told, start, watched)
    else:
        pressed_train = start.click(
            on_start, [pressed, *form.components()], [watched["run"], pressed], **QUIET
        )
    pressed_train.success(None, None, None, js=SHOW_RUN, **QUIET)
    dataset = form.parts["dataset"]
    dataset.change(dataset_note, dataset, note, **QUIET)
    shown = [*form.components(), *([seconds] if in_slices else [])]
    changes = [knob.change for knob in shown]
    gr.on(
        [*changes, expected["timer"].tick, watched["words"].change],
        on_change,
        [expected["asked"], *shown],
        list(expected.values()),
        **{**TICK, "trigger_mode": "always_last"},  # never two at once, and none is lost
    )
    filled = {"form": form.parts, "dataset": dataset, "note": note}
    return {**filled, **expected, **watched}


def watch_panel(services: Services) -> dict[str, Any]:
    """Everything about the run that is watched, brought up to date every second."""
    run = gr.Dropdown([], label="Run", elem_id="run", interactive=True, visible=False)
    figures = gr.HTML(elem_id="figures", padding=False, container=False)
    words = gr.Markdown(NO_RUN, elem_id="words")
    with gr.Row(elem_id="controls"):
        stop = gr.Button("Stop", interactive=False, elem_id="stop", size="sm", variant="stop")
        resume = gr.Button("Resume", interactive=False, elem_id="resume", size="sm")
        retry = gr.Button(visible=False, elem_id="retry", size="sm", variant="primary")
        delete = gr.Button("Delete…", interactive=False, elem_id="delete", size="sm")
        log_scale = gr.Checkbox(label="log loss", elem_id="log-loss", container=False, min_width=90)
        gr.HTML(plots.LEGEND, elem_id="legend", padding=False)
    deletion(services, run, delete)
    same = {"x": "epoch", "color": "split", "color_map": plots.COLOURS, "height": 260}
    same |= {"colors_in_legend": [], "color_title": " "}  # the legend above is for both
    with gr.Row():
        loss = gr.LinePlot(y="loss", y_title=" ", elem_id="loss", title=LOSS_TITLE[False], **same)
        accuracy = gr.LinePlot(
            y="top-1", y_title=" ", elem_id="accuracy", title="Top-1 (%)", **same
        )
    table = gr.Dataframe(
        headers=live.EPOCH_COLUMNS, elem_id="epoch-table", label="Epochs", interactive=False,
        show_label=True, max_height=240,
    )  # fmt: skip
    with gr.Accordion("Log", open=False):
        log = gr.Textbox(lines=12, max_lines=12, show_label=False, elem_id="log", interactive=False)
    seen = gr.State(None)
    outputs = [run, figures, words, stop, resume, retry, delete, loss, accuracy, table, log, seen]

    async def on_tick(run_id: str | None, log_loss: bool, before: Any) -> Any:
        return tick(services, run_id, log_loss, before)

    timer = gr.Timer(TICK_S)
    gr.on([timer.tick, run.change], on_tick, [run, log_scale, seen], outputs, **TICK)
    # A new title first, then new data: gr.LinePlot draws the old data when both come at once.
    log_scale.change(lambda log: gr.update(title=LOSS_TITLE[log]), log_scale, loss, **QUIET).then(
        on_tick, [run, log_scale, seen], outputs, **TICK
    )
    run.change(None, run, None, js=ADDRESS, **QUIET)

    async def on_stop(run_id: str) -> None:
        await stopped(services, run_id)

    async def on_retry(run_id: str) -> dict[str, Any]:
        return await retried(services, run_id)

    if services.slices is None:
        stop.click(on_stop, run, None, **QUIET)
        resume.click(plainly()(lambda run_id: resumed(services, run_id)), run, None, **QUIET)
        retry.click(on_retry, run, run, **QUIET)
    pressable = {"stop": stop, "resume": resume, "retry": retry}  # on ZeroGPU wired elsewhere
    return {"run": run, "seen": seen, "words": words, **pressable}


def started(services: Services, asked: dict[str, Any], before: Pressed | None) -> Pressed:
    """Queue a run of those knobs, unless a double click asks for the one that was just queued."""
    now = time.monotonic()
    if before and before[0] == asked and now - before[2] < DOUBLE_CLICK_S:
        return asked, before[1], now
    run_id = services.launcher.start(make_config(asked), services.caller())
    return asked, run_id, time.monotonic()


async def stopped(services: Services, run_id: str) -> None:
    """Stop the run, or kill it where it does not listen, and say what happens now."""
    with plainly():
        look, launcher = services.watcher.glance(services.runs.get(run_id)), services.launcher
        end = launcher.kill if look.ignores_stop else launcher.stop
        gr.Info(await asyncio.to_thread(end, run_id, services.caller()))


async def retried(services: Services, run_id: str) -> dict[str, Any]:
    """Train again with the knobs that the failure proposes; the choice of runs, at the new one."""
    with plainly():
        run = services.runs.get(run_id)
        knobs = {**run.config().to_dict(), **retry_of(services.watcher.glance(run))}
        config, launcher = make_config(knobs), services.launcher
        started = await asyncio.to_thread(launcher.start, config, services.caller())
        return gr.update(choices=services.run_labels(), value=started)


def retry_of(look: Look) -> dict[str, Any]:
    """The knobs with which a run that failed might do; empty where nobody knows."""
    return getattr(look.view.ended, "retry", {}) if look.status.state == "failed" else {}


def resumed(services: Services, run_id: str) -> None:
    """Queue the run again."""
    services.launcher.resume(run_id, services.caller())


def tick(services: Services, run_id: str | None, log_loss: bool, before: Any) -> Any:
    """What changed since the page was last told; mostly nothing, and then nothing is sent."""
    labels = services.run_labels()
    before = before or {}
    skip = gr.skip()
    choices = (
        skip if labels == before.get("labels") else gr.update(choices=labels, visible=bool(labels))
    )
    if run_id is None:
        return (choices, *[skip] * 10, {"labels": labels})
    if run_id not in [name for _, name in labels]:  # deleted meanwhile, from a terminal say
        other = gr.update(choices=labels, value=services.latest(), visible=bool(labels))
        return (other, *nothing(), {"labels": labels})
    try:
        look = services.watcher.glance(services.runs.get(run_id))
    except DemoError as error:  # a damaged run is said, not hidden
        words = gr.update(value=f"**{error}.**")
        off, on = gr.update(interactive=False), gr.update(interactive=True)
        known = before.get("state") == "damaged"
        alive = [skip] * 4 if known else [off, off, gr.update(visible=False), on]
        now = {"labels": labels, "state": "damaged"}
        return (choices, skip, words, *alive, *[skip] * 4, now)
    goes_on = services.slices is not None and services.slices.goes_on(run_id)
    now = {
        "labels": labels,
        "figures": live.tiles(look),
        "words": live.sentence(look),
        "state": [look.status.state, look.ignores_stop, goes_on],
        "curves": [run_id, *moment(look.view), log_loss],
        "log": [run_id, look.view.offset],
    }
    fresh = {part: now[part] != before.get(part) for part in now}
    return (
        choices,
        now["figures"] if fresh["figures"] else skip,
        now["words"] if fresh["words"] else skip,
        *(buttons(look, goes_on) if fresh["state"] else (skip,) * 4),
        *(services.curves(look, log_loss) if fresh["curves"] else (skip,) * 3),
        live.log_tail(look) if fresh["log"] else skip,
        now if any(fresh.values()) else skip,
    )


def nothing() -> tuple[Any, ...]:
    """What stands below the choice of a run where there is none."""
    off = gr.update(interactive=False)
    return "", NO_RUN, off, off, gr.update(visible=False), off, None, None, [], ""


def buttons(look: Look, goes_on: bool = False) -> tuple[Any, Any, Any, Any]:
    """Stop, Resume, Retry and Delete, each alive where it can do something.

    goes_on: it is stopped only until its next slice of GPU time.
    """
    state, own, deaf = look.status.state, not look.run.shipped, look.ignores_stop
    retry = ", ".join(f"{name} {value}" for name, value in retry_of(look).items())
    return (
        gr.update(
            value="Kill" if deaf else "Stop",
            interactive=own and (deaf or goes_on or state in ("queued", "preparing", "running")),
        ),
        gr.update(interactive=own and state in ("stopped", "failed") and not goes_on),
        gr.update(value=f"Train with {retry}", visible=bool(own and retry)),
        gr.update(interactive=own and not (look.status.is_live or goes_on)),
    )


def dataset_note(name: str | None) -> dict[str, Any]:
    """What to know about the chosen dataset before it is trained on."""
    return gr.update(value=SYNTHETIC, visible=name == "shapes10")


def on_load(services: Services, tab: dict[str, Any], request: gr.Request) -> list[Any]:
    """A fresh page: the datasets and runs that are here now, and the run it should watch."""
    infos = services.datasets.list()
    labels = services.run_labels()
    named = request.query_params.get("run")
    known = [run_id for _, run_id in labels]
    shown = named if named in known else services.latest()
    values = make_config({"dataset": infos[0].name}).to_dict()
    return [
        gr.update(choices=dataset_labels(infos), value=infos[0].name),
        dataset_note(infos[0].name),
        *follow(services, values, None),
        gr.update(choices=labels, value=shown, visible=bool(labels)),
        None,
    ]
