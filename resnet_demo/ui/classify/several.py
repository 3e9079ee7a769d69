"""Several pictures at once: a gallery with a label for each, and the same as a CSV file."""

import csv
import io
import time
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from resnet_demo.data.pictures import crop_to_square
from resnet_demo.errors import ConfigError, DamagedError, DemoError, counted, shortened
from resnet_demo.runs.text import csv_safe, escape_markdown, share_text
from resnet_demo.ui.classify.answer import FIT_NAMES
from resnet_demo.ui.components import THUMBNAIL_PX, gallery, progress_bar
from resnet_demo.ui.services import Services

MAX_FILES = 200
MAX_PROBLEMS = 5  # unreadable files listed one by one
PROGRESS_EVERY_S = 0.3
READY = "Drop up to 200 pictures on the left. Each gets a label, and all of them a CSV file."
HEADER = ("file", "label", "confidence", "may be none of the classes", "problem")
NamedFile = tuple[str | None, str]  # path of an upload, and its name on the user's machine


class Pictures(gr.File):
    """Several uploads, passed on undecoded with their names on the user's machine."""

    is_template = True  # use gr.File's front end

    def preprocess(self, payload: Any) -> list[NamedFile]:
        """Return (path, name) of each upload; empty without uploads."""
        files = getattr(payload, "root", payload and [payload]) or []
        return [(file.path, file.orig_name or Path(file.path).name) for file in files]


@dataclass(frozen=True)
class LabelledFile:
    """One file: a square thumbnail with label and confidence, or what is wrong with it.

    is_ood: True if it may be none of the classes; None if the run has no threshold.
    """

    name: str
    thumbnail: np.ndarray | None = None
    label: str = ""
    confidence: float = 0.0
    is_ood: bool | None = None
    problem: str = ""


def several_panel() -> dict[str, Any]:
    """Build the results panel; return its components by name."""
    message = gr.Markdown(READY, elem_id="several-text")
    progress = gr.HTML(padding=False, elem_id="several-progress", visible=False)
    table = gr.DownloadButton("Download as CSV", elem_id="several-csv", visible=False, size="sm")
    return {
        "several_message": message,
        "several_progress": progress,
        "several": gallery("several", 5),
        "csv": table,
        "done": gr.State(None),
    }


def classify_files(
    services: Services, files: Sequence[NamedFile], run_id: str | None, fit: str, done: Any
) -> Generator[Any, Any, None]:
    """Yield component name -> update: progress, then the results.

    done: what the results on the page were computed from; nothing is computed twice.
    """
    inputs = [run_id, fit, *(path for path, _ in files)]
    if inputs == done:
        return
    hidden = gr.update(visible=False)
    nothing = {"several_progress": hidden, "several": hidden, "csv": hidden, "done": None}
    if not files or not run_id:
        yield {**nothing, "several_message": READY}
        return
    try:
        check_count(files)
        # All at once and before the first one: a quota does not end in the middle of the files.
        services.allowance.count_pictures(services.caller(), len(files))
        results: list[LabelledFile] = []
        reported = 0.0
        for file in files:
            if time.monotonic() - reported > PROGRESS_EVERY_S:
                reported = time.monotonic()
                yield {**nothing, **progress_updates(len(results), len(files))}
            results.append((yield from classify_file(services, file, run_id, fit)))
    except DemoError as error:
        yield {**nothing, "several_message": f"⚠ {escape_markdown(str(error))}."}
        return
    good = [(result.thumbnail, caption(result)) for result in results if not result.problem]
    content = results_csv(results).encode("utf-8-sig")  # the mark by which Excel detects UTF-8
    # In the upload folder, where Gradio serves the file and removes it after an hour.
    file = save_bytes_to_cache(content, f"labels-{run_id}.csv", get_upload_folder())
    yield {
        "done": inputs,
        "several_progress": hidden,
        "several_message": summary(results, run_id, fit),
        "several": gr.update(value=good, visible=bool(good)),
        "csv": gr.update(value=file, visible=True),
    }


def check_count(files: Sequence[NamedFile]) -> None:
    """Raise ConfigError for too many files."""
    if len(files) > MAX_FILES:
        raise ConfigError.rule("pictures", f"at most {MAX_FILES} files at once", len(files))


def classify_file(
    services: Services, file: NamedFile, run_id: str, fit: str
) -> Generator[Any, Any, LabelledFile]:
    """Return the label of a file, or what is wrong with the file; yields as `decode_steps`.

    Raises DemoError for what is wrong with the run.
    """
    path, name = file
    classifier = services.classifier(run_id)
    try:
        rgb = yield from services.decode_steps(services.picture(path), name)
    except DamagedError as error:  # its message has the file's name
        return LabelledFile(name, problem=str(error))
    except DemoError as error:
        return LabelledFile(name, problem=f"{shortened(name)}: {error}")
    answer = classifier.classify(rgb, 1, fit)
    top, is_ood = answer.labels[0], answer.ood and answer.ood.is_ood
    # Only this is kept: the pixels of 200 photographs would take gigabytes.
    thumbnail = crop_to_square(rgb, THUMBNAIL_PX)
    return LabelledFile(name, thumbnail, top["label"], top["confidence"], is_ood)


def progress_updates(done: int, total: int) -> dict[str, Any]:
    """Return component name -> update while files are classified."""
    return {
        "several_message": f"{done} of {counted(total, 'picture')}…",
        "several_progress": gr.update(value=progress_bar(done / total), visible=True),
    }


def caption(result: LabelledFile) -> str:
    """Return a picture's caption as text, which a gallery does not interpret."""
    doubt = " · may be none" if result.is_ood else ""
    return f"{result.label} {share_text(result.confidence)}{doubt}"


def summary(results: Sequence[LabelledFile], run_id: str, fit: str) -> str:
    """Return the number of pictures by label, and what is wrong with the others (Markdown)."""
    good = [result for result in results if not result.problem]
    lines = []
    if good:
        counts = Counter(result.label for result in good).most_common()
        labels = ", ".join(f"{count} {escape_markdown(label)}" for label, count in counts)
        text = f"{counted(len(good), 'picture')} by **{run_id}** ({FIT_NAMES[fit]}): {labels}."
        flagged = sum(bool(result.is_ood) for result in good)
        lines = [f"{text} {flagged} may be none of the classes." if flagged else text]
    # The file names in them are foreign text, hence escaped.
    problems = [result.problem for result in results if result.problem]
    lines += [f"⚠ {escape_markdown(problem)}." for problem in problems[:MAX_PROBLEMS]]
    if len(problems) > MAX_PROBLEMS:
        more = len(problems) - MAX_PROBLEMS
        lines.append(f"⚠ {more} more could not be read: see the CSV file.")
    return "\n\n".join(lines)


def results_csv(results: Sequence[LabelledFile]) -> str:
    """Return the results as CSV, a row for each file in the order of upload."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(HEADER)
    for result in results:
        doubt = {True: "yes", False: "no", None: ""}[result.is_ood]
        confidence = "" if result.problem else f"{result.confidence:.4f}"
        # File names are foreign text, which a spreadsheet could run as a formula.
        name, label, problem = map(csv_safe, (result.name, result.label, result.problem))
        writer.writerow([name, label, confidence, doubt, problem])
    return file.getvalue()
