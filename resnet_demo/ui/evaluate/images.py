"""The images of an evaluation, page by page: those of a matrix cell, or the worst mistakes."""

import sys
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from resnet_demo.errors import ConfigError, DemoError, counted
from resnet_demo.evaluation.stored_results import read_result
from resnet_demo.fingerprint import SPLIT_NAMES
from resnet_demo.runs.text import error_note, escape_markdown, share_text
from resnet_demo.ui.components import LOADING_NETWORK, gallery
from resnet_demo.ui.evaluate.evaluation_status import Selection, StatusCache
from resnet_demo.ui.evaluate.matrix import UNMARK, cell_text, clicked_cell
from resnet_demo.ui.services import QUIET_EVENT, Services

if TYPE_CHECKING:  # torch: the page starts without it
    from resnet_demo.evaluation.evaluate_run import RunEvaluation
    from resnet_demo.evaluation.example_images import ExampleImage

PAGE = 12  # images
GAP = 6  # pixels between a picture and its map, of a picture 192 pixels high
HINT = "Click a number in the matrix to see its images here, or choose above."
NO_IMAGES = (
    "The images are not on this machine. Get them with the button above or on the **Data** tab, "
    "then evaluate again."
)
KINDS = {"worst mistakes": "worst", "least certain": "unsure"}
PAIR_KINDS = ("first", "second")
LEGEND = (
    "True class → prediction, and its confidence. Beside each image is its class activation map, "
    "bright where it supports the prediction."
)
# On a phone the images are below the matrix.
SCROLL_TO_IMAGES = """() => {
  if (window.innerWidth < 700)
    document.getElementById('shown-text').scrollIntoView({behavior: 'smooth', block: 'start'});
}"""
VIEWER = ("which", "images_message", "pictures", "legend", "pages", "back", "more")


@dataclass(frozen=True)
class View:
    """The images that are shown.

    folder, other_folder: of the run's evaluation, and of the second run's. kind: `cell` (of truth
    and predicted), `worst`, `unsure`, `first` or `second` (only that run is right).
    """

    folder: str
    other_folder: str | None
    kind: str
    truth: int = 0
    predicted: int = 0
    page: int = 0

    def turned(self, pages: int) -> "View":
        """Return the view this many pages later, or earlier if negative."""
        return replace(self, page=max(0, self.page + pages))


def image_viewer(parts: dict[str, Any]) -> None:
    """Build the viewer; its components are VIEWER."""
    # None is chosen at first: a click on a cell of the matrix is a choice, too.
    parts["which"] = gr.Radio(
        [*KINDS.items()],
        show_label=False,
        container=False,
        value=None,
        interactive=True,
        elem_id="which",
    )
    parts["images_message"] = gr.Markdown(HINT, elem_id="shown-text")
    parts["pictures"] = gallery("shown", 3)
    parts["legend"] = gr.Markdown(LEGEND, elem_classes="hint", visible=False)
    with gr.Row(visible=False, elem_classes="buttons") as parts["pages"]:
        parts["back"] = gr.Button("← Back", size="sm", elem_id="shown-back")
        parts["more"] = gr.Button("More →", size="sm", elem_id="shown-more")


class ImageViewer:
    """The handlers of the viewer's events. Each yields component -> update."""

    def __init__(self, services: Services, statuses: StatusCache, parts: dict[str, Any]) -> None:
        self.services, self.statuses, self.parts = services, statuses, parts

    def show(self, view: View, **more: Any) -> Generator[dict[Any, Any], None, None]:
        """Yield the images of a view. more: further updates, by the components' names."""
        # The first view imports torch, which takes seconds.
        if "torch" not in sys.modules:
            yield {self.parts["images_message"]: LOADING_NETWORK}
        updates = {**view_updates(self.services, view), "view": view, **more}
        yield {self.parts[name]: update for name, update in updates.items()}

    def show_cell(self, event: gr.EventData, *values: Any) -> Generator[dict[Any, Any], None, None]:
        """Yield the images of the clicked cell. values: of a Selection."""
        folder = self.statuses.folder(Selection.from_page(*values))
        truth, predicted = clicked_cell(event, len(read_result(folder)["per_class"]))
        view = View(str(folder), None, "cell", truth, predicted)
        yield from self.show(view, which=gr.update(value=None))

    def show_kind(self, kind: str, *values: Any) -> Generator[dict[Any, Any], None, None]:
        """Yield the images of a kind, as the worst mistakes. values: of a Selection."""
        selection = Selection.from_page(*values)
        folder = self.statuses.folder(selection)
        is_pair = kind in PAIR_KINDS and selection.other
        other = str(self.statuses.folder(selection, other=True)) if is_pair else None
        yield from self.show(View(str(folder), other, kind))

    def turn_page(self, pages: int, view: View | None) -> Generator[dict[Any, Any], None, None]:
        """Yield the images so many pages later; nothing before images are shown."""
        if view is not None:
            yield from self.show(view.turned(pages))

    async def on_cell(self, event: gr.EventData, *values: Any) -> AsyncIterator[dict[Any, Any]]:
        """Yield as `show_cell`, in the visitor's turn."""
        # Gradio passes the event to a handler whose parameter has this annotation.
        async for updates in self.services.stream_in_turn(self.show_cell(event, *values)):
            yield updates

    def in_turn(
        self, show: Callable[..., Generator[dict[Any, Any], None, None]]
    ) -> Callable[..., AsyncIterator[dict[Any, Any]]]:
        """Return a handler that yields as `show`, in the visitor's turn."""

        async def handler(*values: Any) -> AsyncIterator[dict[Any, Any]]:
            async for updates in self.services.stream_in_turn(show(*values)):
                yield updates

        return handler


def connect_images(
    services: Services, statuses: StatusCache, parts: dict[str, Any], selectors: list[Any]
) -> None:
    """Connect the matrix, the choice of images and the page buttons to the viewer."""
    viewer = ImageViewer(services, statuses, parts)
    outputs = [parts[name] for name in (*VIEWER, "view")]
    shows = {
        "show_progress": "minimal",
        "show_progress_on": parts["images_message"],
        "api_visibility": "private",
        "concurrency_limit": None,  # the fair queue of Services limits it
    }
    shown = parts["matrix"].click(viewer.on_cell, selectors, outputs, **shows)
    shown.then(None, None, None, js=SCROLL_TO_IMAGES)
    which, on_which = parts["which"], viewer.in_turn(viewer.show_kind)
    # `input`, not `change`: a click on a cell clears this choice, which must not show other images.
    which.input(on_which, [which, *selectors], outputs, **shows)
    which.input(None, None, None, js=UNMARK, **QUIET_EVENT)
    for name, pages in (("back", -1), ("more", 1)):
        on_page = viewer.in_turn(partial(viewer.turn_page, pages))
        parts[name].click(on_page, parts["view"], outputs, **shows)


def viewer_updates(comparison: dict[str, Any], view: View | None) -> dict[str, Any]:
    """Return component name -> update for another result; images of the same result stay."""
    first, second = comparison["runs"]
    kinds = dict(KINDS)
    if second:
        names = f"only {first} right", f"only {second} right"
        kinds |= dict(zip(names, PAIR_KINDS, strict=True))
    # Another run to compare with changes the choices only: the images shown are still right.
    is_same = view and view.folder == comparison["first"]
    if is_same and view.other_folder in (None, comparison["second"]):
        return {"which": gr.update(choices=[*kinds.items()])}
    hint = NO_IMAGES if comparison["stored"] else HINT
    which = gr.update(choices=[*kinds.items()], value=None, visible=not comparison["stored"])
    return {"which": which, **empty_viewer(hint), "view": None}


def empty_viewer(message: str = HINT) -> dict[str, Any]:
    """Return component name -> update: no images, and a message (Markdown)."""
    hidden = gr.update(visible=False)
    return {"images_message": message, "pictures": hidden, "legend": hidden, "pages": hidden}


def view_updates(services: Services, view: View) -> dict[str, Any]:
    """Return component name -> update: the images of the page, or why they cannot be shown."""
    try:
        # Also where the images were deleted after the evaluation.
        message, shown, pages = load_page(services, view)
    except DemoError as error:
        return empty_viewer(error_note(error))
    pictures = [(picture_and_map(image), caption(image)) for image in shown]
    return {
        "images_message": message,
        "pictures": gr.update(value=pictures, visible=bool(shown)),
        "legend": gr.update(visible=bool(shown)),
        "pages": gr.update(visible=pages > 1),
        "back": gr.update(interactive=view.page > 0),
        "more": gr.update(interactive=view.page < pages - 1),
    }


def load_page(services: Services, view: View) -> "tuple[str, list[ExampleImage], int]":
    """Return a title (Markdown), the images of the page, and the number of pages.

    Raises DemoError.
    """
    from resnet_demo.evaluation.evaluate_run import read_evaluation
    from resnet_demo.evaluation.example_images import load_example_images

    evaluated = read_evaluation(Path(view.folder))
    other = read_evaluation(Path(view.other_folder)) if view.other_folder else None
    positions = view_positions(view, evaluated, other)
    # Images that only the first run gets right are shown with the second run's wrong answers.
    source = other if view.kind == "first" else evaluated
    # Only the images of this page are loaded, and only they get a class map.
    start = PAGE * view.page
    on_page = positions[start : start + PAGE]
    classifier = services.classifier(source.result["run"])
    shown = []
    if on_page:
        # A class map for each. Capped: a limit below the size of a page must not refuse every page.
        services.allowance.count_pictures(services.caller(), len(on_page), capped=True)
        shown = load_example_images(classifier, services.datasets, source, on_page, limit=PAGE)
    text = f"**{escape_markdown(title(view, len(positions), evaluated, other))}**"
    if len(positions) > PAGE:
        text += f" {start + 1:,} to {start + len(on_page):,} of {len(positions):,}."
    return text, shown, -(-len(positions) // PAGE)


def view_positions(
    view: View, evaluated: "RunEvaluation", other: "RunEvaluation | None"
) -> list[int]:
    """Return positions in the split, in the order in which they are shown. Raises ConfigError."""
    from resnet_demo.evaluation.comparison import compare_evaluations
    from resnet_demo.evaluation.metrics import confusion_cell, least_certain, worst_mistakes

    logits, labels = evaluated.logits, evaluated.labels
    if view.kind == "cell":
        return confusion_cell(logits, labels, view.truth, view.predicted).tolist()
    if view.kind == "worst":
        return worst_mistakes(logits, labels).tolist()
    if view.kind == "unsure":
        return least_certain(logits).tolist()
    if other is None:
        raise ConfigError("the second run has no result to compare with yet: evaluate it first")
    only = set(compare_evaluations(evaluated, other)[f"only_{view.kind}"])
    wrong = other if view.kind == "first" else evaluated
    # In the order of the mistakes of the run that is wrong, whose predictions are shown.
    mistakes = worst_mistakes(wrong.logits, labels).tolist()
    return [position for position in mistakes if position in only]


def title(view: View, count: int, evaluated: "RunEvaluation", other: "RunEvaluation | None") -> str:
    """Return the title of a page of images, as plain text."""
    if view.kind == "cell":
        labels = [row["label"] for row in evaluated.result["per_class"]]
        text = cell_text(count, labels[view.truth], labels[view.predicted])
        return f"{text}, most confident first." if count > 1 else f"{text}."
    if view.kind == "worst":
        return f"{counted(count, 'image')} with a wrong prediction, most confident first."
    if view.kind == "unsure":
        split = SPLIT_NAMES[evaluated.result["split"]]
        images = counted(count, f"{split} image")
        return f"{'All ' * (count > 1)}{images}, closest call between two classes first."
    first, second = evaluated.result["run"], other.result["run"]
    right, wrong = (first, second) if view.kind == "first" else (second, first)
    return (
        f"{counted(count, 'image')} that only {right} gets right, with the predictions of {wrong}, "
        "most confident first."
    )


def picture_and_map(shown: "ExampleImage") -> np.ndarray:
    """Return picture and map side by side on a transparent gap, (H, 2 W + gap, 4) uint8."""
    height, width = shown.picture.shape[:2]
    # Transparent, because the page may be light or dark.
    gap = max(1, GAP * height // 192)
    pair = np.zeros((height, 2 * width + gap, 4), np.uint8)
    pair[:, :width, :3], pair[:, width + gap :, :3] = shown.picture, shown.overlay
    pair[:, :width, 3] = pair[:, width + gap :, 3] = 255
    return pair


def caption(shown: "ExampleImage") -> str:
    """Return true class, prediction and confidence."""
    is_right = shown.truth == shown.predicted
    labels = f"{shown.truth} ✓" if is_right else f"{shown.truth} → {shown.predicted}"
    return f"{labels} · {share_text(shown.confidence)}"
