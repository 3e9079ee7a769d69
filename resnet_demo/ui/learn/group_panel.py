"""The panel of a chapter that shows a group of runs: choice, status, stop button, results.

Before the guess of the chapter, it shows no more than the progress of a running experiment.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from resnet_demo.config import TrainConfig
from resnet_demo.errors import DamagedError, counted
from resnet_demo.models.counts import model_counts
from resnet_demo.runs.groups import Group, get_group, list_groups
from resnet_demo.runs.text import duration_text, escape_markdown
from resnet_demo.tasks.snapshot import RunSnapshot, Snapshots
from resnet_demo.ui.learn.guess import (
    SHOWN,
    connect_guess,
    guess_updates,
    known_guesses,
    verdict,
)
from resnet_demo.ui.services import QUIET_EVENT, TICK_EVENT, Services, show_errors

TICK_S = 2.0
NO_RESULTS = "No results yet: they appear here once a training has started."
GUESS_FIRST = "**Guess first**: the results appear here afterwards."
EMPTY = ["learn-empty"]  # CSS class
MAX_NAMED_ARMS = 4  # in the choice of groups
PANEL_PARTS = 9  # choice, stop, text, results, guess, show, answer, timer, `before`


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
        # A damaged run must not hide the others; the lists of runs name it.
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
    text = gr.Markdown(GUESS_FIRST, elem_id=f"{kind}-text", elem_classes=EMPTY)
    # Hidden until the guess, and while there is no group.
    results = gr.Column(visible=False)
    return {"choice": choice, "stop": stop, "text": text, "results": results}


def watch_group(
    reader: GroupReader,
    kind: str,
    tab: gr.Tab,
    guesses: gr.BrowserState,
    panel: dict[str, Any],
    outputs: Sequence[Any],
    draw: Callable[..., Sequence[Any]],
    conclusion: Callable[[GroupSnapshot], str] = lambda snapshot: "",
    answer: Callable[[GroupSnapshot], str | None] = lambda snapshot: None,
    controls: Sequence[Any] = (),
) -> None:
    """Keep the panel and these outputs up to date while the chapter is open.

    panel: of `group_panel`, and `guess`, `show` and `answer` of the chapter. draw: returns the
    outputs' values for a group and for the values of the controls. conclusion: returns what can be
    learned from the group so far (Markdown). answer: returns the option of the chapter's question
    that turned out right, None while that is open. All run in the reader's thread, and only after
    something has changed.
    """
    timer, before = gr.Timer(TICK_S, active=False), gr.State(None)

    async def on_tick(chosen: str | None, stored: Any, shown_before: Any, *values: Any) -> Any:
        def results(snapshot: GroupSnapshot) -> tuple[str, Sequence[Any]]:
            # A group keeps the guess that was made before its start; a recording has none.
            guess = snapshot.group.guess or known_guesses(stored).get(kind, SHOWN)
            # Nothing turns out right before the last run has ended.
            found = None if snapshot.is_live else answer(snapshot)
            parts = (verdict(kind, guess, found), conclusion(snapshot))
            return "\n\n".join(filter(None, parts)), draw(snapshot, *values)

        return await reader.run(
            panel_update, reader, kind, chosen, stored, shown_before, results, len(outputs)
        )

    def show(event: Any) -> None:
        event.then(on_tick, inputs, shown, **TICK_EVENT)

    names = ("choice", "stop", "text", "results", "guess", "show", "answer")
    inputs = [panel["choice"], guesses, before, *controls]
    shown = [*(panel[name] for name in names), timer, before, *outputs]
    gr.on([tab.select, panel["choice"].change, timer.tick], on_tick, inputs, shown, **TICK_EVENT)
    connect_guess(kind, panel, guesses, show)
    connect_stop(reader.services, panel)


def connect_stop(services: Services, panel: dict[str, Any]) -> None:
    """Connect the button that stops the runs of the chosen group."""

    @show_errors()
    def on_stop(group: str) -> None:
        services.run_groups.stop(group, services.caller())
        gr.Info("Stopping. Each run can be resumed on the Train tab.")

    panel["stop"].click(on_stop, panel["choice"], None, **QUIET_EVENT)


def panel_update(
    reader: GroupReader,
    kind: str,
    chosen: str | None,
    stored: Any,
    before: Any,
    results: Callable[[GroupSnapshot], tuple[str, Sequence[Any]]],
    count: int,
) -> tuple[Any, ...]:
    """Return updates of the panel's parts, the timer, what is shown now, and `count` outputs.

    stored: the guesses that the browser keeps. before: what was shown; if it is the same now, every
    update is a skip. results: returns the text and the outputs' values for a group.
    """
    guesses, found = known_guesses(stored), reader.groups(kind)
    is_shown = kind in guesses
    guess = guess_updates(kind, guesses, before[-1] if before else None)
    if not found:
        return no_group_update(is_shown, guess, guesses.get(kind), count)
    labels = [(group_label(group), group.id) for group in found]
    # The chosen group may have been deleted meanwhile; before a choice, the newest is shown.
    group = next((group for group in found if group.id == chosen), found[0])
    snapshot = reader.snapshot(group)
    # The state and the length of the log change with everything that a chapter shows.
    states = [[run.status.state, run.view.offset] for run in snapshot.runs]
    now = [group.id, labels, states, guesses.get(kind)]
    if now == before:
        return (gr.skip(),) * (PANEL_PARTS + count)
    can_stop = not group.shipped and snapshot.is_live
    status = status_text(snapshot)
    # Results are computed and sent only after the guess: the page cannot show them early, not even
    # for a moment.
    if is_shown:
        said, values = results(snapshot)
        text = gr.update(value="\n\n".join(filter(None, (status, said))), elem_classes=[])
    else:
        text, values = guess_first(status if can_stop else ""), [gr.skip()] * count
    # The timer ticks only while a run is live; a start or another selection wakes it again.
    return (
        gr.update(choices=labels, value=group.id, visible=is_shown),
        gr.update(visible=can_stop, interactive=can_stop),
        text,
        gr.update(visible=is_shown),
        *guess,
        gr.Timer(active=snapshot.is_live),
        now,
        *values,
    )


def no_group_update(
    is_shown: bool, guess: list[Any], guessed: str | None, count: int
) -> tuple[Any, ...]:
    """Return the updates of a panel without any group. guess: the updates of the question.

    is_shown: whether results may be seen. guessed: of this chapter. count: of the outputs.
    """
    hidden, skip = gr.update(visible=False), gr.skip()
    text = gr.update(value=NO_RESULTS, elem_classes=EMPTY) if is_shown else guess_first()
    return (hidden, hidden, text, hidden, *guess, skip, [guessed], *[skip] * count)


def guess_first(status: str = "") -> dict[str, Any]:
    """Return the update of a text that stands for the results before the guess."""
    text = "\n\n".join(filter(None, (status, GUESS_FIRST)))
    return gr.update(value=text, elem_classes=EMPTY)


def group_label(group: Group) -> str:
    """Return the label of a group in the choice of groups."""
    many = len(group.arms) > MAX_NAMED_ARMS
    arms = f"{len(group.arms)} variants" if many else ", ".join(group.arms)
    return f"Recording: {arms}" if group.shipped else f"{group.id}: {arms}"


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
        if finished == total == 1:
            return "Finished."
        return f"{finished} of {counted(total, 'run')} finished{rest}.{failures}"
    active = active_run(snapshot)
    if active is None:
        return (
            f"{finished} of {counted(total, 'run')} finished. The next one is starting.{failures}"
        )
    # The runs go one after the other, so those that have ended came before.
    number = finished + len(failed) + 1
    left = seconds_left(snapshot)
    time_left = "" if left is None else f" ≈ **{duration_text(left)} left**."
    of_all = f"Run {number} of {total}: " if total > 1 else ""
    return f"{of_all}{progress_text(snapshot, active)}.{time_left}{failures}"


def recording_text(runs: Sequence[RunSnapshot]) -> str:
    """Return the training time and the device of a recorded group (Markdown)."""
    seconds = sum(run.view.total_seconds() for run in runs)
    device = next((run.view.started.device for run in runs if run.view.started), "")
    return (
        f"**Recording**, made on another machine: {duration_text(seconds)} of training on "
        f"{escape_markdown(device)}."
    )


def active_run(snapshot: GroupSnapshot) -> RunSnapshot | None:
    """Return the run that trains; None between two runs."""
    return next((run for run in snapshot.runs if run.status.state in ("running", "stopping")), None)


def progress_text(snapshot: GroupSnapshot, run: RunSnapshot) -> str:
    """Return the arm and the epoch of the run that trains (Markdown)."""
    arm = next(arm for arm, runs in snapshot.arms.items() if run in runs)
    progress = run.progress()
    if progress["epochs"] is None:  # its log has no event yet, or is being read
        return f"**{escape_markdown(arm)}** is starting"
    # The last finished epoch is not the one under way.
    epoch = min(len(run.view.epochs) + 1, progress["epochs"])
    return f"**{escape_markdown(arm)}**, epoch {epoch} of {progress['epochs']}"


def seconds_left(snapshot: GroupSnapshot) -> float | None:
    """Return the expected seconds until all runs of the group have ended; None if not known yet."""
    active = active_run(snapshot)
    left = active.progress()["seconds_left"] if active else None
    if left is None:
        return None
    whole, work = active.view.seconds_so_far() + left, run_work(active.run.config())
    for arm, runs in snapshot.arms.items():
        # Another seed of the same arm is the best measure of a run that waits.
        done = [run.view.total_seconds() for run in snapshot.finished(arm)]
        for run in runs:
            if run.status.state == "queued":
                by_work = whole * run_work(run.run.config()) / work
                left += done[-1] if done else by_work
    return left


def run_work(config: TrainConfig) -> float:
    """Return the multiply-adds of a run, up to a factor that the runs of a group share."""
    size = {name: getattr(config, name) for name in ("image_size", "stem", "batch_norm")}
    # The head alone is trained on the outputs of the other layers, which are computed once.
    epochs = 1 if config.train_layers == "head" else config.epochs
    return model_counts(config.model, **size).macs * epochs * (config.train_images or 1)
