"""Chapter 2: a plain and a residual network of the same depth, trained on the same batches."""

from functools import partial
from typing import Any

import gradio as gr

from resnet_demo.architectures import CIFAR_DEPTHS
from resnet_demo.evaluation.intervals import Effect, paired_effect
from resnet_demo.learn import lessons
from resnet_demo.runs.text import duration_text, share_text
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
    seeds_field,
)
from resnet_demo.ui.learn.group_panel import GroupReader, GroupSnapshot
from resnet_demo.ui.services import Services

KIND = "duel"
TIE = 0.02  # nats of training loss; the question names this number
COLUMNS = ["network", "loss", "train", "validation", "time"]
NOTE = "After the last epoch: training loss, accuracy on training and validation images, time."


def duel_chapter(reader: GroupReader, tab: gr.Tab, guesses: gr.BrowserState) -> None:
    """Build the chapter: text, guess and form on the left, curves on the right."""
    with chapter_layout(KIND, "2-duel", partial(duel_form, reader.services)) as chapter:
        results = chart_and_table(KIND)
    connect_chapter(reader, tab, guesses, chapter, arms, results, draw, conclusion, answer)


def duel_form(services: Services) -> ChapterForm:
    """Build the fields for depths, images, epochs and seeds."""
    with gr.Group():
        # Several depths can be compared with each other: does a network get worse with depth?
        depths = gr.CheckboxGroup(
            [str(depth) for depth in CIFAR_DEPTHS],
            value=["20"],
            label="Depth",
            info="Layers with weights. Each depth trains a plain and a residual network.",
            interactive=True,
            elem_id="duel-depths",
        )
        with gr.Row():
            dataset, images = dataset_field(services, KIND), images_field(KIND)
        with gr.Row():
            epochs, seeds = number_field(KIND, "epochs", 10, "Epochs"), seeds_field(KIND, 1)
    return ChapterForm(
        inputs=[depths, dataset, images, epochs, seeds],
        dataset=dataset,
        start=gr.Button("Train", variant="primary", elem_id="duel-start"),
    )


def arms(depths: list[str], dataset: str, images: Any, epochs: Any, seeds: Any) -> lessons.Arms:
    """Return the arms for the values of the form. Raises ConfigError."""
    values = {"dataset": dataset, "train_images": as_int(images), "epochs": as_int(epochs)}
    return lessons.duel_arms([int(depth) for depth in depths], as_int(seeds), values)


def draw(snapshot: GroupSnapshot) -> list[Any]:
    """Return the values of chart and table."""
    table = arm_plots.table_text(COLUMNS, table_rows(snapshot))
    return [arm_plots.epoch_chart(snapshot), f"{NOTE}\n\n{table}" if table else ""]


def table_rows(snapshot: GroupSnapshot) -> list[list[Any]]:
    """Return a row for each arm: means over its runs after their last epoch."""
    rows = []
    for arm, all_runs in snapshot.arms.items():
        # A run in its first epoch has no numbers yet, and would make the mean of its arm wrong.
        runs = [run for run in all_runs if run.view.epochs]
        if not runs:
            continue
        loss, train_top1, val_top1 = (
            sum(arm_plots.last_epoch(run, name) for run in runs) / len(runs)
            for name in ("train_loss", "train_top1", "val_top1")
        )
        seconds = sum(run.view.total_seconds() for run in runs) / len(runs)
        row = [arm, f"{loss:.4f}", share_text(train_top1, 2), share_text(val_top1, 2)]
        rows.append([*row, duration_text(seconds)])
    return rows


def finished_depths(snapshot: GroupSnapshot) -> list[int]:
    """Return the depths whose pair has finished: a partial run would look like a worse network."""
    # The arms are named after the networks: plain20, resnet20.
    depths = sorted({int(arm[5:]) for arm in snapshot.arms if arm.startswith("plain")})
    return [
        depth
        for depth in depths
        if snapshot.finished(f"plain{depth}") and snapshot.finished(f"resnet{depth}")
    ]


def conclusion(snapshot: GroupSnapshot) -> str:
    """Return the conclusions: plain against residual, and the effect of depth (Markdown)."""
    depths = finished_depths(snapshot)
    sentences = [difference_sentence(snapshot, depth) for depth in depths]
    if len(depths) > 1:
        for kind in ("plain", "resnet"):
            sentences.append(depth_sentence(snapshot, kind, depths[0], depths[-1]))
    return "\n".join(f"- {sentence}" for sentence in sentences if sentence)


def difference_sentence(snapshot: GroupSnapshot, depth: int) -> str:
    """Return the training loss of plain minus residual; "" without a pair of the same seed."""
    found = loss_difference(snapshot, f"plain{depth}", f"resnet{depth}")
    if not found:
        return ""
    direction = "higher" if found.mean > 0 else "lower"
    # Of one pair no interval can be computed, and the reader must not take it for certain.
    spread = "one seed: another may differ"
    if found.low is not None:
        spread = f"{found.n} seeds, 95 % interval {found.low:+.3f} to {found.high:+.3f}"
    return (
        f"{depth} layers: the plain network's training loss is **{abs(found.mean):.3f} "
        f"{direction}** ({spread})."
    )


def depth_sentence(snapshot: GroupSnapshot, kind: str, shallow: int, deep: int) -> str:
    """Return a sentence on the effect of more layers on the training loss."""
    found = loss_difference(snapshot, f"{kind}{deep}", f"{kind}{shallow}")
    if not found:
        return ""
    # On the training images: what grows there with the depth is degradation (He et al. 2015,
    # section 1) and not overfitting.
    effect_word = "worse" if found.mean > 0 else "better"
    name = "residual" if kind == "resnet" else kind
    return (
        f"{deep} layers instead of {shallow}: the **{name}** network gets **{effect_word} on its "
        f"training images** (loss {found.mean:+.3f})."
    )


def answer(snapshot: GroupSnapshot) -> str | None:
    """Return which network ended with the lower training loss, at the greatest depth."""
    depths = finished_depths(snapshot)
    depth = depths[-1] if depths else None
    found = loss_difference(snapshot, f"plain{depth}", f"resnet{depth}")
    if not found:
        return None
    if abs(found.mean) < TIE:
        return "tie"
    # The mean is plain minus residual, and the lower loss wins.
    return "residual" if found.mean > 0 else "plain"


def loss_difference(snapshot: GroupSnapshot, arm: str, other: str) -> Effect | None:
    """Return the last training loss of an arm minus the other's; None before a pair is done."""
    pairs = snapshot.pairs(arm, other)
    if not pairs:
        return None
    # By pairs, because runs of one seed saw the same batches: what they share cancels out.
    losses = [[arm_plots.last_epoch(run, "train_loss") for run in pair] for pair in pairs]
    return paired_effect([first - second for first, second in losses])
