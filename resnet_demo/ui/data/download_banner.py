"""Above the tabs, while CIFAR-10 is not on this machine: one button, and how far it is."""

from typing import Any

import gradio as gr

from resnet_demo.runs.text import bytes_text, escape_markdown, transfer_text
from resnet_demo.tasks.status import Status
from resnet_demo.ui.services import QUIET, Services, plainly
from resnet_demo.ui.train.live import bar

MISSING = (
    "**CIFAR-10 is not on this machine yet.** It is fetched from the first source that answers "
    "(the Hugging Face hub, Zenodo, its home server), checked, and kept in the data folder: up to "
    "171 MB, once."
)


def banner(services: Services) -> dict[str, Any]:
    """Build it; its components by name, for `told`."""
    with gr.Row(visible=False, elem_id="get-banner") as box:
        with gr.Column(scale=8, min_width=260):
            words = gr.Markdown(elem_id="get-words")
            progress = gr.HTML(padding=False, elem_id="get-progress", visible=False)
        start = gr.Button("Get CIFAR-10", variant="primary", elem_id="get", scale=0, min_width=150)
        cancel = gr.Button("Cancel", elem_id="get-cancel", scale=0, min_width=150, visible=False)

    @plainly()
    def on_start() -> None:
        services.data.get("cifar10", services.caller())

    @plainly()
    def on_cancel() -> None:
        services.data.cancel("get", services.caller())

    start.click(on_start, None, None, **QUIET)
    cancel.click(on_cancel, None, None, **QUIET)
    return {"box": box, "words": words, "progress": progress, "start": start, "cancel": cancel}


def told(parts: dict[str, Any], is_here: bool, status: Status | None) -> dict[Any, Any]:
    """What the banner shows: how to get CIFAR-10, or how far it is; hidden where that is here."""
    live = status is not None and status.is_live
    return {
        parts["box"]: gr.update(visible=not is_here),
        parts["words"]: sentence(status),
        parts["progress"]: gr.update(value=bar(share(status)) if live else "", visible=live),
        parts["start"]: gr.update(visible=not live),
        parts["cancel"]: gr.update(visible=live, interactive=live and status.state != "stopping"),
    }


def sentence(status: Status | None) -> str:
    """Where the download stands, in words (Markdown)."""
    if status is None or status.state == "finished":
        return MISSING
    if status.state == "stopping":
        return "**CIFAR-10:** stopping."
    if status.state == "stopped":
        kept = status.unit == "bytes" and status.done
        more = f"; the next one goes on from {bytes_text(status.done)}" if kept else ""
        return f"{MISSING} The download was cancelled{more}."
    if status.state == "failed":
        return f"⚠ {escape_markdown(status.message)}"
    return "**CIFAR-10:** " + escape_markdown(progress_text(status))


def progress_text(status: Status) -> str:
    """How far a live task is."""
    return transfer_text(
        status.message, status.done, status.total or None, status.unit, status.rate
    )


def share(status: Status) -> float:
    """From 0 to 1; 0 where nobody knows."""
    return min(1.0, status.done / status.total) if status.total else 0.0
