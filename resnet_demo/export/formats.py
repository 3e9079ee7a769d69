"""The export formats, and one function that writes any of them.

No torch or numpy before an export runs: the command line and the page list the formats.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_demo.errors import ConfigError, DemoError, one_of
from resnet_demo.files import is_new_or_empty
from resnet_demo.models.description import DESCRIPTION, WEIGHTS
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.runs.text import share_text

if TYPE_CHECKING:
    from resnet_demo.export.parity import OnProgress, Parity
    from resnet_demo.export.source import ExportSource

PARITY = "parity.json"
HUB_FILES = (WEIGHTS, DESCRIPTION, "config.json", "events.jsonl", "status.json", "README.md")
HUB_EXTRAS = ("cross-validation.safetensors", "known.safetensors")  # of some runs
FORMATS = {
    "onnx": "one ONNX file that takes pictures of any size and returns probabilities",
    "web": "a web page that classifies in the browser, for any web server or a static Space",
    "script": "classify.py with its weights, for torch and pillow alone",
    "report": "one HTML file about the run, to print and to hand in",
    "hub": "a folder for a model repository at Hugging Face: weights, settings, and a model card",
}
# Names of the files and folders of each format: an earlier export is replaced, nothing else is.
WRITTEN = {
    "onnx": ("*.onnx", PARITY),
    "web": (
        *("index.html", "page.js", "page.css", "icon.svg", "offline.js", "README.md"),
        *("model.onnx", "description.json", "ort", PARITY),
    ),
    "script": (
        *("classify.py", "weights.pt", "description.json", "known.pt", "train.py", "shapes10.py"),
        # What running train.py leaves: its weights, and Python's cache of shapes10.py.
        *("trained.pt", "__pycache__", PARITY),
    ),
    "report": ("*-report.html",),
    # The name begins with the split.
    "hub": (*HUB_FILES, "*-predictions.safetensors", *HUB_EXTRAS),
}


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    files: names in the folder. parity: the comparison with the app; None for a format that answers
    nothing. notes: sentences for the person.
    """

    files: list[str]
    parity: "Parity | None" = None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        parity = self.parity and self.parity.to_dict()
        return {"files": self.files, "parity": parity, "notes": self.notes}


@dataclass(frozen=True)
class Job:
    """One export: an empty folder to write into, and what `export_run` was called with."""

    run: Run
    folder: Path
    paths: Paths
    on_progress: "OnProgress"
    offline: Path | bool | None = None
    licence: str | None = None


def export_run(
    run: Run,
    folder: Path,
    format: str,
    paths: Paths,
    *,
    on_progress: "OnProgress" = lambda what, done, total: None,
    offline: Path | bool | None = None,
    licence: str | None = None,
) -> Exported:
    """Write a run's kept weights into a folder in one of FORMATS, and compare it with the app.

    folder: missing or empty, or with an earlier export in that format, which is replaced. Nothing
    is left of an export that fails. offline: for `web`, a folder with onnxruntime-web's files to
    copy, or True to fetch them by npm; None: the page loads them from a CDN. licence: for
    `hub`, the licence of the weights.

    Raises:
        ConfigError: another format, a folder with other files, or a package is missing.
        NotFoundError: the run has no weights yet.
        DamagedError: the run is damaged.
        DemoError: the file answers differently from the app.
        StoppedError: raised by `on_progress`.
        OSError: the folder cannot be written.
    """
    from resnet_demo.export.finished_run import new_folder

    check_format(format)
    folder = folder.resolve()  # a link is followed now: the temporary folder lies beside the target
    check_folder(folder, format)
    with new_folder(folder) as temporary:
        exported = EXPORTERS[format](Job(run, temporary, paths, on_progress, offline, licence))
        # At the end, so that an export that fails leaves the earlier one.
        remove_earlier(folder, format)
    return exported


def export_onnx(job: Job) -> Exported:
    """Write the ONNX file and compare it with the app."""
    from resnet_demo.export.onnx_file import predictor, write_onnx
    from resnet_demo.export.source import load_source

    source = load_source(job.run)
    name = write_onnx(source, job.folder)
    parity = prove(job, source, predictor(job.folder / name))
    return Exported([name, PARITY], parity)


def export_web(job: Job) -> Exported:
    """Write the web page and compare its ONNX file with the app."""
    from resnet_demo.export.onnx_file import predictor
    from resnet_demo.export.source import load_source
    from resnet_demo.export.web import MODEL, write_page, write_web

    source = load_source(job.run)
    names = write_web(source, job.folder, job.offline)
    parity = prove(job, source, predictor(job.folder / MODEL))
    names += write_page(source, job.folder, parity, job.offline)
    note = "Browsers open the page from a web server only: `python -m http.server` in the folder."
    return Exported([*names, PARITY], parity, [note])


def export_script(job: Job) -> Exported:
    """Write the scripts and their weights and compare classify.py with the app."""
    from resnet_demo.export.script import WEIGHTS, script_answers, write_script, write_weights
    from resnet_demo.export.source import load_source

    source = load_source(job.run)
    files, notes = write_script(source, job.folder)
    # float16 halves the file; where it changes answers, float32 is written instead.
    for half in (True, False):
        write_weights(source, job.folder, half)
        with script_answers(job.folder) as predict:
            parity = compare(job, source, predict)
        if parity.passed:
            break
    notes.append(f"{WEIGHTS} holds the weights in {'float16' if half else 'float32'}.")
    keep(job, source, parity)
    return Exported([*files, PARITY], parity, notes)


def export_report(job: Job) -> Exported:
    """Write the report. It answers nothing, so there is nothing to compare."""
    from resnet_demo.export.report import write_report

    name, notes = write_report(job.run, job.folder, job.paths, job.on_progress)
    return Exported([name], None, notes)


def export_hub(job: Job) -> Exported:
    """Write the folder of a model repository. The weights are the run's own: nothing to compare."""
    from resnet_demo.data.store import Datasets
    from resnet_demo.export.model_repository import write_model
    from resnet_demo.export.source import load_source

    def on_batch(done: int, total: int) -> None:
        job.on_progress("scoring images", done, total)

    datasets = Datasets(job.paths.data)
    names, notes = write_model(load_source(job.run), job.folder, datasets, job.licence, on_batch)
    return Exported(names, None, notes)


EXPORTERS: dict[str, Callable[[Job], Exported]] = {
    "onnx": export_onnx,
    "web": export_web,
    "script": export_script,
    "report": export_report,
    "hub": export_hub,
}


def prove(job: Job, source: "ExportSource", predict: Callable) -> "Parity":
    """Compare exported files with the app and store the result beside them.

    predict: see `parity.Predict`. Raises DemoError if they differ, and as `measure_parity`.
    """
    parity = compare(job, source, predict)
    keep(job, source, parity)
    return parity


def compare(job: Job, source: "ExportSource", predict: Callable) -> "Parity":
    """Return the comparison of exported files with the app. Raises as `measure_parity`."""
    from resnet_demo.export.parity import measure_parity, parity_pictures

    pictures = parity_pictures(source, job.paths)
    return measure_parity(source, predict, pictures, job.on_progress)


def keep(job: Job, source: "ExportSource", parity: "Parity") -> None:
    """Store a comparison beside the exported files. Raises DemoError if they are not as the app."""
    if not parity.passed:
        raise DemoError(
            f"the export of {source.run.id} answers differently from the app and is not kept: the "
            f"same label for {share_text(parity.agreement, 2)} of {parity.pictures:,} pictures, "
            f"probabilities up to {parity.largest:.4f} apart"
        )
    (job.folder / PARITY).write_text(json.dumps(parity.to_dict(), indent=2) + "\n", "utf-8")


def parity_text(parity: dict[str, Any]) -> str:
    """Return how closely the files repeat the app's answers, in one sentence."""
    agreement, largest = parity["agreement"], parity["largest"]
    same = "all" if agreement == 1 else share_text(agreement, 2)
    at_most, median = (
        # Not 0.0000, which would look exact.
        f"{limit} {value:.4f}".strip() if value >= 0.00005 else "less than 0.0001"
        for limit, value in (("at most", largest), ("", parity["median"]))
    )
    if at_most != median:
        at_most += f", in the median by {median}"
    return (
        f"Compared with the app on {parity['pictures']:,} pictures ({parity['origin']}): the same "
        f"class for {same}; probabilities differ by {at_most}."
    )


def check_format(format: str) -> None:
    """Raise ConfigError for a format that is not in FORMATS."""
    if format not in FORMATS:
        raise ConfigError.rule("format", one_of(FORMATS), format)


def check_folder(folder: Path, format: str) -> None:
    """Raise ConfigError for a folder with anything but an earlier export in that format."""
    if not is_new_or_empty(folder) and not (folder.is_dir() and is_earlier(folder, format)):
        rule = f"a folder that is new, empty, or holds only an earlier export as {format}"
        raise ConfigError.rule("DIR", rule, str(folder))


def is_earlier(folder: Path, format: str) -> bool:
    """Return whether a folder holds nothing but what that format writes."""
    return all(
        any(fnmatch(path.name, pattern) for pattern in WRITTEN[format]) for path in folder.iterdir()
    )


def remove_earlier(folder: Path, format: str) -> None:
    """Empty a folder of an earlier export. Raises ConfigError if it got other files meanwhile."""
    check_folder(folder, format)
    for path in folder.iterdir() if folder.is_dir() else ():
        # A link is removed itself: what it points to is not ours.
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
