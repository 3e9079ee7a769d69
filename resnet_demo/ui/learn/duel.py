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
from resnet_demo.ui.learn.group_panel import GroupSnapshot, group_panel, watch_group
from resnet_demo.ui.services import Services

KIND = "duel"
GUESSES = ("the plain one", "the residual one", "neither: they differ by less than 0.02")
SAME = 0.02  # nats
COLUMNS = ["network", "runs", "train loss", "train top-1", "val top-1", "time a run"]


def duel_chapter(services: Services, tab: gr.Tab) -> None:
    """Words and form on one side, curves on the other."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=330):
            chapter_text("2-duel")
            form = duel_form(services)
        with gr.Column(scale=7, min_width=330):
            panel = group_panel(KIND)
            with panel["results"]:
                results = duel_results()
    connect_form(services, KIND, tab, form, arms, panel["choice"])
    watch_group(services, KIND, tab, panel, results, draw, conclusion)


def duel_form(services: Services) -> ChapterForm:
    """Depths, images, epochs, seeds, and a guess."""
    with gr.Group():
        info = "layers with weights: a plain and a residual network of each"
        depths = gr.CheckboxGroup(
            [str(depth) for depth in CIFAR_DEPTHS], value=["20"], label="Depth", info=info,
            interactive=True, elem_id="duel-depths",
        )  # fmt: skip
        with gr.Row():
            dataset, images = dataset_field(services, KIND), images_field(KIND)
        with gr.Row():
            epochs, seeds = number_field(KIND, "epochs", 10, "Epochs"), seeds_field(KIND, 1)
    ask = "Your guess first: which ends with the lower training loss?"
    guess = gr.Radio(GUESSES, label=ask, interactive=True, elem_id="duel-guess")
    return ChapterForm(
        inputs=[depths, dataset, images, epochs, seeds],
        dataset=dataset,
        start=gr.Button("Train them", variant="primary", elem_id="duel-start"),
        guess=guess,
    )


def duel_results() -> list[Any]:
    """Legend, both plots and the table."""
    legend = gr.HTML(elem_classes="learn-legend", padding=False)
    loss = arm_plots.arm_plot("duel-loss", "Training loss (nats)", y="loss")
    accuracy = arm_plots.arm_plot("duel-accuracy", "Validation top-1 (%)")
    table = gr.Dataframe(
        headers=COLUMNS, interactive=False, elem_id="duel-table", label="At the end"
    )
    return [legend, loss, accuracy, table]


def arms(depths: list[str], dataset: str, images: Any, epochs: Any, seeds: Any) -> lessons.Arms:
    """What the form asks for. Raises ConfigError."""
    knobs = {"dataset": dataset, "train_images": as_int(images), "epochs": as_int(epochs)}
    return lessons.duel_arms([int(depth) for depth in depths], as_int(seeds), knobs)


def draw(seen: GroupSnapshot) -> list[Any]:
    """Legend, both plots and the table."""
    return [
        arm_plots.legend(seen),
        arm_plots.loss_lines(seen),
        arm_plots.accuracy_lines(seen),
        table_rows(seen),
    ]


def table_rows(seen: GroupSnapshot) -> list[list[Any]]:
    """An arm a row: means over its runs' last epochs."""
    table = []
    for arm, looks in seen.looks.items():
        begun = [look for look in looks if look.view.epochs]
        if begun:
            means = {
                name: sum(arm_plots.last_epoch(look, name) for look in begun) / len(begun)
                for name in ("train_loss", "train_top1", "val_top1")
            }
            seconds = sum(look.view.worked() for look in begun) / len(begun)
            table.append([
                arm, len(begun), f"{means['train_loss']:.4f}", f"{means['train_top1']:.2%}",
                f"{means['val_top1']:.2%}", duration_text(seconds),
            ])  # fmt: skip
    return table


def conclusion(seen: GroupSnapshot) -> str:
    """The gap at each depth, what depth did to the plain ones, and the guess beside it."""
    depths = sorted({int(arm[5:]) for arm in seen.looks if arm.startswith("plain")})
    told = [gap_sentence(seen, depth) for depth in depths]
    done = [depth for depth in depths if seen.done(f"plain{depth}") and seen.done(f"resnet{depth}")]
    if len(done) > 1:
        told += [depth_sentence(seen, kind, done[0], done[-1]) for kind in ("plain", "resnet")]
    if done and seen.group.guess and not seen.is_live:
        told.append(guess_sentence(seen, done[-1]))
    return "\n".join(f"- {sentence}" for sentence in told if sentence)


def gap_sentence(seen: GroupSnapshot, depth: int) -> str:
    """Plain minus residual, in training loss, over the pairs that are finished."""
    found = loss_difference(seen, f"plain{depth}", f"resnet{depth}")
    if not found:
        return ""
    more = "more" if found.mean > 0 else "less"
    spread = "one seed: another may differ"
    if found.low is not None:
        spread = f"{found.n} seeds, 95% interval {found.low:+.3f} to {found.high:+.3f}"
    return (
        f"{depth} layers: without shortcuts the training loss ends **{abs(found.mean):.3f} nats "
        f"{more}** ({spread})."
    )


def depth_sentence(seen: GroupSnapshot, kind: str, shallow: int, deep: int) -> str:
    """What more layers did to the training loss of one kind."""
    found = loss_difference(seen, f"{kind}{deep}", f"{kind}{shallow}")
    if not found:
        return ""
    how = "worse" if found.mean > 0 else "better"
    name = "residual" if kind == "resnet" else kind
    return (
        f"{deep} layers instead of {shallow} make the **{name}** network **{how} on the images it "
        f"trains on**, by {abs(found.mean):.3f} nats."
    )


def guess_sentence(seen: GroupSnapshot, depth: int) -> str:
    """A person's guess, and what came out at the greatest depth."""
    found = loss_difference(seen, f"plain{depth}", f"resnet{depth}")
    if not found or seen.group.guess not in GUESSES:
        return ""
    truth = GUESSES[2] if abs(found.mean) < SAME else GUESSES[1] if found.mean > 0 else GUESSES[0]
    verdict = "and so it is" if seen.group.guess == truth else f"it was {truth}"
    return f"Your guess for {depth} layers was {seen.group.guess}: {verdict}."


def loss_difference(seen: GroupSnapshot, arm: str, other: str) -> Effect | None:
    """The last epoch's training loss of one arm minus the other's; None before a pair is done."""
    pairs = seen.pairs(arm, other)
    if not pairs:
        return None
    both = [[arm_plots.last_epoch(look, "train_loss") for look in pair] for pair in pairs]
    return paired_effect([one - two for one, two in both])
