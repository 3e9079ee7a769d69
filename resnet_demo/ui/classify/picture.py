"""One picture on the Classify tab: its labels, the warning gauge, class maps and ways to crop.

All class maps are sent at once and stacked. The browser shows one of them, at some opacity.
"""

import base64
import io
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from PIL import Image

from resnet_demo.errors import DemoError
from resnet_demo.runs.text import escape_markdown
from resnet_demo.ui.classify.answer import confidences, fit_images, fit_text, gauge
from resnet_demo.ui.classify.details import details_panel
from resnet_demo.ui.components import LOADING_NETWORK, gallery
from resnet_demo.ui.services import QUIET_EVENT, Services

if TYPE_CHECKING:  # torch: the page starts without it
    from resnet_demo.inference.class_maps import ClassMap
    from resnet_demo.inference.classification import Classification
    from resnet_demo.inference.classifier import Classifier

NO_RUN = "No trained network yet: train one on the **Train** tab first."
READY = """**Drop a picture, paste one, use the camera, or click an example.**

You get the most likely classes, a warning if it may be none of them, and the parts of the picture
that the network used."""
PREFIXES = ("", "other_")  # of the names of the components of the first and the second run
# Hidden by CSS, not by `visible`: gr.Label may miss a value while it is being mounted.
GONE = ["gone"]

SMALL = 128  # pixels a side; up to here pixels are shown as squares, and PNG keeps them exact
MAX_HEIGHT = 340  # CSS pixels of a picture with its map
OPACITY = 50  # percent, at first
# Set on the page's root element, because the pictures below it are replaced.
SHOW_MAP = "(which) => { document.documentElement.dataset.map = which ?? 0; }"
SET_OPACITY = "(share) => { document.documentElement.style.setProperty('--map', share / 100); }"
MAP_HINT = (
    "Bright areas raise the class's score. Dark areas do not, or were cropped off. Approximate; "
    "does not explain why."
)


def picture_panel() -> dict[str, Any]:
    """Build the panel and return its components by name; `details`: those of `details_panel`."""
    parts = {"message": gr.Markdown(NO_RUN, elem_id="classify-text")}
    with gr.Column(elem_classes=GONE) as parts["answer"]:
        with gr.Row(equal_height=False):
            with gr.Column(min_width=280):
                parts |= answer_parts("")
            with gr.Column(min_width=280, elem_classes=GONE) as parts["other_answer"]:
                parts |= answer_parts("other_")
            with gr.Column(min_width=300):
                parts |= class_map_panel()
        with gr.Column(elem_classes=["section"]):
            gr.Markdown("### Network input")
            parts["fits"] = gallery("fits", 3)
            parts["fit_text"] = gr.Markdown(elem_id="fits-text", elem_classes=["hint", "note"])
        parts["details"] = details_panel()
    return parts


def answer_parts(prefix: str) -> dict[str, Any]:
    """Build a run's title, labels and gauge. The title is shown where there are two runs."""
    name = prefix.replace("_", "-")
    title = gr.Markdown(elem_id=f"{name or 'answer-'}run", visible=False)
    labels = gr.Label(num_top_classes=5, show_label=False, elem_id=f"{name}labels")
    box = gr.HTML(elem_id=f"{name}gauge", padding=False, container=False)
    return {f"{prefix}title": title, f"{prefix}labels": labels, f"{prefix}gauge": box}


def class_map_panel() -> dict[str, Any]:
    """Build the class maps, with the choice of the class; return the components by name."""
    maps = gr.HTML(elem_id="class-maps", padding=False, container=False)
    map_class = gr.Radio([], label="Class activation map of", elem_id="map-class", interactive=True)
    opacity = gr.Slider(
        0,
        100,
        OPACITY,
        step=1,
        label="Map opacity (%)",
        elem_id="opacity",
        interactive=True,
    )
    gr.Markdown(MAP_HINT, elem_classes=["hint", "note"])
    map_class.change(None, map_class, None, js=SHOW_MAP, **QUIET_EVENT)
    opacity.change(None, opacity, None, js=SET_OPACITY, **QUIET_EVENT)
    return {"maps": maps, "map_class": map_class}


def classify_picture(
    services: Services, path: str | None, run_id: str | None, fit: str, other_id: str | None
) -> Generator[Any, Any, None]:
    """Yield component name -> update: the answers first, then maps, misses and ways to crop.

    An error of the picture or of a run is shown in place of the answer.
    """
    if not path or not run_id:
        yield message_updates(READY if run_id else NO_RUN)
        return
    try:
        has_other = bool(other_id) and other_id != run_id
        services.allowance.count_pictures(services.caller(), 1 + has_other)
        rgb = yield from services.decode_steps(services.picture(path))
        if "torch" not in sys.modules:  # importing it takes seconds
            yield message_updates(LOADING_NETWORK)
        classifiers = [services.classifier(run_id)]
        if has_other:
            classifiers.append(services.classifier(other_id))
        answers = [classifier.classify(rgb, fit=fit) for classifier in classifiers]
        # The answer first: maps and the other fits need more passes.
        yield answer_updates(classifiers, answers)
        gauges = gauge_updates(classifiers, answers, count=True)
        yield {**gauges, **explanation_updates(classifiers, answers[0], rgb, fit)}
    except DemoError as error:
        yield message_updates(f"⚠ {escape_markdown(str(error))}.")


def message_updates(message: str) -> dict[str, Any]:
    """Return component name -> update: a message (Markdown) in place of the answer."""
    return {
        "message": gr.update(value=message, visible=True),
        "answer": gr.update(elem_classes=GONE),
    }


def answer_updates(
    classifiers: "list[Classifier]", answers: "list[Classification]"
) -> dict[str, Any]:
    """Return component name -> update: labels and gauge of one or two runs."""
    updates = {
        "message": gr.update(visible=False),
        "answer": gr.update(elem_classes=[]),
        "other_answer": gr.update(elem_classes=[] if len(classifiers) > 1 else GONE),
    }
    for prefix, classifier, answer in zip(PREFIXES, classifiers, answers, strict=False):
        title = f"**{classifier.run.id}**"
        updates |= {
            f"{prefix}title": gr.update(value=title, visible=len(classifiers) > 1),
            f"{prefix}labels": confidences(answer),
        }
    return updates | gauge_updates(classifiers, answers)


def gauge_updates(
    classifiers: "list[Classifier]", answers: "list[Classification]", count: bool = False
) -> dict[str, Any]:
    """Return component name -> update: the gauges.

    count: measure what each run misses, the first time; else only what is known is shown.
    """
    updates = {}
    for prefix, classifier, answer in zip(PREFIXES, classifiers, answers, strict=False):
        missed = classifier.count_missed() if count else next(iter(classifier.measured), None)
        updates[f"{prefix}gauge"] = gauge(answer.ood, len(classifier.saved.classes), missed)
    return updates


def explanation_updates(
    classifiers: "list[Classifier]", answer: "Classification", rgb: np.ndarray, fit: str
) -> dict[str, Any]:
    """Return component name -> update: maps of the first run's top classes, and its three fits.

    answer: the first run's.
    """
    # Maps of the classes that the first run thinks likely, for both runs.
    labels = [row["label"] for row in answer.labels]
    figures = []
    for classifier in classifiers:
        # The second run may have other classes; its maps are for those that both know.
        known = [label for label in labels if label in classifier.saved.classes]
        maps = classifier.class_maps(rgb, known, fit) if known else []
        maps = dict(zip(known, maps, strict=True))
        title = classifier.run.id if len(classifiers) > 1 else ""
        figures.append(map_figure(title, [maps.get(label) for label in labels]))
    fits = classifiers[0].classify_each_fit(rgb, {fit: answer})
    choices = [(label, place) for place, label in enumerate(labels)]
    return {
        "maps": f'<div class="stacks">{"".join(figures)}</div>',
        "map_class": gr.update(choices=choices, value=0),
        "fits": gr.update(value=fit_images(fits, fit), visible=True),
        "fit_text": fit_text(*rgb.shape[:2], answer.seen.shape[0]),
    }


def map_figure(title: str, maps: "list[ClassMap | None]") -> str:
    """Return a picture under its maps, the first one visible, as HTML.

    maps: one for each class to choose from; None where the run does not know the class. title: a
    run id, or "". No text of users is in the HTML, because Gradio would execute a template in it.
    """
    known = [class_map for class_map in maps if class_map is not None]
    if not known:
        return ""
    picture = known[0].picture
    height, width = picture.shape[:2]
    # The size is known before the images are decoded, so that nothing moves when they appear.
    layers = "".join(map_layer(place, class_map) for place, class_map in enumerate(maps))
    small = " small" if max(height, width) <= SMALL else ""
    return (
        f'<figure><div class="stack{small}" style="aspect-ratio:{width}/{height};'
        f'width:min(100%,{MAX_HEIGHT * width / height:.0f}px)"><img alt="The picture under its '
        f'class activation map" src="{data_url(picture)}">{layers}</div>'
        + (f"<figcaption>{title}</figcaption></figure>" if title else "</figure>")
    )


def map_layer(place: int, class_map: "ClassMap | None") -> str:
    """Return one map as HTML, or a note that the run does not know the class."""
    if class_map is None:
        return f'<span class="map map-{place}">not one of its classes</span>'
    from resnet_demo.inference.heatmaps import colour

    return f'<img class="map map-{place}" alt="" src="{data_url(colour(class_map.heat))}">'


def data_url(rgb: np.ndarray) -> str:
    """Encode a picture (H, W, 3) uint8 as a data URL."""
    # Enlarged small pictures would show JPEG's blocks; a PNG of a photograph would be large.
    kind = "png" if max(rgb.shape[:2]) <= SMALL else "jpeg"
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(file, kind, quality=88)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
