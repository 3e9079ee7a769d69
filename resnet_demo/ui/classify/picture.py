"""One picture's side of the Classify tab: the answer, the gauge, where it looked, what it saw."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from resnet_demo.data.pictures import decode_picture
from resnet_demo.errors import DemoError
from resnet_demo.runs.text import escape_markdown
from resnet_demo.ui.classify import answer as told
from resnet_demo.ui.classify.class_map import looked_panel, side_by_side, stack
from resnet_demo.ui.classify.details import more_panel
from resnet_demo.ui.components import gallery
from resnet_demo.ui.services import Services

if TYPE_CHECKING:  # torch, which the page must not wait for
    import numpy as np

    from resnet_demo.inference.classification import Classification
    from resnet_demo.inference.classifier import Classifier

NOTHING = "No trained network yet: train one on the **Train** tab, then bring your pictures here."
READY = """**Drop a picture, paste one, take one with the camera, or click an example.**

Then you see here what the run says and how sure it is, whether the picture may be none of its
classes, where in the picture it looked, and how little of the picture it is shown."""

WAIT = "Loading the network: the first time this takes some seconds …"
# Hidden by their class, and always there: gr.Label may miss a value while it is being made.
GONE = ["gone"]


def one_panel() -> dict[str, Any]:
    """Build it; its components by name, for `one`. `folds`: those of `more_panel`."""
    words = gr.Markdown(NOTHING, elem_id="classify-words")
    with gr.Column(elem_classes=GONE) as answer:
        with gr.Row(equal_height=False):
            with gr.Column(min_width=280):
                sure = gr.Markdown(elem_id="sure")
                labels = gr.Label(num_top_classes=5, show_label=False, elem_id="labels")
                gauge = gr.HTML(elem_id="gauge", padding=False, container=False)
            with gr.Column(min_width=280, elem_classes=GONE) as second:
                other_sure = gr.Markdown(elem_id="other-sure")
                other_labels = gr.Label(num_top_classes=5, show_label=False, elem_id="other-labels")
                other_gauge = gr.HTML(elem_id="other-gauge", padding=False, container=False)
        with gr.Column(elem_classes=["section"]):
            looked = looked_panel()
        with gr.Column(elem_classes=["section"]):
            gr.Markdown("### What it saw")
            ways = gallery("ways", 3)
            ways_words = gr.Markdown(elem_id="ways-words", elem_classes=["hint", "note"])
        folds = more_panel()
    return {
        "words": words, "answer": answer, "sure": sure, "labels": labels, "gauge": gauge,
        "second": second, "other_sure": other_sure, "other_labels": other_labels,
        "other_gauge": other_gauge, "ways": ways, "ways_words": ways_words,
        "folds": folds, **looked,
    }  # fmt: skip


def classify_picture(
    services: Services, path: str | None, run_id: str | None, fit: str, other_id: str | None
) -> Iterator[dict[str, Any]]:
    """Component's name -> update: the answers first, then all that explains them.

    What is wrong with the picture or a run stands in the place of the answer.
    """
    if not path or not run_id:
        yield unanswered(READY if run_id else NOTHING)
        return
    try:
        services.allowance.count_pictures(services.caller())
        rgb = decode_picture(services.picture(path))
        if "torch" not in sys.modules:
            yield unanswered(WAIT)
        asked = [services.classifier(run_id)]
        if other_id and other_id != run_id:
            asked.append(services.classifier(other_id))
        said = [classifier.classify(rgb, fit=fit) for classifier in asked]
        yield answered(asked, said)
        yield explained(asked, said[0], rgb, fit)
    except DemoError as error:
        gr.Warning(f"{error}.")  # on a phone the words are far below the picture
        yield unanswered(f"⚠ {escape_markdown(str(error))}.")


def unanswered(words: str) -> dict[str, Any]:
    """Words where an answer would be."""
    return {
        "words": gr.update(value=words, visible=True),
        "answer": gr.update(elem_classes=GONE),
    }


def answered(asked: "list[Classifier]", said: "list[Classification]") -> dict[str, Any]:
    """The answer of each run, two at most, and how far to believe it."""
    updates = {
        "words": gr.update(visible=False),
        "answer": gr.update(elem_classes=[]),
        "second": gr.update(elem_classes=[] if len(asked) > 1 else GONE),
    }
    for prefix, classifier, answer in zip(("", "other_"), asked, said, strict=False):
        updates |= {
            f"{prefix}sure": told.sure_of(classifier.run.id, answer),
            f"{prefix}labels": told.confidences(answer),
            f"{prefix}gauge": told.gauge(answer.ood, len(classifier.saved.classes)),
        }
    return updates


def explained(
    asked: "list[Classifier]", said: "Classification", rgb: "np.ndarray", fit: str
) -> dict[str, Any]:
    """Where each run looked for the first one's top classes, and what the first one saw."""
    labels = [row["label"] for row in said.labels]
    figures = [
        stack(
            classifier.run.id,
            [
                classifier.class_map(rgb, label, fit) if label in classifier.saved.classes else None
                for label in labels
            ],
        )
        for classifier in asked
    ]
    choices = [
        (f"{row['label']} {row['confidence']:.1%}", place) for place, row in enumerate(said.labels)
    ]
    fits = asked[0].classify_each_fit(rgb, {fit: said})
    return {
        "maps": side_by_side(figures),
        "wanted": gr.update(choices=choices, value=0),
        "ways": gr.update(value=told.ways(fits, fit), visible=True),
        "ways_words": told.ways_words(*rgb.shape[:2], said.seen.shape[0]),
    }
