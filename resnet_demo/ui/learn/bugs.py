"""Chapter 5: the tutorial's faults and choices as switches, each compared with runs without it."""

from functools import partial
from typing import Any

import gradio as gr

from resnet_demo.evaluation.intervals import Effect, paired_effect
from resnet_demo.learn import lessons
from resnet_demo.learn.lessons import BASELINE_ARM, BUGS
from resnet_demo.runs.text import share_text
from resnet_demo.tasks.snapshot import RunSnapshot
from resnet_demo.ui.evaluate.text import signed
from resnet_demo.ui.learn.arm_plots import last_epoch, table_text
from resnet_demo.ui.learn.chapter_form import (
    ChapterForm,
    as_int,
    chapter_layout,
    connect_chapter,
    dataset_field,
    number_field,
    seeds_field,
)
from resnet_demo.ui.learn.group_panel import GroupReader, GroupSnapshot
from resnet_demo.ui.learn.guess import NOTHING_CLEAR
from resnet_demo.ui.services import Services

KIND = "bugs"
COLUMNS = ["switch", "accuracy", "time", "reported loss"]
NOTE = "Difference with the switch, over pairs of runs: mean, and 95 % interval in brackets."
SWITCHES = [(BUGS[name][0], name) for name in BUGS]  # label, value

Pairs = list[tuple[RunSnapshot, RunSnapshot]]  # with the switch, without it


def bugs_chapter(reader: GroupReader, tab: gr.Tab, guesses: gr.BrowserState) -> None:
    """Build the chapter: text, guess and switches on the left, effects on the right."""
    with chapter_layout(KIND, "5-bugs", partial(bugs_form, reader.services)) as chapter:
        table = gr.Markdown(elem_id="bugs-table", elem_classes="learn-table")
    connect_chapter(reader, tab, guesses, chapter, arms, [table], draw, conclusion, answer)


def bugs_form(services: Services) -> ChapterForm:
    """Build the switches, and the fields for epochs and seeds."""
    chosen = gr.CheckboxGroup(
        SWITCHES,
        value=["training mode", "no augmentation"],
        interactive=True,
        label="Switches to test, one at a time",
        elem_id="bugs-chosen",
    )
    with gr.Group(), gr.Row():
        dataset = dataset_field(services, KIND)
        epochs = number_field(KIND, "epochs", 4, "Epochs", "of 5,000 images")
        # Of one pair there is no interval, and "clear" means that the interval excludes zero.
        seeds = seeds_field(KIND, 3)
    return ChapterForm(
        inputs=[chosen, dataset, epochs, seeds],
        dataset=dataset,
        start=gr.Button("Train", variant="primary", elem_id="bugs-start"),
    )


def arms(chosen: list[str], dataset: str, epochs: Any, seeds: Any) -> lessons.Arms:
    """Return the arms for the values of the form. Raises ConfigError."""
    return lessons.bug_arms(chosen, as_int(seeds), {"dataset": dataset, "epochs": as_int(epochs)})


def draw(snapshot: GroupSnapshot) -> list[Any]:
    """Return the value of the table."""
    return [f"{NOTE}\n\n{table_text(COLUMNS, table_rows(snapshot))}"]


def table_rows(snapshot: GroupSnapshot) -> list[list[str]]:
    """Return a row for each switch, with dashes before a pair has finished."""
    rows = []
    for arm in BUGS:  # in the order of the switches above, not of the group's runs
        if arm not in snapshot.arms:
            continue
        # Runs of the same seed, so that the difference is the switch's and not the seed's.
        pairs = snapshot.pairs(arm, BASELINE_ARM)
        effects = ["–"] * 3
        if pairs:
            points = [100 * difference for difference in differences(pairs, "val_top1")]
            percent = [100 * slowdown for slowdown in slowdowns(pairs)]
            effects = [
                effect_text(paired_effect(points), " points", 2),
                effect_text(paired_effect(percent), " %", 0),
                effect_text(paired_effect(differences(pairs, "train_loss")), "", 3),
            ]
        count = "1 pair" if len(pairs) == 1 else f"{len(pairs)} pairs"
        rows.append([f"{BUGS[arm][0]} ({count})", *effects])
    return rows


def differences(pairs: Pairs, name: str) -> list[float]:
    """Return a number of the last epoch with the switch minus without it, for each pair."""
    return [last_epoch(bug, name) - last_epoch(base, name) for bug, base in pairs]


def slowdowns(pairs: Pairs) -> list[float]:
    """Return the extra time of the run with the switch, as a share, for each pair."""
    return [
        bug.view.total_seconds() / max(base.view.total_seconds(), 1e-9) - 1 for bug, base in pairs
    ]


def effect_text(found: Effect, unit: str, digits: int) -> str:
    """Return a mean and its interval."""
    text = f"{signed(found.mean, digits)}{unit}"
    if found.low is None:
        return text
    return f"{text} ({signed(found.low, digits)} to {signed(found.high, digits)})"


def answer(snapshot: GroupSnapshot) -> str | None:
    """Return the switch that clearly costs the most accuracy; None while pairs are missing."""
    pairs = {arm: snapshot.pairs(arm, BASELINE_ARM) for arm in snapshot.arms if arm in BUGS}
    if not pairs or any(len(found) < 2 for found in pairs.values()):  # one pair has no interval
        return None
    effects = {arm: paired_effect(differences(found, "val_top1")) for arm, found in pairs.items()}
    costs = {arm: found.mean for arm, found in effects.items() if found.is_clear and found.mean < 0}
    # The largest loss is the smallest number: costs are negative.
    return min(costs, key=costs.get) if costs else NOTHING_CLEAR


def conclusion(snapshot: GroupSnapshot) -> str:
    """Return the accuracy without a switch, and the switches whose interval excludes zero."""
    base = snapshot.finished(BASELINE_ARM)
    if not base:
        return ""
    top1 = sum(last_epoch(run, "val_top1") for run in base) / len(base)
    # The same test as for the answer, but shown while further pairs are still training.
    clear = [
        BUGS[arm][0]
        for arm in snapshot.arms
        if arm in BUGS
        and (pairs := snapshot.pairs(arm, BASELINE_ARM))
        and paired_effect(differences(pairs, "val_top1")).is_clear
    ]
    runs = "1 run" if len(base) == 1 else f"the mean of {len(base)} runs"
    text = f"Without a switch: validation accuracy {share_text(top1, 2)}, {runs}. "
    if not clear:
        return text + "No switch has a clear effect on it so far."
    return text + f"Clear effect: {'; '.join(clear)}."
