"""Training on ZeroGPU: how the platform runs a slice, and the controls beside Train.

Each slice is a separate Gradio event, because the page's proof of who the visitor is comes with
an event and is valid for a short time only. When a slice ends before the run is over, it changes
`next_slice`, whose change event starts the next slice.
"""

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_demo.config import chosen_values, make_config
from resnet_demo.data.recipe_fit import fit_recipe
from resnet_demo.errors import DemoError
from resnet_demo.events import Event
from resnet_demo.hosting.zerogpu.slice import SliceError, recorded_slices, train_slice
from resnet_demo.hosting.zerogpu.visitor_runs import (
    DEFAULT_SLICE_S,
    MAX_SLICE_S,
    MIN_SLICE_S,
    Slice,
)
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.runs.text import duration_text, escape_markdown
from resnet_demo.tasks.snapshot import Snapshots
from resnet_demo.tasks.status import read_status
from resnet_demo.ui.form import Form
from resnet_demo.ui.services import QUIET_EVENT, Services, show_errors

MAX_CONCURRENT = 8  # slices that run or wait for a GPU; further ones wait in the app's own queue
UPDATE_S = 1.0
HEADER = (
    "**On ZeroGPU**: each visitor trains on their own quota of GPU time, one slice at a time. "
    "Everything else is read-only."
)
KEEP_OPEN = "**Keep this page open**: it starts the next slice"


@dataclass(frozen=True)
class NextSlice:
    """A request to run the next slice of a run.

    number: differs from slice to slice, because gr.State triggers an event only for a new value.
    """

    run_id: str
    number: float


def zerogpu_slice() -> Slice:
    """Return the function that trains on ZeroGPU for one slice.

    Call this before anything touches CUDA: `spaces` replaces CUDA in this process.
    The function raises SliceError with the platform's own message.
    """
    import spaces  # installed on ZeroGPU only

    # Asked at each call, because the visitor chooses the length of a slice.
    @spaces.GPU(duration=lambda folder, paths, seconds: round(seconds))
    def on_gpu(folder: Path, paths: Paths, seconds: float) -> Iterator[Event | str]:
        yield from train_slice(folder, paths, seconds)

    def train_on_gpu(folder: Path, paths: Paths, seconds: float) -> Iterator[Event | str]:
        try:
            yield from on_gpu(folder, paths, seconds)
        except gr.Error as error:
            raise SliceError(str(error.message).rstrip(".")) from error

    return train_on_gpu


def seconds_field() -> gr.Number:
    """Return the field for the length of a slice. The start of a slice checks its value."""
    return gr.Number(
        DEFAULT_SLICE_S,
        label="Seconds per slice",
        elem_id="slice-seconds",
        interactive=True,
        info=f"GPU time per request, {MIN_SLICE_S} to {MAX_SLICE_S}; shorter slices wait less",
    )


def visitor_name() -> gr.BrowserState:
    """Return the visitor's random name, "" at first.

    The browser keeps it: after a reload, the visitor can still resume and export their runs.
    """
    return gr.BrowserState("", storage_key="resnet-demo-visitor")


def slices_panel(
    services: Services,
    form: Form,
    seconds: gr.Number,
    text: gr.Markdown,
    start: gr.Button,
    panel: dict[str, Any],
) -> gr.events.Dependency:
    """Connect Train, Stop, Resume and Retry to slices; return the event of Train.

    text: shows the progress of a slice. panel: the components of `run_panel`.
    """
    next_slice, run, visitor = gr.State(None), panel["run"], panel["visitor"]

    @show_errors()
    def on_start(name: str, *values: Any) -> tuple[Any, ...]:
        config, _ = fit_recipe(chosen_values(form.to_dict(values)), services.datasets)
        return begin_run(services, config.to_dict(), name)

    @show_errors()
    def on_retry(name: str, run_id: str) -> tuple[Any, ...]:
        return begin_run(services, proposed_settings(services.runs.get(run_id)), name)

    @show_errors()
    def on_resume(name: str, run_id: str) -> NextSlice:
        return resume_run(services, run_id, name)

    @show_errors()
    def on_stop(name: str, run_id: str) -> None:
        gr.Info(services.slices.stop(run_id, name, services.caller()))

    # A plain generator, which Gradio runs in a thread: it waits for a GPU.
    def on_next(request: NextSlice | None, name: str, slice_s: float) -> Iterator[tuple[Any, Any]]:
        yield from run_slice(services, request, name, slice_s)

    outputs = [run, visitor, next_slice]
    started = start.click(on_start, [visitor, *form.components()], outputs, **QUIET_EVENT)
    panel["retry"].click(on_retry, [visitor, run], outputs, **QUIET_EVENT)
    panel["resume"].click(on_resume, [visitor, run], next_slice, **QUIET_EVENT)
    panel["stop"].click(on_stop, [visitor, run], None, **QUIET_EVENT)
    next_slice.change(
        on_next,
        [next_slice, visitor, seconds],
        [text, next_slice],
        concurrency_limit=MAX_CONCURRENT,
        # The event that requests the next slice has not ended yet when the next one is triggered.
        trigger_mode="multiple",
        **QUIET_EVENT,
    )
    return started


def begin_run(services: Services, settings: dict[str, Any], name: str) -> tuple[Any, ...]:
    """Make a run of this visitor.

    Returns the update of the choice of runs, the visitor's name (new if empty), and the request
    for the first slice.
    """
    # The name proves whose run it is, so it must not be guessed.
    name, config = name or secrets.token_urlsafe(16), make_config(settings)
    paused = services.slices.paused_runs()
    with services.launcher.within_limits(services.caller(), config, paused=paused):
        run = services.slices.make(config, name)
    choice = gr.update(choices=services.run_choices(), value=run.id, visible=True)
    return choice, name, NextSlice(run.id, time.monotonic())


def proposed_settings(failed: Run) -> dict[str, Any]:
    """Return the settings of a failed run with the changes that its failure proposes."""
    # A snapshot of its own: those of the services are for the event loop.
    proposed = getattr(Snapshots().get(failed).view.ended, "retry", {})
    return {**failed.config().to_dict(), **proposed}


def resume_run(services: Services, run_id: str, name: str) -> NextSlice:
    """Make the visitor's run continue; return the request for its next slice. Raises DemoError."""
    config = services.runs.get(run_id).config()
    # The run itself does not count against the limit on runs that wait.
    paused = services.slices.paused_runs() - {run_id}
    with services.launcher.within_limits(services.caller(), config, paused=paused):
        return NextSlice(services.slices.resume(run_id, name).id, time.monotonic())


def run_slice(
    services: Services, request: NextSlice | None, name: str, slice_s: float
) -> Iterator[tuple[Any, Any]]:
    """Run one slice. Yields texts, and at the end the request for the next slice if one is due."""
    if request is None:
        return
    training = None
    try:
        run = services.runs.get(request.run_id)
        snapshots, updated_at, due = Snapshots(), 0.0, False  # the services' are for the loop
        training = services.slices.run_slice(request.run_id, name, slice_s)
        yield f"Waiting for a GPU. {KEEP_OPEN}.", gr.skip()
        while True:
            try:
                next(training)
            except StopIteration as end:
                due = end.value
                break
            if time.monotonic() - updated_at > UPDATE_S:
                updated_at = time.monotonic()
                yield slice_text(run, snapshots, slice_s), gr.skip()
    except DemoError as error:
        message = escape_markdown(str(error))
        yield f"⚠ {message}. Resume continues from the last checkpoint.", gr.skip()
        # No GPU is no mistake of the visitor's, so it is a text beside the button and no toast.
        if not isinstance(error, SliceError):
            raise gr.Error(str(error), print_exception=False) from error
        return
    finally:  # if the page was closed, the slice saves a checkpoint now
        if training is not None:
            training.close()
    usage = usage_text(run)
    if due:
        yield f"{usage} {KEEP_OPEN}.", NextSlice(request.run_id, time.monotonic())
    else:
        yield usage, gr.skip()


def slice_text(run: Run, snapshots: Snapshots, slice_s: float) -> str:
    """Return the progress of the slice and the training time left after it (Markdown)."""
    status, seen = read_status(run.path), snapshots.get(run)
    # A slice queues its run when it has the GPU: the wait before that is not counted.
    elapsed = time.monotonic() - status.queued_clock
    text = f"Slice {len(recorded_slices(run)) + 1}: {elapsed:.0f} of {slice_s:.0f} s. {KEEP_OPEN}"
    left = seen.progress()["seconds_left"]
    if left is None:
        return f"{text}. Estimating the time left…"
    return f"{text}. ≈ {duration_text(left)} of training left."


def usage_text(run: Run) -> str:
    """Return the slices and GPU time that the run has used."""
    slices = recorded_slices(run)
    total, number = sum(use.used_s for use in slices), len(slices)
    return f"{number} slice{'s' * (number != 1)}, {duration_text(total)} of GPU time used."
