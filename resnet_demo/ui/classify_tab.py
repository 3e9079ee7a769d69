"""The Classify tab: a picture goes in, five labels come out, and what the network saw."""

from typing import Any

import gradio as gr
import numpy as np

from resnet_demo.errors import DemoError
from resnet_demo.ui.evaluate_tab import choices
from resnet_demo.ui.services import QUIET, Services, plainly, uploaded

NOTHING = "No trained network yet: train one on the **Train** tab, then bring your pictures here."
READY = "Drop a picture, paste one, or click an example."
SHOWN_PX = 128  # examples are enlarged, each pixel a square


class Picture(gr.Image):
    """A picture whose file is handed on unread: one function of ours decodes every upload."""

    def preprocess(self, payload: Any) -> str | None:
        """The path of the uploaded file; None where there is none."""
        return payload.path if payload else None


def classify_tab(services: Services, tab: gr.Tab) -> dict[str, Any]:
    """Build the tab; the components that the page fills when it is loaded."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=330, elem_classes="panel"):
            run = gr.Dropdown([], label="run", interactive=True, elem_id="classify-run")
            picture = Picture(
                sources=["upload", "clipboard"], label="picture", elem_id="picture", height=280,
                format="png", buttons=[], interactive=True,
            )  # fmt: skip
            gallery = gr.Gallery(
                label="examples from the run's test images", columns=5, height="auto",
                allow_preview=False, elem_id="examples", interactive=False, format="png", buttons=[],
            )  # fmt: skip
        with gr.Column(scale=8, min_width=330):
            words = gr.Markdown(NOTHING, elem_id="classify-words")
            labels = gr.Label(num_top_classes=5, show_label=False, elem_id="labels", visible=False)
            seen = gr.Image(
                label="what the network saw", elem_id="seen", height=220, width=220, visible=False,
                interactive=False, format="png", buttons=[],
            )  # fmt: skip

    @plainly()
    def on_picture(path: str | None, run_id: str | None) -> Any:
        return answer(services, path, run_id)

    @plainly()
    def on_example(run_id: str, event: gr.SelectData) -> np.ndarray:
        return examples(services, run_id)[event.index][0]

    gr.on([picture.change, run.change], on_picture, [picture, run], [words, labels, seen],
          api_visibility="private", show_progress="minimal")  # fmt: skip
    gallery.select(on_example, run, picture, **QUIET)
    tab.select(lambda chosen: choices(services, chosen), run, run, **QUIET)
    gr.on([tab.select, run.change], lambda run_id: shown(services, run_id), run, gallery, **QUIET)
    return {"run": run}


def answer(services: Services, path: str | None, run_id: str | None) -> tuple[Any, Any, Any]:
    """Labels and the picture as the network got it; a hint where there is nothing to answer."""
    hidden = gr.update(visible=False)
    if run_id is None:
        return NOTHING, hidden, hidden
    if path is None:
        return READY, hidden, hidden
    classifier = services.classifier(run_id)
    said = classifier.classify_file(uploaded(path))
    confidences = {row["label"]: row["confidence"] for row in said.labels}
    top, size = said.labels[0], said.seen.shape[0]
    words = f"## {top['label']}\n{top['confidence']:.1%} sure, says {run_id}"
    classes = ", ".join(classifier.saved.classes)
    return (
        f"{words}. It knows only: {classes}.",
        gr.update(value=confidences, visible=True),
        gr.update(
            value=said.seen, visible=True, label=f"what the network saw, {size} × {size} pixels"
        ),
    )


def examples(services: Services, run_id: str) -> list[tuple[np.ndarray, str]]:
    """A test image of each class (ten at most) with its label, enlarged without smoothing."""
    info = services.datasets.get(services.runs.get(run_id).config().dataset)
    images, labels = services.datasets.load(info.name, "test")
    times = max(1, SHOWN_PX // info.size)
    firsts = [int(np.argmax(labels == label)) for label in range(min(10, len(info.classes)))]
    return [
        (np.kron(images[i], np.ones((times, times, 1), np.uint8)), info.classes[labels[i]])
        for i in firsts
    ]


def shown(services: Services, run_id: str | None) -> Any:
    """The gallery; empty where the run's images are not on this machine."""
    try:
        return gr.update(value=examples(services, run_id) if run_id else [])
    except DemoError:
        return gr.update(value=[])
