"""Chapter 5: the tutorial's faults and choices as switches, each measured against none."""

from typing import Any

import gradio as gr

from resnet_demo.evaluation.intervals import Effect, paired_effect
from resnet_demo.learn import lessons
from resnet_demo.learn.lessons import BASELINE_ARM, BUGS
from resnet_demo.tasks.snapshot import RunSnapshot
from resnet_demo.ui.learn import arm_plots
from resnet_demo.ui.learn.chapter_form import (
    ChapterForm,
    as_int,
    chapter_text,
    connect_form,
    dataset_field,
    number_field,
    seeds_field,
)
from resnet_demo.ui.learn.group_panel import GroupSnapshot, group_panel, watch_group
from resnet_demo.ui.services import Services

KIND = "bugs"
MATTERS = 0.01  # of validation top-1: what a guess is scored by
COLUMNS = ["switch", "validation top-1", "time", "loss told", "pairs", "your guess"]
WIDTHS = [150, 118, 100, 118, 62, 90]  # pixels
WORDS = [(BUGS[name][0], name) for name in BUGS]


def bugs_chapter(services: Services, tab: gr.Tab) -> None:
    """Words, the switches and a guess; the table of effects."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=330):
            chapter_text("5-bugs")
            form = bugs_form(services)
        with gr.Column(scale=7, min_width=330):
            panel = group_panel(KIND)
            with panel["results"]:
                table = gr.Dataframe(
                    headers=COLUMNS, interactive=False, elem_id="bugs-table", wrap=True,
                    column_widths=WIDTHS, max_height=1000,
                    label="With the switch minus without it: mean, and its 95% interval",
                )  # fmt: skip
    connect_form(services, KIND, tab, form, arms, panel["choice"])
    watch_group(services, KIND, tab, panel, [table], lambda seen: [table_rows(seen)], conclusion)


def bugs_form(services: Services) -> ChapterForm:
    """The switches, a guess, epochs and seeds."""
    chosen = gr.CheckboxGroup(
        WORDS, value=["training mode", "no augmentation"], interactive=True,
        label="Switches to try, each by itself", elem_id="bugs-chosen",
    )  # fmt: skip
    guess = gr.CheckboxGroup(
        WORDS, label="Your guess first: which move the validation accuracy by a point or more?",
        interactive=True, elem_id="bugs-guess",
    )  # fmt: skip
    with gr.Group(), gr.Row():
        dataset = dataset_field(services, KIND)
        epochs = number_field(KIND, "epochs", 4, "Epochs", "of 5,000 images")
        seeds = seeds_field(KIND, 3)
    return ChapterForm(
        inputs=[chosen, dataset, epochs, seeds],
        dataset=dataset,
        start=gr.Button("Run the pairs", variant="primary", elem_id="bugs-start"),
        guess=guess,
    )


def arms(chosen: list[str], dataset: str, epochs: Any, seeds: Any) -> lessons.Arms:
    """What the form asks for. Raises ConfigError."""
    return lessons.bug_arms(chosen, as_int(seeds), {"dataset": dataset, "epochs": as_int(epochs)})


def table_rows(seen: GroupSnapshot) -> list[list[str]]:
    """A switch a row; a dash where no pair is done."""
    guessed = seen.group.guess.split("\n")
    table = []
    for arm in (arm for arm in BUGS if arm in seen.looks):
        pairs = seen.pairs(arm, BASELINE_ARM)
        told = ["–"] * 3
        if pairs:
            told = [
                effect_text(
                    paired_effect([100 * d for d in differences(pairs, "val_top1")]), "points", 2
                ),
                effect_text(paired_effect([100 * d for d in slowdowns(pairs)]), "%", 0),
                effect_text(paired_effect(differences(pairs, "train_loss")), "nats", 3),
            ]
        table.append([BUGS[arm][0], *told, str(len(pairs)), guess_verdict(arm, pairs, guessed)])
    return table


def differences(pairs: list[tuple[RunSnapshot, RunSnapshot]], name: str) -> list[float]:
    """A number of the last epoch, with the switch minus without it."""
    return [arm_plots.last_epoch(one, name) - arm_plots.last_epoch(two, name) for one, two in pairs]


def slowdowns(pairs: list[tuple[RunSnapshot, RunSnapshot]]) -> list[float]:
    """How much longer the run took, as a share."""
    return [one.view.worked() / max(two.view.worked(), 1e-9) - 1 for one, two in pairs]


def effect_text(found: Effect, unit: str, digits: int) -> str:
    """A mean and its interval."""
    told = f"{found.mean:+.{digits}f} {unit}"
    if found.low is None:
        return told
    return f"{told} ({found.low:+.{digits}f} to {found.high:+.{digits}f})"


def guess_verdict(
    arm: str, pairs: list[tuple[RunSnapshot, RunSnapshot]], guessed: list[str]
) -> str:
    """The guess beside what came out; nothing where nobody guessed."""
    if not any(guessed):
        return "–"
    said = "matters" if arm in guessed else "does not"
    if not pairs:
        return said
    found = paired_effect(differences(pairs, "val_top1"))
    return f"{said}: {'right' if (abs(found.mean) >= MATTERS) == (arm in guessed) else 'wrong'}"


def conclusion(seen: GroupSnapshot) -> str:
    """Which effects stand out of the seeds' noise."""
    base = seen.done(BASELINE_ARM)
    if not base:
        return ""
    top1 = sum(arm_plots.last_epoch(look, "val_top1") for look in base) / len(base)
    clear = [
        BUGS[arm][0]
        for arm in seen.looks
        if arm in BUGS
        and (pairs := seen.pairs(arm, BASELINE_ARM))
        and paired_effect(differences(pairs, "val_top1")).is_clear
    ]
    told = f"Without a switch: validation top-1 {top1:.2%}, the mean of {len(base)} runs."
    if not clear:
        return told + " No effect on it is clear of chance yet."
    return told + f" Clear of chance: {'; '.join(clear)}."
