"""The line above Train: what the form would train, and how long that would take.

If the duration is unknown, it is measured once the form has not changed for a moment. The timer
that looks for the result runs only until there is one.
"""

import time
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr

from resnet_demo.config import TrainConfig, chosen_values
from resnet_demo.data.info import DatasetInfo
from resnet_demo.data.recipe_fit import check_data, fit_recipe
from resnet_demo.data.splits import steps_per_epoch
from resnet_demo.errors import DemoError
from resnet_demo.hosting.zerogpu.slice import Cost, estimate_cost
from resnet_demo.hosting.zerogpu.visitor_runs import DEFAULT_SLICE_S, check_seconds
from resnet_demo.models.counts import model_counts
from resnet_demo.runs.text import count_text, duration_text, escape_markdown
from resnet_demo.tasks.estimate import Estimate, estimate
from resnet_demo.tasks.queue import live_runs
from resnet_demo.ui.form import adapted_fields, without_underscores, wrong_fields, wrong_text
from resnet_demo.ui.services import Services

TICK_S = 2.0
DEBOUNCE_S = 2.0  # between a change of the form and a measurement
RECENT_S = 600.0
UNKNOWN = "duration unknown until this network has run here"
MEASURING = "Estimating time…"
BUSY = "duration unknown; it is measured when nothing trains"
UNKNOWN_COST = "GPU time unknown until the first slice has run"
FAILED = "the duration could not be measured"


@dataclass(frozen=True)
class EstimateState:
    """The line that a page shows, and the values of the form that it is about.

    since: when the page began to show these values, Unix seconds. changed: by the visitor, not by
    opening the page. waits_for: `result` of a measurement, `quiet` after the runs, or nothing.
    wrong: fields in error, and what to enter. adapted: fields with another value in the run, and
    that value in words.
    """

    values: dict[str, Any]
    since: float
    changed: bool
    text: str = ""
    waits_for: str = ""
    wrong: dict[str, str] = field(default_factory=dict)
    adapted: dict[str, str] = field(default_factory=dict)
    slice_s: float | None = None  # seconds of a slice, on ZeroGPU

    @property
    def marks(self) -> dict[str, dict[str, str]]:
        """Return the fields to be marked, for `Form.connect_marks`."""
        return {"wrong": self.wrong, "adapted": self.adapted}


def estimate_line() -> dict[str, Any]:
    """Build the line; return its components, in the order of `update_estimate`."""
    return {
        "facts": gr.Markdown(elem_id="facts"),
        "timer": gr.Timer(TICK_S, active=False),
        "estimate_state": gr.State(None),
    }


def update_estimate(
    services: Services,
    values: dict[str, Any],
    before: EstimateState | None,
    slice_s: float | None = None,
) -> tuple[Any, ...]:
    """Return the updates of text, timer and state. Call it again while the state waits."""
    skip = gr.skip()
    is_new = before is None or (before.values, before.slice_s) != (values, slice_s)
    # Ends of runs and ticks call this too: without a new form and without waiting, nothing changes.
    if not is_new and not before.waits_for:
        return skip, skip, skip
    state = before
    if is_new:
        state = EstimateState(values, time.time(), before is not None, slice_s=slice_s)
        state = replace(
            state,
            wrong=wrong_values(services, values, slice_s),
            adapted=adapted_fields(values, services.datasets),
        )
    if state.wrong:
        text, waits_for = wrong_text(state.wrong), ""
    else:
        text, waits_for = describe_run(services, state)
    now = replace(state, text=text, waits_for=waits_for)
    if now == before:
        return skip, skip, skip
    # `quiet` needs no timer: the end of a run changes its status, which triggers this event too.
    ticks = gr.update(active=waits_for == "result")
    return skip if before and before.text == text else text, ticks, now


def wrong_values(
    services: Services, values: dict[str, Any], slice_s: float | None
) -> dict[str, str]:
    """Return the fields in error, and what to enter; as `wrong_fields`."""
    wrong = wrong_fields(values, services.datasets)
    if services.slices is not None and slice_s is not None:
        try:
            check_seconds(slice_s)
        except DemoError as error:
            wrong["seconds"] = str(error)
    return wrong


def describe_run(services: Services, state: EstimateState) -> tuple[str, str]:
    """Return the line for these values, and what it waits for."""
    try:
        config, adapted = fit_recipe(chosen_values(state.values), services.datasets)
        info = check_data(config, services.datasets)
    except DemoError as error:  # the dataset was deleted meanwhile
        return f"⚠ {escape_markdown(str(error))}", ""
    size = model_counts(
        config.model, len(info.classes), config.image_size, config.stem, config.batch_norm
    )
    # The sizes follow from the configuration: no image is loaded for this line.
    images, _ = services.datasets.split_sizes(config)
    is_head = config.train_layers == "head"  # fitted to all images at once
    steps = config.epochs * (1 if is_head else steps_per_epoch(images, config.batch_size))
    duration, waits_for = describe_duration(services, config, info, state)
    lines = [
        f"{duration} · {steps:,} step{'s' * (steps != 1)}",
        f"{count_text(size.parameters)} parameters · "
        f"{count_text(size.macs)} multiply-adds per image",
    ]
    if adapted:
        lines.append(escape_markdown(without_underscores(adapted[0].upper() + adapted[1:])) + ".")
    return "\n\n".join(lines), waits_for


def describe_duration(
    services: Services, config: TrainConfig, info: DatasetInfo, state: EstimateState
) -> tuple[str, str]:
    """Return the duration, or why it is unknown; and what the line waits for."""
    if services.slices is not None:
        slice_s = state.slice_s or DEFAULT_SLICE_S
        cost = estimate_cost(config, info, services.runs, slice_s, services.run_speeds)
        return cost_text(cost, slice_s), "quiet"  # another slice may make it more precise
    known, caller = estimate(config, info, services.runs, services.run_speeds), services.caller()
    if known:
        return estimate_text(known), ""
    if not caller.is_owner:
        return UNKNOWN, ""  # strangers start no work on this machine
    # Processes on the same cores slow each other: the measurement would be wrong.
    if live_runs(services.paths.runs):
        return BUSY, "quiet"
    if time.time() >= state.since + DEBOUNCE_S:
        problem = services.speed_tests.ensure_measured(
            config, info, caller, state.since, state.changed
        )
        if problem is not None:
            return f"{FAILED}: {escape_markdown(problem)}", ""
    return MEASURING, "result"


def cost_text(cost: Cost | None, slice_s: float) -> str:
    """Return the cost in GPU time and slices (Markdown)."""
    if cost is None:
        return UNKNOWN_COST
    # Without the time that a slice needs beside training, the cost is a lower bound.
    sign = "≥" if cost.overhead_s is None else "≈"
    slices = f"{cost.slices} slice{'s' * (cost.slices != 1)}"
    return (
        f"**{sign} {duration_text(cost.seconds)}** of GPU time in **{slices}** of {slice_s:.0f} s, "
        f"{cost.epochs_per_slice:.1f} epochs per slice (measured in {cost.run_id})"
    )


def estimate_text(known: Estimate) -> str:
    """Return the duration and what it was measured in (Markdown)."""
    if known.run_id:
        source = f"measured in {known.run_id}"
    elif time.time() - known.measured_at < RECENT_S:
        source = "measured just now"
    else:
        source = "measured earlier"
    return f"**≈ {duration_text(known.seconds)}** ({source})"
