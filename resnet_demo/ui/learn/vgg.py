"""Chapter 4: VGG and ResNet by the same recipe: cost, and accuracy by minutes."""

from functools import partial
from typing import Any

import gradio as gr

from resnet_demo.learn import lessons
from resnet_demo.models.counts import model_counts
from resnet_demo.runs.text import count_text, duration_text, share_text
from resnet_demo.ui.learn import arm_plots
from resnet_demo.ui.learn.chapter_form import (
    ChapterForm,
    as_int,
    chapter_layout,
    chart_and_table,
    connect_chapter,
    dataset_field,
    images_field,
    number_field,
)
from resnet_demo.ui.learn.group_panel import GroupReader, GroupSnapshot
from resnet_demo.ui.services import Services

KIND = "vgg"
NETWORKS = ("vgg16", "resnet18", "resnet34-article", "resnet50", "resnet20", "resnet9")
COST_COLUMNS = ["network", "parameters", "multiply-adds", "memory (MB)"]
COST_NOTE = (
    "Images of 32 × 32 pixels, 10 classes. Memory of a training in float32: for the weights, and "
    "for each image of a batch."
)
COLUMNS = ["network", "validation accuracy", "training time", "points per minute", "images/s"]
TIE = 0.01  # difference of validation accuracy: the point that the question names
FLOAT_BYTES = 4
COPIES = 3  # of each weight: the weight, its gradient, its momentum


def vgg_chapter(reader: GroupReader, tab: gr.Tab, guesses: gr.BrowserState) -> None:
    """Build the chapter: text, costs, guess and form on the left, curves on the right."""
    form = partial(vgg_form, reader.services)
    with chapter_layout(KIND, "4-vgg", form, above=cost_table) as chapter:
        results = chart_and_table(KIND)
    connect_chapter(reader, tab, guesses, chapter, arms, results, draw, conclusion, answer)


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


def cost_table() -> None:
    """Build the table of costs. It is shown before the guess: it does not give the answer away."""
    table = arm_plots.table_text(COST_COLUMNS, cost_rows())
    gr.Markdown(f"{table}\n\n{COST_NOTE}", elem_id="vgg-costs", elem_classes="learn-table")


def cost_rows() -> list[list[str]]:
    """Return a row of costs for each network, computed from its layers.

    Memory: weights, gradients and momentum; and for each image of a batch the outputs of all
    convolutions, which the backward pass needs.
    """
    rows = []
    for name in NETWORKS:
        # Counted from the layers, not measured: the table is there before anything has run.
        size = model_counts(name)
        fixed = COPIES * FLOAT_BYTES * size.parameters / 1e6
        per_image = FLOAT_BYTES * size.outputs / 1e6
        sizes = [count_text(size.parameters), count_text(size.macs)]
        rows.append([name, *sizes, f"{fixed:.0f} + {per_image:.2f}"])
    return rows


def arms(dataset: str, images: Any, epochs: Any) -> lessons.Arms:
    """Return the arms for the values of the form. Raises ConfigError."""
    values = {"dataset": dataset, "train_images": as_int(images), "epochs": as_int(epochs)}
    return lessons.vgg_arms(1, values)


def draw(snapshot: GroupSnapshot) -> list[Any]:
    """Return the values of chart and table."""
    return [
        arm_plots.minutes_chart(snapshot),
        arm_plots.table_text(COLUMNS, table_rows(snapshot)),
    ]


def answer(snapshot: GroupSnapshot) -> str | None:
    """Return the network that is more accurate when the faster one has finished."""
    best = accuracy_when_faster_ends(snapshot)
    if not best:
        return None
    high, low = sorted(best.values(), reverse=True)
    return "tie" if high - low < TIE else max(best, key=best.get)


def accuracy_when_faster_ends(snapshot: GroupSnapshot) -> dict[str, float]:
    """Return the last validation accuracy of each arm at the end of the faster one.

    Empty until both have finished.
    """
    arms = {arm: runs[0].view for arm, runs in snapshot.arms.items() if snapshot.finished(arm)}
    curves = {arm: arm_plots.points_by_minutes(view) for arm, view in arms.items()}
    if len(curves) < 2 or not all(curves.values()):
        return {}
    # Both get the same minutes: the slower one is judged by its last epoch before that moment.
    end = min(points[-1][0] for points in curves.values())
    return {
        # (0, 0): before its first epoch a network has learned nothing.
        arm: max((x, y) for x, y in [(0.0, 0.0), *points] if x <= end)[1] / 100
        for arm, points in curves.items()
    }


def conclusion(snapshot: GroupSnapshot) -> str:
    """Return both accuracies when the faster network has finished (Markdown)."""
    best = accuracy_when_faster_ends(snapshot)
    parts = [f"{arm_plots.bold_arm(arm)} {share_text(top1)}" for arm, top1 in best.items()]
    return f"When the faster one has finished: {', '.join(parts)}." if parts else ""


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
            row = [arm, share_text(last.val_top1, 2), duration_text(seconds)]
            rows.append([*row, f"{points_per_minute:.1f}", f"{last.images_per_s:.0f}"])
    return rows
