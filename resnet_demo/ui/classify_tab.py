"""The Classify tab: a picture goes in, five labels come out, and what the network saw."""

from typing import Any

import gradio as gr
import numpy as np

from resnet_demo.errors import DemoError
from resnet_demo.ui.evaluate_tab import choices
from resnet_demo.ui.gallery import enlarged, gallery
from resnet_demo.ui.services import QUIET, Services, plainly, uploaded_picture
from resnet_demo.ui.text import literal

NOTHING = "No trained network yet: train one on the **Train** tab, then bring your pictures here."
EXAMPLES = "Or click one of the run's own test images:"
READY = "Drop a picture, or paste one."


class Picture(gr.Image):
    """A picture whose file is handed on unread: one function of ours decodes every upload."""

    is_template = True  # drawn in the browser as gr.Image is

    def preprocess(self, payload: Any) -> str | None:
        """The path of the uploaded file; None where there is none."""
        return payload.path if payload else None


def classify_tab(services: Services, tab: gr.Tab) -> dict[str, Any]:
    """Build the tab; the components that the page fills when it is loaded."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=330, elem_classes="panel"):
            run = gr.Dropdown([], label="Run", interactive=True, elem_id="classify-run")
            picture = Picture(
                sources=["upload", "clipboard"], label="Picture", elem_id="picture", height=280,
                format="png", buttons=[], interactive=True,
            )  # fmt: skip
            hint = gr.Markdown(EXAMPLES, elem_classes="hint", visible=False)
            examples = gallery("examples", 5)
        with gr.Column(scale=8, min_width=330):
            labels = gr.Label(num_top_classes=5, show_label=False, elem_id="labels", visible=False)
            words = gr.Markdown(NOTHING, elem_id="classify-words")
            seen = gr.Image(
                label="What the network saw", elem_id="seen", height=220, width=220, visible=False,
                interactive=False, format="png", buttons=[],
            )  # fmt: skip

    @plainly()
    def on_picture(path: str | None, run_id: str | None) -> Any:
        return answer(services, path, run_id)

    @plainly()
    def on_example(run_id: str, event: gr.SelectData) -> np.ndarray:
        return example_images(services, run_id)[0][event.index]

    gr.on([picture.change, run.change], on_picture, [picture, run], [labels, words, seen],
          api_visibility="private", show_progress="minimal")  # fmt: skip
    examples.select(on_example, run, picture, **QUIET)
    tab.select(lambda chosen: choices(services, chosen), run, run, **QUIET)
    gr.on(
        [tab.select, run.change],
        lambda run_id: shown(services, run_id),
        run,
        [hint, examples],
        **QUIET,
    )
    return {"run": run}


def answer(services: Services, path: str | None, run_id: str | None) -> tuple[Any, Any, Any]:
    """Labels, words and the picture as the network got it; a hint where there is no answer."""
    hidden = gr.update(visible=False)
    if run_id is None:
        return hidden, NOTHING, hidden
    if path is None:
        return hidden, READY, hidden
    classifier = services.classifier(run_id)
    said = classifier.classify_file(uploaded_picture(path))
    confidences = {row["label"]: row["confidence"] for row in said.labels}
    top, size = said.labels[0], said.seen.shape[0]
    label, classes = literal(top["label"]), literal(", ".join(classifier.saved.classes))
    return (
        gr.update(value=confidences, visible=True),
        f"{run_id} is {top['confidence']:.1%} sure of {label}. It knows nothing but {classes}: a "
        f"picture of anything else is taken for one of these. Below is all it was shown, "
        f"{size} × {size} pixels.",
        gr.update(value=said.seen, visible=True),
    )


def example_images(services: Services, run_id: str) -> tuple[list[np.ndarray], list[str]]:
    """A test image of each class, ten at most, and its label."""
    info = services.datasets.get(services.runs.get(run_id).config().dataset)
    images, labels = services.datasets.load(info.name, "test")
    firsts = [int(np.argmax(labels == label)) for label in range(min(10, len(info.classes)))]
    return [np.array(images[i]) for i in firsts], [info.classes[labels[i]] for i in firsts]


def shown(services: Services, run_id: str | None) -> tuple[Any, Any]:
    """Hint and gallery, each pixel enlarged to a square; hidden where the images are not here."""
    hidden = gr.update(visible=False)
    if run_id is None:
        return hidden, hidden
    try:
        images, labels = example_images(services, run_id)
    except DemoError:
        return hidden, hidden
    pairs = list(zip(map(enlarged, images), labels, strict=True))
    return gr.update(visible=True), gr.update(value=pairs, visible=True)
