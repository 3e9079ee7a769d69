"""Behind folds: what the network sees stage by stage, and the training images most alike.

Nothing is computed while a fold is closed.
"""

from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from resnet_demo.data.pictures import decode_picture
from resnet_demo.errors import DamagedError, DemoError, NotFoundError
from resnet_demo.runs.text import escape_markdown
from resnet_demo.tasks.image_indexes import read_index
from resnet_demo.tasks.status import Status, reconcile_status
from resnet_demo.ui.components import enlarge, gallery, progress_bar
from resnet_demo.ui.services import QUIET_EVENT, Services
from resnet_demo.ui.uploads import uploaded_picture

if TYPE_CHECKING:  # torch, which the page must not wait for
    from resnet_demo.inference.neighbours import ImageIndex

CLOSED = {"inside": False, "similar": False}  # which fold is open: a gr.State
SHOW_FIRST = "Show it a picture first."
INSIDE = (
    "After the stem and each stage, the eight maps of features that answer most to this picture, "
    "the strongest first; bright is a strong answer. Early stages keep what is where: edges, "
    "colours. Later ones are coarser, and answer to parts of things and to whole things."
)
FIRST_TIME = (
    "To find them, the network has to look at all the training images once. That takes a minute or "
    "so, and is kept for the next time."
)


def more_panel() -> dict[str, Any]:
    """Build both folds; the components by name, for `more`."""
    at = gr.State(CLOSED)
    with gr.Accordion("Inside: what each stage sees", open=False, elem_id="inside") as inside:
        gr.Markdown(INSIDE, elem_classes=["hint", "note"])
        inside_words = gr.Markdown(SHOW_FIRST, elem_id="inside-words")
        stages = gallery("stages", 2)
    with gr.Accordion("Most similar training images", open=False, elem_id="similar") as similar:
        similar_words = gr.Markdown(SHOW_FIRST, elem_id="similar-words")
        progress = gr.HTML(padding=False, elem_id="similar-progress", visible=False)
        with gr.Row():
            start = gr.Button(
                "Find the five most similar", elem_id="similar-start", visible=False, size="sm"
            )
            cancel = gr.Button("Cancel", elem_id="similar-cancel", visible=False, size="sm")
        nearest = gallery("nearest", 5)
    for fold, name in ((inside, "inside"), (similar, "similar")):
        fold.expand(opened(name, True), at, at, **QUIET_EVENT)
        fold.collapse(opened(name, False), at, at, **QUIET_EVENT)
    return {
        "open": at, "inside_words": inside_words, "stages": stages,
        "similar_words": similar_words, "progress": progress, "start": start, "cancel": cancel,
        "nearest": nearest, "timer": gr.Timer(1.0, active=False),
    }  # fmt: skip


def opened(name: str, is_open: bool) -> Any:
    """What notes down that a fold was opened or closed."""
    return lambda folds: {**folds, name: is_open}


def inside_of(services: Services, path: str | None, run_id: str | None, fit: str) -> dict[str, Any]:
    """Component's name -> update: the strongest maps of each stage. Raises DemoError."""
    if not path or not run_id:
        return {"inside_words": shown_words(SHOW_FIRST), "stages": gr.update(visible=False)}
    rgb = decode_picture(uploaded_picture(path))
    grids = services.classifier(run_id).feature_maps(rgb, fit)
    if not grids:
        words = shown_words("This network names no stages to look into.")
        return {"inside_words": words, "stages": gr.update(visible=False)}
    pairs = [(grid, name) for name, grid in grids]
    return {
        "inside_words": gr.update(visible=False),
        "stages": gr.update(value=pairs, visible=True),
    }


def similar_of(
    services: Services, path: str | None, run_id: str | None, fit: str
) -> dict[str, Any]:
    """Component's name -> update: similar images, or how far the look at all of them is."""
    if not path or not run_id:
        return similar_told(SHOW_FIRST)
    folder = services.image_indexes.folder(services.runs.get(run_id))
    try:
        status = reconcile_status(folder) if folder.exists() else None
        index = read_index(folder) if status and status.state == "finished" else None
    except (DamagedError, NotFoundError) as error:  # named, and then as if there were none
        return similar_told(f"{warned(error)} {FIRST_TIME}", start=True)
    if status is None:
        return similar_told(FIRST_TIME, start=True)
    if status.is_live:
        return similar_told(progress_words(status), live=status)
    if index is None:
        words = f"{status.state.capitalize()}: {escape_markdown(status.message)}. {FIRST_TIME}"
        return similar_told(words, start=True)
    pairs, words = neighbours(services, path, run_id, fit, index)
    return similar_told(words, pairs=pairs)


def neighbours(
    services: Services, path: str, run_id: str, fit: str, index: "ImageIndex"
) -> tuple[list[tuple[np.ndarray, str]], str]:
    """The five most similar with label and similarity, and what that means. Raises DemoError."""
    run, classifier = services.runs.get(run_id), services.classifier(run_id)
    rgb = decode_picture(uploaded_picture(path))
    found = classifier.similar_images(rgb, index, fit)
    images, _ = services.datasets.load(run.config().dataset, "train")
    pairs = [
        (enlarge(np.array(images[place])), f"{label} {cosine:.3f}")
        for place, cosine, label in found
    ]
    said = classifier.classify(rgb, 1, fit).labels[0]["label"]
    agree = sum(label == said for *_, label in found)
    return pairs, (
        f"It says **{escape_markdown(said)}** because of pictures like these: of the "
        f"{len(index.places):,} training images, the "
        f"{len(found)} whose features point most nearly the same way, "
        f"{agree} of them {escape_markdown(said)}. The number is their similarity: 1 is the same, "
        "0 nothing in common."
    )


def similar_told(
    words: str,
    pairs: list[tuple[np.ndarray, str]] | None = None,
    live: Status | None = None,
    start: bool = False,
) -> dict[str, Any]:
    """What the fold shows: words, and pictures, progress or the button."""
    share = live.done / live.total if live and live.total else 0.0
    return {
        "similar_words": shown_words(words),
        "progress": gr.update(value=progress_bar(share) if live else "", visible=live is not None),
        "start": gr.update(visible=start),
        "cancel": gr.update(
            visible=live is not None, interactive=live is not None and live.state != "stopping"
        ),
        "nearest": gr.update(value=pairs, visible=True) if pairs else gr.update(visible=False),
        "timer": gr.Timer(active=live is not None),
    }


def progress_words(status: Status) -> str:
    """How far the look at all training images is."""
    if status.state == "stopping":
        return "Stopping."
    if status.total:
        return f"Looking at the training images: {status.done:,} of {status.total:,}."
    return f"Preparing: {escape_markdown(status.message or 'the first images are looked at')}."


def shown_words(words: str) -> Any:
    """Markdown that may have been hidden."""
    return gr.update(value=words, visible=True)


def more(
    services: Services, folds: dict[str, bool], path: str | None, run_id: str | None, fit: str
) -> dict[str, Any]:
    """Component's name -> update, of the folds that are open; what fails says so in its place."""
    updates: dict[str, Any] = {}
    if folds["inside"]:
        try:
            updates |= inside_of(services, path, run_id, fit)
        except DemoError as error:
            hidden = gr.update(visible=False)
            updates |= {"inside_words": shown_words(warned(error)), "stages": hidden}
    if folds["similar"]:
        try:
            updates |= similar_of(services, path, run_id, fit)
        except DemoError as error:
            updates |= similar_told(warned(error))
    return updates


def warned(error: DemoError) -> str:
    """An error in its place on the page (Markdown)."""
    return f"⚠ {escape_markdown(str(error))}."


def start_index(services: Services, run_id: str | None) -> None:
    """Begin to look at all training images. Raises DemoError."""
    services.image_indexes.start(run_id, services.caller())


def stop_index(services: Services, run_id: str | None) -> None:
    """Ask it to stop. Raises DemoError."""
    services.caller().require_owner("cancel a look at the training images")
    services.launcher.stop_task(services.image_indexes.folder(services.runs.get(run_id)))
