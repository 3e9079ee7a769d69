"""An evaluation as files to keep: numbers for programs and spreadsheets, figures for people."""

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

COLUMNS = ("label", "precision", "recall", "f1", "support")
DPI = 150


def write_report(
    evaluated: RunEvaluation, folder: Path, robustness: Mapping[str, Any] | None = None
) -> list[Path]:
    """Write an evaluation into a folder, made if need be; the files.

    result.json, per-class.csv, confusion.csv (truth in rows, in images) and the figures as PNG on
    white. What is there by these names is replaced. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    result = evaluated.result
    told = result if robustness is None else {**result, "robustness": robustness}
    labels = [row["label"] for row in result["per_class"]]
    contents = {
        "result.json": (json.dumps(told, indent=2) + "\n").encode(),
        "per-class.csv": table(COLUMNS, ([row[c] for c in COLUMNS] for row in result["per_class"])),
        "confusion.csv": table(
            ("truth", *labels),
            ([label, *row] for label, row in zip(labels, result["confusion"], strict=True)),
        ),
        "confusion.png": png(confusion_figure(result["confusion"], labels)),
        "reliability.png": png(reliability_figure(result["calibration"])),
        "confidence.png": png(confidence_figure(result["histogram"])),
    }
    if robustness is not None:
        contents["robustness.png"] = png(robustness_figure(robustness))
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return [folder / name for name in contents]


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """CSV in UTF-8. Class names may be anybody's: none of them becomes a formula."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([csv_safe(value) for value in row] for row in (head, *rows))
    return text.getvalue().encode()


def png(figure: Figure) -> bytes:
    """The figure on white: a file is seen on pages of any colour."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, facecolor="white")
    return file.getvalue()
