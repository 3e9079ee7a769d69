"""The files of an evaluation: JSON and CSV for programs, figures as PNG for people."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from resnet_demo.evaluation.evaluate_run import RunEvaluation
from resnet_demo.evaluation.figures import (
    confidence_figure,
    confusion_figure,
    reliability_figure,
    robustness_figure,
)
from resnet_demo.files import write_atomically
from resnet_demo.runs.text import csv_safe

CLASS_COLUMNS = ("label", "precision", "recall", "f1", "support")
DPI = 150


def write_report(
    evaluated: RunEvaluation, folder: Path, robustness: Mapping[str, Any] | None = None
) -> list[Path]:
    """Write an evaluation into a folder, created if missing, and return the files.

    result.json, per-class.csv, confusion.csv (counts; rows are the true class) and the figures as
    PNG on white. Existing files of these names are replaced. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    result = evaluated.result
    values = result if robustness is None else {**result, "robustness": robustness}
    labels = [row["label"] for row in result["per_class"]]
    # All contents before the first write: an error while drawing leaves the old files complete.
    contents = {
        "result.json": (json.dumps(values, indent=2) + "\n").encode(),
        "per-class.csv": csv_table(
            CLASS_COLUMNS, ([row[c] for c in CLASS_COLUMNS] for row in result["per_class"])
        ),
        "confusion.csv": csv_table(
            ("truth", *labels),
            ([label, *row] for label, row in zip(labels, result["confusion"], strict=True)),
        ),
        "confusion.png": figure_png(confusion_figure(result["confusion"], labels)),
        "reliability.png": figure_png(reliability_figure(result["calibration"])),
        "confidence.png": figure_png(confidence_figure(result["histogram"])),
    }
    if robustness is not None:
        contents["robustness.png"] = figure_png(robustness_figure(robustness))
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return [folder / name for name in contents]


def csv_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Return a CSV table in UTF-8."""
    # csv writes its own line ends; a text file would double them on Windows.
    text = io.StringIO(newline="")
    # Class names come from imported folders: a spreadsheet must not run them as formulas.
    csv.writer(text).writerows([csv_safe(value) for value in row] for row in (head, *rows))
    return text.getvalue().encode()


def figure_png(figure: Figure) -> bytes:
    """Return the figure as PNG, on white: a file is shown on pages of any colour."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, facecolor="white")
    return file.getvalue()
