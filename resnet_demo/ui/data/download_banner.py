"""The banner above the tabs while CIFAR-10 is not on this machine: a button, and its progress."""

from typing import Any

import gradio as gr

from resnet_demo.runs.text import bytes_text, escape_markdown
from resnet_demo.tasks.status import Status
from resnet_demo.ui.components import progress_bar, progress_share, progress_text
from resnet_demo.ui.services import QUIET_EVENT, Services, show_errors

MISSING = "**CIFAR-10 is not on this machine yet.** One-time download, up to 171 MB."


def download_banner(services: Services) -> dict[str, Any]:
    """Build the banner; return its components by name, for `banner_updates`."""
    with gr.Row(visible=False, elem_id="get-banner") as box:
        with gr.Column(scale=8, min_width=260):
            text = gr.Markdown(elem_id="get-text")
            progress = gr.HTML(padding=False, elem_id="get-progress", visible=False)
        start = gr.Button("Get CIFAR-10", variant="primary", elem_id="get", scale=0, min_width=150)
        cancel = gr.Button("Cancel", elem_id="get-cancel", scale=0, min_width=150, visible=False)

    @show_errors()
    def on_start() -> None:
        services.data.get("cifar10", services.caller())

    @show_errors()
    def on_cancel() -> None:
        services.data.cancel("get", services.caller())

    start.click(on_start, None, None, **QUIET_EVENT)
    cancel.click(on_cancel, None, None, **QUIET_EVENT)
    return {"box": box, "text": text, "progress": progress, "start": start, "cancel": cancel}


def banner_updates(parts: dict[str, Any], is_here: bool, status: Status | None) -> dict[Any, Any]:
    """Return the updates of the banner. It is hidden if CIFAR-10 is here."""
    # The buttons take turns: Cancel exists only during a download, and Get only outside of one.
    live = status is not None and status.is_live
    return {
        parts["box"]: gr.update(visible=not is_here),
        parts["text"]: banner_text(status),
        parts["progress"]: gr.update(
            value=progress_bar(progress_share(status)) if live else "", visible=live
        ),
        parts["start"]: gr.update(visible=not live),
        parts["cancel"]: gr.update(visible=live, interactive=live and status.state != "stopping"),
    }


def banner_text(status: Status | None) -> str:
    """Return the state of the download (Markdown)."""
    if status is None or status.state == "finished":
        return MISSING
    if status.state == "stopping":
        return "**CIFAR-10:** stopping…"
    if status.state == "stopped":
        partial = status.unit == "bytes" and status.done
        more = f"; it will continue from {bytes_text(status.done)}" if partial else ""
        return f"{MISSING} Download cancelled{more}."
    if status.state == "failed":
        return f"⚠ {escape_markdown(status.message)}"
    return "**CIFAR-10:** " + escape_markdown(progress_text(status))
