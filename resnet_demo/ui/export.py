"""The Export panel, on the Train tab and on Classify: make files of a run's network, and save them.

A worker makes the files. Their folder stays, so a page that is reloaded or opened later finds them.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_demo.errors import ConfigError, DemoError
from resnet_demo.export.formats import parity_text
from resnet_demo.export.hub import check_repository, push_model
from resnet_demo.runs.text import bytes_text, escape_markdown
from resnet_demo.tasks.exports import (
    ALL_FORMATS,
    FILES,
    SPACE,
    Export,
    check_may_export,
    download_path,
    read_export,
    write_zip,
)
from resnet_demo.tasks.status import Status
from resnet_demo.ui.components import (
    HIDDEN,
    OFF,
    ON,
    SAVE_FILE,
    Parts,
    progress_bar,
    progress_share,
)
from resnet_demo.ui.gradio_fixes import current_request, serve_file
from resnet_demo.ui.services import LATEST_EVENT, QUIET_EVENT, TICK_EVENT, Services, show_errors

HUB, WEB = "hub", "web"
PUBLISHED_AS = {WEB: "a static Space", HUB: "a model", SPACE: "a Space"}
WHAT = {  # format -> its name on the page, and one line on what it is for
    WEB: (
        "Web page",
        "A folder for any web server: it classifies in the visitor's browser, on a phone too, and "
        "sends pictures nowhere.",
    ),
    "onnx": (
        "ONNX file",
        "One file for ONNX Runtime, in any language. It takes pictures of any size.",
    ),
    "script": (
        "Python script",
        "A short program and the weights. It needs only PyTorch and Pillow.",
    ),
    "report": (
        "Report",
        "One HTML file to print or hand in: curves, settings, results, mistakes.",
    ),
    HUB: (
        "Hugging Face model",
        "A folder for a model repository: weights, settings, and a card with the accuracy.",
    ),
    SPACE: (
        "Hugging Face Space",
        "This app with the run, for a Space of yours. Class names, settings and scores become "
        "public, pictures do not.",
    ),
}
NO_RUN = "Choose a run first."
TOKEN_HINT = (
    "with write access, from huggingface.co/settings/tokens; used once, not stored. Empty: the "
    "login of this machine."
)
UPLOADING = "Uploading…"
DOWNLOAD_COST = 20  # pictures of a visitor's limit: a file is packed and copied for each
# Components that each event updates, in this order.
OUTPUTS = (
    *("hint", "start", "cancel", "download", "message", "progress"),
    *("publish_box", "publish", "token", "published", "timer"),
)


def export_panel(prefix: str, visible: bool = True) -> Parts:
    """Build the panel, folded; return its components. prefix: start of their ids."""
    parts: Parts = {"opened": gr.State(False)}
    with gr.Accordion("Export", open=False, visible=visible, elem_id=f"{prefix}-export") as parts[
        "box"
    ]:
        parts["what"] = gr.Radio(
            [(name, format) for format, (name, _) in WHAT.items() if format in ALL_FORMATS],
            value=next(format for format in WHAT if format in ALL_FORMATS),
            label="Format",
            interactive=True,
            elem_id=f"{prefix}-export-what",
        )
        parts["hint"] = gr.Markdown(elem_classes=["hint", "note"])
        with gr.Row(elem_classes="buttons"):
            parts["start"] = gr.Button(
                "Export", variant="primary", size="sm", elem_id=f"{prefix}-export-start"
            )
            parts["cancel"] = gr.Button(
                "Cancel", size="sm", visible=False, elem_id=f"{prefix}-export-cancel"
            )
            parts["download"] = gr.Button(
                "Download",
                variant="primary",
                size="sm",
                visible=False,
                elem_id=f"{prefix}-export-download",
            )
        parts["message"] = gr.Markdown(elem_id=f"{prefix}-export-text")
        parts["progress"] = gr.HTML(
            padding=False, visible=False, elem_id=f"{prefix}-export-progress"
        )
        # Hidden by CSS: Gradio forgets `visible="hidden"` when a parent is hidden and shown again.
        parts["file"] = gr.DownloadButton(elem_classes=["gone"])
        publish_group(parts, prefix)
    parts["timer"] = gr.Timer(1.0, active=False)  # ticks only while an export is made
    return parts


def publish_group(parts: Parts, prefix: str) -> None:
    """Build what uploads a finished export to Hugging Face, hidden until there is one."""
    with gr.Column(visible=False, elem_id=f"{prefix}-publish") as parts["publish_box"]:
        with gr.Row(equal_height=False):
            parts["repository"] = gr.Textbox(
                label="Name at Hugging Face",
                info="OWNER/NAME; made if there is none",
                max_lines=1,
                interactive=True,
                elem_id=f"{prefix}-publish-name",
            )
            parts["token"] = gr.Textbox(
                label="Access token",
                info=TOKEN_HINT,
                type="password",
                max_lines=1,
                interactive=True,
                elem_id=f"{prefix}-publish-token",
            )
        parts["private"] = gr.Checkbox(
            label="private: only you see it",
            container=False,
            interactive=True,
            elem_id=f"{prefix}-publish-private",
        )
        with gr.Row(elem_classes="buttons"):
            parts["publish"] = gr.Button("Publish", size="sm", elem_id=f"{prefix}-publish-start")
        parts["published"] = gr.Markdown(elem_id=f"{prefix}-publish-text")


def connect_export(
    services: Services, parts: Parts, run: gr.Dropdown, visitor: gr.State | gr.BrowserState
) -> None:
    """Connect the events of the panel: another run or format, and its buttons.

    visitor: holds the visitor's name on ZeroGPU, else "".
    """
    inputs = [parts["opened"], run, parts["what"], visitor]
    outputs = [parts[name] for name in OUTPUTS]

    def update(opened: bool, run_id: str | None, format: str, name: str) -> list[Any]:
        if not opened:  # nothing is read for a folded panel
            return [gr.skip()] * (len(OUTPUTS) - 1) + [gr.Timer(active=False)]
        changed = panel_updates(services, run_id, format, name)
        return [changed.get(name, gr.skip()) for name in OUTPUTS]

    # In a thread: it reads files, and all pages share the loop.
    async def on_change(*values: Any) -> list[Any]:
        *updates, _, timer = await asyncio.to_thread(update, *values)
        return [*updates, "", timer]  # the address of another export is gone

    async def on_tick(*values: Any) -> list[Any]:
        return await asyncio.to_thread(update, *values)

    @show_errors()
    def on_start(opened: bool, run_id: str | None, format: str, name: str) -> list[Any]:
        is_theirs = owns(services, check_run(run_id), name)
        services.exports.start(run_id, format, services.caller(), is_theirs)
        return update(opened, run_id, format, name)

    @show_errors()
    def on_cancel(run_id: str | None, format: str) -> None:
        services.caller().require_owner("cancel an export")
        folder = services.exports.folder(services.runs.get(check_run(run_id)), format)
        services.launcher.stop_task(folder)

    for event, is_open in ((parts["box"].expand, True), (parts["box"].collapse, False)):
        event(lambda is_open=is_open: is_open, None, parts["opened"], **QUIET_EVENT)
    triggers = [part.change for part in inputs[:3]]
    gr.on(triggers, on_change, inputs, outputs, **LATEST_EVENT)
    parts["timer"].tick(on_tick, inputs, outputs, **TICK_EVENT)
    parts["start"].click(on_start, inputs, outputs, **QUIET_EVENT)
    parts["cancel"].click(on_cancel, inputs[1:3], None, **QUIET_EVENT)
    connect_download(services, parts, inputs[1:])
    connect_publish(services, parts, inputs[1:3])


def connect_download(services: Services, parts: Parts, inputs: list[Any]) -> None:
    """Connect Download: make the file, then have the browser save it.

    inputs: the run, the format and the visitor's name.
    """

    @show_errors()
    def on_download(run_id: str | None, format: str, name: str) -> str:
        return download(services, parts["file"], check_run(run_id), format, name)

    progress = {"show_progress": "minimal", "api_visibility": "private"}
    made = parts["download"].click(on_download, inputs, parts["file"], **progress)
    # `success`, not `then`: after an error there is no file.
    made.success(None, parts["file"], None, js=SAVE_FILE, **QUIET_EVENT)


def connect_publish(services: Services, parts: Parts, inputs: list[Any]) -> None:
    """Connect Publish. inputs: the run and the format."""

    async def on_publish(run_id: str | None, format: str, *values: Any) -> AsyncIterator[Any]:
        yield UPLOADING, gr.skip(), OFF
        try:
            # In a thread: it lasts as long as the upload.
            text = await asyncio.to_thread(publish, services, check_run(run_id), format, *values)
            # The token leaves the page, too, once it has served.
            yield text, "", ON
        except (DemoError, OSError) as error:
            yield error_text(error), gr.skip(), ON

    fields = [parts[name] for name in ("repository", "token", "private")]
    outputs = [parts[name] for name in ("published", "token", "publish")]
    parts["publish"].click(on_publish, [*inputs, *fields], outputs, **QUIET_EVENT)


def check_run(run_id: Any) -> str:
    """Return the id of the chosen run. Raises ConfigError without one."""
    if not run_id:
        raise ConfigError("choose a run first", "run")
    return run_id


def owns(services: Services, run_id: str, visitor: str) -> bool:
    """Return whether the run is one that this visitor trained on ZeroGPU."""
    return services.slices is not None and services.slices.owns(run_id, visitor)


def panel_updates(
    services: Services, run_id: str | None, format: str, visitor: str = ""
) -> dict[str, Any]:
    """Return component name -> update: what the panel shows of a run and a format."""
    hint = WHAT[format][1] if format in WHAT else ""
    if not run_id:
        return {"hint": hint, **state_updates(NO_RUN)}
    try:
        run = services.runs.get(run_id)
        check_may_export(run, services.caller(), owns(services, run_id, visitor))
        folder = services.exports.folder(run, format)
        status = services.exports.status(folder)
        exported = read_export(folder) if status and status.state == "finished" else None
    except DemoError as error:
        return {"hint": hint, **state_updates(error_text(error))}
    if exported is None:
        return {"hint": hint, **state_updates(status_text(status), status, can_start=True)}
    label = "Download" if format == SPACE else f"Download ({bytes_text(exported.bytes)})"
    can_publish = format in PUBLISHED_AS and services.caller().is_owner
    return {
        "hint": hint,
        **state_updates(result_text(exported), status),
        "start": HIDDEN,
        "download": gr.update(value=label, visible=True),
        "publish_box": gr.update(visible=can_publish),
        "publish": gr.update(value=f"Publish as {PUBLISHED_AS.get(format)}"),
        # Signed in on a Space that may make repositories: no token has to be typed.
        "token": gr.update(visible=services.access.hub_token(current_request()) is None),
    }


def state_updates(
    message: str, status: Status | None = None, can_start: bool = False
) -> dict[str, Any]:
    """Return component name -> update: a message, the progress of a live export, and the buttons.

    can_start: there is no result yet.
    """
    is_live = status is not None and status.is_live
    bar = progress_bar(progress_share(status)) if is_live else ""
    return {
        "message": message,
        "progress": gr.update(value=bar, visible=is_live),
        "start": gr.update(visible=not is_live, interactive=can_start),
        "cancel": gr.update(visible=is_live, interactive=is_live and status.state != "stopping"),
        "download": HIDDEN,
        "publish_box": HIDDEN,
        "timer": gr.Timer(active=is_live),
    }


def error_text(error: Exception) -> str:
    """Return an error as Markdown; one of the disk without the path that it names."""
    reason = (error.strerror or type(error).__name__) if isinstance(error, OSError) else error
    return f"⚠ {escape_markdown(str(reason))}."


def status_text(status: Status | None) -> str:
    """Return the state of an export that has no result (Markdown)."""
    if status is None:
        return ""
    message = escape_markdown(status.message)
    if status.state == "failed":
        return f"⚠ {message}."
    if status.state == "stopped":
        return "Cancelled."
    if status.state == "stopping":
        return "Stopping…"
    if status.total:
        return f"{message.capitalize()}: {status.done:,} of {status.total:,}."
    return f"{message.capitalize()}…"


def result_text(exported: Export) -> str:
    """Return what was checked, and notes, as sentences (Markdown)."""
    sentences = [parity_text(exported.parity)] if exported.parity else []
    # Commands in notes stand between backticks, which are harmless.
    texts = [escape_markdown(text).replace("\\`", "`") for text in [*sentences, *exported.notes]]
    return "\n\n".join(["**Ready.**", *texts])


def download(
    services: Services,
    component: gr.DownloadButton,
    run_id: str,
    format: str,
    visitor: str = "",
) -> str:
    """Return the file to save, where Gradio serves it and later removes it. Raises DemoError."""
    run, caller = services.runs.get(run_id), services.caller()
    check_may_export(run, caller, owns(services, run_id, visitor))
    services.allowance.count_pictures(caller, DOWNLOAD_COST, capped=True)
    folder = finished_folder(services, run_id, format)
    # A Space is built around the run on request: stored, each would hold the whole app again.
    if format != SPACE:
        return serve_file(component, download_path(folder))
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / f"{run_id}-space.zip"
        write_zip(build_space(folder, Path(temporary) / "space"), file, file.stem)
        return serve_file(component, file)


def finished_folder(services: Services, run_id: str, format: str) -> Path:
    """Return the folder of a finished export. Raises DemoError."""
    # The folder's name depends on the weights: after more training there is no such folder yet.
    folder = services.exports.folder(services.runs.get(run_id), format)
    status = services.exports.status(folder)
    if status is None or status.state != "finished":
        raise ConfigError("the run has changed since it was exported: export it again", "run")
    return folder


def build_space(folder: Path, target: Path) -> Path:
    """Build the Space around the packed run of a finished export; return its folder."""
    from resnet_demo.hosting.space import build

    build(target, runs=(folder / FILES).iterdir())
    return target


def publish(
    services: Services, run_id: str, format: str, repository: str, token: str, private: bool
) -> str:
    """Upload a finished export to Hugging Face; return its address (Markdown). Raises DemoError.

    Here and not in a worker, which must not get the token.
    """
    from resnet_demo.hosting.space import push

    services.caller().require_owner("publish")
    # A raw request may send null.
    repository, token = (repository or "").strip(), (token or "").strip()
    check_repository(repository)  # before anything is built or sent
    folder = finished_folder(services, run_id, format)
    options = {
        "token": token or services.access.hub_token(current_request()),
        "private": bool(private),
    }
    if format == HUB:
        address = push_model(folder / FILES, repository, **options)
    elif format == WEB:
        address = push(folder / FILES, repository, **options)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            space = build_space(folder, Path(temporary) / "space")
            address = push(space, repository, **options)
    return f"Published: [{escape_markdown(address)}]({address})"
