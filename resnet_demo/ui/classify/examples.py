"""Example pictures: test images of the run's dataset, and photographs that ship with the app.

`pictures/README.md` lists their sources and licences.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
import numpy as np

from resnet_demo.data.cifar10.original_batches import CLASSES as CIFAR10_CLASSES
from resnet_demo.data.pictures import FITS, crop_to_square, decode_picture
from resnet_demo.errors import ConfigError, DemoError
from resnet_demo.fingerprint import SPLIT_NAMES
from resnet_demo.models.description import fit_of, model_description
from resnet_demo.runs.store import check_trained_here
from resnet_demo.runs.text import escape_markdown
from resnet_demo.ui.classify.answer import class_list
from resnet_demo.ui.components import THUMBNAIL_PX, enlarge, gallery
from resnet_demo.ui.services import QUIET_EVENT, Services, show_errors

PICTURES = Path(__file__).with_name("pictures")
SHIPPED = ("airplane", "cat", "horse", "cars", "coffee", "rocket")  # file names
MAX_IMAGES = 10  # test images
LICENCES = (
    "Free photographs, public domain or CC0: airplane by the U.S. Navy, cat by Stefan van der "
    "Walt, coffee by Rachel Michetti, rocket by SpaceX, horse and cars from Pexels."
)
PHOTOS_HINT = "Or try a photo:"
# For a network with the classes of CIFAR-10, and for the one that comes with the app.
PHOTOS_OF_OTHERS = "Or try a photo. Coffee and rocket are none of the classes:"
# A test compares these two confidences with what the network answers.
FOOLED = (
    "Or try a photo. Two of them fool this network, and the warning too: it takes the coffee for a "
    "cat (66 %) and the rocket for a ship (91 %)."
)
Item = TypeVar("Item")


def examples_panel(services: Services, run: gr.Dropdown, picture: gr.Image) -> list[Any]:
    """Build the examples; return what `example_updates` fills. A click replaces the picture."""
    photos_hint = gr.Markdown(PHOTOS_HINT, elem_id="photos-hint", elem_classes=["hint", "note"])
    shipped = gallery("shipped", 6)
    own_hint = gr.Markdown(elem_classes=["hint", "note"], visible=False)
    own = gallery("examples", 5)

    @show_errors()
    def on_own(run_id: str, event: gr.SelectData) -> np.ndarray:
        return pick(example_images(services, run_id)[0], event.index)

    @show_errors()
    def on_shipped(event: gr.SelectData) -> np.ndarray:
        return shipped_picture(pick(SHIPPED, event.index))

    # The server reads the picture again: an event has only the number of what was clicked.
    own.select(on_own, run, picture, **QUIET_EVENT)
    shipped.select(on_shipped, None, picture, **QUIET_EVENT)
    return [own_hint, own, shipped, photos_hint]


def example_updates(services: Services, run_id: str | None, shown: Any) -> tuple[Any, ...]:
    """Return updates of classes, examples, the new `shown`, and the fit.

    The examples: hint and images of the test, images and hint of the photographs. shown: what the
    examples on the page belong to. Images that are not on this machine are hidden. The fit becomes
    that of the run's training images.
    """
    source = example_source(services, run_id)
    if source == shown or (not run_id and not shown):  # before the page receives its first run
        return (gr.skip(),) * 7
    hidden = gr.update(visible=False)
    classes, fit = class_text(services, run_id), run_fit(services, run_id)
    photos_hint = gr.update(value=photos_text(services, run_id), visible=bool(run_id))
    shipped = gr.update(value=thumbnails(), visible=True) if run_id else hidden
    try:
        images, labels, what = example_images(services, run_id)
    except DemoError:  # no images here; the photographs can still be classified
        return classes, hidden, hidden, shipped, photos_hint, source, fit
    hint = f"Or click a {escape_markdown(what)}:"
    own = list(zip(map(enlarge, images), labels, strict=True))
    return (
        classes,
        gr.update(value=hint, visible=True),
        gr.update(value=own, visible=True),
        shipped,
        photos_hint,
        source,
        fit,
    )


def example_source(services: Services, run_id: str | None) -> list[Any]:
    """Return a value that changes with the examples: the run, and its dataset if it is here."""
    try:
        dataset = services.runs.get(run_id).config().dataset
    except DemoError:
        return [run_id, None]
    return [run_id, dataset if dataset in services.datasets.names() else None]


def class_text(services: Services, run_id: str | None) -> str:
    """Return the run's classes, or why they cannot be read (Markdown)."""
    if not run_id:
        return ""
    try:
        return class_list(model_description(services.runs.get(run_id).path)["classes"])
    except DemoError as error:
        return f"⚠ {escape_markdown(str(error))}."


def photos_text(services: Services, run_id: str | None) -> str:
    """Return the line above the photographs: which of them show none of the run's classes."""
    try:
        run = services.runs.get(run_id)
        knows_cifar10 = tuple(model_description(run.path)["classes"]) == CIFAR10_CLASSES
    except DemoError:
        return PHOTOS_HINT
    if not knows_cifar10:
        return PHOTOS_HINT
    return FOOLED if run.shipped else PHOTOS_OF_OTHERS


def run_fit(services: Services, run_id: str | None) -> Any:
    """Return the fit of the run's training images; no update where it cannot be read."""
    try:
        fit = fit_of(model_description(services.runs.get(run_id).path)) if run_id else ""
    except DemoError:
        return gr.skip()
    return fit if fit in FITS else gr.skip()


def example_images(services: Services, run_id: str) -> tuple[list[np.ndarray], list[str], str]:
    """Return the first image of up to MAX_IMAGES classes, their labels, and what the images are.

    Test images, or training images of a dataset without. Raises DemoError.
    """
    run = services.runs.get(run_id)
    check_trained_here(run, "shown with test images")
    info = services.datasets.get(run.config().dataset)
    split = "test" if info.test else "train"
    images, labels = services.datasets.load(info.name, split)
    # The first MAX_IMAGES classes that have an image, in label order.
    _, firsts = np.unique(labels, return_index=True)
    firsts = firsts[:MAX_IMAGES].tolist()
    names = [info.classes[labels[i]] for i in firsts]
    what = f"{SPLIT_NAMES[split]} image of {info.name}"
    return [np.array(images[i]) for i in firsts], names, what


def shipped_picture(name: str) -> np.ndarray:
    """Return one of SHIPPED, (H, W, 3) uint8."""
    return decode_picture(PICTURES / f"{name}.jpg")


def thumbnails() -> list[tuple[np.ndarray, str]]:
    """Return the shipped photographs, small and square, with their names."""
    return [(crop_to_square(shipped_picture(name), THUMBNAIL_PX), name) for name in SHIPPED]


def pick(items: Sequence[Item], index: Any) -> Item:
    """Return the item that was clicked. Raises ConfigError for an index that was not offered."""
    # The index comes from the browser. `type`, not isinstance: True is an int too.
    if type(index) is not int or not 0 <= index < len(items):
        raise ConfigError.rule("example", f"one of {len(items)}", index)
    return items[index]
