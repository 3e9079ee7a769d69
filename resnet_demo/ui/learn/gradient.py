"""Chapter 3: how large the gradient is in each layer, over training."""

from typing import Any

import gradio as gr
import numpy as np

from resnet_demo.architectures import CIFAR_DEPTHS
from resnet_demo.events import Probe
from resnet_demo.learn import lessons
from resnet_demo.learn.probe_history import ProbeHistory, depth_figure
from resnet_demo.runs.groups import group_of
from resnet_demo.tasks.snapshot import RunSnapshot
from resnet_demo.ui.learn import arm_plots
from resnet_demo.ui.learn.chapter_form import (
    ChapterForm,
    as_int,
    chapter_text,
    connect_form,
    dataset_field,
    number_field,
)
from resnet_demo.ui.learn.group_panel import GroupSnapshot, group_panel, read_group, watch_group
from resnet_demo.ui.services import QUIET_EVENT, Services

KIND = "gradient"
SHOWN = {"gradients": "length of the gradient", "activations": "size of the signal"}
QUESTIONS = [("gradients", "gradients"), ("signals", "activations")]
LEAST = 1e-12  # what has no logarithm is drawn at the bottom


def gradient_chapter(services: Services, tab: gr.Tab, dark: gr.Checkbox) -> None:
    """Words and form on one side; heat maps, and one step of them as a line, on the other."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=330):
            chapter_text("3-gradient")
            form = gradient_form(services)
        with gr.Column(scale=7, min_width=330):
            panel = group_panel(KIND)
            with panel["results"]:
                what, at, *results = gradient_results()
    known: dict[str, ProbeHistory] = {}  # read on from where each log ended

    def draw(seen: GroupSnapshot, what: str, at: float, dark: bool) -> list[Any]:
        probed = {arm: read_probes(known, looks[0]) for arm, looks in seen.looks.items() if looks}
        return [arm_plots.legend(seen), draw_maps(probed, what, dark), lines(probed, what, at)]

    async def again(group: str | None, what: str, at: float, dark: bool) -> list[Any]:
        if not group:
            return [gr.skip()] * 3
        return draw(read_group(services, group_of(services.runs, group)), what, at, dark)

    choices = [what, at, dark]
    connect_form(services, KIND, tab, form, arms, panel["choice"])
    watch_group(services, KIND, tab, panel, results, draw, conclude(known), choices)
    latest = {**QUIET_EVENT, "trigger_mode": "always_last"}
    gr.on([what.change, at.change], again, [panel["choice"], *choices], results, **latest)


def gradient_form(services: Services) -> ChapterForm:
    """Depth and length."""
    with gr.Group(), gr.Row():
        depth = gr.Dropdown(
            [(str(depth), depth) for depth in CIFAR_DEPTHS], value=20, label="Depth",
            interactive=True, elem_id="gradient-depth", min_width=110,
        )  # fmt: skip
        dataset = dataset_field(services, KIND)
        epochs = number_field(KIND, "epochs", 2, "Epochs", "of 5,000 images")
    return ChapterForm(
        inputs=[depth, dataset, epochs],
        dataset=dataset,
        start=gr.Button("Train all three", variant="primary", elem_id="gradient-start"),
    )


def gradient_results() -> list[Any]:
    """What is shown and at which moment; legend, heat maps, profile."""
    with gr.Row():
        what = gr.Radio(
            QUESTIONS, value="gradients", label="Show", interactive=True,
            elem_id="gradient-what", min_width=200,
        )  # fmt: skip
        at = gr.Slider(
            0, 100, value=100, step=1, label="Moment (% of the steps so far)", interactive=True,
            elem_id="gradient-at", min_width=200,
        )  # fmt: skip
    legend = gr.HTML(elem_classes="learn-legend", padding=False)
    profile = arm_plots.arm_plot(
        "gradient-profile", "By layer, at that moment", x="layer", y="size", y_title="log10"
    )
    maps = gr.Plot(show_label=False, elem_id="gradient-maps")
    return [what, at, legend, maps, profile]


def arms(depth: Any, dataset: str, epochs: Any) -> lessons.Arms:
    """What the form asks for. Raises ConfigError."""
    return lessons.gradient_arms(depth, 1, {"dataset": dataset, "epochs": as_int(epochs)})


def read_probes(known: dict[str, ProbeHistory], look: RunSnapshot) -> ProbeHistory:
    """The run's probes, up to date."""
    probed = known.setdefault(str(look.run.path), ProbeHistory(look.run.log()))
    probed.refresh()
    return probed


def draw_maps(probed: dict[str, ProbeHistory], what: str, dark: bool) -> Any:
    """The heat maps; None before anything was seen."""
    maps = {
        arm: ([probe.step for probe in one.probes], grid(one.probes, what))
        for arm, one in probed.items()
        if one.probes
    }
    return depth_figure(maps, SHOWN[what], dark) if maps else None


def grid(probes: list[Probe], what: str) -> np.ndarray:
    """(layers, T); NaN where there was no number."""
    rows = [[np.nan if value is None else value for value in getattr(p, what)] for p in probes]
    return np.array(rows, dtype=float).T


def lines(probed: dict[str, ProbeHistory], what: str, at: float) -> dict[str, Any] | None:
    """The profile by depth at a share, in percent, of the steps that were seen."""
    rows = []
    for arm, one in probed.items():
        if one.probes:
            probe = one.probes[round((len(one.probes) - 1) * at / 100)]
            rows += [
                [number, round(float(np.log10(max(value, LEAST))), 3), arm]
                for number, value in enumerate(getattr(probe, what), start=1)
                if value is not None
            ]
    return arm_plots.table_of(rows, ["layer", "size", "arm"]) if rows else None


def conclude(known: dict[str, ProbeHistory]) -> Any:
    """The first layer's gradient beside the last but one's, at the first step and at the last."""

    def told(seen: GroupSnapshot) -> str:
        sentences = []
        for arm, looks in seen.looks.items():
            probes = read_probes(known, looks[0]).probes if looks else []
            if probes:
                first, last = (ratio(probe) for probe in (probes[0], probes[-1]))
                val = looks[0].view.best
                best = f"; best validation top-1 {val.val_top1:.1%}" if val else ""
                sentences.append(
                    f"- {arm_plots.bold_arm(arm)}: the first layer's gradient is {first} times the "
                    f"last convolution's at step {probes[0].step}, {last} times at step "
                    f"{probes[-1].step}{best}."
                )
        return "\n".join(sentences)

    return told


def ratio(probe: Probe) -> str:
    """The first convolution's gradient over the last convolution's, in words."""
    first, last = probe.gradients[0], probe.gradients[-2]
    if first is None or not last:
        return "no number of"
    return f"{first / last:,.0f}" if first >= 100 * last else f"{first / last:.2g}"
