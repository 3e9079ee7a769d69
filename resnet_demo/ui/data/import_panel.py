"""Bringing a person's own images: drop them, see what they are, import them."""

import re
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_demo.data.importer.survey import Survey, read_survey
from resnet_demo.errors import ConfigError, DamagedError
from resnet_demo.runs.text import bytes_text, escape_markdown
from resnet_demo.tasks.status import Status
from resnet_demo.ui.components import gallery, progress_bar, progress_share, progress_text
from resnet_demo.ui.services import QUIET_EVENT, Services, show_errors
from resnet_demo.ui.uploads import uploaded_file

LEAST, MOST, STEP = 32, 224, 16  # pixels, the sizes that the page offers
READY = (
    "A zip or a tar with a folder a class, or with `train/<class>` and `test/<class>` folders. "
    "Nothing is imported before you have seen what is inside."
)
SIZE_HELP = "side of the stored squares in pixels; training may show them smaller or larger"
NAME_HELP = "small letters, digits and dashes"
COLUMNS = ["class", "training", "test"]


def bring_panel(services: Services) -> dict[str, Any]:
    """Build it; its components by name, for `panel_updates`."""
    gr.Markdown("### Bring your own images")
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=330, elem_classes="panel"):
            file = gr.File(label="A zip or tar of images", elem_id="bring-file", height=130)
            with gr.Row(elem_id="bring-row"):
                folder = gr.Textbox(
                    label="or a folder on this machine", elem_id="bring-folder", max_lines=1,
                    placeholder="/home/me/Pictures/flowers", scale=3,
                )  # fmt: skip
                look = gr.Button("Look inside", elem_id="bring-look", scale=1, min_width=110)
            words = gr.Markdown(READY, elem_id="bring-words")
            progress = gr.HTML(padding=False, elem_id="bring-progress", visible=False)
            cancel = gr.Button("Cancel", size="sm", visible=False, elem_id="bring-cancel")
            with gr.Group(visible=False) as ask:
                name = gr.Textbox(
                    label="Name of the dataset", info=NAME_HELP, elem_id="bring-name", max_lines=1,
                    interactive=True,
                )  # fmt: skip
                size = gr.Slider(
                    LEAST, MOST, 64, step=STEP, label="Image size", info=SIZE_HELP,
                    elem_id="bring-size", interactive=True,
                )  # fmt: skip
                with gr.Row():
                    start = gr.Button("Import", variant="primary", elem_id="bring-import")
                    clear = gr.Button("Clear", elem_id="bring-clear")
        with gr.Column(scale=8, min_width=330):
            found = gr.Markdown(elem_id="bring-found", visible=False)
            classes = gr.Dataframe(
                headers=COLUMNS, interactive=False, visible=False, elem_id="bring-classes",
                max_height=260,
            )  # fmt: skip
            samples = gallery("bring-samples", 8)

    @show_errors()
    def on_upload(path: str | None) -> None:
        services.caller().require_owner("bring images")
        services.data.survey(uploaded_file(path), services.caller(), keep=True)

    @show_errors()
    def on_look(path: str | None) -> None:
        services.caller().require_owner("bring images")  # before anything is said of a path
        services.data.survey(named_folder(path), services.caller())

    @show_errors()
    def on_import(name: str, size: float) -> None:
        services.data.import_surveyed(name, whole(size), services.caller())

    @show_errors()
    def on_cancel() -> None:
        for kind in ("survey", "import"):
            services.data.cancel(kind, services.caller())

    @show_errors()
    def on_clear() -> tuple[None, str]:
        for kind in ("survey", "import"):
            services.data.discard(kind, services.caller())
        return None, ""

    file.upload(on_upload, file, None, **QUIET_EVENT)
    gr.on([look.click, folder.submit], on_look, folder, None, **QUIET_EVENT)
    start.click(on_import, [name, size], None, **QUIET_EVENT)
    cancel.click(on_cancel, None, None, **QUIET_EVENT)
    clear.click(on_clear, None, [file, folder], **QUIET_EVENT)
    return {
        **{"bring_words": words, "bring_progress": progress, "bring_cancel": cancel},
        **{"bring_ask": ask, "bring_name": name, "bring_size": size, "found": found},
        **{"found_classes": classes, "found_samples": samples},
    }


def named_folder(path: str | None) -> Path:
    """The folder a person wrote down. Raises ConfigError."""
    folder = Path((path or "").strip()).expanduser()
    if not folder.is_absolute() or "\0" in str(folder):
        rule = "the whole path of a folder or an archive on this machine"
        raise ConfigError.rule("folder", rule, path or None)
    return folder


def whole(size: float) -> Any:
    """What a slider gives, as the whole number it means."""
    return int(size) if isinstance(size, float) and size.is_integer() else size


def panel_updates(
    parts: dict[str, Any], survey: Status | None, bring: Status | None
) -> dict[Any, Any]:
    """What the panel shows of the last look into images and the last import."""
    live = next((status for status in (bring, survey) if status and status.is_live), None)
    ready = live is None and survey is not None and survey.state == "finished"
    return {
        parts["bring_words"]: sentence(survey, bring),
        parts["bring_progress"]: gr.update(
            value=progress_bar(progress_share(live)) if live else "", visible=live is not None
        ),
        parts["bring_cancel"]: gr.update(
            visible=live is not None, interactive=live is not None and live.state != "stopping"
        ),
        parts["bring_ask"]: gr.update(visible=ready),
    }


def sentence(survey: Status | None, bring: Status | None) -> str:
    """Where the later of the two stands, in words (Markdown)."""
    known = [status for status in (survey, bring) if status]
    if not known:
        return READY
    status = max(known, key=lambda status: status.queued_at)
    if status.is_live:
        return "Stopping." if status.state == "stopping" else escape_markdown(progress_text(status))
    if status.state == "failed":
        return f"⚠ {escape_markdown(status.message)}."
    if status.state == "stopped":
        return "Cancelled; nothing was imported."
    if status is survey:
        return "Choose a name and a size, then import."
    return f"**{escape_markdown(status.message)}.** It can be chosen on the Train tab now."


def report(services: Services, parts: dict[str, Any], survey: Status | None) -> dict[Any, Any]:
    """What was found, and an answer proposed to each question; hidden where there is nothing."""
    names = ("found", "found_classes", "found_samples")
    hidden = {parts[name]: gr.update(visible=False) for name in names}
    if survey is None or survey.state != "finished":
        return hidden
    try:
        found = read_survey(services.data.folder("survey"))
    except DamagedError as error:
        return hidden | {
            parts["found"]: gr.update(value=f"⚠ {escape_markdown(str(error))}", visible=True)
        }
    source = Path(services.data.request("survey")["source"])
    rows = [list(row) for row in found.classes]
    pictures = [(image, label) for label, some in found.samples.items() for image in some]
    return {
        parts["found"]: gr.update(value=found_text(found, source.name), visible=True),
        parts["found_classes"]: gr.update(value=rows, visible=True),
        parts["found_samples"]: gr.update(value=pictures, visible=bool(pictures)),
        parts["bring_name"]: suggested_name(source, services.datasets.names()),
        parts["bring_size"]: suggested_size(found),
    }


def found_text(found: Survey, name: str) -> str:
    """What was found, and what to mind (Markdown)."""
    train, test = (sum(row[i] for row in found.classes) for i in (1, 2))
    small, middle, large = (f"{width} × {height}" for width, height in found.sizes)
    split = (
        "split into train and test already"
        if found.own_split
        else "a fifth of each class is kept aside as the test"
    )
    lines = [
        f"#### Found in {escape_markdown(name)}",
        f"**{train + test:,}** pictures of **{len(found.classes)}** classes, "
        f"{bytes_text(found.bytes)}; {split}. Sizes from {small} to {large} pixels, in the middle "
        f"{middle}.",
        *(f"⚠ {escape_markdown(warning)}" for warning in found.warnings(suggested_size(found))),
    ]
    return "\n\n".join(lines)


def suggested_name(source: Path, taken: Any) -> str:
    """A name made of the file's own, which no dataset has yet."""
    stem = source.name.split(".")[0].lower()
    base = re.sub("[^a-z0-9]+", "-", stem).strip("-")[:50] or "images"
    names = [base, *(f"{base}-{number}" for number in range(2, 1000))]
    return next(name for name in names if name not in taken)


def suggested_size(found: Survey) -> int:
    """32 for small pictures, else 64: each doubling costs four times the time."""
    return 32 if min(found.sizes[1]) < 48 else 64
