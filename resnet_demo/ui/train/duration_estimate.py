"""The line above Train: what the form as it stands would train, and how long that would take.

Where nobody knows how long, it is measured, once the form has been left alone for a moment. The
timer that looks for the result ticks only until there is one.
"""

import time
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from resnet_demo.config import TrainConfig, make_config
from resnet_demo.data.splits import split_sizes, steps_per_epoch
from resnet_demo.data.store import DatasetInfo, check_data
from resnet_demo.errors import DemoError
from resnet_demo.hosting.zerogpu.quota import Cost, estimate_cost
from resnet_demo.hosting.zerogpu.slices import DEFAULT_SLICE_S, check_seconds
from resnet_demo.models.counts import model_counts
from resnet_demo.runs.text import count_text, duration_text, escape_markdown
from resnet_demo.tasks.estimate import Estimate, estimate
from resnet_demo.tasks.queue import live_runs
from resnet_demo.ui.services import Services

TICK_S = 2.0
LEFT_ALONE_S = 2.0  # so that passing through values starts nothing
JUST_NOW_S = 600.0
UNKNOWN = "how long it takes is known once this network has run here"
MEASURING = "measuring how long this takes here …"
BUSY = "how long it takes is measured when nothing trains"
UNKNOWN_COST = "how much GPU time it takes is not known yet: its first slice tells"
FAILED = "how long it takes could not be measured here"


@dataclass(frozen=True)
class EstimateState:
    """What a page was last told, and about which values of the form.

    since: when it began to show them, Unix seconds; changed: by a person's hand, not as a fresh
    page does. waits_for: a `result` that the timer looks for, `quiet` after the runs, or nothing.
    """

    values: dict[str, Any]
    since: float
    changed: bool
    told: str = ""
    waits_for: str = ""
    slice_s: float | None = None  # seconds of a slice, on ZeroGPU


def estimate_line() -> dict[str, Any]:
    """Build it; its components by name, which `update_estimate` fills in this order."""
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
    """What changes in the line, its timer and its memory; to be called again while that waits."""
    skip = gr.skip()
    fresh = before is None or (before.values, before.slice_s) != (values, slice_s)
    if not fresh and not before.waits_for:
        return skip, skip, skip
    asked = before
    if fresh:
        asked = EstimateState(values, time.time(), before is not None, slice_s=slice_s)
    told, waits_for = told_before(services, asked)
    now = replace(asked, told=told, waits_for=waits_for)
    if now == before:
        return skip, skip, skip
    ticks = gr.update(active=waits_for == "result")
    return skip if before and before.told == told else told, ticks, now


def told_before(services: Services, asked: EstimateState) -> tuple[str, str]:
    """What would be trained, or the sentence on what is wrong with it; and what is waited for."""
    try:
        config = make_config(asked.values)
        info = check_data(config, services.datasets)
        if services.slices is not None and asked.slice_s is not None:
            check_seconds(asked.slice_s)
    except DemoError as error:
        return f"⚠ {error}", ""
    size = model_counts(
        config.model, len(info.classes), config.image_size, config.stem, config.batch_norm
    )
    images, _ = split_sizes(config, info.train)
    steps = steps_per_epoch(images, config.batch_size)
    length, waits_for = told_length(services, config, info, asked)
    told = (
        f"**{count_text(size.parameters)}** parameters · **{count_text(size.macs)}** multiply-adds "
        f"an image · {config.epochs} × {steps} steps · {length}"
    )
    return told, waits_for


def told_length(
    services: Services, config: TrainConfig, info: DatasetInfo, asked: EstimateState
) -> tuple[str, str]:
    """How long it takes, or where the measurement stands; and what is waited for."""
    if services.slices is not None:
        return told_cost(
            estimate_cost(
                config, info, services.runs, asked.slice_s or DEFAULT_SLICE_S, services.run_speeds
            ),
            asked,
        )
    known, caller = estimate(config, info, services.runs, services.run_speeds), services.caller()
    if known:
        return in_words(known), ""
    if not caller.is_owner:
        return UNKNOWN, ""
    if live_runs(services.paths.runs):
        return BUSY, "quiet"
    if time.time() >= asked.since + LEFT_ALONE_S:
        problem = services.speed_tests.ensure_measured(
            config, info, caller, asked.since, asked.changed
        )
        if problem is not None:
            return f"{FAILED}: {escape_markdown(problem)}", ""
    return MEASURING, "result"


def told_cost(cost: Cost | None, asked: EstimateState) -> tuple[str, str]:
    """What it costs in slices of GPU time, and what is waited for: the news of another slice."""
    if cost is None:
        return UNKNOWN_COST, "quiet"
    least = "at least " if cost.overhead_s is None else "about "
    number = f"{cost.slices} slice{'s' if cost.slices != 1 else ''}"
    return (
        f"{least}**{duration_text(cost.seconds)}** of GPU time in **{number}** of "
        f"{asked.slice_s or DEFAULT_SLICE_S:.0f} s, as measured in {cost.run_id}; "
        f"one slice is good for {cost.epochs_per_slice:.1f} epochs"
    ), "quiet"


def in_words(known: Estimate) -> str:
    """The time, and where it is known from."""
    ago = time.time() - known.measured_at
    where = f"as measured in {known.run_id}" if known.run_id else "as measured before"
    if not known.run_id and ago < JUST_NOW_S:
        where = "measured just now"
    return f"about **{duration_text(known.seconds)}** on this machine, {where}"
