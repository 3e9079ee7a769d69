"""Chapter 6: branches made weaker and blocks left out of a trained network, and what is left."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import gradio as gr

from resnet_demo.errors import DemoError
from resnet_demo.learn.recording import read_surgery_chart
from resnet_demo.models.description import describe
from resnet_demo.runs.groups import groups
from resnet_demo.runs.text import escape_markdown
from resnet_demo.ui.evaluate.tab import run_choices
from resnet_demo.ui.learn.arm_plots import arm_plot, legend_of, table_of
from resnet_demo.ui.learn.block import part_label
from resnet_demo.ui.learn.chapter_form import chapter_text
from resnet_demo.ui.services import QUIET_EVENT, Services, show_errors

if TYPE_CHECKING:  # torch, which the page must not wait for
    from resnet_demo.learn.surgery import SurgeryEvaluator, SurgeryScore

COLOURS = {"strength tried": "#0072B2", "guessing": "#808080", "left out": "#0072B2"}
KEPT = 2  # patients in memory: one network and its images each
WAIT = "Loading the network: the first time this takes some seconds …"
NO_RUN = "No trained network yet: train one on the Train tab, `resnet20` and `plain20` say."
WORKING = {"show_progress": "minimal", "api_visibility": "private", "trigger_mode": "always_last"}


def surgery_chapter(services: Services, tab: gr.Tab) -> None:
    """Words, the choice of a run, strength and blocks, what came out."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=330):
            chapter_text("6-surgery")
            run, strength, dropped = surgery_form()
        with gr.Column(scale=7, min_width=330):
            words, plot, each, bars = surgery_results()
    recorded = recorded_results()
    tab.select(lambda: show_recordings(services), None, recorded, **QUIET_EVENT)
    tried = gr.State({})
    patients = lru_cache(KEPT)(lambda run_id, weights: load_patient(services, run_id))

    def patient_of(run_id: str) -> "SurgeryEvaluator":
        return patients(run_id, describe(services.runs.get(run_id).path)["sha256"])

    def on_run(run_id: str | None) -> list[Any]:
        return open_run(patient_of, run_id)

    @show_errors()
    def on_change(run_id: str | None, by: float, out: list[str], before: dict) -> list[Any]:
        return apply_edit(patient_of, run_id, by, out, before)

    @show_errors()
    def on_each(run_id: str | None) -> dict[str, Any]:
        return drop_each(patient_of, run_id)

    tab.select(
        lambda chosen: run_choices(services, chosen),
        run, run, **QUIET_EVENT,
    )  # fmt: skip
    gr.on(
        [tab.select, run.change], on_run, run, [dropped, words, plot, bars, tried, strength],
        **WORKING,
    )  # fmt: skip
    gr.on(
        [strength.release, strength.input, dropped.input], on_change,
        [run, strength, dropped, tried], [words, plot, tried], **WORKING,
    )  # fmt: skip
    each.click(on_each, run, bars, **WORKING)


def surgery_form() -> list[Any]:
    """Whom to operate on, and how."""
    return [
        gr.Dropdown([], label="Run", interactive=True, elem_id="surgery-run"),
        gr.Slider(
            0, 2, value=1, step=0.05, label="Strength of every branch", interactive=True,
            info="1 is as it was trained; at 0 only the shortcuts are left",
            elem_id="surgery-strength",
        ),
        gr.CheckboxGroup(
            [], label="Leave out whole blocks", interactive=True, elem_id="surgery-dropped"
        ),
    ]  # fmt: skip


def surgery_results() -> list[Any]:
    """Words, accuracy by strength, and what each block alone is worth."""
    words = gr.Markdown(WAIT, elem_id="surgery-words")
    plot = arm_plot(
        "surgery-plot", "Test top-1 (%) at strengths tried",
        x="strength", color="what", color_map=COLOURS,
    )  # fmt: skip
    each = gr.Button("Leave out each block, one at a time", elem_id="surgery-each", size="sm")
    bars = gr.BarPlot(
        x="block", y="top-1", color="what", color_map=COLOURS, colors_in_legend=[],
        color_title=" ", y_title=" ", x_title=" ", height=280, visible=False, sort=None,
        title="Test top-1 (%) without that block", elem_id="surgery-bars",
    )  # fmt: skip
    return [words, plot, each, bars]


def recorded_results() -> list[Any]:
    """What came of operating on the networks of the recorded duel: words, legend, both plots."""
    with gr.Column(visible=False) as box:
        words = gr.Markdown(elem_id="surgery-recorded")
        legend = gr.HTML(elem_classes="learn-legend", padding=False)
        with gr.Row():
            strengths = arm_plot(
                "surgery-recorded-strengths", "Test top-1 (%) by strength", x="strength"
            )
            blocks = arm_plot(
                "surgery-recorded-blocks", "Test top-1 (%) without one block", x="block"
            )
    return [box, words, legend, strengths, blocks]


def show_recordings(services: Services) -> list[Any]:
    """Those outputs; hidden where no recording came with the app."""
    shipped = [group for group in groups(services.runs.list(), "duel") if group.shipped]
    charts = {
        arm: chart
        for group in shipped
        for arm, runs in group.arms.items()
        if (chart := read_surgery_chart(runs[0]))
    }
    if not charts:
        return [gr.update(visible=False), "", "", None, None]
    n = min(chart["n"] for chart in charts.values())
    words = f"### Recorded\nNetworks of the recorded duel, on {n} or more test images each."
    rows = {
        name: [
            [x if name == "strengths" else number, round(100 * top1, 2), arm]
            for arm, chart in charts.items()
            for number, (x, top1) in enumerate(chart[name], start=1)
        ]
        for name in ("strengths", "blocks")
    }
    return [
        gr.update(visible=True),
        words,
        legend_of(charts),
        table_of(rows["strengths"], ["strength", "top-1", "arm"]),
        table_of(rows["blocks"], ["block", "top-1", "arm"]),
    ]


def load_patient(services: Services, run_id: str) -> "SurgeryEvaluator":
    """Load the run's network and its images. Raises DemoError."""
    from resnet_demo.learn.surgery import SurgeryEvaluator

    return SurgeryEvaluator.of(services.classifier(run_id), services.datasets)


def open_run(patient_of: Any, run_id: str | None) -> list[Any]:
    """A run was chosen: its blocks, and how it does untouched. What cannot be is said."""
    hidden, none = gr.update(visible=False, value=None), gr.update(choices=[], value=[])
    if not run_id:
        return [none, NO_RUN, None, hidden, {}, gr.skip()]
    try:
        patient = patient_of(run_id)
        outcome = patient.score()
    except DemoError as error:
        return [none, f"⚠ {escape_markdown(str(error))}.", None, hidden, {}, gr.skip()]
    blocks = [(block_label(name), name) for name in patient.blocks]
    tried = {1.0: 100 * outcome.top1}
    return [
        gr.update(choices=blocks, value=[]), outcome_text(patient, outcome, 1.0, []),
        accuracy_plot(patient, tried), hidden, tried, 1.0,
    ]  # fmt: skip


def apply_edit(
    patient_of: Any, run_id: str | None, strength: float, dropped: list[str], before: dict
) -> list[Any]:
    """After a change: the words, the plot, and what was tried. Raises DemoError."""
    if not run_id:
        return [NO_RUN, None, {}]
    patient = patient_of(run_id)
    outcome = patient.score(strength, dropped)
    tried = dict(before)
    if not dropped:
        tried[float(strength)] = 100 * outcome.top1
    return [outcome_text(patient, outcome, strength, dropped), accuracy_plot(patient, tried), tried]


def drop_each(patient_of: Any, run_id: str | None) -> dict[str, Any]:
    """Each block left out alone, as bars. Raises DemoError."""
    if not run_id:
        return gr.update(visible=False)
    rows = [
        [block_label(name), round(100 * outcome.top1, 2), "left out"]
        for name, outcome in patient_of(run_id).scores_without_each_block()
    ]
    return gr.update(value=bar_table(rows), visible=True)


def bar_table(rows: list[list[Any]]) -> dict[str, Any]:
    """Rows as gr.BarPlot takes them."""
    return {
        "columns": ["block", "top-1", "what"], "data": rows, "mark": "bar",
        "datatypes": {"block": "nominal", "top-1": "quantitative", "what": "nominal"},
    }  # fmt: skip


def outcome_text(
    patient: "SurgeryEvaluator", outcome: "SurgeryScore", strength: float, dropped: list[str]
) -> str:
    """What came out, in words (Markdown)."""
    low, high = outcome.interval
    what = [f"every branch at {strength:g}"] if strength != 1 else []
    if dropped:
        what.append(f"{len(dropped)} of {len(patient.blocks)} blocks left out")
    how = f"With {' and '.join(what)}" if what else "Untouched"
    name = escape_markdown(patient.classifier.saved.network["name"])
    return (
        f"{how}, {name} gets **{outcome.top1:.1%}** of {outcome.n} test images right "
        f"(95% interval {low:.1%} to {high:.1%}). Guessing gets "
        f"{1 / len(patient.classifier.saved.classes):.0%}."
    )


def accuracy_plot(patient: "SurgeryEvaluator", tried: dict) -> dict[str, Any]:
    """Accuracy by strength, and the line of guessing."""
    guess = 100 / len(patient.classifier.saved.classes)
    rows = [
        [float(by), round(top1, 2), "strength tried"]
        for by, top1 in sorted((float(by), top1) for by, top1 in tried.items())
    ]
    rows += [[by, guess, "guessing"] for by in (0.0, 2.0)]
    return table_of(rows, ["strength", "top-1", "what"])


def block_label(name: str) -> str:
    """`stages.1.0` and `stage2.1`: the stage from 1, and which block of it."""
    stage, _, block = name.rpartition(".")
    number = int(block) + (1 if stage.startswith("stages.") else 0)
    return f"{part_label(stage)}, block {number}"
