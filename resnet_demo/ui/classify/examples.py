"""Pictures to begin with: test images of the run's own dataset, and a few that ship with the app.

Where those come from and what their licences are is told in `pictures/README.md`.
"""

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from resnet_demo.data.pictures import crop_to_square, decode_picture
from resnet_demo.errors import ConfigError, DemoError
from resnet_demo.models.description import model_description
from resnet_demo.runs.text import escape_markdown
from resnet_demo.ui.classify.answer import class_list
from resnet_demo.ui.components import THUMBNAIL_PX, enlarge, gallery
from resnet_demo.ui.services import QUIET_EVENT, Services, show_errors

PICTURES = Path(__file__).with_name("pictures")
SHIPPED = ("airplane", "cat", "horse", "cars", "coffee", "rocket")  # file names
MOST = 10  # test images
LICENCES = (
    "Free photographs, in the public domain or CC0: airplane by the U.S. Navy, cat by Stefan van "
    "der Walt, coffee by Rachel Michetti, rocket by SpaceX, horse and cars from Pexels. Coffee and "
    "rocket are none of the ten classes of CIFAR-10."
)


def examples_panel(services: Services, run: gr.Dropdown, picture: gr.Image) -> list[Any]:
    """Build it; what `shown` fills. A click puts the picture in the place of the upload."""
    own_words = gr.Markdown(elem_classes=["hint", "note"], visible=False)
    own = gallery("examples", 5)
    gr.Markdown("Or one that no run has learned from:", elem_classes=["hint", "note"])
    shipped = gallery("shipped", 6)
    gr.Markdown(LICENCES, elem_classes=["hint", "small-print"])

    @show_errors()
    def on_own(run_id: str, event: gr.SelectData) -> np.ndarray:
        return chosen(example_images(services, run_id)[0], event.index)

    @show_errors()
    def on_shipped(event: gr.SelectData) -> np.ndarray:
        return shipped_picture(chosen(SHIPPED, event.index))

    own.select(on_own, run, picture, **QUIET_EVENT)
    shipped.select(on_shipped, None, picture, **QUIET_EVENT)
    return [own_words, own, shipped]


def example_updates(services: Services, run_id: str | None, seen: Any) -> tuple[Any, ...]:
    """Classes, words, own test images, shipped pictures, and what these are of, for `seen`.

    seen: what the page shows already. What is not on this machine is hidden.
    """
    now = standing(services, run_id)
    if now == seen or (not run_id and not seen):  # a choice of run is on its way
        return (gr.skip(),) * 5
    hidden = gr.update(visible=False)
    classes = classes_of(services, run_id)
    shipped = gr.update(value=thumbnails(), visible=True) if run_id else hidden
    try:
        images, labels, name = example_images(services, run_id)
    except DemoError:
        return classes, hidden, hidden, shipped, now
    pairs = list(zip(map(enlarge, images), labels, strict=True))
    words = f"Or click a test image of {escape_markdown(name)}, which the run has not learned from:"
    own = gr.update(value=pairs, visible=True)
    return classes, gr.update(value=words, visible=True), own, shipped, now


def standing(services: Services, run_id: str | None) -> list[Any]:
    """What the examples depend on: the run, and whether its dataset is here."""
    try:
        dataset = services.runs.get(run_id).config().dataset
    except DemoError:
        return [run_id, None]
    return [run_id, dataset if dataset in services.datasets.names() else None]


def classes_of(services: Services, run_id: str | None) -> str:
    """All that a run can answer (Markdown); what is wrong with it, if that cannot be read."""
    if not run_id:
        return ""
    try:
        return class_list(run_id, model_description(services.runs.get(run_id).path)["classes"])
    except DemoError as error:
        return f"⚠ {escape_markdown(str(error))}."


def example_images(services: Services, run_id: str) -> tuple[list[np.ndarray], list[str], str]:
    """A test image of each class, MOST at most, their labels, and the dataset's name."""
    info = services.datasets.get(services.runs.get(run_id).config().dataset)
    images, labels = services.datasets.load(info.name, "test")
    firsts = [int(np.argmax(labels == label)) for label in range(min(MOST, len(info.classes)))]
    names = [info.classes[labels[i]] for i in firsts]
    return [np.array(images[i]) for i in firsts], names, info.name


def shipped_picture(name: str) -> np.ndarray:
    """One of SHIPPED, (H, W, 3) uint8."""
    return decode_picture(PICTURES / f"{name}.jpg")


def thumbnails() -> list[tuple[np.ndarray, str]]:
    """The shipped pictures, small and square, with their names."""
    return [(crop_to_square(shipped_picture(name), THUMBNAIL_PX), name) for name in SHIPPED]


def chosen(choices: Any, index: Any) -> Any:
    """The one that was clicked. Raises ConfigError for a place that nobody was offered."""
    if type(index) is not int or not 0 <= index < len(choices):
        raise ConfigError.rule("example", f"one of {len(choices)}", index)
    return choices[index]
