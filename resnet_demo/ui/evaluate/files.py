"""Downloads of an evaluation, written on a click: the per-class table, or everything in a ZIP."""

import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from resnet_demo.evaluation.stored_results import ROBUSTNESS_KEYS, read_result
from resnet_demo.ui.evaluate.evaluation_status import Selection, StatusCache
from resnet_demo.ui.gradio_fixes import serve_file
from resnet_demo.ui.services import QUIET_EVENT, show_errors

SAVE = """(file) => {
  const link = document.createElement('a');
  link.href = file.url; link.download = file.orig_name; link.click();
}"""
Write = Callable[[Path, Path | None, Path], Path]  # folder, robustness, directory to write to


def file_buttons(parts: dict[str, Any]) -> None:
    """Build both buttons, and the hidden component through which the browser gets the file."""
    with gr.Row(elem_classes="buttons"):
        parts["csv"] = gr.Button("Save table (CSV)", size="sm", elem_id="save-csv")
        parts["zip"] = gr.Button("Save numbers and figures (ZIP)", size="sm", elem_id="save-zip")
    # Hidden by CSS: Gradio forgets `visible="hidden"` when the results are hidden and shown again.
    parts["file"] = gr.DownloadButton(elem_classes=["gone"])


def connect_files(statuses: StatusCache, parts: dict[str, Any], selectors: list[Any]) -> None:
    """Connect both buttons: write the file, then have the browser save it."""

    def handler(write: Write) -> Callable[..., str]:
        @show_errors()
        def make(*values: Any) -> str:
            selection = Selection.from_page(*values)
            robustness = statuses.robustness(selection).result_folder
            folder = statuses.folder(selection)
            return write_to_cache(parts["file"], write, folder, robustness and Path(robustness))

        return make

    progress = {"show_progress": "minimal", "api_visibility": "private"}
    for name, write in (("csv", write_csv), ("zip", write_zip)):
        made = parts[name].click(handler(write), selectors, parts["file"], **progress)
        made.success(None, parts["file"], None, js=SAVE, **QUIET_EVENT)


def write_csv(folder: Path, robustness: Path | None, directory: Path) -> Path:
    """Write the per-class table of an evaluation's folder. Raises DamagedError."""
    from resnet_demo.evaluation.report import CLASS_COLUMNS, csv_table

    result = read_result(folder)
    file = directory / f"{file_name(result)}-per-class.csv"
    rows = [[row[column] for column in CLASS_COLUMNS] for row in result["per_class"]]
    file.write_bytes(csv_table(CLASS_COLUMNS, rows))
    return file


def write_zip(folder: Path, robustness: Path | None, directory: Path) -> Path:
    """Write all numbers and figures, with the robustness if it was measured, to a ZIP archive."""
    from resnet_demo.evaluation.evaluate_run import read_evaluation
    from resnet_demo.evaluation.report import write_report

    evaluated = read_evaluation(folder)
    measured = read_result(robustness, ROBUSTNESS_KEYS) if robustness else None
    name = file_name(evaluated.result)
    with zipfile.ZipFile(directory / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in write_report(evaluated, directory / name, measured):
            archive.write(file, f"{name}/{file.name}")
    return directory / f"{name}.zip"


def write_to_cache(
    download: gr.DownloadButton, write: Write, folder: Path, robustness: Path | None
) -> str:
    """Write a file and move it to where Gradio serves and later deletes it."""
    with tempfile.TemporaryDirectory() as directory:
        file = write(folder, robustness, Path(directory))
        return serve_file(download, file)


def file_name(result: dict[str, Any]) -> str:
    """Return a file name: run, split, dataset, and the mode unless it is plain."""
    mode = [] if result["mode"] == "plain" else [result["mode"]]
    return "-".join([result["run"], result["split"], result["dataset"], *mode])
