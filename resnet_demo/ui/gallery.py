"""Grids of small pictures with their labels."""

import gradio as gr
import numpy as np

SHOWN_PX = 128  # the most that a side is enlarged to


def gallery(elem_id: str, columns: int) -> gr.Gallery:
    """A grid of so many columns, hidden at first. Labels are shown to the letter: it runs nothing.

    page.css knows 3, 4, 5 and 8 columns.
    """
    return gr.Gallery(
        show_label=False, columns=columns, height="auto", allow_preview=False, format="png",
        elem_id=elem_id, elem_classes=grid(columns), interactive=False, buttons=[], visible=False,
    )  # fmt: skip


def grid(columns: int, *more: str) -> list[str]:
    """The classes of such a gallery: an update replaces all of them."""
    return ["grid", f"grid-{columns}", *more]


def enlarged(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8, each pixel a square; one whose side is over SHOWN_PX / 2 as it is."""
    times = max(1, SHOWN_PX // image.shape[0])
    return np.kron(image, np.ones((times, times, 1), np.uint8))
