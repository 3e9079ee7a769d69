"""Chapter 3: the size of gradients and signals in each layer, over training."""

from functools import partial
from typing import Any

import gradio as gr
import numpy as np
from gradio.components.plot import PlotData
from gradio.processing_utils import encode_plot_to_base64

from resnet_demo.architectures import CIFAR_DEPTHS
from resnet_demo.events import Probe
from resnet_demo.learn import lessons
from resnet_demo.learn.probe_history import ProbeHistory, depth_figure
from resnet_demo.lru import LRU
from resnet_demo.runs.text import share_text
from resnet_demo.tasks.snapshot import RunSnapshot, run_key
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
from resnet_demo.ui.plots import chart, line_chart, plot
from resnet_demo.ui.services import QUIET_EVENT, Services

KIND = "gradient"
QUANTITIES = [("gradients", "gradients"), ("signals", "activations")]
UNITS = {"gradients": "length of the gradient", "activations": "size of the signal"}
VANISHED = 100  # times smaller than the largest gradient of a layer; the question says so
# The arms in which the gradient vanishes -> the option of the question
ANSWERS = {
    (): "none",
    ("plain without BatchNorm",): "bare",
    ("plain", "plain without BatchNorm"): "plain",
    ("plain", "plain without BatchNorm", "residual"): "all",
}
MAX_LOGS = 12  # four groups; the log of a deep network takes some megabytes


class ProbeLogs:
    """A cache of the probe logs of the runs shown last. A log is read incrementally."""

    def __init__(self) -> None:
        self._logs: LRU[tuple[str, float], ProbeHistory] = LRU(MAX_LOGS)

    def read(self, run: RunSnapshot) -> ProbeHistory:
        """Return the probes of a run, up to date."""
        key = run_key(run.run)
        # Probes are long: a log is parsed once, and later only its new lines.
        log = self._logs.get(key) or ProbeHistory(run.run.log())
        log.refresh()
        self._logs[key] = log
        return log

    def read_arms(self, snapshot: GroupSnapshot) -> dict[str, ProbeHistory]:
        """Return the probes of the first run of each arm."""
        # Of several seeds the first: a heat map shows one training.
        return {arm: self.read(runs[0]) for arm, runs in snapshot.arms.items() if runs}


def gradient_chapter(
    reader: GroupReader, tab: gr.Tab, guesses: gr.BrowserState, dark: gr.Checkbox
) -> None:
    """Build the chapter: text, guess and form on the left, heat maps and one step on the right.

    dark: on if the page is dark.
    """
    with chapter_layout(KIND, "3-gradient", partial(gradient_form, reader.services)) as chapter:
        quantity, moment, *results = gradient_results()
    logs = ProbeLogs()  # of all pages; only the reader's thread uses it

    def draw(snapshot: GroupSnapshot, quantity: str, moment: float, dark: bool) -> list[Any]:
        probed = logs.read_arms(snapshot)
        maps = draw_maps(probed, quantity, dark)
        return [maps, profile_chart(probed, quantity, moment)]

    def draw_group(group_id: str, *values: Any) -> list[Any]:
        return draw(reader.snapshot_of(group_id), *values)

    async def on_change(group_id: str | None, *values: Any) -> list[Any]:
        if not group_id:
            return [gr.skip()] * len(results)
        return await reader.run(draw_group, group_id, *values)

    def conclude(snapshot: GroupSnapshot) -> str:
        return conclusion(snapshot, logs.read_arms(snapshot))

    def find_answer(snapshot: GroupSnapshot) -> str | None:
        return answer(snapshot, logs.read_arms(snapshot))

    # `watch_group` redraws only after a change of the runs, so both controls redraw on their own.
    controls = [quantity, moment, dark]
    connect_chapter(
        reader, tab, guesses, chapter, arms, results, draw, conclude, find_answer, controls
    )
    latest = QUIET_EVENT | {"trigger_mode": "always_last"}
    inputs = [chapter.panel["choice"], *controls]
    gr.on([quantity.change, moment.change], on_change, inputs, results, **latest)


def gradient_form(services: Services) -> ChapterForm:
    """Build the fields for depth and length."""
    with gr.Group(), gr.Row():
        # One depth: the chapter compares three kinds of networks of the same depth.
        depth = gr.Dropdown(
            [(str(depth), depth) for depth in CIFAR_DEPTHS],
            value=20,
            label="Depth",
            interactive=True,
            elem_id="gradient-depth",
            min_width=110,
        )
        dataset = dataset_field(services, KIND)
        epochs = number_field(KIND, "epochs", 2, "Epochs", "of 5,000 images")
    return ChapterForm(
        inputs=[depth, dataset, epochs],
        dataset=dataset,
        start=gr.Button("Train all three", variant="primary", elem_id="gradient-start"),
    )


def gradient_results() -> list[Any]:
    """Build the controls (quantity, moment), heat maps, and the chart of one step."""
    with gr.Row():
        quantity = gr.Radio(
            QUANTITIES,
            value="gradients",
            label="Show",
            interactive=True,
            elem_id="gradient-quantity",
            min_width=200,
        )
        moment = gr.Slider(
            0,
            100,
            value=100,
            step=1,
            label="Moment (% of steps)",
            interactive=True,
            elem_id="gradient-moment",
            min_width=200,
        )
    maps = gr.Plot(show_label=False, elem_id="gradient-maps")
    return [quantity, moment, maps, line_chart("gradient-profile", arm_plots.no_chart())]


def arms(depth: Any, dataset: str, epochs: Any) -> lessons.Arms:
    """Return the arms for the values of the form. Raises ConfigError."""
    return lessons.gradient_arms(depth, 1, {"dataset": dataset, "epochs": as_int(epochs)})


def draw_maps(probed: dict[str, ProbeHistory], quantity: str, dark: bool) -> PlotData | None:
    """Return the heat maps as an image; None before there is a probe."""
    maps = {
        arm: ([probe.step for probe in log.probes], probe_grid(log.probes, quantity))
        for arm, log in probed.items()
        if log.probes
    }
    if not maps:
        return None
    # Given a figure, gr.Plot would draw it on the event loop: it gets the finished image instead.
    image = encode_plot_to_base64(depth_figure(maps, UNITS[quantity], dark), "webp")
    return PlotData(type="matplotlib", plot=image)


def probe_grid(probes: list[Probe], quantity: str) -> np.ndarray:
    """Return a quantity as (layers, steps), with NaN for values that are not finite."""
    rows = [
        [np.nan if value is None else value for value in getattr(probe, quantity)]
        for probe in probes
    ]
    return np.array(rows, dtype=float).T


def profile_chart(probed: dict[str, ProbeHistory], quantity: str, moment: float) -> dict[str, Any]:
    """Return a quantity by layer; moment: in percent of the steps so far."""
    lines, step = {}, 0
    for arm, log in probed.items():
        if log.probes:
            # In percent, because the networks of a group are at different steps while they train.
            probe = log.probes[round((len(log.probes) - 1) * moment / 100)]
            step = max(step, probe.step)
            lines[arm] = [
                (layer, value)
                for layer, value in enumerate(getattr(probe, quantity), start=1)
                if value is not None
            ]
    title = f"{UNITS[quantity].capitalize()} by layer, at step {step}"
    lines = arm_plots.arm_lines(lines)
    # Logarithmic at first: what vanishes differs by powers of ten.
    return chart("layer", [plot(f"learn-{quantity}", title, lines, log="first")])


def conclusion(snapshot: GroupSnapshot, probed: dict[str, ProbeHistory]) -> str:
    """Return the ratio of the first layer's gradient to the last convolution's (Markdown)."""
    sentences = []
    for arm, log in probed.items():
        if not log.probes:
            continue
        # The first and the last probe: whether a gradient vanishes may change while it trains.
        moments = " and ".join(
            f"{ratio_text(probe)} at step {probe.step}" for probe in (log.probes[0], log.probes[-1])
        )
        best = snapshot.arms[arm][0].view.best
        accuracy = f" Best validation accuracy: {share_text(best.val_top1)}." if best else ""
        sentences.append(f"- {arm_plots.bold_arm(arm)}: {moments}.{accuracy}")
    if not sentences:
        return ""
    return "\n".join(
        ["Gradient of the first layer, compared with the last convolution's:", "", *sentences]
    )


def answer(snapshot: GroupSnapshot, probed: dict[str, ProbeHistory]) -> str | None:
    """Return in which networks the gradient has vanished at the last step."""
    # A gradient may vanish late, so it is judged when all three have ended.
    if any(not snapshot.finished(arm) or not log.probes for arm, log in probed.items()):
        return None
    return ANSWERS.get(tuple(sorted(arm for arm, log in probed.items() if has_vanished(log))))


def has_vanished(log: ProbeHistory) -> bool:
    """Return whether the last gradients of two convolutions differ by more than VANISHED times."""
    # Of the convolutions only: the last layer is the linear head.
    sizes = [size for size in log.probes[-1].gradients[:-1] if size is not None]
    # No finite gradient left counts too: nothing can be learned from it.
    return not sizes or max(sizes) > VANISHED * min(sizes)


def ratio_text(probe: Probe) -> str:
    """Return the ratio of both gradients: `50 times smaller`."""
    first, last = probe.gradients[0], probe.gradients[-2]  # the last layer is the linear head
    if not first or not last:
        return "zero or not a number"
    ratio = max(first, last) / min(first, last)
    if ratio < 1.05:
        return "equal"
    number = f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.2g}"
    return f"{number} times {'larger' if first > last else 'smaller'}"
