"""Chapter 7: the learning rate finder, whose answer can fill the Train form."""

import math
from typing import Any

import gradio as gr

from resnet_demo.architectures import MODELS
from resnet_demo.config import TrainConfig
from resnet_demo.learn import lessons
from resnet_demo.learn.range_test import RangeTest, analyze_range_test
from resnet_demo.ui.learn import arm_plots
from resnet_demo.ui.learn.chapter_form import (
    ChapterForm,
    as_int,
    chapter_text,
    connect_form,
    dataset_field,
    number_field,
)
from resnet_demo.ui.learn.group_panel import GroupSnapshot, group_panel, watch_group
from resnet_demo.ui.services import QUIET_EVENT, Services

KIND = "range"
STEPS = 100
COLOURS = {"range test": "#0072B2", "lowest": "#D55E00"}
FILLED = ("peak_lr", "model", "optimizer", "batch_size", "dataset")  # knobs of the Train form
OPTIMIZERS = TrainConfig.__dataclass_fields__["optimizer"].metadata["choices"]


def range_chapter(services: Services, tab: gr.Tab, form: dict[str, Any], tabs: gr.Tabs) -> None:
    """Words, the form, the plot, and the button that takes its answer to the Train form.

    form: the Train tab's components, by knob; tabs: those of the page.
    """
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=330):
            chapter_text("7-range")
            asked = range_form(services)
        with gr.Column(scale=7, min_width=330):
            panel = group_panel(KIND)
            with panel["results"]:
                plot = arm_plots.arm_plot(
                    "range-plot", "Loss (nats) by log10 of the rate",
                    x="rate", y="loss", color_map=COLOURS,
                )  # fmt: skip
                use = gr.Button(visible=False, elem_id="range-use", size="sm")
    found = gr.State(None)
    connect_form(services, KIND, tab, asked, arms, panel["choice"])
    watch_group(services, KIND, tab, panel, [plot, use, found], draw, conclusion)
    filled = [tabs, *(form[name] for name in FILLED)]
    use.click(
        lambda told: [gr.Tabs(selected="train"), *(told[name] for name in FILLED)],
        found, filled, **QUIET_EVENT,
    )  # fmt: skip


def range_form(services: Services) -> ChapterForm:
    """What the answer depends on."""
    with gr.Group():
        with gr.Row():
            model = gr.Dropdown(
                list(MODELS), value="resnet20", label="Network", interactive=True,
                elem_id="range-model", min_width=150,
            )  # fmt: skip
            optimizer = gr.Dropdown(
                list(OPTIMIZERS), value="sgd", label="Optimizer", interactive=True,
                elem_id="range-optimizer", min_width=110,
            )  # fmt: skip
        with gr.Row():
            batch = number_field(KIND, "batch", 128, "Batch size", low=2)
            dataset = dataset_field(services, KIND)
    return ChapterForm(
        inputs=[model, optimizer, batch, dataset],
        dataset=dataset,
        start=gr.Button("Find it", variant="primary", elem_id="range-start"),
    )


def arms(model: str, optimizer: str, batch: Any, dataset: str) -> lessons.Arms:
    """What the form asks for. Raises ConfigError."""
    momentum = 0.6 if optimizer == "muon" else 0.9
    return lessons.range_arms(
        STEPS,
        {
            "model": model,
            "optimizer": optimizer,
            "batch_size": as_int(batch),
            "dataset": dataset,
            "momentum": momentum,
        },
    )


def range_result(seen: GroupSnapshot) -> RangeTest:
    """What the group's one run has found so far."""
    look = seen.all[0] if seen.all else None
    return analyze_range_test([(step.lr, step.loss) for step in look.view.steps] if look else [])


def draw(seen: GroupSnapshot) -> list[Any]:
    """The plot, the button, and what it would fill in."""
    told = range_result(seen)
    rows = [
        [round(math.log10(rate), 4), round(loss, 4), "range test"] for rate, loss in told.points
    ]
    if told.lowest:
        rate, loss = told.lowest
        top = max(loss for _, loss in told.points)
        rows += [[round(math.log10(rate), 4), level, "lowest"] for level in (loss, top)]
    ready = told.suggested is not None and not seen.is_live
    knobs = None
    if ready:
        knobs = {**seen.all[0].run.config().to_dict(), "peak_lr": told.suggested}
    return [
        arm_plots.table_of(rows, ["rate", "loss", "arm"]) if rows else None,
        gr.update(visible=ready, value=f"Use {told.suggested:g} on the Train tab" if ready else ""),
        knobs,
    ]


def conclusion(seen: GroupSnapshot) -> str:
    """The rate to try, and how it was read off."""
    told = range_result(seen)
    if told.suggested is None:
        return ""
    rate, loss = told.lowest
    end = " Beyond it the loss blows up." if told.diverged else ""
    return (
        f"The smoothed loss is lowest, {loss:.3f} nats, at a learning rate of {rate:.3g}.{end} A "
        f"tenth of that is a rate to train with: **{told.suggested:g}**. It is a start, not the "
        f"best one: that is what validation is for."
    )
