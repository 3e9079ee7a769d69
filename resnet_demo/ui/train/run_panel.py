"""The parts of the Train tab that show a run. Polling sends a page the parts that changed."""

import time
from collections.abc import Callable
from typing import Any

import gradio as gr

from resnet_demo.errors import DemoError, counted
from resnet_demo.evaluation.intervals import wilson_interval
from resnet_demo.events import Embedding
from resnet_demo.runs.text import (
    accuracy_text,
    count_text,
    duration_text,
    escape_markdown,
    event_text,
    learning_curve_text,
    share_text,
)
from resnet_demo.tasks.queue import runs_ahead
from resnet_demo.tasks.snapshot import RunSnapshot, config_or_none
from resnet_demo.ui.components import HIDDEN, OFF, ON, progress_bar
from resnet_demo.ui.plots import curve_version, empty_curves, epoch_table
from resnet_demo.ui.services import Services
from resnet_demo.ui.train.run_details import EMPTY_DETAILS, details_parts, trash_part

Part = tuple[Any, Callable[[], Any]]  # a version, and the function that makes the part's update
POLL_S = 1.0
START_POLL_S = 0.25  # a person waits for the first step
START_S = 10.0  # a state that lasts longer is polled as any other
SILENT_S = 15.0  # after so long without an event, the page reports it
NO_RUN = "Nothing trained yet. Choose a recipe and press **Train**: the curves appear here."
SUSPENDED = "a signal has suspended its process. Continue the process, or press Stop."
READING = "Reading a long log; the curves appear in a few seconds."
STATE_WORDS = {
    "queued": "Queued",
    "preparing": "Preparing",
    "running": "Training",
    "stopping": "Stopping",
    "stopped": "Stopped",
    "finished": "Finished",
    "failed": "Failed",
}
EMPTY_PANEL = {
    "figures": "",
    "status": NO_RUN,
    "stop": OFF,
    "resume": OFF,
    "retry": HIDDEN,
    "delete": OFF,
    "curves": empty_curves(),
    "log": "",
    "table": epoch_table(None),
    **EMPTY_DETAILS,
}
DAMAGED_BUTTONS = {
    "stop": OFF,
    "resume": OFF,
    "retry": HIDDEN,
    "delete": ON,
    "next": HIDDEN,
    "export": HIDDEN,
}


def run_parts(services: Services, run_id: str | None, experiments: bool = False) -> dict[str, Part]:
    """Return the parts of the page that show a run, by the names of `run_panel`.

    experiments: list the runs of lessons too.
    """
    choices = services.run_choices(experiments=experiments, keep=run_id)
    offered = services.has_experiments()
    switch = {"experiments": (offered, lambda: gr.update(visible=offered)), **trash_part(services)}

    def update_choice(**more: Any) -> dict[str, Any]:
        return gr.update(choices=choices, visible=bool(choices), **more)

    switch |= poll_part(POLL_S)
    if run_id is None:
        return {"run": (choices, update_choice), **switch}
    # No value is sent while the run exists: the visitor may be choosing another one.
    if run_id not in [name for _, name in choices]:  # deleted by another page or a terminal
        other = [choices, run_id], lambda: update_choice(value=services.default_run())
        return {"run": other, **switch, **parts_of("nothing", EMPTY_PANEL)}
    listed = {"run": (choices, update_choice), **switch}
    try:
        seen = services.snapshots.get_nowait(services.runs.get(run_id))
    except DemoError as error:
        # All that can be done with a run that cannot be read is to delete it.
        damaged = {"status": f"**{error}.**", **DAMAGED_BUTTONS}
        return {**listed, **parts_of([run_id, str(error)], damaged)}
    return {**listed, **snapshot_parts(services, seen)}


def poll_part(seconds: float) -> dict[str, Part]:
    """Return the time between two requests of the page, for its timer."""
    return {"poll_timer": (seconds, lambda: seconds)}


def poll_s(seen: RunSnapshot) -> float:
    """Return the seconds until the page's next request: fewer before a run's first step."""
    state, view = seen.status.state, seen.view
    is_starting = (
        state == "preparing"
        or (state == "queued" and not seen.place)
        or (state == "running" and view.last is view.started)
    )
    return START_POLL_S if is_starting and seen.state_age_s() < START_S else POLL_S


def parts_of(version: Any, updates: dict[str, Any]) -> dict[str, Part]:
    """Return ready updates as parts of one version."""
    # A default argument, because all closures of a loop share its variables.
    return {name: (version, lambda value=value: value) for name, value in updates.items()}


def snapshot_parts(services: Services, seen: RunSnapshot) -> dict[str, Part]:
    """Return the parts below the choice of a run."""
    run_id, figures = seen.run.id, figures_html(seen)
    text = state_text(seen, run_ahead(services, seen))
    continues = services.slices is not None and services.slices.is_active(run_id)
    state = [run_id, seen.status.state, seen.ignores_stop, continues]
    curves = [run_id, *curve_version(seen.view)]

    # A short text is its own version. Curves are drawn only for a page with another version.
    def curve_part(which: int) -> Part:
        return curves, lambda: services.curves(seen.view, run_id, label_smoothing(seen))[which]

    ending = ending_part(seen)
    return {
        "progress": (ending, lambda: ending),  # of no component: page.js shows it
        **poll_part(poll_s(seen)),
        "figures": (figures, lambda: figures),
        "status": (text, lambda: text),
        **parts_of(state, button_updates(seen, continues)),
        "curves": curve_part(0),
        "table": curve_part(1),
        "log": ([run_id, seen.view.offset], lambda: log_tail(seen)),
        **details_parts(services, seen),
    }


def ending_part(seen: RunSnapshot) -> dict[str, Any]:
    """Return what the title of the document and a notification show of the run."""
    at, best = seen.progress(), seen.view.best
    share = at["step"] / at["total_steps"] if at["total_steps"] else 0.0
    top1 = best and accuracy_text(best.val_top1, best.val_images)
    accuracy = f", validation accuracy {top1}" if best else ""
    return {
        "run": seen.run.id,
        "live": seen.status.is_live,
        "word": STATE_WORDS[seen.status.state],
        "percent": int(100 * share),  # rounded down: 100 is reached at the end only
        "result": accuracy if seen.status.state == "finished" else "",
    }


def label_smoothing(seen: RunSnapshot) -> float:
    """Return the label smoothing of the run's training loss; 0 if its config cannot be read."""
    config = config_or_none(seen.run)
    return config["label_smoothing"] if config else 0.0


def button_updates(seen: RunSnapshot, continues: bool = False) -> dict[str, Any]:
    """Return the updates of Stop, Resume, Retry and Delete.

    continues: the run is stopped only until its next slice of GPU time.
    """
    state, own, must_kill = seen.status.state, not seen.run.shipped, seen.ignores_stop
    # Shipped runs are never written to, so none of the buttons is for them.
    can_stop = must_kill or continues or state in ("queued", "preparing", "running")
    can_resume = state in ("stopped", "failed") and not continues
    retry = ", ".join(f"{name} {value}" for name, value in retry_settings(seen).items())
    return {
        "stop": gr.update(value="Kill" if must_kill else "Stop", interactive=own and can_stop),
        "resume": gr.update(interactive=own and can_resume),
        "retry": gr.update(value=f"Train with {retry}", visible=bool(own and retry)),
        "delete": gr.update(interactive=own and not (seen.status.is_live or continues)),
    }


def retry_settings(seen: RunSnapshot) -> dict[str, Any]:
    """Return the settings that a failed run proposes for another try; empty if there are none."""
    return getattr(seen.view.ended, "retry", {}) if seen.status.state == "failed" else {}


def figures_html(seen: RunSnapshot) -> str:
    """Return the run's figures and progress bar as HTML.

    Only this program's own words and numbers go in: Gradio would execute other people's text.
    """
    at = seen.progress()
    total, step, left = at["total_steps"], at["step"], at["seconds_left"]
    best, started = seen.view.best, seen.view.started
    # Named after the weights that are kept: of the best epoch, of the last, or of the head before.
    which = "best" if not started or started.keep == "best" else "last"
    which = "head" if best and not best.epoch else which
    figures = {
        "state": STATE_WORDS[seen.status.state],
        "epoch": f"{at['epoch']} / {at['epochs']}" if at["epochs"] else "–",
        "step": f"{step:,} / {total:,}" if total else "–",
        f"{which} validation": accuracy_text(best.val_top1, best.val_images) if best else "–",
        "elapsed": duration_text(at["seconds"]) if at["seconds"] else "–",
        "time left": f"≈ {duration_text(left)}" if left is not None else "–",
        "images/s": f"{at['images_per_s']:,.0f}" if at["images_per_s"] else "–",
        "learning rate": f"{at['lr']:.3g}" if at["lr"] is not None else "–",
    }
    cells = "".join(
        f'<div class="tile"><span>{name}</span><b>{value}</b></div>'
        for name, value in figures.items()
    )
    share = step / total if total else 0.0
    return f'<div class="tiles state-{seen.status.state}">{cells}</div>' + progress_bar(share)


def state_text(seen: RunSnapshot, ahead: RunSnapshot | None = None) -> str:
    """Return the run's state, network and problems in sentences (Markdown).

    ahead: the run before a queued run that is next.
    """
    sentences = [state_sentence(seen, ahead), head_sentence(seen)]
    sentences += [network_sentence(seen), growth_sentence(seen)]
    if seen.is_loading:  # the log is read in a thread; the status is known already
        sentences.append(READING)
    sentences.append(silence_sentence(seen))
    return " ".join(filter(None, sentences))


def state_sentence(seen: RunSnapshot, ahead: RunSnapshot | None) -> str:
    """Return a sentence on the run's state (Markdown)."""
    state, message = seen.status.state, full_stop(escape_markdown(seen.status.message))
    if state == "queued":
        return queue_sentence(seen, ahead)
    if state == "preparing":
        return "Loading, a few seconds…"
    if state == "stopping":
        return "Stopping after this step." if message in ("", "stopping.") else message
    if state == "failed":
        return f"**Failed:** {message}" if message else "**Failed.**"
    if state in ("stopped", "finished"):
        begin = STATE_WORDS[state]
        if seen.run.shipped:
            begin = f"Came with the app, trained in {duration_text(seen.view.total_seconds())}"
        return f"{begin}: {message}" if message else f"{begin}."
    # These take a minute or more without a step, in which the page must not look stuck.
    if isinstance(seen.view.last, Embedding):
        done, total = seen.view.last.done, seen.view.last.total
        return f"The frozen layers run over the images: {done:,} of {total:,}."
    if is_compiling(seen):
        return "Compiling the network; the first step starts in a minute or more."
    return message


def full_stop(text: str) -> str:
    """Return a message as a sentence, so that the next one does not run into it."""
    return f"{text}." if text and text[-1] not in ".…!?" else text


def queue_sentence(seen: RunSnapshot, ahead: RunSnapshot | None) -> str:
    """Return a sentence on a queued run's place."""
    if not seen.place:
        return "Next, starting…"
    if ahead is None:
        return f"Place {seen.place} in the queue."
    left = ahead.progress()["seconds_left"]
    wait = f" (≈ {duration_text(left)})" if left is not None else ""
    return f"Next, after {ahead.run.id}{wait}."


def run_ahead(services: Services, seen: RunSnapshot) -> RunSnapshot | None:
    """Return the run that a queued run waits for, if it is the only one."""
    if seen.place != 1:  # the time left of several runs is not known
        return None
    try:
        [folder, *_] = runs_ahead(seen.run.path) or [None]
        return services.snapshots.get_nowait(services.runs.get(folder.name)) if folder else None
    except DemoError:  # deleted or damaged meanwhile
        return None


def network_sentence(seen: RunSnapshot) -> str:
    """Return a sentence on the network's size and device; "" before the run has started."""
    at = seen.progress()
    if not at["device"]:  # its log has no event yet
        return ""
    return (
        f"{count_text(at['parameters'])} parameters, "
        f"{count_text(at['macs'])} multiply-adds per image, "
        f"on {escape_markdown(at['device'])} in {escape_markdown(at['precision'])}."
    )


def head_sentence(seen: RunSnapshot) -> str:
    """Return sentences on how good a fitted head is and what more images would bring; or ""."""
    head, config = seen.view.head, config_or_none(seen.run)
    if head is None or config is None or config["train_layers"] != "head":
        return ""
    _, right, n = head.curve[-1]
    # Without decimals: such a head is fitted where images are few.
    low, high = wilson_interval(right, n)
    how = "cross-validation" if head.folds else "validation"
    return (
        f"{right:,} of {counted(n, 'image')} right in {how} "
        f"(95 % interval {share_text(low, 0)} to {share_text(high, 0)}). "
        f"{learning_curve_text(head.curve)}."
    )


def growth_sentence(seen: RunSnapshot) -> str:
    """Return a sentence on the size of the training images while they grow; else ""."""
    side = seen.view.image_size
    if seen.status.state != "running" or not side:
        return ""
    last = seen.view.started.sides[-1]
    if side >= last:
        return ""
    return (
        f"Training images have {side} × {side} pixels now and grow to {last} × {last}; "
        f"validation lags until then."
    )


def silence_sentence(seen: RunSnapshot) -> str:
    """Return a sentence on a suspended run, or on an unusually long silence; else ""."""
    # A suspended process still holds its lock, so its run would look alive for ever.
    silent_s = seen.progress()["silent_s"] or 0
    if seen.is_suspended:
        return f"**No update for {duration_text(silent_s or seen.state_age_s())}: {SUSPENDED}**"
    if silent_s > usual_silence_s(seen):
        return f"*No update for {duration_text(silent_s)}.*"
    return ""


def usual_silence_s(seen: RunSnapshot) -> float:
    """Return the longest normal time between two events, in seconds."""
    # A large network logs seldom: three times its own pauses between steps are no problem.
    return max([SILENT_S, *(3 * pause for pause in seen.view.step_durations())])


def is_compiling(seen: RunSnapshot) -> bool:
    """Return whether the run compiles its network: nothing was logged since its start."""
    view = seen.view
    if view.started is None or view.last is not view.started:
        return False
    config = config_or_none(seen.run)
    return bool(config and config["compile"])


def log_tail(seen: RunSnapshot, lines: int = 12) -> str:
    """Return the last events as lines of text with their time, newest last."""
    view = seen.view
    # No more than the last `lines` of each kind can be among the last of all.
    latest = [*view.steps[-lines:], *view.epochs[-lines:], view.started, view.embedding]
    latest += [view.head, view.ended]
    events = sorted((event for event in latest if event), key=lambda event: event.step)
    return "\n".join(
        f"{time.strftime('%H:%M:%S', time.localtime(event.time))}  {event_text(event)}"
        for event in events[-lines:]
    )
