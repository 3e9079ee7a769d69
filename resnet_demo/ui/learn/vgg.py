"""Chapter 4: VGG and ResNet by the same recipe: cost, and accuracy by minutes."""

from typing import Any

import gradio as gr

from resnet_demo.learn import lessons
from resnet_demo.models.counts import model_counts
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
from resnet_demo.ui.learn.group_panel import GroupReader, GroupSnapshot, group_panel, watch_group
from resnet_demo.ui.services import Services

KIND = "vgg"
NETWORKS = ("vgg16", "resnet18", "resnet34-article", "resnet50", "resnet20", "resnet9")
COST_COLUMNS = ["network", "parameters", "multiply-adds", "memory", "per image in the batch"]
COLUMNS = ["network", "val accuracy", "training time", "points per minute", "images/s"]
FLOAT_BYTES = 4
COPIES = 3  # of each weight: the weight, its gradient, its momentum


def vgg_chapter(reader: GroupReader, tab: gr.Tab) -> None:
    """Build the chapter: text and form on the left, costs and curves on the right."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=330):
            chapter_text("4-vgg")
            form = vgg_form(reader.services)
        with gr.Column(scale=7, min_width=330):
            gr.Dataframe(
                cost_rows(),
                headers=COST_COLUMNS,
                interactive=False,
                elem_id="vgg-costs",
                wrap=True,
                label="32 × 32 pixels, 10 classes; memory of a training in float32",
            )
            panel = group_panel(KIND)
            with panel["results"]:
                results = vgg_results()
    connect_form(reader, KIND, tab, form, arms, panel["choice"])
    watch_group(reader, KIND, tab, panel, results, draw)


def vgg_form(services: Services) -> ChapterForm:
    """Build the fields for images and epochs."""
    with gr.Group(), gr.Row():
        dataset, images = dataset_field(services, KIND), images_field(KIND)
        epochs = number_field(KIND, "epochs", 4, "Epochs")
    return ChapterForm(
        inputs=[dataset, images, epochs],
        dataset=dataset,
        start=gr.Button("Train both", variant="primary", elem_id="vgg-start"),
    )


def vgg_results() -> list[Any]:
    """Build the legend, the plot and the table."""
    legend = gr.HTML(elem_classes="learn-legend", padding=False)
    title = "Validation accuracy (%) by minutes"
    plot = arm_plots.arm_plot("vgg-accuracy", title, x="minutes")
    table = gr.Dataframe(headers=COLUMNS, interactive=False, elem_id="vgg-table")
    return [legend, plot, table]


def cost_rows() -> list[list[str]]:
    """Return a row of costs for each network, computed from its layers.

    Memory: weights, gradients and momentum; and for each image of a batch the outputs of all
    convolutions, which the backward pass needs.
    """
    rows = []
    for name in NETWORKS:
        size = model_counts(name)
        fixed = COPIES * FLOAT_BYTES * size.parameters / 1e6
        per_image = FLOAT_BYTES * size.outputs / 1e6
        sizes = [count_text(size.parameters), count_text(size.macs)]
        rows.append([name, *sizes, f"{fixed:.0f} MB", f"+ {per_image:.2f} MB"])
    return rows


def arms(dataset: str, images: Any, epochs: Any) -> lessons.Arms:
    """Return the arms for the values of the form. Raises ConfigError."""
    values = {"dataset": dataset, "train_images": as_int(images), "epochs": as_int(epochs)}
    return lessons.vgg_arms(1, values)


def draw(snapshot: GroupSnapshot) -> list[Any]:
    """Return the values of legend, plot and table."""
    return [
        arm_plots.legend(snapshot.arms),
        arm_plots.accuracy_by_minutes(snapshot),
        table_rows(snapshot),
    ]


def table_rows(snapshot: GroupSnapshot) -> list[list[Any]]:
    """Return a row for each arm, after its last epoch."""
    rows = []
    for arm, runs in snapshot.arms.items():
        view = runs[0].view if runs else None  # this lesson has one seed
        if view and view.epochs:
            seconds = sum(epoch.seconds for epoch in view.epochs)
            last = view.epochs[-1]
            # Accuracy by time, not by epoch: an epoch of one network costs many of the other's.
            points_per_minute = 100 * last.val_top1 / (seconds / 60)
            row = [arm, f"{last.val_top1:.2%}", duration_text(seconds)]
            rows.append([*row, f"{points_per_minute:.1f}", f"{last.images_per_s:.0f}"])
    return rows
