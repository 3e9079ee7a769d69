"""Two accordions below the answer: feature maps of each stage, and nearest training images.

Nothing is computed while an accordion is closed.
"""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from resnet_demo.errors import DamagedError, DemoError, NotFoundError
from resnet_demo.runs.dataset import dataset_changed
from resnet_demo.runs.store import check_trained_here
from resnet_demo.runs.text import DATASET_CHANGED, escape_markdown
from resnet_demo.tasks.image_indexes import read_index
from resnet_demo.tasks.status import Status, reconcile_status
from resnet_demo.ui.components import enlarge, gallery, progress_bar, progress_share
from resnet_demo.ui.services import QUIET_EVENT, Services
from resnet_demo.ui.uploads import uploaded_picture

if TYPE_CHECKING:  # torch: the page starts without it
    from resnet_demo.inference.neighbours import ImageIndex

CLOSED = {"feature_maps": False, "neighbours": False}  # accordion -> is open: a gr.State
NO_PICTURE = "Choose a picture first."
FEATURE_MAPS_HINT = (
    "What the layers respond to: the eight strongest feature maps after the first layers (stem) "
    "and after each stage, strongest first. Bright means a strong response. Early stages respond "
    "to edges and colours. Later ones are coarser and respond to parts and whole objects."
)
NOT_INDEXED = (
    "First, the network looks at all the training images once, which takes about a minute. The "
    "result is saved."
)


def details_panel() -> dict[str, Any]:
    """Build both accordions; return the components by name, for `details_updates`."""
    parts: dict[str, Any] = {"open": gr.State(CLOSED)}
    with gr.Accordion("Feature maps of each stage", open=False, elem_id="feature-maps") as maps:
        gr.Markdown(FEATURE_MAPS_HINT, elem_classes=["hint", "note"])
        parts["maps_message"] = gr.Markdown(NO_PICTURE, elem_id="feature-maps-text")
        parts["stages"] = gallery("stages", 2)
    with gr.Accordion("Nearest training images", open=False, elem_id="similar") as neighbours:
        parts["message"] = gr.Markdown(NO_PICTURE, elem_id="similar-text")
        parts["progress"] = gr.HTML(padding=False, elem_id="similar-progress", visible=False)
        with gr.Row():
            parts["start"] = gr.Button(
                "Find nearest images", elem_id="similar-start", visible=False, size="sm"
            )
            parts["cancel"] = gr.Button(
                "Cancel", elem_id="similar-cancel", visible=False, size="sm"
            )
        parts["nearest"] = gallery("nearest", 5)
    parts["timer"] = gr.Timer(1.0, active=False)  # ticks only while an index is built
    # Gradio has no value for an open accordion, so its events keep one.
    state = parts["open"]
    for accordion, name in ((maps, "feature_maps"), (neighbours, "neighbours")):
        accordion.expand(set_open(name, True), state, state, **QUIET_EVENT)
        accordion.collapse(set_open(name, False), state, state, **QUIET_EVENT)
    return parts


def set_open(name: str, is_open: bool) -> Callable[[dict[str, bool]], dict[str, bool]]:
    """Return a handler that records that an accordion was opened or closed."""
    return lambda state: {**state, name: is_open}


def details_updates(
    services: Services, state: dict[str, bool], path: str | None, run_id: str | None, fit: str
) -> Generator[Any, Any, None]:
    """Yield component name -> update for the open accordions; errors are shown in them."""
    updates: dict[str, Any] = {}
    # Each accordion shows its own error: one may work where the other does not.
    if state["feature_maps"]:
        try:
            updates |= yield from feature_map_updates(services, path, run_id, fit)
        except DemoError as error:
            updates |= feature_map_message(error_text(error))
    if state["neighbours"]:
        try:
            updates |= yield from neighbour_updates(services, path, run_id, fit)
        except DemoError as error:
            updates |= neighbour_panel(error_text(error))
    yield updates


def feature_map_updates(
    services: Services, path: str | None, run_id: str | None, fit: str
) -> Generator[Any, Any, dict[str, Any]]:
    """Return component name -> update: the strongest maps of each stage.

    Yields as `Services.decode_steps`. Raises DemoError.
    """
    if not path or not run_id:
        return feature_map_message(NO_PICTURE)
    # Counted before the picture is decoded, which is work as well.
    services.allowance.count_pictures(services.caller())
    rgb = yield from services.decode_steps(uploaded_picture(path))
    grids = services.classifier(run_id).feature_maps(rgb, fit)
    if not grids:
        return feature_map_message("This network has no named stages.")
    return {
        "maps_message": gr.update(visible=False),
        "stages": gr.update(value=[(grid, name) for name, grid in grids], visible=True),
    }


def feature_map_message(message: str) -> dict[str, Any]:
    """Return component name -> update: a message (Markdown) in place of the maps."""
    return {
        "maps_message": gr.update(value=message, visible=True),
        "stages": gr.update(visible=False),
    }


def neighbour_updates(
    services: Services, path: str | None, run_id: str | None, fit: str
) -> Generator[Any, Any, dict[str, Any]]:
    """Return component name -> update: nearest images, or the state of their index.

    Yields as `Services.decode_steps`. Raises DemoError.
    """
    if not path or not run_id:
        return neighbour_panel(NO_PICTURE)
    run = services.runs.get(run_id)
    check_trained_here(run, "searched for similar images")
    # The folder's name depends on the weights: after more training there is no index yet.
    folder = services.image_indexes.folder(run)
    try:
        # Reconciled: after a crash of the worker, its last status would claim that it still runs.
        status = reconcile_status(folder) if folder.exists() else None
        index = read_index(folder) if status and status.state == "finished" else None
    except (DamagedError, NotFoundError) as error:  # reported; the index can be built again
        return neighbour_panel(f"{error_text(error)} {NOT_INDEXED}", can_start=True)
    if status is None:
        return neighbour_panel(NOT_INDEXED, can_start=True)
    if status.is_live:
        return neighbour_panel(index_progress(status), live=status)
    if index is None:
        message = f"{status.state.capitalize()}: {escape_markdown(status.message)}. {NOT_INDEXED}"
        return neighbour_panel(message, can_start=True)
    services.allowance.count_pictures(services.caller())
    rgb = yield from services.decode_steps(uploaded_picture(path))
    images, message = nearest_images(services, rgb, run_id, fit, index)
    return neighbour_panel(message, images)


def nearest_images(
    services: Services, rgb: np.ndarray, run_id: str, fit: str, index: "ImageIndex"
) -> tuple[list[tuple[np.ndarray, str]], str]:
    """Return the five nearest images with captions, and a summary (Markdown).

    Raises DemoError.
    """
    run, classifier = services.runs.get(run_id), services.classifier(run_id)
    found = classifier.similar_images(rgb, index, fit)
    images, _ = services.datasets.load(run.config().dataset, "train")
    gallery_images = [
        (enlarge(np.array(images[position])), f"{label} {cosine:.3f}")
        for position, cosine, label in found
    ]
    predicted = classifier.classify(rgb, 1, fit).labels[0]["label"]
    agree = sum(label == predicted for *_, label in found)
    # The index holds positions: after a new import they would show other images.
    changed = dataset_changed(run, services.datasets)
    return gallery_images, (
        f"The {len(found)} nearest of the {len(index.places):,} training images. {agree} of them "
        f"have the predicted class, **{escape_markdown(predicted)}**. The number is the cosine "
        "similarity of the features: 1 is identical, 0 unrelated."
        + (f" ⚠ {DATASET_CHANGED.capitalize()}: these are its images now." if changed else "")
    )


def neighbour_panel(
    message: str,
    images: list[tuple[np.ndarray, str]] | None = None,
    live: Status | None = None,
    can_start: bool = False,
) -> dict[str, Any]:
    """Return component name -> update: message, images, progress of a live task, start button."""
    is_live = live is not None
    bar = progress_bar(progress_share(live)) if is_live else ""
    can_cancel = is_live and live.state != "stopping"
    return {
        "message": gr.update(value=message, visible=True),
        "progress": gr.update(value=bar, visible=is_live),
        "start": gr.update(visible=can_start),
        "cancel": gr.update(visible=is_live, interactive=can_cancel),
        "nearest": gr.update(value=images, visible=True) if images else gr.update(visible=False),
        "timer": gr.Timer(active=is_live),
    }


def index_progress(status: Status) -> str:
    """Return the progress of indexing (Markdown)."""
    if status.state == "stopping":
        return "Stopping after this batch."
    if status.total:
        return f"Training images: {status.done:,} of {status.total:,}."
    return f"Preparing: {escape_markdown(status.message or 'the first images')}."


def error_text(error: DemoError) -> str:
    """Return an error as Markdown."""
    return f"⚠ {escape_markdown(str(error))}."


def start_index(services: Services, run_id: str | None) -> None:
    """Start indexing the run's training images. Raises DemoError."""
    services.image_indexes.start(run_id, services.caller())


def stop_index(services: Services, run_id: str | None) -> None:
    """Stop indexing the run's training images. Raises DemoError."""
    # Visitors share the index of a run: others may wait for it.
    services.caller().require_owner("cancel indexing the training images")
    services.launcher.stop_task(services.image_indexes.folder(services.runs.get(run_id)))
