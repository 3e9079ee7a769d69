"""The Evaluate tab: a run, a split, a task with its progress, and all that came out."""

from dataclasses import astuple
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_demo.errors import ConfigError, DemoError
from resnet_demo.runs.modes import MODES
from resnet_demo.runs.results import read_result
from resnet_demo.ui.evaluate_result import Parts, on_result, result_panel
from resnet_demo.ui.evaluate_standing import Asked, Standing, Standings
from resnet_demo.ui.evaluate_words import MODE_WORDS, headline
from resnet_demo.ui.live import bar
from resnet_demo.ui.matrix import matrix_html
from resnet_demo.ui.services import QUIET, TICK, Services, plainly
from resnet_demo.ui.text import literal

SPLITS = [("test", "test"), ("validation", "val")]
NO_OTHER = ("no other run", "")
DONE = "Evaluated. The result is kept: looking again is instant."
NOTHING = "Nothing to evaluate yet: train a network first, its best epoch is then measured here."
READY = "Press **Evaluate**: the best epoch's weights answer every picture of the split."
COMPARING = "<p>Comparing …</p>"
IS_DARK = "() => document.body.classList.contains('dark')"


def evaluate_tab(services: Services, tab: gr.Tab) -> dict[str, Any]:
    """Build the tab; the components that the page fills when it is loaded."""
    parts: Parts = {}
    with gr.Row(), gr.Column(elem_classes="panel"):  # a column right below a tab loses its class
        asked = control_panel(parts)
    parts["dark"], parts["seen"] = gr.Checkbox(False, visible="hidden"), gr.State(None)
    result_panel(parts)
    standings = Standings(services)

    async def on_tick(unit: str, dark: bool, before: Any, *values: Any) -> dict[Any, Any]:
        told = tick(standings, Asked.of(*values), unit == "percent", dark, before)
        return {parts["seen"]: gr.skip()} | {parts[name]: update for name, update in told.items()}

    @plainly()
    def on_start(*values: Any) -> None:
        start(services, Asked.of(*values))

    @plainly()
    def on_cancel(*values: Any) -> None:
        cancel(standings, Asked.of(*values))

    parts["start"].click(on_start, asked, None, **QUIET)
    parts["cancel"].click(on_cancel, asked, None, **QUIET)
    triggers = [gr.Timer(1.0).tick, parts["unit"].change, *(part.change for part in asked)]
    gr.on(
        triggers,
        on_tick,
        [parts["unit"], parts["dark"], parts["seen"], *asked],
        [parts[name] for name in TOLD],
        **TICK,
    )
    run, other = parts["run"], parts["other"]
    tab.select(lambda chosen: choices(services, chosen), run, run, **QUIET)
    gr.on(
        [tab.select, run.change],
        lambda chosen, beside: others(services, chosen, beside),
        [run, other],
        other,
        **QUIET,
    )
    on_result(services, standings, parts, asked)
    return {"run": run, "dark": parts["dark"]}


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
    labels = services.run_labels(trained=True)
    return kept(labels, chosen, services.first_choice())


def others(services: Services, run_id: str | None, chosen: str | None) -> dict[str, Any]:
    """The runs that this one can be compared with; the choice stays if it is one of them."""
    labels = [label for label in services.run_labels(trained=True) if label[1] != run_id]
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


def both(standings: Standings, asked: Asked) -> list[Standing]:
    """Where the run's evaluation stands, and the other's if there is one to compare with."""
    if asked.run is None:
        return []
    first = standings.evaluation(asked)
    return [first, standings.evaluation(asked, other=True)] if asked.other else [first]


TOLD = (
    *("progress", "words", "start", "cancel", "seen"),
    *("results", "headline", "matrix", "drawn", "pair_box", "pair", "compared"),
    *("bent_words", "bent_progress", "bent_start", "bent_cancel", "bent"),
)


def tick(
    standings: Standings, asked: Asked, percent: bool, dark: bool, before: dict | None
) -> dict[str, Any]:
    """Name of a component -> update, of what changed since the page was last told; mostly none.

    Draws nothing and loads no torch: what takes longer follows the states that are told here.
    """
    standing = both(standings, asked)
    done = [one.done for one in standing]
    main, other = (*done, None, None)[:2]
    pair = {"of": main, "other": other if main else None, "runs": [asked.run, asked.other]}
    pair["stored"] = bool(main) and main.endswith("-stored")
    bent = standings.robustness(asked) if main else Standing("none")
    now = {
        "control": [list(astuple(one)) for one in standing] or None,
        "result": [main, percent],
        "drawn": [main, dark],
        "pair": pair,
        "bent": list(astuple(bent)),
        "curve": [bent.done, dark],
    }
    fresh = {name for name in now if before is None or before.get(name) != now[name]}
    told: dict[str, Any] = {"seen": now} if fresh else {}
    if "control" in fresh:
        told |= control(asked, standing)
    if "result" in fresh:
        told |= result_of(main, percent)
    if "drawn" in fresh:
        told["drawn"] = now["drawn"]
    if "pair" in fresh:
        is_pair = bool(pair["other"])
        told |= {"pair": pair, "pair_box": gr.update(visible=is_pair)}
        told["compared"] = COMPARING if is_pair else ""
    if "bent" in fresh:
        told |= robustness(bent)
    if "curve" in fresh:
        told["bent"] = now["curve"]
    return told


def control(asked: Asked, standing: list[Standing]) -> dict[str, Any]:
    """Progress, words and buttons."""
    live = [one for one in standing if one.is_live]
    share = sum(one.share for one in standing) / max(len(standing), 1)
    is_done = bool(standing) and all(one.done for one in standing)
    stopping = all(one.state == "stopping" for one in live)
    return {
        "progress": gr.update(value=bar(share) if live else "", visible=bool(live)),
        "words": sentence(asked, standing),
        "start": gr.update(interactive=not live and not is_done),
        "cancel": gr.update(interactive=bool(live) and not stopping),
    }


def sentence(asked: Asked, standing: list[Standing]) -> str:
    """Where it stands, in words (Markdown); a run is named where there are two."""
    if not standing:
        return NOTHING
    if standing[0].state == "none":
        return READY
    if all(one.done for one in standing):
        return DONE
    names = (asked.run, asked.other)
    told = []
    for name, one in zip(names, standing, strict=False):
        words = one.words
        if one.state == "none":
            words = "not evaluated in this way yet, press **Evaluate**"
        if words:
            told.append(f"{name}: {words}" if len(standing) > 1 else words)
    return "  \n".join(told)


def result_of(folder: str | None, percent: bool) -> dict[str, Any]:
    """Numbers and matrix of a finished evaluation; hidden where there is none."""
    hidden = {"results": gr.update(visible=False)}
    if folder is None:
        return hidden
    try:
        result = read_result(Path(folder))
    except DemoError as error:
        again = {"words": f"⚠ {literal(str(error))}", "start": gr.update(interactive=True)}
        return hidden | again
    labels = [row["label"] for row in result["per_class"]]
    of = f"{result['run']} {Path(folder).name}"
    return {
        "results": gr.update(visible=True),
        "headline": headline(result),
        "matrix": matrix_html(result["confusion"], labels, percent, of),
    }


def robustness(bent: Standing) -> dict[str, Any]:
    """How far the measurement of the robustness is."""
    live = bent.is_live
    return {
        "bent_progress": gr.update(value=bar(bent.share) if live else "", visible=live),
        "bent_words": bent.words,
        "bent_start": gr.update(interactive=not live and not bent.done, visible=not bent.done),
        "bent_cancel": gr.update(interactive=live and bent.state != "stopping", visible=live),
    }
