"""Chapter 6: weaken or remove blocks of a trained network and measure its accuracy."""

from collections.abc import AsyncIterator, Generator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import gradio as gr

from resnet_demo.errors import DemoError
from resnet_demo.learn.recording import read_surgery_chart
from resnet_demo.models.description import model_description
from resnet_demo.runs.groups import list_groups
from resnet_demo.runs.text import escape_markdown
from resnet_demo.ui.components import run_choices
from resnet_demo.ui.learn.arm_plots import arm_plot, legend, line_table
from resnet_demo.ui.learn.block import part_label
from resnet_demo.ui.learn.chapter_form import chapter_text
from resnet_demo.ui.services import QUIET_EVENT, Services, show_errors

if TYPE_CHECKING:  # needs torch, which the app does not load at start
    from resnet_demo.learn.surgery import SurgeryEvaluator, SurgeryScore

COLOURS = {"strength tried": "#0072B2", "chance": "#808080", "removed": "#0072B2"}
CACHED = 2  # networks in memory, each with its images
LOADING_TEXT = "Loading the network, a few seconds…"
NO_RUN = "No trained network yet. Train `resnet20` and `plain20` on the Train tab."
WORKING = QUIET_EVENT | {"show_progress": "minimal", "trigger_mode": "always_last"}
WORKING |= {"concurrency_limit": None}  # the fair queue of Services limits it


def surgery_chapter(services: Services, tab: gr.Tab) -> None:
    """Build the chapter: text and controls on the left, results on the right, recordings below."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=330):
            chapter_text("6-surgery")
            run, strength, dropped = surgery_form()
        with gr.Column(scale=7, min_width=330):
            text, plot, each, bars = surgery_results()
    recorded = recorded_results()
    tab.select(lambda: show_recordings(services), None, recorded, **QUIET_EVENT)
    tried = gr.State({})  # of this page: strength -> accuracy
    evaluators = lru_cache(CACHED)(lambda run_id, weights: load_evaluator(services, run_id))

    def evaluator_of(run_id: str) -> "SurgeryEvaluator":
        # Each use scores a network once, in about a second.
        services.allowance.count_pictures(services.caller())
        # The checksum is part of the key, because a run that trains changes its weights.
        return evaluators(run_id, model_description(services.runs.get(run_id).path)["sha256"])

    async def on_run(run_id: str | None) -> list[Any]:
        with show_errors():
            return await services.run_in_turn(open_run, evaluator_of, run_id)

    async def on_change(*values: Any) -> list[Any]:
        with show_errors():
            return await services.run_in_turn(apply_edit, evaluator_of, *values)

    async def on_each(run_id: str | None) -> AsyncIterator[dict[str, Any]]:
        async for bars in services.stream_in_turn(drop_each(evaluator_of, run_id)):
            yield bars

    def on_select(chosen: str | None) -> dict[str, Any]:
        return run_choices(services, chosen, experiments=True)

    tab.select(on_select, run, run, **QUIET_EVENT)
    opened = [dropped, text, plot, bars, tried, strength]
    gr.on([tab.select, run.change], on_run, run, opened, **WORKING)
    # No `change`: `open_run` sets these values too, which must not start an evaluation.
    edits = [strength.release, strength.input, dropped.input]
    gr.on(edits, on_change, [run, strength, dropped, tried], [text, plot, tried], **WORKING)
    each.click(on_each, run, bars, **WORKING)


def surgery_form() -> list[Any]:
    """Build the choices of run, strength and removed blocks."""
    run = gr.Dropdown([], label="Run", interactive=True, elem_id="surgery-run")
    strength = gr.Slider(
        0,
        2,
        value=1,
        step=0.05,
        label="Strength of every residual branch",
        info="1 = as trained, 0 = shortcuts only",
        interactive=True,
        elem_id="surgery-strength",
    )
    dropped = gr.CheckboxGroup(
        [], label="Remove whole blocks", interactive=True, elem_id="surgery-dropped"
    )
    return [run, strength, dropped]


def surgery_results() -> list[Any]:
    """Build text, plot of accuracy by strength, and the button and bars for single blocks."""
    text = gr.Markdown(LOADING_TEXT, elem_id="surgery-text")
    plot = arm_plot(
        "surgery-plot",
        "Test accuracy (%) by strength",
        x="strength",
        color="series",
        color_map=COLOURS,
    )
    each = gr.Button("Remove each block in turn", elem_id="surgery-each", size="sm")
    bars = gr.BarPlot(
        x="block",
        y="top-1",
        color="series",
        color_map=COLOURS,
        colors_in_legend=[],
        color_title=" ",
        x_title=" ",
        y_title=" ",
        height=280,
        visible=False,
        sort=None,
        title="Test accuracy (%) without that block",
        elem_id="surgery-bars",
    )
    return [text, plot, each, bars]


def recorded_results() -> list[Any]:
    """Build the results of the recorded networks: box, text, legend and two plots."""
    with gr.Column(visible=False) as box:
        text = gr.Markdown(elem_id="surgery-recorded")
        legend_html = gr.HTML(elem_classes="learn-legend", padding=False)
        with gr.Row():
            title = "Test accuracy (%) by strength"
            strengths = arm_plot("surgery-recorded-strengths", title, x="strength")
            title = "Test accuracy (%) without one block"
            blocks = arm_plot("surgery-recorded-blocks", title, x="block")
    return [box, text, legend_html, strengths, blocks]


def show_recordings(services: Services) -> list[Any]:
    """Return the values of `recorded_results`, hidden without a recording."""
    charts = {
        arm: chart
        for group in list_groups(services.runs.list(), "duel")
        if group.shipped
        for arm, runs in group.arms.items()
        if (chart := read_surgery_chart(runs[0]))
    }
    if not charts:
        return [gr.update(visible=False), "", "", None, None]
    n = min(chart["n"] for chart in charts.values())
    text = f"### Recording\nThe networks of the recorded duel, on at least {n} test images each."
    strengths = [
        [strength, round(100 * top1, 2), arm]
        for arm, chart in charts.items()
        for strength, top1 in chart["strengths"]
    ]
    blocks = [
        [number, round(100 * top1, 2), arm]
        for arm, chart in charts.items()
        for number, (_, top1) in enumerate(chart["blocks"], start=1)
    ]
    return [
        gr.update(visible=True),
        text,
        legend(charts),
        line_table(strengths, ["strength", "top-1", "arm"]),
        line_table(blocks, ["block", "top-1", "arm"]),
    ]


def load_evaluator(services: Services, run_id: str) -> "SurgeryEvaluator":
    """Load the run's network and its test images. Raises DemoError."""
    from resnet_demo.learn.surgery import SurgeryEvaluator

    return SurgeryEvaluator.of(services.classifier(run_id), services.datasets)


def open_run(evaluator_of: Any, run_id: str | None) -> list[Any]:
    """Return the blocks and the unchanged accuracy of a run; a failure becomes a text."""
    hidden, no_blocks = gr.update(visible=False, value=None), gr.update(choices=[], value=[])
    if not run_id:
        return [no_blocks, NO_RUN, None, hidden, {}, gr.skip()]
    try:
        evaluator = evaluator_of(run_id)
        outcome = evaluator.score()
    except DemoError as error:
        text = f"⚠ {escape_markdown(str(error))}."
        return [no_blocks, text, None, hidden, {}, gr.skip()]
    blocks = [(block_label(name), name) for name in evaluator.blocks]
    tried = {1.0: 100 * outcome.top1}
    return [
        gr.update(choices=blocks, value=[]),
        outcome_text(evaluator, outcome, 1.0, []),
        accuracy_plot(evaluator, tried),
        hidden,
        tried,
        1.0,
    ]


def apply_edit(
    evaluator_of: Any, run_id: str | None, strength: float, dropped: list[str], before: dict
) -> list[Any]:
    """Return text, plot, and the strengths tried, after a change. Raises DemoError."""
    if not run_id:
        return [NO_RUN, None, {}]
    evaluator = evaluator_of(run_id)
    outcome = evaluator.score(strength, dropped)
    tried = dict(before)
    if not dropped:  # the plot is of the strength alone
        tried[float(strength)] = 100 * outcome.top1
    text = outcome_text(evaluator, outcome, strength, dropped)
    return [text, accuracy_plot(evaluator, tried), tried]


def drop_each(evaluator_of: Any, run_id: str | None) -> Generator[dict[str, Any], None, None]:
    """Yield the accuracy without each single block, as bars, one more each time.

    Raises DemoError.
    """
    if not run_id:
        yield gr.update(visible=False)
        return
    rows: list[list[Any]] = []
    for name in evaluator_of(run_id).blocks:
        outcome = evaluator_of(run_id).score(dropped=[name])
        rows.append([block_label(name), round(100 * outcome.top1, 2), "removed"])
        yield block_bars(rows)


def block_bars(rows: list[list[Any]]) -> dict[str, Any]:
    """Return an update of the bars. rows: label, top-1 in percent, series."""
    table = {
        "columns": ["block", "top-1", "series"],
        "data": [*rows],
        "datatypes": {"block": "nominal", "top-1": "quantitative", "series": "nominal"},
        "mark": "bar",
    }
    return gr.update(value=table, visible=True)


def outcome_text(
    evaluator: "SurgeryEvaluator", outcome: "SurgeryScore", strength: float, dropped: list[str]
) -> str:
    """Return the accuracy after a change (Markdown)."""
    low, high = outcome.interval
    changes = [f"all branches at {strength:g}"] if strength != 1 else []
    if dropped:
        changes.append(f"{len(dropped)} of {len(evaluator.blocks)} blocks removed")
    change = f"With {' and '.join(changes)}" if changes else "Unchanged"
    name = escape_markdown(evaluator.classifier.saved.network["name"])
    chance = 1 / len(evaluator.classifier.saved.classes)
    return (
        f"{change}, {name} classifies **{outcome.top1:.1%}** of {outcome.n} test images correctly "
        f"(95% interval {low:.1%} to {high:.1%}). Chance: {chance:.0%}."
    )


def accuracy_plot(evaluator: "SurgeryEvaluator", tried: dict) -> dict[str, Any]:
    """Return accuracy by strength, with the line of chance."""
    chance = 100 / len(evaluator.classifier.saved.classes)
    by_strength = sorted((float(strength), top1) for strength, top1 in tried.items())
    rows = [[strength, round(top1, 2), "strength tried"] for strength, top1 in by_strength]
    rows += [[strength, chance, "chance"] for strength in (0.0, 2.0)]
    return line_table(rows, ["strength", "top-1", "series"], ("strength tried", "chance"))


def block_label(name: str) -> str:
    """Return the label of a block: `stages.1.0` and `stage2.1` are stage 2, block 1."""
    stage, _, block = name.rpartition(".")
    number = int(block) + (1 if stage.startswith("stages.") else 0)
    return f"{part_label(stage)}, block {number}"
