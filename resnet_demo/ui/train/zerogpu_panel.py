"""On ZeroGPU, what stands beside Train: how long a slice is, and how the visitor's run goes on.

Each slice is an event of its own: the page sends who the visitor is with each, and that is good for
a short time. One that ends while the run is not over changes `turn`, which starts the next.
"""

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_demo.config import make_config
from resnet_demo.errors import DemoError
from resnet_demo.events import Event
from resnet_demo.hosting.zerogpu.quota import recorded_slices
from resnet_demo.hosting.zerogpu.slice import SliceError, train_slice
from resnet_demo.hosting.zerogpu.slices import DEFAULT_SLICE_S, MAX_SLICE_S, MIN_SLICE_S, Slice
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.runs.text import duration_text, escape_markdown
from resnet_demo.tasks.snapshot import Snapshots
from resnet_demo.tasks.status import read_status
from resnet_demo.ui.form import Form
from resnet_demo.ui.services import QUIET_EVENT, Services, show_errors

MOST_AT_ONCE = 8  # visitors whose slices run or wait; the next ones wait in the app's own queue
TELL_EVERY_S = 1.0
HEADER = (
    "**On ZeroGPU**: train here, each visitor on their own quota of GPU time, a slice at a time. "
    "All else can be watched and tried, and not changed."
)
OPEN = "**Keep this page open**: the next slice starts from it"


@dataclass(frozen=True)
class Turn:
    """Which run is to have its next slice. number: differs from slice to slice."""

    run_id: str
    number: float


def seconds_field() -> gr.Number:
    """How long a slice is; enforced where a slice is started."""
    return gr.Number(
        DEFAULT_SLICE_S, label="Seconds a slice", elem_id="slice-seconds", interactive=True,
        info=f"of GPU time that are asked for at once: {MIN_SLICE_S} to {MAX_SLICE_S}, and no more "
        "than you have left; shorter ones wait less",
    )  # fmt: skip


def slices_panel(
    services: Services,
    form: Form,
    seconds: gr.Number,
    words: gr.Markdown,
    start: gr.Button,
    watched: dict[str, Any],
) -> gr.events.Dependency:
    """Wire Train, Stop, Resume and Retry to slices; the press on Train. words: told of slices."""
    visitor = gr.BrowserState("", storage_key="resnet-demo-visitor")  # a name that says nothing
    turn, slices, run = gr.State(None), services.slices, watched["run"]

    @show_errors()
    def on_start(name: str, *values: Any) -> tuple[Any, ...]:
        return begun(services, make_config(form.asked(values)).to_dict(), name)

    @show_errors()
    def on_retry(name: str, run_id: str) -> tuple[Any, ...]:
        failed = services.runs.get(run_id)
        proposed = getattr(Snapshots().get(failed).view.ended, "retry", {})
        return begun(services, {**failed.config().to_dict(), **proposed}, name)

    @show_errors()
    def on_resume(name: str, run_id: str) -> Turn:
        asked = services.runs.get(run_id).config()
        with services.launcher.allowed(services.caller(), asked):
            return Turn(slices.resume(run_id, name).id, time.monotonic())

    @show_errors()
    def on_stop(name: str, run_id: str) -> None:
        gr.Info(slices.stop(run_id, name, services.caller()))

    def on_turn(now: Turn | None, name: str, length: float) -> Iterator[tuple[Any, Any]]:
        yield from sliced(services, now, name, length)

    chosen = [run, visitor, turn]
    pressed = start.click(on_start, [visitor, *form.components()], chosen, **QUIET_EVENT)
    watched["retry"].click(on_retry, [visitor, run], chosen, **QUIET_EVENT)
    watched["resume"].click(on_resume, [visitor, run], turn, **QUIET_EVENT)
    watched["stop"].click(on_stop, [visitor, run], None, **QUIET_EVENT)
    turn.change(
        on_turn, [turn, visitor, seconds], [words, turn],
        concurrency_limit=MOST_AT_ONCE, trigger_mode="multiple", **QUIET_EVENT,
    )  # fmt: skip
    return pressed


def begun(services: Services, knobs: dict[str, Any], name: str) -> tuple[Any, ...]:
    """A new run of the visitor's: the choice of runs at it, the visitor's name, the first turn."""
    name, config = name or secrets.token_urlsafe(16), make_config(knobs)
    with services.launcher.allowed(services.caller(), config):
        run = services.slices.make(config, name)
    shown = gr.update(choices=services.run_choices(), value=run.id, visible=True)
    return shown, name, Turn(run.id, time.monotonic())


def sliced(
    services: Services, turn: Turn | None, name: str, length: float
) -> Iterator[tuple[Any, Any]]:
    """One slice: what is told while it goes on, and in the end the next turn, if one is due."""
    if turn is None:
        return
    going = None
    try:
        run, watcher = services.runs.get(turn.run_id), Snapshots()  # its own: this is no tick
        going, told_at, due = services.slices.run_slice(turn.run_id, name, length), 0.0, False
        yield f"Waiting for a GPU. {OPEN}.", gr.skip()
        while True:
            try:
                next(going)
            except StopIteration as end:
                due = end.value
                break
            if time.monotonic() - told_at > TELL_EVERY_S:
                told_at = time.monotonic()
                yield in_words(run, watcher, length), gr.skip()
    except DemoError as error:
        yield (
            f"⚠ {escape_markdown(str(error))}. Resume goes on from the last checkpoint.",
            gr.skip(),
        )
        if not isinstance(error, SliceError):
            raise gr.Error(str(error), print_exception=False) from error
        return
    finally:  # the page was closed: the slice saves where it is
        if going is not None:
            going.close()
    told = spent(run)
    if due:
        yield f"{told} {OPEN}.", Turn(turn.run_id, time.monotonic())
    else:
        yield told, gr.skip()


def in_words(run: Run, watcher: Snapshots, length: float) -> str:
    """How far the slice is, and what the run needs after it."""
    status, look = read_status(run.path), watcher.get(run)
    gone = time.monotonic() - status.queued_clock
    told = f"Slice {len(recorded_slices(run)) + 1}: {gone:.0f} of {length:.0f} s. {OPEN}"
    left = look.progress()["seconds_left"]
    if left is None:
        return f"{told}; what is left is known in some seconds."
    return f"{told}; the run needs about {duration_text(left)} more of training."


def spent(run: Run) -> str:
    """What the run has used so far."""
    slices = recorded_slices(run)
    total, number = sum(used.used for used in slices), len(slices)
    return f"{number} slice{'s' if number != 1 else ''}, {duration_text(total)} of GPU time so far."


def zerogpu_slice() -> Slice:
    """Return the function that trains on ZeroGPU for one slice.

    Call this before anything touches CUDA: `spaces` replaces CUDA in this process.
    The function raises SliceError with the platform's own message.
    """
    import spaces  # installed on ZeroGPU only

    @spaces.GPU(duration=lambda folder, paths, seconds: round(seconds))
    def on_gpu(folder: Path, paths: Paths, seconds: float) -> Iterator[Event | str]:
        yield from train_slice(folder, paths, seconds)

    def run_slice(folder: Path, paths: Paths, seconds: float) -> Iterator[Event | str]:
        try:
            yield from on_gpu(folder, paths, seconds)
        except gr.Error as error:
            raise SliceError(str(error.message).rstrip(".")) from error

    return run_slice
