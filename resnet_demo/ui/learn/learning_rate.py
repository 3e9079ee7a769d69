"""Chapter 7: a learning rate range test, whose result can fill the Train form."""

import math
from typing import Any

import gradio as gr

from resnet_demo.architectures import MODELS
from resnet_demo.config import TrainConfig
from resnet_demo.learn import lessons
from resnet_demo.learn.lessons import RangeTest, analyze_range_test
from resnet_demo.ui.learn import arm_plots
from resnet_demo.ui.learn.chapter_form import (
    ChapterForm,
    as_int,
    chapter_text,
    connect_form,
    dataset_field,
    number_field,
)
from resnet_demo.ui.learn.group_panel import GroupReader, GroupSnapshot, group_panel, watch_group
from resnet_demo.ui.services import QUIET_EVENT, Services

KIND = "range"
STEPS = 100
COLOURS = {"range test": "#0072B2", "lowest": "#D55E00"}
FILLED = ("peak_lr", "model", "optimizer", "batch_size", "dataset")  # fields of the Train form
OPTIMIZERS = TrainConfig.__dataclass_fields__["optimizer"].metadata["choices"]


def range_chapter(reader: GroupReader, tab: gr.Tab, form: dict[str, Any], tabs: gr.Tabs) -> None:
    """Build the chapter: text and form on the left, the plot on the right.

    form: the components of the Train form by field. tabs: of the page, to go to the Train tab.
    """
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=330):
            chapter_text("7-range")
            chapter_form = range_form(reader.services)
        with gr.Column(scale=7, min_width=330):
            panel = group_panel(KIND)
            with panel["results"]:
                plot = arm_plots.arm_plot(
                    "range-plot",
                    "Loss by log10 of the learning rate",
                    x="rate",
                    y="loss",
                    color_map=COLOURS,
                )
                use = gr.Button(visible=False, elem_id="range-use", size="sm")
    found = gr.State(None)
    connect_form(reader, KIND, tab, chapter_form, arms, panel["choice"])
    watch_group(reader, KIND, tab, panel, [plot, use, found], draw, conclusion)

    # The values of the test, not those of its form, which may have changed since.
    def on_use(values: dict[str, Any]) -> list[Any]:
        return [gr.Tabs(selected="train"), *(values[name] for name in FILLED)]

    use.click(on_use, found, [tabs, *(form[name] for name in FILLED)], **QUIET_EVENT)


def range_form(services: Services) -> ChapterForm:
    """Build the fields that the best learning rate depends on."""
    with gr.Group():
        with gr.Row():
            model = gr.Dropdown(
                list(MODELS),
                value="resnet20",
                label="Network",
                interactive=True,
                elem_id="range-model",
                min_width=150,
            )
            optimizer = gr.Dropdown(
                list(OPTIMIZERS),
                value="sgd",
                label="Optimizer",
                interactive=True,
                elem_id="range-optimizer",
                min_width=110,
            )
        with gr.Row():
            batch_size = number_field(KIND, "batch", 128, "Batch size", low=2)
            dataset = dataset_field(services, KIND)
    return ChapterForm(
        inputs=[model, optimizer, batch_size, dataset],
        dataset=dataset,
        start=gr.Button("Start the test", variant="primary", elem_id="range-start"),
    )


def arms(model: str, optimizer: str, batch_size: Any, dataset: str) -> lessons.Arms:
    """Return the one arm for the values of the form. Raises ConfigError."""
    values = {
        "model": model,
        "optimizer": optimizer,
        "batch_size": as_int(batch_size),
        "dataset": dataset,
        "momentum": 0.6 if optimizer == "muon" else 0.9,
    }
    return lessons.range_arms(STEPS, values)


def range_result(snapshot: GroupSnapshot) -> RangeTest:
    """Return the result so far of the group's one run."""
    run = snapshot.runs[0] if snapshot.runs else None
    return analyze_range_test([(step.lr, step.loss) for step in run.view.steps] if run else [])


def draw(snapshot: GroupSnapshot) -> list[Any]:
    """Return the values of plot and button, and the fields that the button fills in."""
    result = range_result(snapshot)
    rows = [
        [round(math.log10(rate), 4), round(loss, 4), "range test"] for rate, loss in result.points
    ]
    if result.lowest:
        rate, loss = result.lowest
        highest = max(loss for _, loss in result.points)
        # A vertical line at the lowest loss.
        rows += [[round(math.log10(rate), 4), y, "lowest"] for y in (loss, highest)]
    table = arm_plots.line_table(rows, ["rate", "loss", "arm"], COLOURS)
    # Not while it trains: the lowest loss may be still to come.
    if result.suggested is None or snapshot.is_live:
        return [table, gr.update(visible=False, value=""), None]
    values = {**snapshot.runs[0].run.config().to_dict(), "peak_lr": result.suggested}
    label = f"Use {result.suggested:g} on the Train tab"
    return [table, gr.update(visible=True, value=label), values]


def conclusion(snapshot: GroupSnapshot) -> str:
    """Return the suggested learning rate, and what it follows from."""
    result = range_result(snapshot)
    if result.suggested is None:
        return ""
    rate, loss = result.lowest
    diverged = " Above that rate the loss diverges." if result.diverged else ""
    return (
        f"The smoothed loss is lowest ({loss:.3f}) at a learning rate of {rate:.3g}.{diverged} "
        f"A tenth of it is a good start: **{result.suggested:g}**. To find the best rate, compare "
        f"a few by validation accuracy."
    )
