"""The panel of a chapter that shows a group of runs: choice, status, stop button, results."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from resnet_demo.errors import DamagedError
from resnet_demo.runs.groups import Group, get_group, list_groups
from resnet_demo.runs.text import duration_text, escape_markdown
from resnet_demo.tasks.snapshot import RunSnapshot, Snapshots
from resnet_demo.ui.services import QUIET_EVENT, TICK_EVENT, Services, show_errors

TICK_S = 2.0
NO_RESULTS = "No results yet: they appear here once a training has started."
MAX_NAMED_ARMS = 4  # in the choice of groups


@dataclass(frozen=True)
class GroupSnapshot:
    """A group at one moment: snapshots of its runs by arm, in the order of their seeds."""

    group: Group
    arms: dict[str, list[RunSnapshot]]

    @property
    def runs(self) -> list[RunSnapshot]:
        """Return the snapshots of all runs."""
        return [run for runs in self.arms.values() for run in runs]

    @property
    def is_live(self) -> bool:
        """Return True while a run waits or trains."""
        return any(run.status.is_live for run in self.runs)

    def finished(self, arm: str) -> list[RunSnapshot]:
        """Return the finished runs of an arm."""
        return [run for run in self.arms.get(arm, []) if run.status.state == "finished"]

    def pairs(self, arm: str, other: str) -> list[tuple[RunSnapshot, RunSnapshot]]:
        """Return the finished runs of two arms in pairs of the same seed."""
        by_seed = {run.run.config().seed: run for run in self.finished(other)}
        pairs = [(run, by_seed.get(run.run.config().seed)) for run in self.finished(arm)]
        return [(first, second) for first, second in pairs if second is not None]


class GroupReader:
    """Reads groups of runs and draws their results in one thread, off the event loop."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.snapshots = Snapshots()
        # One thread, because Snapshots and its views are not thread-safe. Off the event loop,
        # because drawing heat maps would delay every other page.
        self._executor = ThreadPoolExecutor(1, "learn")

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in the reader's thread and return its result."""
        # Gradio keeps the current event in context variables, which a thread does not inherit.
        call = partial(copy_context().run, function, *args)
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def groups(self, kind: str) -> list[Group]:
        """Return the groups of a kind, the newest first."""
        return list_groups(self.services.runs.list(), kind)

    def snapshot(self, group: Group) -> GroupSnapshot:
        """Return the group as it is now, without runs whose config is damaged."""
        arms = {
            arm: [self.snapshots.get_nowait(run) for run in runs if not is_damaged(run)]
            for arm, runs in group.arms.items()
        }
        return GroupSnapshot(group, arms)

    def snapshot_of(self, group_id: str) -> GroupSnapshot:
        """Return the group of this id as it is now. Raises NotFoundError."""
        return self.snapshot(get_group(self.services.runs, group_id))


def is_damaged(run: Any) -> bool:
    """Return True for a run whose config cannot be read."""
    try:
        run.config()
    except DamagedError:
        return True
    return False


def group_panel(kind: str) -> dict[str, Any]:
    """Build the panel and return its components by name; results go into the last one."""
    with gr.Row(elem_classes="learn-controls"):
        choice = gr.Dropdown(
            [],
            label="Results of",
            interactive=True,
            visible=False,
            elem_id=f"{kind}-group",
            min_width=220,
        )
        stop = gr.Button(
            "Stop",
            visible=False,
            variant="stop",
            size="sm",
            elem_id=f"{kind}-stop",
            scale=0,
            min_width=90,
        )
    text = gr.Markdown(NO_RESULTS, elem_id=f"{kind}-text")
    results = gr.Column(visible=False)
    return {"choice": choice, "stop": stop, "text": text, "results": results}


def watch_group(
    reader: GroupReader,
    kind: str,
    tab: gr.Tab,
    panel: dict[str, Any],
    outputs: Sequence[Any],
    draw: Callable[..., Sequence[Any]],
    conclusion: Callable[[GroupSnapshot], str] = lambda snapshot: "",
    controls: Sequence[Any] = (),
) -> None:
    """Keep the panel and these outputs up to date while the chapter is open.

    draw: returns the outputs' values for a group and for the values of the controls. conclusion:
    returns what can be learned from the group so far (Markdown). Both run in the reader's thread,
    and only after something has changed.
    """
    timer, before = gr.Timer(TICK_S, active=False), gr.State(None)

    async def on_tick(chosen: str | None, shown_before: Any, *values: Any) -> Any:
        def draw_results(snapshot: GroupSnapshot) -> Sequence[Any]:
            return draw(snapshot, *values)

        args = (reader, kind, chosen, shown_before, draw_results, conclusion, len(outputs))
        return await reader.run(panel_update, *args)

    gr.on(
        [tab.select, panel["choice"].change, timer.tick],
        on_tick,
        [panel["choice"], before, *controls],
        [*panel.values(), timer, before, *outputs],
        **TICK_EVENT,
    )

    @show_errors()
    def on_stop(group: str) -> None:
        reader.services.run_groups.stop(group, reader.services.caller())
        gr.Info("Stopping. Each run can be resumed on the Train tab.")

    panel["stop"].click(on_stop, panel["choice"], None, **QUIET_EVENT)


def panel_update(
    reader: GroupReader,
    kind: str,
    chosen: str | None,
    before: Any,
    draw: Callable[[GroupSnapshot], Sequence[Any]],
    conclusion: Callable[[GroupSnapshot], str],
    count: int,
) -> tuple[Any, ...]:
    """Return updates of the panel's parts, the timer, what is shown now, and `count` outputs.

    before: what was shown; if it is the same now, every update is a skip.
    """
    skip = gr.skip()
    found = reader.groups(kind)
    if not found:
        hidden = gr.update(visible=False)
        return (hidden, hidden, NO_RESULTS, hidden, skip, None, *[skip] * count)
    labels = [(group_label(group), group.id) for group in found]
    # The chosen group may have been deleted meanwhile.
    group = next((group for group in found if group.id == chosen), found[0])
    snapshot = reader.snapshot(group)
    # The state and the length of the log change with everything that a chapter shows.
    now = [group.id, labels, [[run.status.state, run.view.offset] for run in snapshot.runs]]
    if now == before:
        return (*[skip] * 6, *[skip] * count)
    can_stop = not group.shipped and snapshot.is_live
    # The timer ticks only while a run is live; a start or another selection wakes it again.
    return (
        gr.update(choices=labels, value=group.id, visible=True),
        gr.update(visible=can_stop, interactive=can_stop),
        "\n\n".join(filter(None, (status_text(snapshot), conclusion(snapshot)))),
        gr.update(visible=True),
        gr.Timer(active=snapshot.is_live),
        now,
        *draw(snapshot),
    )


def group_label(group: Group) -> str:
    """Return the label of a group in the choice of groups."""
    many = len(group.arms) > MAX_NAMED_ARMS
    arms = f"{len(group.arms)} variants" if many else ", ".join(group.arms)
    return f"{arms} · recording" if group.shipped else f"{group.id} · {arms}"


def status_text(snapshot: GroupSnapshot) -> str:
    """Return the progress of a group (Markdown)."""
    runs, total = snapshot.runs, len(snapshot.runs)
    if snapshot.group.shipped:
        return recording_text(runs)
    finished = sum(run.status.state == "finished" for run in runs)
    failed = [run for run in runs if run.status.state == "failed"]
    failures = "".join(
        f" **{run.run.id}** failed: {escape_markdown(run.status.message)}." for run in failed
    )
    if not snapshot.is_live:
        stopped = sum(run.status.state == "stopped" for run in runs)
        rest = f", {stopped} stopped" if stopped else ""
        return f"{finished} of {total} runs finished{rest}.{failures}"
    active = next((run for run in runs if run.status.state in ("running", "stopping")), None)
    if active is None:
        return f"{finished} of {total} runs finished. The next run is starting.{failures}"
    number = finished + len(failed) + 1
    return f"Run {number} of {total}, {progress_text(snapshot, active)}.{failures}"


def recording_text(runs: Sequence[RunSnapshot]) -> str:
    """Return the training time and the device of a recorded group (Markdown)."""
    seconds = sum(run.view.total_seconds() for run in runs)
    device = next((run.view.started.device for run in runs if run.view.started), "")
    device = device.replace("(1 threads)", "(1 thread)")  # as older recordings have it
    return f"A recording: {duration_text(seconds)} of training on {escape_markdown(device)}."


def progress_text(snapshot: GroupSnapshot, run: RunSnapshot) -> str:
    """Return the arm, the epoch and the time left of the run that trains (Markdown)."""
    arm = next(arm for arm, runs in snapshot.arms.items() if run in runs)
    progress = run.progress()
    if progress["epochs"] is None:  # its log has no event yet, or is being read
        return f"**{escape_markdown(arm)}**: starting"
    epochs = f"epoch {progress['epoch']} of {progress['epochs']}"
    left = progress["seconds_left"]
    time_left = "" if left is None else f", ≈ {duration_text(left)} left"
    return f"**{escape_markdown(arm)}**: {epochs}{time_left}"
