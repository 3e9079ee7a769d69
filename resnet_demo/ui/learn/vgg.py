"""Chapter 4: VGG beside ResNet, by the same recipe: what each costs and what it gives."""

from typing import Any

import gradio as gr

from resnet_demo.learn import lessons
from resnet_demo.models.counts import count
from resnet_demo.runs.text import count_text, duration_text
from resnet_demo.ui.learn import arm_plots
from resnet_demo.ui.learn.chapter_form import (
    ChapterForm,
    as_int,
    chapter_text,
    connect_form,
    dataset_field,
    images_field,
    number_field,
)
from resnet_demo.ui.learn.group_panel import GroupSnapshot, group_panel, watch_group
from resnet_demo.ui.services import Services

KIND = "vgg"
NETWORKS = ("vgg16", "resnet18", "resnet34-article", "resnet50", "resnet20", "resnet9")
COSTS = ["network", "parameters", "multiply-adds", "memory", "and an image"]
COLUMNS = ["network", "val top-1", "minutes", "points a minute", "images/s"]
FLOAT = 4  # bytes
COPIES = 3  # a weight, its gradient, its momentum


def vgg_chapter(services: Services, tab: gr.Tab) -> None:
    """Words, a table of costs and the form; curves against minutes."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=330):
            chapter_text("4-vgg")
            form = vgg_form(services)
        with gr.Column(scale=7, min_width=330):
            gr.Dataframe(
                cost_rows(), headers=COSTS, interactive=False, elem_id="vgg-costs", wrap=True,
                label="At 32 × 32 pixels and 10 classes; memory in training, float32",
            )  # fmt: skip
            panel = group_panel(KIND)
            with panel["results"]:
                results = vgg_results()
    connect_form(services, KIND, tab, form, arms, panel["choice"])
    watch_group(services, KIND, tab, panel, results, draw)


def vgg_form(services: Services) -> ChapterForm:
    """Images and epochs."""
    with gr.Group(), gr.Row():
        dataset, images = dataset_field(services, KIND), images_field(KIND)
        epochs = number_field(KIND, "epochs", 4, "Epochs")
    return ChapterForm(
        inputs=[dataset, images, epochs],
        dataset=dataset,
        start=gr.Button("Train both", variant="primary", elem_id="vgg-start"),
    )


def vgg_results() -> list[Any]:
    """Legend, plot and table."""
    legend = gr.HTML(elem_classes="learn-legend", padding=False)
    title = "Validation top-1 (%) by minutes"
    plot = arm_plots.arm_plot("vgg-accuracy", title, x="minutes")
    return [legend, plot, gr.Dataframe(headers=COLUMNS, interactive=False, elem_id="vgg-table")]


def cost_rows() -> list[list[str]]:
    """A network a row, counted on the real ones; memory follows from what their layers put out.

    Memory: weights, gradients and momentum; and for each image of a batch what all convolutions put
    out, which the backward pass needs.
    """
    rows = []
    for name in NETWORKS:
        size = count(name)
        once, more = COPIES * FLOAT * size.parameters / 1e6, FLOAT * size.outputs / 1e6
        figures = (count_text(size.parameters), count_text(size.macs))
        rows.append([name, *figures, f"{once:.0f} MB", f"+ {more:.2f} MB"])
    return rows


def arms(dataset: str, images: Any, epochs: Any) -> lessons.Arms:
    """What the form asks for. Raises ConfigError."""
    knobs = {"dataset": dataset, "train_images": as_int(images), "epochs": as_int(epochs)}
    return lessons.vgg_arms(1, knobs)


def draw(seen: GroupSnapshot) -> list[Any]:
    """Legend, plot and table."""
    return [arm_plots.legend(seen), arm_plots.accuracy_by_minutes(seen), table_rows(seen)]


def table_rows(seen: GroupSnapshot) -> list[list[Any]]:
    """An arm a row, by its last epoch."""
    table = []
    for arm, looks in seen.looks.items():
        view = looks[0].view if looks else None
        if view and view.epochs:
            seconds = sum(epoch.seconds for epoch in view.epochs)
            top1 = view.epochs[-1].val_top1
            table.append([
                arm, f"{top1:.2%}", duration_text(seconds), f"{100 * top1 / (seconds / 60):.1f}",
                f"{view.epochs[-1].images_per_s:.0f}",
            ])  # fmt: skip
    return table
