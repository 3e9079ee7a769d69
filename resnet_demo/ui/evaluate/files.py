"""An evaluation to take home: the table as CSV, or everything in one archive. Made on a click."""

import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import gradio as gr

from resnet_demo.evaluation.stored_results import ROBUSTNESS_KEYS, read_result
from resnet_demo.ui.gradio_fixes import serve_file

SAVE = """(file) => {
  const link = document.createElement('a');
  link.href = file.url; link.download = file.orig_name; link.click();
}"""
Write = Callable[[Path, Path | None, Path], Path]


def classes_csv(folder: Path, robustness: Path | None, where: Path) -> Path:
    """The per-class table of an evaluation's folder, written to `where`. Raises DamagedError."""
    from resnet_demo.evaluation.report import COLUMNS, table

    result = read_result(folder)
    file = where / f"{name_of(result)}-per-class.csv"
    rows = [[row[column] for column in COLUMNS] for row in result["per_class"]]
    file.write_bytes(table(COLUMNS, rows))
    return file


def report_zip(folder: Path, robustness: Path | None, where: Path) -> Path:
    """All numbers and figures, and the robustness where there is one, in an archive."""
    from resnet_demo.evaluation.evaluate_run import read_evaluation
    from resnet_demo.evaluation.report import write_report

    evaluated = read_evaluation(folder)
    bent = read_result(robustness, ROBUSTNESS_KEYS) if robustness else None
    name = name_of(evaluated.result)
    with zipfile.ZipFile(where / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in write_report(evaluated, where / name, bent):
            archive.write(file, f"{name}/{file.name}")
    return where / f"{name}.zip"


def handed(download: gr.DownloadButton, write: Write, folder: Path, bent: Path | None) -> str:
    """The file that `write` makes, where Gradio serves it from and clears it away later."""
    with tempfile.TemporaryDirectory() as where:
        file = write(folder, bent, Path(where))
        return serve_file(download, file)


def name_of(result: dict) -> str:
    """A file name: run, split and dataset, and the mode if it is not the plain one."""
    mode = [] if result["mode"] == "plain" else [result["mode"]]
    return "-".join([result["run"], result["split"], result["dataset"], *mode])
