"""The Classify tab: choose a run and pictures, see labels, class maps and details."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from resnet_demo.data.pictures import FITS
from resnet_demo.ui.classify.answer import FIT_NAMES
from resnet_demo.ui.classify.details import details_updates, start_index, stop_index
from resnet_demo.ui.classify.examples import (
    LICENCES,
    example_updates,
    examples_panel,
    pick,
)
from resnet_demo.ui.classify.picture import classify_picture, picture_panel
from resnet_demo.ui.classify.several import Pictures, classify_files, several_panel
from resnet_demo.ui.components import (
    NO_COMPARISON,
    Parts,
    experiments_box,
    keep_choice,
    run_choices,
)
from resnet_demo.ui.export import connect_export, export_panel
from resnet_demo.ui.services import LATEST_EVENT, QUIET_EVENT, TICK_EVENT, Services, show_errors

WORK_EVENT = {
    "show_progress": "minimal",
    "api_visibility": "private",
    "trigger_mode": "always_last",  # of several quick changes, the last one counts
    "concurrency_limit": None,  # the fair queue of Services limits it
}
# Shows the answer to another picture where it is out of sight: on a phone it is below the examples.
# A picture that the browser cannot show, damaged or a TIFF, gets a sentence for the broken icon.
SCROLL_TO_ANSWER = """(picture) => {
  const image = document.querySelector('#picture img'), path = picture?.path;
  const mark = () => image.classList.toggle('no-preview', image.complete && !image.naturalWidth);
  if (image) { mark(); image.onerror = image.onload = mark; }
  const labels = document.getElementById('labels');
  const answer = labels.offsetParent ? labels : document.getElementById('classify-text');
  if (!path || path === window.answeredPicture) return;
  window.answeredPicture = path;
  const {top, bottom} = answer.getBoundingClientRect();
  if (top < 0 || bottom > window.innerHeight) answer.scrollIntoView({behavior: 'smooth'});
}"""


class Picture(gr.Image):
    """A picture that is passed on as a file, undecoded: `decode_picture` decodes every upload."""

    is_template = True  # use gr.Image's front end

    def preprocess(self, payload: Any) -> str | None:
        """Return the path of the uploaded file; None without one."""
        return payload.path if payload else None


def classify_tab(services: Services, tab: gr.Tab) -> Parts:
    """Build the tab; return the components that the page fills when it is loaded."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=330, elem_classes="panel"):
            inputs = input_panel(services)
            export = export_panel("classify")
        with gr.Column(scale=8, min_width=330):
            with gr.Column() as one_side:
                answer = picture_panel()
            with gr.Column(visible=False) as many_side:
                results = several_panel()
    # Updated when the tab is opened: meanwhile runs may have been trained or deleted.
    run, other, shown = inputs["run"], inputs["other"], gr.State(None)
    experiments = inputs["experiments"]
    gr.on(
        [tab.select, experiments.change],
        lambda *values: list_updates(services, *values),
        [experiments, run, other],
        [run, other, experiments],
        **LATEST_EVENT,
    )
    run.change(
        lambda *values: comparison_choices(services, *values),
        [experiments, run, other],
        other,
        **LATEST_EVENT,
    )
    gr.on(
        [tab.select, run.change],
        lambda *values: example_updates(services, *values),
        [run, shown],
        [inputs["classes"], *inputs["examples"], shown, inputs["fit"]],
        **LATEST_EVENT,
    )
    connect_picture(services, inputs, answer)
    connect_several(services, inputs, results, {"one": one_side, "many": many_side})
    # No name of a visitor: runs of ZeroGPU's visitors are exported on the Train tab, which has it.
    connect_export(services, export, run, gr.State(""))
    return {"run": run, "picture": inputs["picture"]}


def input_panel(services: Services) -> Parts:
    """Build the inputs: runs, pictures, and how they are cropped; return them by name."""
    parts: Parts = {
        "run": gr.Dropdown([], label="Run", interactive=True, elem_id="classify-run"),
        "experiments": experiments_box("classify-experiments"),
        "classes": gr.Markdown(elem_id="classify-classes"),
    }
    with gr.Tabs():
        with gr.Tab("One picture", id="classify-one") as parts["one_tab"]:
            parts["picture"] = Picture(
                sources=["upload", "clipboard", "webcam"],
                label="Picture",
                elem_id="picture",
                height=220,
                format="png",  # an example arrives as pixels, and stays exactly that picture
                buttons=[],
                interactive=True,
            )
            parts["examples"] = examples_panel(services, parts["run"], parts["picture"])
            parts["fit"] = gr.Radio(
                [(FIT_NAMES[fit].capitalize(), fit) for fit in FITS],
                value="crop",
                elem_id="fit",
                label="Crop",
                interactive=True,
            )
            parts["other"] = gr.Dropdown(
                [NO_COMPARISON],
                value=None,
                label="Compare with another run",
                interactive=True,
                elem_id="classify-other",
            )
            gr.Markdown(LICENCES, elem_classes=["hint", "small-print"])
        with gr.Tab("Several pictures", id="classify-many") as parts["many_tab"]:
            parts["files"] = Pictures(
                label="Pictures",
                file_count="multiple",
                file_types=["image"],
                elem_id="pictures",
                height=220,
                interactive=True,
            )
            gr.Markdown("Cropped as chosen under One picture.", elem_classes=["hint", "note"])
    return parts


def connect_picture(services: Services, inputs: Parts, parts: Parts) -> None:
    """Connect picture, runs and fit to the answer and to the details below it."""
    details = parts.pop("details")

    async def on_picture(*values: Any) -> AsyncIterator[dict[Any, Any]]:
        steps = services.stream_in_turn(classify_picture(services, *values))
        async for updates in cumulative(steps):
            yield by_component(parts, updates)

    @show_errors()
    def on_fit(event: gr.SelectData) -> str:
        return pick(FITS, event.index)

    answer_inputs = [inputs[name] for name in ("picture", "run", "fit", "other")]
    # `change`, because examples and the buttons of other tabs set pictures and runs, too.
    triggers = [part.change for part in answer_inputs]
    answered = gr.on(triggers, on_picture, answer_inputs, [*parts.values()], **WORK_EVENT)
    answered.then(None, inputs["picture"], None, js=SCROLL_TO_ANSWER, **QUIET_EVENT)
    parts["fits"].select(on_fit, None, inputs["fit"], **QUIET_EVENT)
    connect_details(services, inputs, details, answered)


def connect_details(services: Services, inputs: Parts, details: Parts, answered: Any) -> None:
    """Update the open accordions after each answer, and while the index is built."""

    async def on_details(*values: Any) -> AsyncIterator[dict[Any, Any]]:
        async for updates in services.stream_in_turn(details_updates(services, *values)):
            yield by_component(details, updates)

    async def on_tick(state: dict[str, bool], *values: Any) -> AsyncIterator[dict[Any, Any]]:
        if not state["neighbours"]:
            yield {details["timer"]: gr.Timer(active=False)}  # opening it starts the timer again
            return
        # The feature maps do not change while the index is built.
        async for updates in on_details({**state, "feature_maps": False}, *values):
            yield updates

    async def on_start(*values: Any) -> AsyncIterator[dict[Any, Any]]:
        with show_errors():
            await asyncio.to_thread(start_index, services, values[2])
        async for updates in on_tick(*values):
            yield updates

    @show_errors()
    def on_cancel(run_id: str | None) -> None:
        stop_index(services, run_id)

    values = [details["open"], *(inputs[name] for name in ("picture", "run", "fit"))]
    outputs = [*details.values()]
    # After the answer, which matters more: all of this runs in the visitor's turn.
    answered.then(on_details, values, outputs, **WORK_EVENT)
    details["open"].change(on_details, values, outputs, **WORK_EVENT)
    details["timer"].tick(on_tick, values, outputs, **TICK_EVENT)
    details["start"].click(on_start, values, outputs, **QUIET_EVENT)
    details["cancel"].click(on_cancel, inputs["run"], None, **QUIET_EVENT)


def connect_several(services: Services, inputs: Parts, parts: Parts, sides: Parts) -> None:
    """Connect files, run and fit to the results; sides: the panels of which one is visible."""
    # Gradio does not pass the open inner tab to an event, so the page keeps it here.
    mode = gr.State("one")
    event_inputs = [mode, inputs["files"], inputs["run"], inputs["fit"], parts["done"]]

    async def on_files(mode: str, *values: Any) -> AsyncIterator[dict[Any, Any]]:
        if mode == "many":
            steps = services.stream_in_turn(classify_files(services, *values))
            async for updates in cumulative(steps):
                yield by_component(parts, updates)

    def show_side(name: str) -> list[Any]:
        return [name, *(gr.update(visible=name == side) for side in sides)]

    outputs = [mode, *sides.values()]
    inputs["one_tab"].select(lambda: show_side("one"), None, outputs, **QUIET_EVENT)
    inputs["many_tab"].select(lambda: show_side("many"), None, outputs, **QUIET_EVENT)
    triggers = [mode.change, *(inputs[name].change for name in ("files", "run", "fit"))]
    gr.on(triggers, on_files, event_inputs, [*parts.values()], **WORK_EVENT)


async def cumulative(steps: AsyncIterator[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    """Yield each step's updates together with all earlier ones.

    Gradio's front end may skip a step that arrives together with the next one, so each step has
    to be complete.
    """
    total: dict[str, Any] = {}
    async for updates in steps:
        total = {**total, **updates}
        yield total


def by_component(parts: Parts, updates: dict[str, Any]) -> dict[Any, Any]:
    """Replace names by components. Gradio refuses an empty dict, so one part is skipped then."""
    named = {parts[name]: update for name, update in updates.items()}
    return named or {next(iter(parts.values())): gr.skip()}


def list_updates(
    services: Services, experiments: bool, run_id: str | None, other_id: str | None
) -> list[Any]:
    """Return the updates of both choices of a run and of the switch for experiments."""
    return [
        run_choices(services, run_id, experiments, pretrained=True),
        comparison_choices(services, experiments, run_id, other_id),
        gr.update(visible=services.has_experiments(trained=True)),
    ]


def comparison_choices(
    services: Services, experiments: bool, run_id: str | None, other_id: str | None
) -> dict[str, Any]:
    """Return an update: the other runs; the selected one stays if it is one of them.

    other_id: None until something was selected; then the pretrained network becomes the other one,
    which names a photograph of most things.
    """
    labels = services.run_choices(trained=True, experiments=experiments, pretrained=True)
    others = [(label, name) for label, name in labels if name != run_id]
    pretrained = [run.id for run in services.pretrained_runs() if run.id != run_id]
    default = next(iter(pretrained), "") if other_id is None else ""
    return keep_choice([NO_COMPARISON, *others], other_id, default)
