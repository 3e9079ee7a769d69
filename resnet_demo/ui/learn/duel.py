"""Chapter 2: a plain and a residual network of the same depth, trained on the same batches."""

from typing import Any

import gradio as gr

from resnet_demo.architectures import CIFAR_DEPTHS
from resnet_demo.evaluation.intervals import Effect, paired_effect
from resnet_demo.learn import lessons
from resnet_demo.runs.text import duration_text
from resnet_demo.ui.learn import arm_plots
from resnet_demo.ui.learn.chapter_form import (
    ChapterForm,
    as_int,
    chapter_text,
    connect_form,
    dataset_field,
    images_field,
    number_field,
    seeds_field,
)
from resnet_demo.ui.learn.group_panel import GroupReader, GroupSnapshot, group_panel, watch_group
from resnet_demo.ui.services import Services

KIND = "duel"
TIE = 0.02  # nats of training loss
PLAIN, RESIDUAL, NEITHER = (  # guesses, as group.json stores them
    "the plain one",
    "the residual one",
    "neither: they differ by less than 0.02",
)
GUESSES = {PLAIN: "plain", RESIDUAL: "residual", NEITHER: f"a tie: less than {TIE} apart"}
COLUMNS = ["network", "runs", "train loss", "train accuracy", "val accuracy", "time per run"]


def duel_chapter(reader: GroupReader, tab: gr.Tab) -> None:
    """Build the chapter: text and form on the left, curves on the right."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=330):
            chapter_text("2-duel")
            form = duel_form(reader.services)
        with gr.Column(scale=7, min_width=330):
            panel = group_panel(KIND)
            with panel["results"]:
                results = duel_results()
    connect_form(reader, KIND, tab, form, arms, panel["choice"])
    watch_group(reader, KIND, tab, panel, results, draw, conclusion)


def duel_form(services: Services) -> ChapterForm:
    """Build the fields for depths, images, epochs and seeds, and the guess."""
    with gr.Group():
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
    guess = gr.Radio(
        [(label, guess) for guess, label in GUESSES.items()],
        label="Guess first: which network ends with the lower training loss?",
        interactive=True,
        elem_id="duel-guess",
    )
    return ChapterForm(
        inputs=[depths, dataset, images, epochs, seeds],
        dataset=dataset,
        start=gr.Button("Train", variant="primary", elem_id="duel-start"),
        guess=guess,
    )


def duel_results() -> list[Any]:
    """Build the legend, both plots and the table."""
    legend = gr.HTML(elem_classes="learn-legend", padding=False)
    loss = arm_plots.arm_plot("duel-loss", "Training loss", y="loss")
    accuracy = arm_plots.arm_plot("duel-accuracy", "Validation accuracy (%)")
    table = gr.Dataframe(
        headers=COLUMNS, interactive=False, elem_id="duel-table", label="After the last epoch"
    )
    return [legend, loss, accuracy, table]


def arms(depths: list[str], dataset: str, images: Any, epochs: Any, seeds: Any) -> lessons.Arms:
    """Return the arms for the values of the form. Raises ConfigError."""
    values = {"dataset": dataset, "train_images": as_int(images), "epochs": as_int(epochs)}
    return lessons.duel_arms([int(depth) for depth in depths], as_int(seeds), values)


def draw(snapshot: GroupSnapshot) -> list[Any]:
    """Return the values of legend, both plots and table."""
    return [
        arm_plots.legend(snapshot.arms),
        arm_plots.loss_lines(snapshot),
        arm_plots.accuracy_lines(snapshot),
        table_rows(snapshot),
    ]


def table_rows(snapshot: GroupSnapshot) -> list[list[Any]]:
    """Return a row for each arm: means over its runs after their last epoch."""
    rows = []
    for arm, all_runs in snapshot.arms.items():
        runs = [run for run in all_runs if run.view.epochs]
        if not runs:
            continue
        loss, train_top1, val_top1 = (
            sum(arm_plots.last_epoch(run, name) for run in runs) / len(runs)
            for name in ("train_loss", "train_top1", "val_top1")
        )
        seconds = sum(run.view.total_seconds() for run in runs) / len(runs)
        row = [arm, len(runs), f"{loss:.4f}", f"{train_top1:.2%}", f"{val_top1:.2%}"]
        rows.append([*row, duration_text(seconds)])
    return rows


def conclusion(snapshot: GroupSnapshot) -> str:
    """Return the conclusions: plain against residual, effect of depth, guess (Markdown)."""
    depths = sorted({int(arm[5:]) for arm in snapshot.arms if arm.startswith("plain")})
    sentences = [difference_sentence(snapshot, depth) for depth in depths]
    finished = [
        depth
        for depth in depths
        if snapshot.finished(f"plain{depth}") and snapshot.finished(f"resnet{depth}")
    ]
    # Only depths whose pair has finished: a partial run would look like a worse network.
    if len(finished) > 1:
        for kind in ("plain", "resnet"):
            sentences.append(depth_sentence(snapshot, kind, finished[0], finished[-1]))
    if finished and snapshot.group.guess and not snapshot.is_live:
        sentences.append(guess_sentence(snapshot, finished[-1]))
    return "\n".join(f"- {sentence}" for sentence in sentences if sentence)


def difference_sentence(snapshot: GroupSnapshot, depth: int) -> str:
    """Return the training loss of plain minus residual; "" before a pair has finished."""
    found = loss_difference(snapshot, f"plain{depth}", f"resnet{depth}")
    if not found:
        return ""
    direction = "higher" if found.mean > 0 else "lower"
    spread = "one seed: another may differ"
    if found.low is not None:
        spread = f"{found.n} seeds, 95% interval {found.low:+.3f} to {found.high:+.3f}"
    return (
        f"{depth} layers: the plain network's training loss is **{abs(found.mean):.3f} "
        f"{direction}** than the residual network's ({spread})."
    )


def depth_sentence(snapshot: GroupSnapshot, kind: str, shallow: int, deep: int) -> str:
    """Return a sentence on the effect of more layers on the training loss."""
    found = loss_difference(snapshot, f"{kind}{deep}", f"{kind}{shallow}")
    if not found:
        return ""
    effect_word = "worse" if found.mean > 0 else "better"
    name = "residual" if kind == "resnet" else kind
    return (
        f"{deep} layers instead of {shallow}: the **{name}** network gets **{effect_word} on its "
        f"training images** (loss {found.mean:+.3f})."
    )


def guess_sentence(snapshot: GroupSnapshot, depth: int) -> str:
    """Return the guess and the result at this depth; "" for a guess outside of GUESSES."""
    found = loss_difference(snapshot, f"plain{depth}", f"resnet{depth}")
    guess = snapshot.group.guess
    if not found or guess not in GUESSES:
        return ""
    # The mean is plain minus residual, and the lower loss wins.
    result = RESIDUAL if found.mean > 0 else PLAIN
    if abs(found.mean) < TIE:
        result = NEITHER
    if guess == result:
        outcome = "Correct."
    elif result == NEITHER:
        outcome = f"Too close to call: less than {TIE} apart."
    else:
        outcome = f"It was {GUESSES[result]}."
    return f"You guessed {GUESSES[guess].partition(':')[0]} at {depth} layers. {outcome}"


def loss_difference(snapshot: GroupSnapshot, arm: str, other: str) -> Effect | None:
    """Return the last training loss of an arm minus the other's; None before a pair is done."""
    pairs = snapshot.pairs(arm, other)
    if not pairs:
        return None
    losses = [[arm_plots.last_epoch(run, "train_loss") for run in pair] for pair in pairs]
    return paired_effect([first - second for first, second in losses])
