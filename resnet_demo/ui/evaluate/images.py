"""The images of an evaluation, a page at a time: a cell of the matrix, or the most telling ones."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from resnet_demo.errors import ConfigError, DemoError
from resnet_demo.runs.text import escape_markdown
from resnet_demo.ui.components import gallery
from resnet_demo.ui.evaluate.matrix import said_text
from resnet_demo.ui.evaluate.text import SPLIT_WORDS, images_text
from resnet_demo.ui.services import Services

if TYPE_CHECKING:  # torch, which the page must not wait for
    from resnet_demo.evaluation.evaluate_run import RunEvaluation
    from resnet_demo.evaluation.example_images import ExampleImage

PAGE = 12  # images
GAP = 6  # pixels between a picture and its map, of those that are stored
HINT = "Click a number in the matrix to see its images here, or choose some of them above."
NO_IMAGES = (
    "The pictures themselves are not on this machine. Bring them with the button above or on the "
    "**Data** tab and evaluate again: then a click on a number shows them here."
)
KINDS = {"worst mistakes": "worst", "least certain": "unsure"}
OF_BOTH = ("first", "second")
LEGEND = (
    "Truth → answer, and how sure it was. Beside each image is where the network looked: the "
    "brighter, the more that place spoke for its answer."
)


@dataclass(frozen=True)
class View:
    """Which images are looked at. of: the folder of the run's evaluation, other: of the second's.

    kind: `cell` (of truth and said), `worst`, `unsure`, `first` or `second` (only that one right).
    """

    of: str
    other: str | None
    kind: str
    truth: int = 0
    said: int = 0
    page: int = 0

    def turned(self, pages: int) -> "View":
        """So many pages on, or back."""
        return replace(self, page=max(0, self.page + pages))


def viewer() -> dict[str, Any]:
    """Build it: its components by name."""
    parts = {
        "which": gr.Radio(
            [*KINDS.items()], show_label=False, container=False, value=None, interactive=True,
            elem_id="which",
        ),
        "shown_words": gr.Markdown(HINT, elem_id="shown-words"),
        "pictures": gallery("shown", 3),
        "legend": gr.Markdown(LEGEND, elem_classes="hint", visible=False),
    }  # fmt: skip
    with gr.Row(visible=False, elem_classes="buttons") as parts["pages"]:
        parts["back"] = gr.Button("← Back", size="sm", elem_id="shown-back")
        parts["on"] = gr.Button("More →", size="sm", elem_id="shown-on")
    return parts


PARTS = ("which", "shown_words", "pictures", "legend", "pages", "back", "on")  # of the viewer


def choices(first: str | None, second: str | None, keep: bool) -> Any:
    """What can be chosen: of two runs also what only one of them gets right.

    keep: what is chosen stays so; else nothing is.
    """
    both = dict(zip((f"only {first} right", f"only {second} right"), OF_BOTH, strict=True))
    every = [*(KINDS | both if second else KINDS).items()]
    return gr.update(choices=every) if keep else gr.update(choices=every, value=None)


def nothing(words: str = HINT) -> dict[str, Any]:
    """Name of a component -> update: no images, and how to get some."""
    hidden = gr.update(visible=False)
    return {"shown_words": words, "pictures": hidden, "legend": hidden, "pages": hidden}


def look(services: Services, view: View) -> dict[str, Any]:
    """Name -> update: the images of that page; the sentence where they cannot be shown."""
    try:
        words, shown, pages = page_of(services, view)
    except DemoError as error:
        return nothing(f"⚠ {escape_markdown(str(error))}")
    pictures = [(beside(one), caption(one)) for one in shown]
    return {
        "shown_words": words,
        "pictures": gr.update(value=pictures, visible=bool(shown)),
        "legend": gr.update(visible=bool(shown)),
        "pages": gr.update(visible=pages > 1),
        "back": gr.update(interactive=view.page > 0),
        "on": gr.update(interactive=view.page < pages - 1),
    }


def page_of(services: Services, view: View) -> "tuple[str, list[ExampleImage], int]":
    """Words (Markdown), the images of the page, and how many pages there are. Raises DemoError."""
    from resnet_demo.evaluation.evaluate_run import read_evaluation
    from resnet_demo.evaluation.example_images import load_example_images

    evaluated = read_evaluation(Path(view.of))
    other = read_evaluation(Path(view.other)) if view.other else None
    places = places_of(view, evaluated, other)
    # what only the first gets right is seen through the second's eyes: its mistake is the news
    seen = other if view.kind == "first" else evaluated
    start = PAGE * view.page
    here = places[start : start + PAGE]
    classifier = services.classifier(seen.result["run"])
    shown = (
        load_example_images(classifier, services.datasets, seen, here, limit=PAGE) if here else []
    )
    words = f"**{escape_markdown(title(view, len(places), evaluated, other))}**"
    if len(places) > PAGE:
        words += f" {start + 1:,} to {start + len(here):,} of {len(places):,}."
    return words, shown, -(-len(places) // PAGE)


def places_of(view: View, evaluated: "RunEvaluation", other: "RunEvaluation | None") -> list[int]:
    """Places in the split, in the order in which they are shown. Raises ConfigError."""
    from resnet_demo.evaluation.comparison import compare_evaluations
    from resnet_demo.evaluation.predictions import confusion_cell, least_certain, worst_mistakes

    logits, labels = evaluated.logits, evaluated.labels
    if view.kind == "cell":
        return confusion_cell(logits, labels, view.truth, view.said).tolist()
    if view.kind == "worst":
        return worst_mistakes(logits, labels).tolist()
    if view.kind == "unsure":
        return least_certain(logits).tolist()
    if other is None:
        raise ConfigError("the second run has no result to compare with yet: evaluate it first")
    only = set(compare_evaluations(evaluated, other)[f"only_{view.kind}"])
    wrong = other if view.kind == "first" else evaluated
    return [place for place in worst_mistakes(wrong.logits, labels).tolist() if place in only]


def title(view: View, count: int, evaluated: "RunEvaluation", other: "RunEvaluation | None") -> str:
    """What the images are, in words."""
    split = SPLIT_WORDS[evaluated.result["split"]]
    if view.kind == "cell":
        labels = [row["label"] for row in evaluated.result["per_class"]]
        told = said_text(count, labels[view.truth], labels[view.said])
        return f"{told}, the surest first." if count > 1 else f"{told}."
    if view.kind == "worst":
        return f"{images_text(count)} with a wrong answer, the surest first."
    if view.kind == "unsure":
        return f"All {count:,} {split} images, those first whose two likeliest classes are closest."
    first, second = evaluated.result["run"], other.result["run"]
    right, wrong = (first, second) if view.kind == "first" else (second, first)
    return (
        f"{images_text(count)} that only {right} gets right. What {wrong} says instead, the surest "
        "first."
    )


def beside(shown: "ExampleImage") -> np.ndarray:
    """Picture and map, side by side with nothing between them: (H, 2 W + gap, 4) uint8."""
    height, width = shown.picture.shape[:2]
    gap = max(1, GAP * height // 192)
    both = np.zeros((height, 2 * width + gap, 4), np.uint8)
    both[:, :width, :3], both[:, width + gap :, :3] = shown.picture, shown.overlay
    both[:, :width, 3] = both[:, width + gap :, 3] = 255
    return both


def caption(shown: "ExampleImage") -> str:
    """Truth, answer and confidence."""
    is_correct = shown.truth == shown.predicted
    said = f"{shown.truth} ✓" if is_correct else f"{shown.truth} → {shown.predicted}"
    return f"{said} · {shown.confidence:.1%}"
