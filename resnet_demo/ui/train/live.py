"""A run as the Train tab shows it: tiles, a bar, a table an epoch, the last lines of the log."""

import time
from typing import Any

from resnet_demo.runs.text import count_text, duration_text, escape_markdown, event_text
from resnet_demo.tasks.snapshot import Look, config_of

SILENT_S = 15.0  # after so long without a word the page says so
EPOCH_COLUMNS = ["epoch", "train loss", "val loss", "train top-1", "val top-1", "time"]
FROZEN = "its process is suspended by a signal. It goes on when that ends, or Stop ends it."
READING = "Its log is long: the curves stand here in some seconds."
STATE_WORDS = {
    "queued": "Queued",
    "preparing": "Preparing",
    "running": "Training",
    "stopping": "Stopping",
    "stopped": "Stopped",
    "finished": "Finished",
    "failed": "Failed",
}


def tiles(seen: Look) -> str:
    """The figures as HTML. Numbers and words of ours only: no text of anybody else's goes in."""
    at = seen.progress()
    total, step, left = at["total_steps"], at["step"], at["seconds_left"]
    kept, started = seen.view.best, seen.view.started
    which = started.keep if started else "best"
    figures = {
        "state": STATE_WORDS[seen.status.state],
        "epoch": f"{at['epoch']} / {at['epochs']}" if at["epochs"] else "–",
        "step": f"{step:,} / {total:,}" if total else "–",
        f"{which} validation": f"{kept.val_top1:.2%}" if kept else "–",
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
    return f'<div class="tiles state-{seen.status.state}">{cells}</div>' + bar(share)


def bar(share: float) -> str:
    """A progress bar; share from 0 to 1."""
    return (
        f'<div class="bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{100 * share:.0f}"><div style="width:{100 * share:.1f}%"></div></div>'
    )


def sentence(seen: Look) -> str:
    """What is going on, in plain words (Markdown)."""
    state, message, at = seen.status.state, escape_markdown(seen.status.message), seen.progress()
    if state == "queued":
        what = f"Place {seen.place} in the queue." if seen.place else "Next in line, starting."
    elif state == "preparing":
        what = "Preparing: loading torch and the images takes some seconds."
    elif state == "failed":
        what = f"**Failed:** {message}."
    elif state == "finished" and seen.run.shipped:
        what = f"Came with the app, trained in {duration_text(seen.view.worked())}: {message}."
    elif state in ("stopped", "finished"):
        what = f"{STATE_WORDS[state]}: {message}." if message else f"{STATE_WORDS[state]}."
    elif compiling(seen):
        what = "Compiling the network: that takes a minute or more, then the steps begin."
    else:
        what = message
    if at["device"]:
        what += (
            f" {count_text(at['parameters'])} parameters, "
            f"{count_text(at['macs'])} multiply-adds an image, "
            f"on {escape_markdown(at['device'])} in {escape_markdown(at['precision'])}."
        )
    if state == "running" and (side := seen.view.side):
        last = seen.view.started.sides[-1]
        if side < last:
            what += (
                f" Training images are {side} × {side} pixels by now and will grow; validation is "
                f"on {last} × {last}, and looks worse until then."
            )
    if seen.reading:
        what += f" {READING}"
    if seen.frozen:
        what += f" **No news for {duration_text(at['silent_s'] or seen.waited_s())}: {FROZEN}**"
    elif (at["silent_s"] or 0) > usual_silence(seen):
        what += f" *No news for {duration_text(at['silent_s'])}.*"
    return what.strip()


def compiling(seen: Look) -> bool:
    """Whether a run was told to compile, and nothing has come after its start."""
    view = seen.view
    if view.started is None or view.last is not view.started:
        return False
    config = config_of(seen.run)
    return bool(config and config["compile"])


def usual_silence(seen: Look) -> float:
    """Seconds without a word that need no remark: a slow network logs seldom."""
    return max([SILENT_S, *(3 * pause for pause in seen.view.pauses())])


def epoch_rows(seen: Look) -> list[list[Any]]:
    """A row an epoch, newest first."""
    return [
        [
            epoch.epoch,
            f"{epoch.train_loss:.4f}",
            f"{epoch.val_loss:.4f}",
            f"{epoch.train_top1:.2%}",
            f"{epoch.val_top1:.2%}",
            duration_text(epoch.seconds),
        ]
        for epoch in reversed(seen.view.epochs)
    ]


def log_tail(seen: Look, lines: int = 12) -> str:
    """The last events in words, with the clock; newest last."""
    view = seen.view
    events = [*view.steps[-lines:], *view.epochs[-lines:], view.started, view.ended]
    told = sorted((event for event in events if event), key=lambda event: event.step)
    return "\n".join(
        f"{time.strftime('%H:%M:%S', time.localtime(event.time))}  {event_text(event)}"
        for event in told[-lines:]
    )
