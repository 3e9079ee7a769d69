"""Importing a person's own images on the Data tab: upload, see what is inside, import."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_demo.data.importer.survey import (
    MAX_SIZE,
    MIN_SIZE,
    Survey,
    read_survey,
    space_text,
)
from resnet_demo.data.pictures import FITS
from resnet_demo.errors import ConfigError, DamagedError
from resnet_demo.fingerprint import SPLIT_NAMES
from resnet_demo.runs.text import bytes_text, escape_markdown
from resnet_demo.tasks.status import Status
from resnet_demo.ui.components import gallery, progress_bar, progress_share, progress_text
from resnet_demo.ui.services import LATEST_EVENT, QUIET_EVENT, Services, show_errors
from resnet_demo.ui.uploads import uploaded_file

PROMPT = (
    "A zip or tar with one folder per class, or with `train/<class>` and `test/<class>` folders. "
    "You see what is inside before anything is imported."
)
SIZE_HELP = "pixels per side; smaller pictures are enlarged, and training may resize"
FIT_HELP = "crop cuts off the longer side, squash distorts, pad adds a border"
NAME_HELP = "lowercase letters, digits, dashes"
# The form is replaced by the progress, which may be above what is in sight.
SCROLL_TO_PROGRESS = """() => setTimeout(() => document.getElementById('import-text')
  ?.scrollIntoView({behavior: 'smooth', block: 'center'}), 300)"""


def import_panel(services: Services) -> dict[str, Any]:
    """Build the panel; return its components by name, for `panel_updates` and `survey_updates`."""
    gr.Markdown("### Import your own images")
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=330, elem_classes="panel"):
            source = source_fields()
        with gr.Column(scale=8, min_width=330):
            source |= import_state()
            found = gr.Markdown(elem_id="import-found", visible=False)
            form = import_form()
            results = {"found": found, **survey_results()}
    connect_source(services, source)
    connect_form(services, form, source)
    # The others change only by events of this panel.
    updated = ("import_text", "import_train", "import_progress", "import_cancel")
    return {name: source[name] for name in updated} | {
        "import_settings": form["settings"],
        "import_name": form["name"],
        "import_size": form["size"],
        "import_space": form["space"],
        **results,
    }


def source_fields() -> dict[str, Any]:
    """Build the choice of a file or folder."""
    file = gr.File(label="A zip or tar of images", elem_id="import-file", height=130)
    # For a person at this machine: a large folder needs no upload. Owners only, see `on_scan`.
    with gr.Row(elem_id="import-row"):
        folder = gr.Textbox(
            label="or a folder on this machine",
            elem_id="import-folder",
            max_lines=1,
            placeholder="/home/me/Pictures/flowers",
            scale=3,
        )
        scan = gr.Button("Scan folder", elem_id="import-scan", scale=1, min_width=110)
    return {"file": file, "folder": folder, "scan": scan}


def import_state() -> dict[str, Any]:
    """Build the text about the latest task, its progress, and the button for what it made."""
    return {
        "import_text": gr.Markdown(PROMPT, elem_id="import-text"),
        "import_train": gr.Button(
            "Train on it", variant="primary", visible=False, elem_id="import-train"
        ),
        "import_progress": gr.HTML(padding=False, elem_id="import-progress", visible=False),
        "import_cancel": gr.Button("Cancel", size="sm", visible=False, elem_id="import-cancel"),
    }


def import_form() -> dict[str, Any]:
    """Build name, size and buttons of an import. They are hidden until a survey has finished."""
    with gr.Group(visible=False) as settings:
        with gr.Row():
            name = gr.Textbox(
                label="Name of the dataset",
                info=NAME_HELP,
                elem_id="import-name",
                max_lines=1,
                interactive=True,
            )
            fit = gr.Radio(
                [(name.capitalize(), name) for name in FITS],
                value="crop",
                label="Make square",
                info=FIT_HELP,
                elem_id="import-fit",
                interactive=True,
                min_width=280,
            )
        # A survey proposes the median side of its pictures.
        size = gr.Slider(
            MIN_SIZE,
            MAX_SIZE,
            64,
            step=1,
            label="Stored size",
            info=SIZE_HELP,
            elem_id="import-size",
            interactive=True,
        )
        space = gr.Markdown(elem_id="import-space", padding=False)
        with gr.Row():
            start = gr.Button("Import", variant="primary", elem_id="import-start")
            clear = gr.Button("Clear", elem_id="import-clear")
    return {
        "settings": settings,
        "name": name,
        "size": size,
        "space": space,
        "fit": fit,
        "start": start,
        "clear": clear,
    }


def survey_results() -> dict[str, Any]:
    """Build the hidden components that show the pictures that a survey found."""
    return {
        "found_classes": gr.Dataframe(
            interactive=False, visible=False, elem_id="import-classes", max_height=260
        ),
        "found_samples": gallery("import-samples", 8),
    }


def connect_source(services: Services, source: dict[str, Any]) -> None:
    """Connect the upload, the folder and Cancel."""

    @show_errors()
    def on_upload(path: str | None) -> None:
        services.caller().require_owner("bring images")
        # keep: the import reads the file later, and Gradio removes uploads after an hour.
        services.data.survey(uploaded_file(path), services.caller(), keep=True)

    @show_errors()
    def on_scan(path: str | None) -> None:
        # Before the path is checked: its errors would reveal to a stranger which folders exist.
        services.caller().require_owner("bring images")
        services.data.survey(folder_path(path), services.caller())

    @show_errors()
    def on_cancel() -> None:
        # One button for both, of which at most one runs.
        for kind in ("survey", "import"):
            services.data.cancel(kind, services.caller())

    file, folder = source["file"], source["folder"]
    # `upload`, not `change`: Clear empties the field, too.
    file.upload(on_upload, file, None, **QUIET_EVENT)
    gr.on([source["scan"].click, folder.submit], on_scan, folder, None, **QUIET_EVENT)
    source["import_cancel"].click(on_cancel, None, None, **QUIET_EVENT)


def connect_form(services: Services, form: dict[str, Any], source: dict[str, Any]) -> None:
    """Connect size, Import and Clear."""

    @show_errors()
    def on_import(name: str, size: float, fit: str) -> None:
        services.data.import_surveyed(name, whole_number(size), services.caller(), fit)

    def on_size(size: float) -> str:
        try:
            found = read_survey(services.data.folder("survey"))
            return f"{space_text(found.pictures, size)}."
        except DamagedError:  # the survey was cleared meanwhile
            return ""

    @show_errors()
    def on_clear() -> tuple[None, str]:
        for kind in ("survey", "import"):
            services.data.discard(kind, services.caller())
        return None, ""

    values = [form[name] for name in ("name", "size", "fit")]
    started = form["start"].click(on_import, values, None, **QUIET_EVENT)
    started.success(None, None, None, js=SCROLL_TO_PROGRESS, **QUIET_EVENT)
    # While the slider moves, the last value counts.
    form["size"].change(on_size, form["size"], form["space"], **LATEST_EVENT)
    form["clear"].click(on_clear, None, [source["file"], source["folder"]], **QUIET_EVENT)


def folder_path(path: str | None) -> Path:
    """Return the absolute path that a person typed. Raises ConfigError."""
    folder = Path((path or "").strip()).expanduser()
    if not folder.is_absolute() or "\0" in str(folder):
        rule = "the whole path of a folder or an archive on this machine"
        raise ConfigError.rule("folder", rule, path or None)
    return folder


def whole_number(size: float) -> Any:
    """Return a slider's float as an int if it is whole, else as it is: the importer refuses it."""
    return int(size) if isinstance(size, float) and size.is_integer() else size


def panel_updates(
    parts: dict[str, Any], survey: Status | None, importing: Status | None
) -> dict[Any, Any]:
    """Return the updates of text, progress and buttons for the last survey and import."""
    live = next((status for status in (importing, survey) if status and status.is_live), None)
    # While a task runs, the form is hidden: an import reads what the survey found.
    can_import = live is None and survey is not None and survey.state == "finished"
    # A survey after the import makes its button go: that is about the file before.
    is_done = latest_task(survey, importing) is importing and importing is not None
    return {
        parts["import_text"]: status_text(survey, importing),
        parts["import_train"]: gr.update(visible=is_done and importing.state == "finished"),
        parts["import_progress"]: gr.update(
            value=progress_bar(progress_share(live)) if live else "", visible=live is not None
        ),
        parts["import_cancel"]: gr.update(
            visible=live is not None, interactive=live is not None and live.state != "stopping"
        ),
        parts["import_settings"]: gr.update(visible=can_import),
    }


def latest_task(survey: Status | None, importing: Status | None) -> Status | None:
    """Return the later of the two tasks: a new survey replaces the result of the last import."""
    tasks = [status for status in (survey, importing) if status]
    return max(tasks, key=lambda status: status.queued_at, default=None)


def status_text(survey: Status | None, importing: Status | None) -> str:
    """Return the state of the later of the two tasks (Markdown)."""
    status = latest_task(survey, importing)
    if status is None:
        return PROMPT
    if status.is_live:
        return "Stopping…" if status.state == "stopping" else escape_markdown(progress_text(status))
    if status.state == "failed":
        return f"⚠ {escape_markdown(status.message)}."
    if status.state == "stopped":
        return "Cancelled; nothing was imported."
    if status is survey:
        return "Choose a name, then import."
    return f"**{escape_markdown(status.message)}.**"


def survey_updates(
    services: Services, parts: dict[str, Any], survey: Status | None
) -> dict[Any, Any]:
    """Return the updates of a survey's results and of the proposed name and size."""
    names = ("found", "found_classes", "found_samples")
    hidden = {parts[name]: gr.update(visible=False) for name in names}
    if survey is None or survey.state != "finished":
        return hidden
    try:
        found = read_survey(services.data.folder("survey"))
    except DamagedError as error:
        message = f"⚠ {escape_markdown(str(error))}"
        return hidden | {parts["found"]: gr.update(value=message, visible=True)}
    source = Path(services.data.request("survey")["source"])
    # Names of classes come from the archive. A table of text shows them without interpreting.
    names, train, test = zip(*found.classes, strict=True)
    columns = {"train": train, "val": found.val_classes, "test": test}
    table = class_table(names, {split: counts for split, counts in columns.items() if sum(counts)})
    pictures = [(image, label) for label, images in found.samples.items() for image in images]
    return {
        parts["found"]: gr.update(value=found_text(found, source.name), visible=True),
        parts["found_classes"]: gr.update(value=table, visible=True),
        parts["found_samples"]: gr.update(value=pictures, visible=bool(pictures)),
        parts["import_name"]: suggested_name(source, services.datasets.names()),
        parts["import_size"]: found.default_size,
        parts["import_space"]: f"{space_text(found.pictures, found.default_size)}.",
    }


def found_text(found: Survey, name: str) -> str:
    """Return the numbers and warnings of a survey (Markdown)."""
    train, test = (sum(row[i] for row in found.classes) for i in (1, 2))
    split = "has its own test split" if found.own_split else "20 % held out for testing"
    if not test:  # too few pictures
        split = "none held out for testing"
    lines = [
        f"#### Found in {escape_markdown(name)}",
        f"**{train + found.val + test:,}** pictures of **{len(found.classes)}** classes, "
        f"{bytes_text(found.bytes)}; {split}. {sizes_text(found)}",
        *(f"⚠ {escape_markdown(warning)}" for warning in found.warnings()),
    ]
    return "\n\n".join(lines)


def class_table(classes: Sequence[str], columns: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Return a table for gr.Dataframe: a row for each class. columns: split -> images per class."""
    rows = zip(classes, *columns.values(), strict=True)
    headers = ["class", *(SPLIT_NAMES[split] for split in columns)]
    return {"headers": headers, "data": [list(row) for row in rows]}


def sizes_text(found: Survey) -> str:
    """Return the sizes of the smallest, the median and the largest picture."""
    small, median, large = (f"{width} × {height}" for width, height in found.sizes)
    if small == large:
        return f"All {small} pixels."
    return f"{small} to {large} pixels, median {median}."


def suggested_name(source: Path, taken: Any) -> str:
    """Return a name made from the file's name that no dataset has yet."""
    stem = source.name.split(".")[0].lower()
    # Cut, so that a number still fits below the limit of a dataset's name.
    base = re.sub("[^a-z0-9]+", "-", stem).strip("-")[:50] or "images"
    names = [base, *(f"{base}-{number}" for number in range(2, 1000))]
    return next(name for name in names if name not in taken)
