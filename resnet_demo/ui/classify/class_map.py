"""Where it looked: the picture under the map of a class; class and opacity change in the browser.

All maps are sent at once and stacked. A choice only changes which of them is seen, and how much.
"""

import base64
import io
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from PIL import Image

from resnet_demo.ui.services import QUIET_EVENT

if TYPE_CHECKING:  # torch, which the page must not wait for
    from resnet_demo.inference.class_maps import ClassMap

SMALL = 128  # pixels a side; up to here a stored pixel is shown as a square, and nothing is lossy
HIGH = 340  # CSS pixels, the most that a picture is shown high
OPACITY = 50  # percent, at first
# On the page's root: it stays what it is while the pictures below are replaced.
CHOOSE = "(which) => { document.documentElement.dataset.map = which ?? 0; }"
FADE = "(share) => { document.documentElement.style.setProperty('--map', share / 100); }"
HOW = (
    "Bright is what spoke for the class, dark what did not, or what the centre crop left out. It "
    "is the network's last map of features, weighed by how much each speaks for the class, and "
    "enlarged: a coarse where, and no why."
)


def looked_panel() -> dict[str, Any]:
    """Build it; its components by name."""
    gr.Markdown("### Where it looked")
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=280):
            maps = gr.HTML(elem_id="looked", padding=False, container=False)
        with gr.Column(scale=4, min_width=220):
            wanted = gr.Radio([], label="Looking for", elem_id="looked-for", interactive=True)
            opacity = gr.Slider(
                0, 100, OPACITY, step=1, label="Opacity of the map (%)",
                elem_id="opacity", interactive=True,
            )  # fmt: skip
            gr.Markdown(HOW, elem_classes=["hint", "note"])
    wanted.change(None, wanted, None, js=CHOOSE, **QUIET_EVENT)
    opacity.change(None, opacity, None, js=FADE, **QUIET_EVENT)
    return {"maps": maps, "wanted": wanted}


def stack(title: str, looks: "list[ClassMap | None]") -> str:
    """A picture and its maps, the first one seen, as HTML: pictures and a run id, no other text.

    looks: one each for the classes to choose from; None where the run does not know the class.
    """
    known = [look for look in looks if look is not None]
    if not known:
        return ""
    height, width = known[0].picture.shape[:2]
    layers = "".join(
        f'<img class="map map-{place}" alt="" src="{data_url(coloured(look))}">'
        for place, look in enumerate(looks)
        if look is not None
    )
    missing = "".join(
        f'<span class="map map-{place}">not one of its classes</span>'
        for place, look in enumerate(looks)
        if look is None
    )
    small = " small" if max(height, width) <= SMALL else ""
    return (
        f'<figure><div class="stack{small}" style="aspect-ratio:{width}/{height};'
        f'width:min(100%,{HIGH * width / height:.0f}px)"><img alt="The picture, under its map" '
        f'src="{data_url(known[0].picture)}">{layers}{missing}</div>'
        f"<figcaption>{title}</figcaption></figure>"
    )


def side_by_side(figures: list[str]) -> str:
    """One figure a run."""
    return f'<div class="stacks">{"".join(figures)}</div>'


def coloured(look: "ClassMap") -> np.ndarray:
    """The heat in colours, (h, w, 3) uint8: what `analysis.overlay` lays over the picture."""
    from resnet_demo.inference.heatmaps import COLOURS

    return COLOURS[np.rint(look.heat.cpu().numpy() * 255).astype(np.uint8)]


def data_url(rgb: np.ndarray) -> str:
    """A picture (H, W, 3) uint8 as text."""
    kind = "png" if max(rgb.shape[:2]) <= SMALL else "jpeg"
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(file, kind, quality=88)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
