"""Several pictures at once: a gallery with a label each, and the same as a CSV."""

import csv
import io
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from resnet_demo.data.pictures import crop_to_square, decode_picture
from resnet_demo.errors import ConfigError, DamagedError, DemoError, shortened
from resnet_demo.runs.text import csv_safe, escape_markdown
from resnet_demo.ui.classify.answer import FIT_WORDS
from resnet_demo.ui.components import THUMBNAIL_PX, gallery, progress_bar
from resnet_demo.ui.services import Services

MOST_FILES = 200
MOST_SAID = 5  # damaged files named one by one
TELL_EVERY_S = 0.3
READY = (
    "Drop up to 200 pictures on the left. Each gets a label here, and all of them a CSV file to "
    "keep."
)
HEADER = ("file", "label", "confidence", "may be none of the classes", "problem")
Named = tuple[str | None, str]  # path of an upload, and the name that its owner gave it


class Pictures(gr.File):
    """Several files, handed on unread with the names their owner gave them."""

    is_template = True  # drawn in the browser as gr.File is

    def preprocess(self, payload: Any) -> list[Named]:
        """(path, name) of each upload; empty where there is none."""
        files = getattr(payload, "root", payload and [payload]) or []
        return [(file.path, file.orig_name or Path(file.path).name) for file in files]


@dataclass(frozen=True)
class Answer:
    """One file: its picture small and square, label and confidence; or what is wrong with it.

    is_outside: whether it may be none of the classes; None where the run cannot tell.
    """

    name: str
    picture: np.ndarray | None = None
    label: str = ""
    confidence: float = 0.0
    is_outside: bool | None = None
    problem: str = ""


def several_panel() -> dict[str, Any]:
    """Build the side that shows what came out; its components by name."""
    words = gr.Markdown(READY, elem_id="several-words")
    progress = gr.HTML(padding=False, elem_id="several-progress", visible=False)
    table = gr.DownloadButton("Download as CSV", elem_id="several-csv", visible=False, size="sm")
    return {
        "several_words": words,
        "several_progress": progress,
        "several": gallery("several", 5),
        "csv": table,
        "done": gr.State(None),
    }


def several(
    services: Services, files: Sequence[Named], run_id: str | None, fit: str, done: Any
) -> Iterator[dict[str, Any]]:
    """Component's name -> update, while the files are looked at and when all of them were.

    done: what the results on the page are of, so that nothing is done twice.
    """
    asked = [run_id, fit, *(path for path, _ in files)]
    if asked == done:
        return
    hidden = gr.update(visible=False)
    nothing = {"several_progress": hidden, "several": hidden, "csv": hidden, "done": None}
    if not files or not run_id:
        yield {**nothing, "several_words": READY}
        return
    try:
        check_count(files)
        services.allowance.count_pictures(services.caller(), len(files))
        answers: list[Answer] = []
        told = 0.0
        for file in files:
            if time.monotonic() - told > TELL_EVERY_S:
                told = time.monotonic()
                yield {**nothing, **progress(len(answers), len(files))}
            answers.append(answer(services, file, run_id, fit))
    except DemoError as error:
        yield {**nothing, "several_words": f"⚠ {escape_markdown(str(error))}."}
        return
    good = [(one.picture, caption(one)) for one in answers if not one.problem]
    content = as_csv(answers).encode("utf-8-sig")  # a spreadsheet takes it for UTF-8 by its mark
    yield {
        "done": asked,
        "several_progress": hidden,
        "several_words": summary(answers, run_id, fit),
        "several": gr.update(value=good, visible=bool(good)),
        "csv": gr.update(
            value=save_bytes_to_cache(content, f"labels-{run_id}.csv", get_upload_folder()),
            visible=True,
        ),
    }


def check_count(files: Sequence[Named]) -> None:
    """Raises ConfigError for too many files."""
    if len(files) > MOST_FILES:
        raise ConfigError.rule("pictures", f"at most {MOST_FILES} files at once", len(files))


def answer(services: Services, file: Named, run_id: str, fit: str) -> Answer:
    """What the run says of a file; what is wrong with the file is its answer.

    Raises DemoError for what is wrong with the run.
    """
    path, name = file
    classifier = services.classifier(run_id)
    try:
        rgb = decode_picture(services.picture(path), name=name)
    except DamagedError as error:  # names the file
        return Answer(name, problem=str(error))
    except DemoError as error:
        return Answer(name, problem=f"{shortened(name)}: {error}")
    said = classifier.classify(rgb, 1, fit)
    return Answer(
        name,
        crop_to_square(rgb, THUMBNAIL_PX),
        said.labels[0]["label"],
        said.labels[0]["confidence"],
        said.ood and said.ood.is_ood,
    )


def progress(done: int, total: int) -> dict[str, Any]:
    """Component's name -> update, while it works."""
    return {
        "several_words": f"{done} of {total} pictures …",
        "several_progress": gr.update(value=progress_bar(done / total), visible=True),
    }


def caption(one: Answer) -> str:
    """Below a picture: text, which a gallery shows to the letter."""
    doubt = " · may be none" if one.is_outside else ""
    return f"{one.label} {one.confidence:.1%}{doubt}"


def summary(answers: Sequence[Answer], run_id: str, fit: str) -> str:
    """How many of what, and what is wrong with the others (Markdown)."""
    good = [one for one in answers if not one.problem]
    counted = Counter(one.label for one in good).most_common()
    labels = ", ".join(f"{count} {escape_markdown(label)}" for label, count in counted)
    told = f"**{run_id}** says of {pictures(len(good))} ({FIT_WORDS[fit]}): {labels}."
    doubted = sum(bool(one.is_outside) for one in good)
    if doubted:
        told += f" {doubted} may be none of the classes."
    bad = [one.problem for one in answers if one.problem]
    lines = [told] if good else []
    lines += [f"⚠ {escape_markdown(problem)}." for problem in bad[:MOST_SAID]]
    if len(bad) > MOST_SAID:
        lines.append(f"⚠ {len(bad) - MOST_SAID} more could not be read: see the CSV.")
    return "\n\n".join(lines)


def pictures(count: int) -> str:
    """So many pictures."""
    return "1 picture" if count == 1 else f"{count} pictures"


def as_csv(answers: Sequence[Answer]) -> str:
    """A row a file, in the order in which they came."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(HEADER)
    for one in answers:
        doubt = {True: "yes", False: "no", None: ""}[one.is_outside]
        confidence = "" if one.problem else f"{one.confidence:.4f}"
        writer.writerow([*map(csv_safe, (one.name, one.label)), confidence, doubt,
                         csv_safe(one.problem)])  # fmt: skip
    return file.getvalue()
