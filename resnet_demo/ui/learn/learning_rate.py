"""Chapter 7: a learning rate range test, whose result can fill the Train form."""

import math
from functools import partial
from typing import Any

import gradio as gr

from resnet_demo.architectures import MODELS
from resnet_demo.config import TrainConfig
from resnet_demo.data.store import Datasets
from resnet_demo.errors import DemoError
from resnet_demo.learn import lessons
from resnet_demo.learn.lessons import RangeTest, analyze_range_test, guessing_loss
from resnet_demo.ui import plots
from resnet_demo.ui.learn import arm_plots
from resnet_demo.ui.learn.chapter_form import (
    ChapterForm,
    as_int,
    chapter_layout,
    connect_chapter,
    dataset_field,
    number_field,
)
from resnet_demo.ui.learn.group_panel import GroupReader, GroupSnapshot
from resnet_demo.ui.learn.guess import RATES
from resnet_demo.ui.services import QUIET_EVENT, Services

KIND = "range"
LOSS, LOWEST = "#2b7fd0", "#ce5f0a"  # colours
# Fields that belong to the test, not to what was tested. All others are copied to the Train form.
OF_THE_TEST = frozenset(
    ("recipe", "epochs", "schedule", "warmup_epochs", "train_images", "val_share", "seed")
)
OPTIMIZERS = TrainConfig.__dataclass_fields__["optimizer"].metadata["choices"]


def range_chapter(
    reader: GroupReader,
    tab: gr.Tab,
    guesses: gr.BrowserState,
    form: dict[str, Any],
    tabs: gr.Tabs,
) -> None:
    """Build the chapter: text, guess and form on the left, the chart on the right.

    form: the components of the Train form by field. tabs: of the page, to go to the Train tab.
    """
    with chapter_layout(KIND, "7-range", partial(range_form, reader.services)) as chapter:
        chart = plots.line_chart("range-chart", arm_plots.no_chart())
        use = gr.Button(visible=False, elem_id="range-use", size="sm")
    found = gr.State(None)
    copied = [name for name in form if name not in OF_THE_TEST]

    def read(snapshot: GroupSnapshot) -> RangeTest:
        return range_result(snapshot, reader.services.datasets)

    connect_chapter(
        reader,
        tab,
        guesses,
        chapter,
        partial(arms, reader.services.datasets),
        [chart, use, found],
        lambda snapshot: draw(snapshot, read(snapshot)),
        lambda snapshot: conclusion(snapshot, read(snapshot)),
        lambda snapshot: answer(snapshot, read(snapshot)),
    )

    # The values of the test, not those of its form, which may have changed since.
    def on_use(values: dict[str, Any]) -> list[Any]:
        gr.Info("The rate and all settings of the test are in the form now.")
        if values["dataset"] not in reader.services.datasets.names():  # that of a recording
            values = values | {"dataset": gr.skip()}
        return [gr.Tabs(selected="train"), *(values[name] for name in copied)]

    use.click(on_use, found, [tabs, *(form[name] for name in copied)], **QUIET_EVENT)


def range_form(services: Services) -> ChapterForm:
    """Build the fields that the best learning rate depends on."""
    with gr.Group():
        with gr.Row():
            model = gr.Dropdown(
                list(MODELS),
                value="resnet20",
                label="Network",
                interactive=True,
                elem_id="range-model",
                min_width=150,
            )
            optimizer = gr.Dropdown(
                list(OPTIMIZERS),
                value="sgd",
                label="Optimizer",
                interactive=True,
                elem_id="range-optimizer",
                min_width=110,
            )
        with gr.Row():
            dataset = dataset_field(services, KIND)
            batch_size = number_field(KIND, "batch", 128, "Batch size", low=2)
            steps = number_field(KIND, "steps", 100, "Steps", low=20)
    return ChapterForm(
        inputs=[model, optimizer, batch_size, dataset, steps],
        dataset=dataset,
        start=gr.Button("Start the test", variant="primary", elem_id="range-start"),
    )


def arms(
    datasets: Datasets, model: str, optimizer: str, batch_size: Any, dataset: str, steps: Any
) -> lessons.Arms:
    """Return the one arm for the values of the form. Raises ConfigError, NotFoundError."""
    values = {
        "model": model,
        "optimizer": optimizer,
        "batch_size": as_int(batch_size),
        "dataset": dataset,
        # As the help of the setting `optimizer` advises.
        "momentum": 0.6 if optimizer == "muon" else 0.9,
    }
    return lessons.range_arms(as_int(steps), values, datasets.get(dataset))


def range_result(snapshot: GroupSnapshot, datasets: Datasets) -> RangeTest:
    """Return the result so far of the group's one run."""
    run = snapshot.runs[0] if snapshot.runs else None
    if not run:
        return analyze_range_test([])
    try:
        counts = datasets.class_counts(run.run.config().dataset)["train"]
        guessing = guessing_loss([*counts.values()])
    except DemoError:  # the images of the recording need not be here
        guessing = None
    return analyze_range_test([(step.lr, step.loss) for step in run.view.steps], guessing)


def draw(snapshot: GroupSnapshot, result: RangeTest) -> list[Any]:
    """Return the values of chart and button, and the fields that the button fills in."""
    lines = [plots.line("smoothed loss", result.points, LOSS)]
    if result.suggested:
        rate, loss = result.lowest
        highest = max(loss for _, loss in result.points)
        # A vertical line: the chart has lines only.
        lines.append(plots.line("lowest", [(rate, highest), (rate, loss)], LOWEST))
    losses = [loss for _, loss in result.points] or [0.0]
    # Without 0, unlike other charts: the reader looks for the lowest point of a curve.
    room = 0.1 * (max(losses) - min(losses)) or 0.1
    ends = (max(0.0, min(losses) - room), max(losses) + room)
    plot = plots.plot("learn-range", "Smoothed loss by learning rate", lines, y=ends)
    chart = plots.chart("learning rate", [plot], log_x=True)
    if result.suggested is None or not is_complete(snapshot, result):
        return [chart, gr.update(visible=False, value=""), None]
    values = {**snapshot.runs[0].run.config().to_dict(), "peak_lr": result.suggested}
    label = f"Copy {result.suggested:g} and the settings of this test to the Train tab"
    return [chart, gr.update(visible=True, value=label), values]


def answer(snapshot: GroupSnapshot, result: RangeTest) -> str | None:
    """Return the option that is nearest to the rate of the lowest loss."""
    if result.suggested is None or not is_complete(snapshot, result):
        return None
    # Nearest by ratio: the options are powers of ten.
    return min(RATES, key=lambda rate: abs(math.log(float(rate) / result.lowest[0])))


def is_complete(snapshot: GroupSnapshot, result: RangeTest) -> bool:
    """Return whether the test can be judged: it took all of its steps, or the loss diverged."""
    # Earlier, the lowest loss may be still to come.
    finished = all(run.status.state == "finished" for run in snapshot.runs)
    return bool(snapshot.runs) and (finished or (result.diverged and not snapshot.is_live))


def conclusion(snapshot: GroupSnapshot, result: RangeTest) -> str:
    """Return the suggested learning rate and its reason, or that nothing was learned."""
    if not result.points:
        return ""
    rate, loss = result.points[-1]
    if snapshot.is_live:
        return f"Learning rate {rate:.2g}, loss {loss:.3f}. The advice comes after the last step."
    if not is_complete(snapshot, result) or not result.lowest:
        return f"The test ended early, at a learning rate of {rate:.2g}: no advice."
    rate, loss = result.lowest
    # A rate with the lowest loss of a network that only guesses would be no advice.
    if result.suggested is None:
        return (
            f"**Nothing was learned.** The lowest smoothed loss is {loss:.3f}, and guessing has "
            f"{result.guessing:.3f}. So there is no rate to recommend. Try more steps, another "
            "network or another optimizer."
        )
    diverged = " Above that rate the loss diverges." if result.diverged else ""
    return (
        f"The smoothed loss is lowest ({loss:.3f}) at a learning rate of {rate:.3g}.{diverged} "
        f"A tenth of it is a good start: **{result.suggested:g}**. To find the best rate, compare "
        f"a few by validation accuracy."
    )
