"""Rows that offer a download and show its progress, and the one of pretrained weights."""

from typing import Any

import gradio as gr

from resnet_demo.models.pretrained import (
    DOWNLOAD_SUFFIX,
    WEIGHTS,
    download_source,
    missing_weights_error,
    weights_available,
)
from resnet_demo.runs.text import bytes_text, escape_markdown
from resnet_demo.tasks.status import Status
from resnet_demo.ui.components import progress_bar, progress_share, progress_text
from resnet_demo.ui.services import LATEST_EVENT, QUIET_EVENT, Services, show_errors

BUSY = "Another download is running."


def weights_row() -> dict[str, Any]:
    """Build the row that offers missing weights of the form's network; return its components."""
    return download_row("get-weights", "Get the weights")


def follow_weights(
    services: Services, parts: dict[str, Any], form: dict[str, Any], version: gr.Textbox
) -> None:
    """Connect the row of weights and keep it current.

    form: the components of the settings. version: changes with the state of a download.
    """
    chosen = [form["model"], form["weights"]]
    connect_row(services, parts, lambda model, _: f"{model}{DOWNLOAD_SUFFIX}", chosen)

    # Async, because a tick must not wait for one of Gradio's threads.
    async def on_change(model: str, weights: str) -> dict[Any, Any]:
        return weights_updates(services, parts, model, weights)

    triggers = [version.change, *(component.change for component in chosen)]
    gr.on(triggers, on_change, chosen, [*parts.values()], **LATEST_EVENT)


def download_row(name: str, label: str, variant: str = "primary") -> dict[str, Any]:
    """Build a hidden row; return its components.

    name: start of their ids. label, variant: of the button.
    """
    with gr.Row(visible=False, elem_id=f"{name}-banner", elem_classes="download") as box:
        with gr.Column(scale=8, min_width=260):
            text = gr.Markdown(elem_id=f"{name}-text")
            progress = gr.HTML(padding=False, elem_id=f"{name}-progress", visible=False)
        start = gr.Button(label, variant=variant, elem_id=name, scale=0, min_width=150)
        cancel = gr.Button(
            "Cancel", elem_id=f"{name}-cancel", scale=0, min_width=150, visible=False
        )
    return {"box": box, "text": text, "progress": progress, "start": start, "cancel": cancel}


def connect_row(services: Services, parts: dict[str, Any], name_of: Any, inputs: list[Any]) -> None:
    """Connect the buttons of a row. name_of: returns the download's name for these inputs."""

    @show_errors()
    def on_start(*values: Any) -> None:
        services.data.get(name_of(*values), services.caller())

    @show_errors()
    def on_cancel() -> None:
        services.data.cancel("get", services.caller())

    parts["start"].click(on_start, inputs, None, **QUIET_EVENT)
    parts["cancel"].click(on_cancel, None, None, **QUIET_EVENT)


def weights_updates(
    services: Services, parts: dict[str, Any], model: str, weights: str
) -> dict[Any, Any]:
    """Return the updates of the row of weights, visible if the form's network needs them."""
    paths = services.paths
    is_missing = (
        weights == "imagenet" and model in WEIGHTS and not weights_available(model, paths.weights)
    )
    if not is_missing:
        return {parts["box"]: gr.update(visible=False)}
    known, status = WEIGHTS[model], services.data.status("get")
    if known.package:
        text = f"⚠ {missing_weights_error(model)}"
        return row_updates(parts, True, text, None) | {parts["start"]: gr.update(visible=False)}
    size, source = bytes_text(known.size), download_source(paths.weights_mirror)
    missing = (
        f"**The ImageNet weights of {model} are not on this machine yet.** One-time download, "
        f"{size}, from {source}."
    )
    if not is_download_of(services, f"{model}{DOWNLOAD_SUFFIX}"):
        other = status is not None and status.is_live
        return row_updates(parts, True, f"{missing} {BUSY}" if other else missing, None)
    text = download_text(f"ImageNet weights of {model}", missing, status)
    return row_updates(parts, True, text, status)


def is_download_of(services: Services, name: str) -> bool:
    """Return whether the latest download is the one of that name."""
    return services.data.request("get").get("name") == name


def row_updates(
    parts: dict[str, Any], visible: bool, text: str, status: Status | None
) -> dict[Any, Any]:
    """Return the updates of a row. status: of its download, None if there was none."""
    # The buttons take turns: Cancel exists only during a download, and Get only outside of one.
    live = status is not None and status.is_live
    return {
        parts["box"]: gr.update(visible=visible),
        parts["text"]: text,
        parts["progress"]: gr.update(
            value=progress_bar(progress_share(status)) if live else "", visible=live
        ),
        parts["start"]: gr.update(visible=not live),
        parts["cancel"]: gr.update(visible=live, interactive=live and status.state != "stopping"),
    }


def download_text(what: str, missing: str, status: Status | None) -> str:
    """Return the state of a download (Markdown). missing: the text while there is none."""
    if status is None or status.state == "finished":
        return missing
    if status.state == "stopping":
        return f"**{what}:** stopping…"
    if status.state == "stopped":
        partial = status.unit == "bytes" and status.done
        more = f"; it will continue from {bytes_text(status.done)}" if partial else ""
        return f"{missing} Download cancelled{more}."
    if status.state == "failed":
        return f"⚠ {escape_markdown(status.message)}"
    return f"**{what}:** " + escape_markdown(progress_text(status))
