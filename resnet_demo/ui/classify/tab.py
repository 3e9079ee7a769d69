"""The Classify tab: pictures go in; out come labels, where the run looked, and what it saw."""

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from resnet_demo.data.pictures import FITS
from resnet_demo.ui.classify.answer import FIT_WORDS
from resnet_demo.ui.classify.details import more, start_index, stop_index
from resnet_demo.ui.classify.examples import chosen, example_updates, examples_panel
from resnet_demo.ui.classify.picture import classify_picture, one_panel
from resnet_demo.ui.classify.several import Pictures, several, several_panel
from resnet_demo.ui.evaluate.tab import run_choices
from resnet_demo.ui.services import QUIET_EVENT, TICK_EVENT, Services, show_errors

ALONE = ("nothing", "")
WORKING = {
    **{"show_progress": "minimal", "api_visibility": "private", "trigger_mode": "always_last"},
    "concurrency_limit": None,  # `Services.in_turns` says whose turn it is
}
SHOW_ANSWER = """() => {
  const answer = document.getElementById('sure');
  if (window.innerWidth < 700 && answer.offsetParent) answer.scrollIntoView({behavior: 'smooth'});
}"""  # on a phone the answer is below the examples
Parts = dict[str, Any]  # components by name


class Picture(gr.Image):
    """A picture whose file is handed on unread: one function of ours decodes every upload."""

    is_template = True  # drawn in the browser as gr.Image is

    def preprocess(self, payload: Any) -> str | None:
        """The path of the uploaded file; None where there is none."""
        return payload.path if payload else None


def classify_tab(services: Services, tab: gr.Tab) -> Parts:
    """Build the tab; the components that the page fills when it is loaded."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=330, elem_classes="panel"):
            asked = asked_panel(services)
        with gr.Column(scale=8, min_width=330):
            with gr.Column() as one_side:
                answer = one_panel()
            with gr.Column(visible=False) as many_side:
                results = several_panel()
    run, other, seen = asked["run"], asked["other"], gr.State(None)
    tab.select(
        lambda *chosen: [run_choices(services, chosen[0]), others(services, chosen[1])],
        [run, other],
        [run, other],
        **QUIET_EVENT,
    )
    gr.on(
        [tab.select, run.change],
        lambda *values: example_updates(services, *values),
        [run, seen],
        [asked["classes"], *asked["examples"], seen],
        **QUIET_EVENT,
    )
    wire_one(services, asked, answer)
    wire_several(services, asked, results, {"one": one_side, "many": many_side})
    return {"run": run}


def asked_panel(services: Services) -> Parts:
    """Build what a person chooses: runs, pictures, how they are made square."""
    run = gr.Dropdown([], label="Run", interactive=True, elem_id="classify-run")
    classes = gr.Markdown(elem_id="classify-classes")
    with gr.Tabs():
        with gr.Tab("One picture", id="classify-one") as one_tab:
            picture = Picture(
                sources=["upload", "clipboard", "webcam"], label="Picture", elem_id="picture",
                height=280, format="png", buttons=[], interactive=True,
            )  # fmt: skip
            fit = gr.Radio(
                [(FIT_WORDS[fit].capitalize(), fit) for fit in FITS], value="crop", elem_id="fit",
                label="How it is made square", interactive=True,
            )  # fmt: skip
            other = gr.Dropdown(
                [ALONE], value="", label="Compare with another run", interactive=True,
                elem_id="classify-other",
            )  # fmt: skip
            examples = examples_panel(services, run, picture)
        with gr.Tab("Several pictures", id="classify-many") as many_tab:
            files = Pictures(
                label="Pictures", file_count="multiple", file_types=["image"], elem_id="pictures",
                height=220, interactive=True,
            )  # fmt: skip
            gr.Markdown(
                "They are made square as chosen under One picture.", elem_classes=["hint", "note"]
            )
    return {
        "run": run, "other": other, "classes": classes, "picture": picture, "fit": fit,
        "examples": examples, "files": files, "one_tab": one_tab, "many_tab": many_tab,
    }  # fmt: skip


def wire_one(services: Services, asked: Parts, parts: Parts) -> None:
    """Picture, runs and fit lead to the answer, and to what stands behind the open folds."""
    folds = parts.pop("folds")
    inputs = [asked[name] for name in ("picture", "run", "fit")]
    behind = [folds["open"], *inputs]

    async def on_picture(*values: Any) -> AsyncIterator[dict[Any, Any]]:
        async for updates in gathered(services.stream_in_turn(classify_picture(services, *values))):
            yield by_component(parts, updates)

    def told_more(*values: Any) -> dict[Any, Any]:
        return by_component(folds, more(services, *values))

    async def on_more(*values: Any) -> dict[Any, Any]:
        with show_errors():
            return await services.run_in_turn(told_more, *values)

    def on_tick(at: dict[str, bool], *values: Any) -> dict[Any, Any]:
        if not at["similar"]:
            return {folds["timer"]: gr.Timer(active=False)}  # unfolding it asks again
        return told_more({**at, "inside": False}, *values)  # that does not change by itself

    @show_errors()
    def on_start(*values: Any) -> dict[Any, Any]:
        start_index(services, values[2])
        return on_tick(*values)

    @show_errors()
    def on_cancel(run_id: str | None) -> None:
        stop_index(services, run_id)

    def on_way(event: gr.SelectData) -> str:
        return chosen(FITS, event.index)

    asks = [*inputs, asked["other"]]
    answered = gr.on([part.change for part in asks], on_picture, asks, [*parts.values()], **WORKING)
    answered.then(None, None, None, js=SHOW_ANSWER, **QUIET_EVENT)
    answered.then(on_more, behind, [*folds.values()], **WORKING)
    folds["open"].change(on_more, behind, [*folds.values()], **WORKING)
    folds["timer"].tick(on_tick, behind, [*folds.values()], **TICK_EVENT)
    folds["start"].click(on_start, behind, [*folds.values()], **QUIET_EVENT)
    folds["cancel"].click(on_cancel, asked["run"], None, **QUIET_EVENT)
    parts["ways"].select(show_errors()(on_way), None, asked["fit"], **QUIET_EVENT)


def wire_several(services: Services, asked: Parts, parts: Parts, sides: Parts) -> None:
    """Files lead to a gallery; while they are shown, another run or fit labels them again."""
    mode = gr.State("one")
    inputs = [mode, asked["files"], asked["run"], asked["fit"], parts["done"]]

    async def on_files(mode: str, *values: Any) -> AsyncIterator[dict[Any, Any]]:
        if mode == "many":
            async for updates in gathered(services.stream_in_turn(several(services, *values))):
                yield by_component(parts, updates)

    def side(name: str) -> list[Any]:
        return [name, *(gr.update(visible=name == other) for other in sides)]

    asked["one_tab"].select(lambda: side("one"), None, [mode, *sides.values()], **QUIET_EVENT)
    asked["many_tab"].select(lambda: side("many"), None, [mode, *sides.values()], **QUIET_EVENT)
    triggers = [mode.change, *(asked[name].change for name in ("files", "run", "fit"))]
    gr.on(triggers, on_files, inputs, [*parts.values()], **WORKING)


async def gathered(steps: AsyncIterator[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    """Each step with all that was told before it.

    Gradio's page patches a step into the one before, and may do so before it has shown that one:
    of steps that arrive together, only the last is sure to be seen.
    """
    told: dict[str, Any] = {}
    async for updates in steps:
        told = {**told, **updates}
        yield told


def by_component(parts: Parts, updates: dict[str, Any]) -> dict[Any, Any]:
    """Updates of named parts as Gradio takes them; it takes no empty ones."""
    named = {parts[name]: update for name, update in updates.items()}
    return named or {next(iter(parts.values())): gr.skip()}


def others(services: Services, chosen: str | None) -> Any:
    """The runs to compare with; the choice stays if it is still one of them."""
    labels = [ALONE, *services.run_choices(trained=True)]
    known = [run_id for _, run_id in labels]
    return gr.update(choices=labels, value=chosen if chosen in known else "")
