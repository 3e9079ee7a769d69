"""Chapter 8: few images a class, learned from scratch and with features from ImageNet."""

from collections.abc import Sequence
from functools import partial
from statistics import mean
from typing import Any

import gradio as gr

from resnet_demo.learn import lessons
from resnet_demo.learn.lessons import LEARNERS, PER_CLASS, SCRATCH, TRANSFER, parse_arm
from resnet_demo.tasks.snapshot import RunSnapshot
from resnet_demo.ui import plots
from resnet_demo.ui.learn import arm_plots
from resnet_demo.ui.learn.chapter_form import (
    ChapterForm,
    as_int,
    chapter_layout,
    chart_and_table,
    connect_chapter,
    dataset_field,
    seeds_field,
)
from resnet_demo.ui.learn.group_panel import GroupReader, GroupSnapshot
from resnet_demo.ui.learn.guess import SHARES
from resnet_demo.ui.services import Services

KIND = "transfer"
NAMES = {SCRATCH: "from scratch", TRANSFER: "transfer"}
COLOURS = {SCRATCH: "#ce5f0a", TRANSFER: "#2b7fd0"}  # as plain and residual in the other chapters
COLUMNS = ["images a class", *NAMES.values(), "seeds"]
NOTE = "Validation accuracy after the last epoch; several seeds: mean, lowest and highest."

Results = dict[str, dict[int, list[float]]]


def transfer_chapter(reader: GroupReader, tab: gr.Tab, guesses: gr.BrowserState) -> None:
    """Build the chapter: text, guess and form on the left, accuracy by images on the right."""
    with chapter_layout(KIND, "8-transfer", partial(transfer_form, reader.services)) as chapter:
        results = chart_and_table(KIND)

    def arms_here(per_class: list[str], dataset: str, seeds: Any) -> lessons.Arms:
        # The dataset is read here: images a class times its classes is the number to train on.
        info = reader.services.datasets.get(dataset)
        counts = [int(count) for count in per_class]
        return lessons.transfer_arms(counts, as_int(seeds), {"dataset": dataset}, info)

    connect_chapter(reader, tab, guesses, chapter, arms_here, results, draw, conclusion, answer)


def transfer_form(services: Services) -> ChapterForm:
    """Build the fields for images a class, dataset and seeds."""
    with gr.Group():
        per_class = gr.CheckboxGroup(
            [str(count) for count in PER_CLASS],
            value=["10", "30"],
            label="Training images of each class",
            interactive=True,
            elem_id="transfer-counts",
        )
        with gr.Row():
            dataset, seeds = dataset_field(services, KIND), seeds_field(KIND, 1)
    return ChapterForm(
        inputs=[per_class, dataset, seeds],
        dataset=dataset,
        start=gr.Button("Train both", variant="primary", elem_id="transfer-start"),
    )


def draw(snapshot: GroupSnapshot) -> list[Any]:
    """Return the values of chart and table."""
    results = accuracies(snapshot)
    lines = [
        plots.line(
            NAMES[learner],
            [arm_plots.spread_point(count, values) for count, values in by_count.items()],
            COLOURS[learner],
            marks=True,
        )
        for learner, by_count in results.items()
    ]
    note = arm_plots.SEED_BANDS if has_seeds(results) else ""
    title = "Validation accuracy by training images"
    plot = plots.plot("learn-transfer", title, lines, y=(0, 100), unit=" %", note=note)
    # From 10 to 300 images each step about triples: on a linear axis the first ones would touch.
    chart = plots.chart("training images a class", [plot], log_x=True)
    table = arm_plots.table_text(COLUMNS, table_rows(results))
    return [chart, f"{NOTE}\n\n{table}" if table else ""]


def accuracies(snapshot: GroupSnapshot) -> Results:
    """Return learner -> images a class -> accuracies in percent of the finished runs."""
    results: Results = {learner: {} for learner in LEARNERS}
    # Sorted by the number: as text, 100 would come before 30.
    known = {arm: parsed for arm in snapshot.arms if (parsed := parse_arm(arm))}
    for arm, (learner, count) in sorted(known.items(), key=lambda item: item[1]):
        values = [last_accuracy(run) for run in snapshot.finished(arm) if run.view.epochs]
        if values:
            results[learner][count] = values
    return results


def last_accuracy(run: RunSnapshot) -> float:
    """Return the last validation accuracy in percent."""
    return 100 * arm_plots.last_epoch(run, "val_top1")


def has_seeds(results: Results) -> bool:
    """Return whether any number of images has several seeds."""
    return any(len(values) > 1 for by_count in results.values() for values in by_count.values())


def table_rows(results: Results) -> list[list[str]]:
    """Return a row for each number of images; a dash stands for a run that has not finished."""
    counts = sorted({count for by_count in results.values() for count in by_count})
    rows = []
    for count in counts:
        values = [results[learner].get(count, []) for learner in NAMES]
        rows.append([str(count), *map(range_text, values), str(max(map(len, values)))])
    return rows


def range_text(values: Sequence[float]) -> str:
    """Return a mean, and the lowest and the highest of several values, in percent."""
    if not values:
        return "–"
    spread = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
    return f"{mean(values):.1f} %{spread}"


def conclusion(snapshot: GroupSnapshot) -> str:
    """Return what transfer gains with the fewest images, and how far scratch comes (Markdown)."""
    results = accuracies(snapshot)
    scratch, transfer = results[SCRATCH], results[TRANSFER]
    # Only numbers of images that both have finished can be compared.
    both = sorted(scratch.keys() & transfer.keys())
    if not both:
        return ""
    few, many = both[0], both[-1]
    low, high = mean(scratch[few]), mean(transfer[few])
    text = f"With {few} images a class: **{low:.1f} %** from scratch, **{high:.1f} %** by transfer."
    if many == few:
        return text
    best = mean(scratch[many])
    relation = "still fewer" if best < high else "more"
    return text + f" From scratch, {many} images a class reach {best:.1f} %: {relation}."


def answer(snapshot: GroupSnapshot) -> str | None:
    """Return the option that is nearest to the accuracy of transfer with the fewest images."""
    transfer = accuracies(snapshot)[TRANSFER]
    if not transfer:
        return None
    # With the fewest images, which is what the question asks about.
    reached = mean(transfer[min(transfer)])
    return min(SHARES, key=lambda share: abs(float(share) - reached))
