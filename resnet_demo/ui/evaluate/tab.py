"""The Evaluate tab: a run, a split, a task with its progress, and all that came out."""

from pathlib import Path
from typing import Any

import gradio as gr

from resnet_demo.errors import ConfigError
from resnet_demo.evaluation.modes import MODES
from resnet_demo.ui.evaluate.evaluation_status import Asked, Standings
from resnet_demo.ui.evaluate.result import Parts, on_result, result_panel
from resnet_demo.ui.evaluate.text import MODE_WORDS
from resnet_demo.ui.evaluate.tick import NOTHING, STATES, both, tick
from resnet_demo.ui.services import LATEST_EVENT, QUIET_EVENT, Services, show_errors

SPLITS = [("test", "test"), ("validation", "val")]
NO_OTHER = ("no other run", "")
IS_DARK = "() => document.body.classList.contains('dark')"


def evaluate_tab(services: Services, tab: gr.Tab, mark: gr.Textbox) -> dict[str, Any]:
    """Build the tab; its components by name. mark: another one whenever something moved."""
    parts: Parts = {}
    with gr.Row(), gr.Column(elem_classes="panel"):  # a column right below a tab loses its class
        asked = control_panel(parts)
    parts["dark"], parts["seen"] = gr.Checkbox(False, visible="hidden"), gr.State(None)
    result_panel(parts)
    standings = Standings(services)

    async def on_tick(unit: str, dark: bool, before: Any, *values: Any) -> dict[Any, Any]:
        told = tick(standings, Asked.of(*values), unit == "percent", dark, before)
        return {parts["seen"]: gr.skip()} | {parts[name]: update for name, update in told.items()}

    @show_errors()
    def on_start(*values: Any) -> None:
        start(services, Asked.of(*values))

    @show_errors()
    def on_cancel(*values: Any) -> None:
        cancel(standings, Asked.of(*values))

    parts["start"].click(on_start, asked, None, **QUIET_EVENT)
    parts["cancel"].click(on_cancel, asked, None, **QUIET_EVENT)
    triggers = [part.change for part in (mark, parts["unit"], parts["dark"], *asked)]
    gr.on(
        triggers,
        on_tick,
        [parts["unit"], parts["dark"], parts["seen"], *asked],
        [parts[name] for name in (*STATES, "seen")],
        **LATEST_EVENT,
    )
    run, other = parts["run"], parts["other"]
    tab.select(lambda chosen: choices(services, chosen), run, run, **QUIET_EVENT)
    gr.on(
        [tab.select, run.change],
        lambda chosen, beside: others(services, chosen, beside),
        [run, other],
        other,
        **QUIET_EVENT,
    )
    on_result(services, standings, parts, asked)
    return parts


def control_panel(parts: Parts) -> list[Any]:
    """What is evaluated, and how far that is; the components that say what, as in Asked."""
    with gr.Row(equal_height=False):
        parts["run"] = gr.Dropdown(
            [], label="Run", interactive=True, elem_id="evaluate-run", scale=3, min_width=220
        )
        parts["other"] = gr.Dropdown(
            [NO_OTHER], value="", label="Compare with", interactive=True, elem_id="evaluate-other",
            scale=3, min_width=220,
        )  # fmt: skip
        parts["mode"] = gr.Dropdown(
            [(MODE_WORDS[mode], mode) for mode in MODES], value="plain", label="Mode",
            interactive=True, elem_id="evaluate-mode", scale=3, min_width=220,
        )  # fmt: skip
    with gr.Row(equal_height=False, elem_id="evaluate-controls"):
        parts["split"] = gr.Radio(
            SPLITS, value="test", label="Split", show_label=False, container=False,
            interactive=True, elem_id="evaluate-split", scale=0, min_width=220,
        )  # fmt: skip
        parts["start"] = gr.Button("Evaluate", variant="primary", elem_id="evaluate", scale=0)
        parts["cancel"] = gr.Button("Cancel", interactive=False, elem_id="evaluate-cancel", scale=0)
        parts["words"] = gr.Markdown(NOTHING, elem_id="evaluate-words")
    parts["progress"] = gr.HTML(padding=False, elem_id="evaluate-progress", visible=False)
    return [parts[name] for name in ("run", "split", "mode", "other")]


def choices(services: Services, chosen: str | None) -> dict[str, Any]:
    """The runs that have weights by now; the choice stays if it is still one of them."""
    labels = services.run_choices(trained=True)
    return kept(labels, chosen, services.default_trained_run())


def others(services: Services, run_id: str | None, chosen: str | None) -> dict[str, Any]:
    """The runs that this one can be compared with; the choice stays if it is one of them."""
    labels = [label for label in services.run_choices(trained=True) if label[1] != run_id]
    return kept([NO_OTHER, *labels], chosen, "")


def kept(labels: list[tuple[str, str]], chosen: str | None, else_: str | None) -> dict[str, Any]:
    """Other choices. A choice that stays is not sent: meanwhile a person may make another."""
    if chosen in [value for _, value in labels]:
        return gr.update(choices=labels)
    return gr.update(choices=labels, value=else_)


def start(services: Services, asked: Asked) -> None:
    """Evaluate the run, and the other one on the same images. Raises DemoError."""
    if asked.run is None:
        raise ConfigError("there is no run to evaluate yet: train a network first", "run")
    evaluating, caller = services.evaluating, services.caller()
    evaluating.start(asked.run, asked.split, caller, mode=asked.mode)
    if asked.other:
        dataset = services.runs.get(asked.run).config().dataset
        evaluating.start(asked.other, asked.split, caller, dataset=dataset, mode=asked.mode)


def cancel(standings: Standings, asked: Asked) -> None:
    """End what is under way. Raises DemoError."""
    standings.services.caller().must_own("cancel an evaluation")
    for standing in both(standings, asked):
        if standing.is_live:
            standings.services.launcher.stop_task(Path(standing.folder))
