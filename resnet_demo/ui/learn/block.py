"""Chapter 1: a block as an SVG drawing beside its code, and a whole network as a table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from resnet_demo.architectures import MODELS, smallest_image
from resnet_demo.runs.text import count_text, share_text
from resnet_demo.ui.learn.arm_plots import table_text
from resnet_demo.ui.learn.chapter_form import LAYOUT, LEFT, RIGHT, as_int, chapter_text
from resnet_demo.ui.services import QUIET_EVENT, show_errors

if TYPE_CHECKING:  # needs torch, which the app does not load at start
    from resnet_demo.models.anatomy import BlockAnatomy, Layer, Part

KINDS = [("basic: two 3×3", "basic"), ("bottleneck: 1×1, 3×3, 1×1", "bottleneck")]
STRIDES = [1, 2]
SHORTCUTS = [
    ("identity: add the input unchanged", "identity"),
    ("zero padding: no weights", "padding"),
    ("projection: a 1×1 convolution", "projection"),
    ("none: a plain network", "none"),
]
CHANNELS = [16, 32, 64, 128, 256, 512]
MAP_SIZES = [8, 16, 32, 56, 112]
COLUMNS = ["part", "blocks", "output", "parameters", "multiply-adds", "share"]
# Sizes in pixels. The drawing is narrow enough that its text can be read on a phone.
WIDTH = 410
BRANCH_X, SHORTCUT_X = 103, 307  # centres of the two columns
BOX_WIDTH, BOX_HEIGHT = 190, 40
ROW_HEIGHT = 62
ARROW_HEAD = (
    '<marker id="head" markerWidth="8" markerHeight="8" refX="6" refY="3" orient="auto">'
    # The colour of the text, which is another one on a dark page.
    '<path d="M0,0 L6,3 L0,6 z" fill="currentColor"/></marker>'
)
LOADING_TEXT = "Loading, a few seconds…"
# The first call loads torch, so the page shows that it works.
LOADING = QUIET_EVENT | {"show_progress": "minimal", "trigger_mode": "always_last"}


def block_chapter(tab: gr.Tab) -> None:
    """Build the chapter: text, choices and drawing of a block; a whole network below."""
    with gr.Row(**LAYOUT):
        with gr.Column(**LEFT | {"scale": 5}):
            chapter_text("1-block")
        with gr.Column(**RIGHT | {"scale": 9}), gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=290):
                choices = block_choices()
            with gr.Column(scale=3, min_width=310):
                drawing = gr.HTML(elem_id="block-drawing", padding=False)
                text = gr.Markdown(LOADING_TEXT, elem_id="block-text")
    with gr.Accordion("The code of this block", open=False):
        code = gr.Markdown(elem_id="block-code", container=False)
    # Drawn when the chapter is opened: the shapes are those of a real module, which needs torch.
    events = [tab.select, *(component.change for component in choices)]
    gr.on(events, on_block, choices, [drawing, text, code], **LOADING)
    gr.Markdown("### The whole network")
    with gr.Row():
        name = dropdown("network-name", "Network", list(MODELS), "resnet20")
        # Without limits: the server does not enforce those of a component, `on_network` does.
        size = gr.Number(
            32,
            label="Image size (pixels)",
            precision=0,
            interactive=True,
            elem_id="network-size",
            min_width=120,
        )
    shares = gr.HTML(elem_id="network-drawing", padding=False)
    table = gr.Markdown(elem_id="network-table", elem_classes="learn-table")
    events = [tab.select, name.change, size.change]
    gr.on(events, on_network, [name, size], [shares, table], **LOADING)


def block_choices() -> list[Any]:
    """Build the choices of a block, in the order of the parameters of `on_block`."""
    kind = radio("block-kind", "Block", KINDS, "basic")
    with gr.Row():
        c_in = dropdown("block-in", "Input channels", CHANNELS, 16)
        width = dropdown("block-width", "Width (channels)", CHANNELS, 32)
    with gr.Row():
        stride = dropdown("block-stride", "Stride", STRIDES, 2)
        side = dropdown("block-side", "Map size (pixels)", MAP_SIZES, 32)
    shortcut = radio("block-shortcut", "Shortcut", SHORTCUTS, "projection")
    return [kind, c_in, width, stride, shortcut, side]


def radio(elem_id: str, label: str, choices: list[Any], value: Any) -> gr.Radio:
    """Build a choice of which all options are visible."""
    return gr.Radio(choices, value=value, label=label, interactive=True, elem_id=elem_id)


def dropdown(elem_id: str, label: str, choices: list[Any], value: Any) -> gr.Dropdown:
    """Build a choice that unfolds."""
    return gr.Dropdown(
        choices, value=value, label=label, interactive=True, elem_id=elem_id, min_width=110
    )


def on_block(
    kind: str, c_in: int, width: int, stride: int, shortcut: str, side: int
) -> tuple[str, str, str]:
    """Return the drawing, a text with its costs, and the code of a block."""
    from resnet_demo.errors import ConfigError
    from resnet_demo.models.anatomy import block_anatomy, block_source

    # The code depends on the kind alone: it is shown even if the numbers do not fit together.
    # As Markdown: the editor of gr.Code is an eighth of all bytes that a page loads.
    code = f"```python\n{block_source(kind)}\n```"
    try:
        block = block_anatomy(kind, c_in, width, stride, shortcut, side)
    except ConfigError as error:
        return "", f"⚠ {error}.", code
    return block_drawing(block), block_text(block), code


@show_errors()
def on_network(name: str, size: Any) -> tuple[str, str]:
    """Return the parts of a network as bars and as a table (Markdown). Raises gr.Error."""
    from resnet_demo.errors import ConfigError
    from resnet_demo.models.anatomy import network_anatomy

    low, image_size = smallest_image(name, "small"), as_int(size)
    # `type`, not isinstance: True is an int too.
    if type(image_size) is not int or not low <= image_size <= 256:
        raise ConfigError.rule("image_size", f"a whole number from {low} to 256 for {name}", size)
    parts = network_anatomy(name, image_size)
    return network_shares(parts), table_text(COLUMNS, map(part_row, parts))


def block_text(block: "BlockAnatomy") -> str:
    """Return the costs of a block, and what its shortcut does (Markdown)."""
    costs = (
        f"**{count_text(block.parameters)}** parameters, **{count_text(block.macs)}** "
        f"multiply-adds per image. "
    )
    # None: a plain block. Empty: the identity, which has no layers.
    if block.shortcut is None:
        return costs + "A plain block: nothing is added, so its layers must pass the input on."
    if not block.shortcut:
        return costs + (
            "The input is added unchanged. A block whose branch outputs zero changes nothing."
        )
    weights = sum(layer.parameters for layer in block.shortcut)
    price = f"costs {count_text(weights)} parameters" if weights else "costs no parameters"
    change = ""
    if block.input != block.output:
        change = f" from {shape_text(block.input)} to {shape_text(block.output)}"
    return costs + f"The shortcut changes the shape{change}, which {price}."


def block_drawing(block: "BlockAnatomy") -> str:
    """Return the drawing of a block, with the shapes of the real module."""
    has_shortcut = block.shortcut is not None
    rows = branch_rows(block.branch)
    bottom = 60 + ROW_HEIGHT * len(rows)
    parts = [
        svg_text(BRANCH_X, 20, "x", "name"),
        svg_text(BRANCH_X + 14, 20, shape_text(block.input), "shape", "start"),
    ]
    y = 30
    for number, (title, shape) in enumerate(rows):
        top = 44 + ROW_HEIGHT * number
        parts += [svg_arrow_down(BRANCH_X, y, top), svg_box(BRANCH_X, top, title, shape)]
        y = top + BOX_HEIGHT
    parts += [svg_arrow_down(BRANCH_X, y, bottom), svg_sum(BRANCH_X, bottom + 12, has_shortcut)]
    if has_shortcut:
        parts += shortcut_parts(block.shortcut, bottom)
    parts += [
        svg_arrow_down(BRANCH_X, bottom + 24, bottom + 46),
        svg_box(BRANCH_X, bottom + 46, "ReLU", shape_text(block.output)),
    ]
    # An image with one label: a screen reader would else read the texts of the boxes in a row.
    label = "A residual block" if has_shortcut else "A plain block"
    return (
        f'<svg class="block" viewBox="0 0 {WIDTH} {bottom + 96}" role="img" '
        f'aria-label="{label}: {shape_text(block.input)} in, {shape_text(block.output)} out">'
        f"<defs>{ARROW_HEAD}</defs>{''.join(parts)}</svg>"
    )


def branch_rows(layers: "Sequence[Layer]") -> list[tuple[str, str]]:
    """Return title and shape of each box of the branch.

    A ReLU follows each BatchNorm but the last, whose ReLU comes after the sum.
    """
    rows = []
    for number, layer in enumerate(layers):
        has_relu = layer.description == "BatchNorm" and number < len(layers) - 1
        title = f"{layer.description} + ReLU" if has_relu else layer.description
        rows.append((title, shape_text(layer.shape)))
    return rows


def shortcut_parts(layers: "Sequence[Layer]", bottom: int) -> list[str]:
    """Return the shortcut: a line around the branch, with a box for each layer half-way down."""
    # It leaves the branch below the input's name and comes back at the height of the sum.
    parts = [svg_line(BRANCH_X, 36, SHORTCUT_X, 36)]
    y, top = 36, (36 + bottom) // 2 - ROW_HEIGHT * len(layers) // 2
    for layer in layers:
        parts.append(svg_arrow_down(SHORTCUT_X, y, top))
        parts.append(svg_box(SHORTCUT_X, top, layer.description, shape_text(layer.shape)))
        y, top = top + BOX_HEIGHT, top + ROW_HEIGHT
    parts.append(svg_line(SHORTCUT_X, y, SHORTCUT_X, bottom + 12))
    parts.append(svg_line(SHORTCUT_X, bottom + 12, BRANCH_X + 14, bottom + 12, head=True))
    if not layers:
        parts.append(svg_text(SHORTCUT_X - 8, (36 + bottom) // 2, "unchanged", "shape", "end"))
    return parts


def svg_box(x: int, y: int, title: str, below: str) -> str:
    """Return a layer as a box with two lines of text; x: its centre, y: its top."""
    left = x - BOX_WIDTH // 2
    return (
        f'<rect x="{left}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6"/>'
        + svg_text(x, y + 17, title, "name")
        + svg_text(x, y + 33, below, "shape")
    )


def svg_text(x: int, y: int, content: str, kind: str, anchor: str = "middle") -> str:
    """Return a text; kind: its CSS class. The content is not escaped: it must be the program's."""
    return f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}">{content}</text>'


def svg_line(x: int, y: int, to_x: int, to_y: int, head: bool = False) -> str:
    """Return a straight line, with or without an arrow head."""
    end = ' marker-end="url(#head)"' if head else ""
    return f'<path d="M{x},{y} L{to_x},{to_y}"{end}/>'


def svg_arrow_down(x: int, y: int, to_y: int) -> str:
    """Return an arrow that ends just above `to_y`."""
    return svg_line(x, y, x, to_y - 2, head=True)


def svg_sum(x: int, y: int, adds: bool) -> str:
    """Return the circle where branch and shortcut meet, empty in a plain block."""
    sign, kind = ("+", "sum") if adds else ("", "no-sum")
    return f'<circle cx="{x}" cy="{y}" r="12" class="{kind}"/>' + svg_text(x, y + 5, sign, "name")


def shape_text(sizes: Sequence[int]) -> str:
    """Return a shape as `channels × height × width`."""
    return " × ".join(map(str, sizes))


def network_shares(parts: "Sequence[Part]") -> str:
    """Return one bar as HTML, divided by the share of each part in the multiply-adds."""
    # At least 0.4 % wide, so that each part is visible; a label needs 7 %.
    # Four colours take turns, so that neighbours differ.
    cells = "".join(
        f'<div style="flex-grow:{max(part.share, 0.004):.4f}" class="part-{number % 4}" '
        f'title="{part_label(part.name)}: {share_text(part.share)}">'
        f"<span>{part_label(part.name) if part.share > 0.07 else ''}</span></div>"
        for number, part in enumerate(parts)
    )
    label = ", ".join(f"{part_label(part.name)} {share_text(part.share, 0)}" for part in parts)
    return (
        '<p class="learn-small">Share of the multiply-adds</p>'
        f'<div class="shares" role="img" aria-label="{label}">{cells}</div>'
    )


def part_row(part: "Part") -> list[str]:
    """Return a part as a row of the table."""
    return [
        part_label(part.name),
        str(part.blocks or "–"),
        shape_text(part.shape),
        count_text(part.parameters),
        count_text(part.macs),
        share_text(part.share),
    ]


def part_label(name: str) -> str:
    """Return the label of a part: `stages.0` and `stage1`, as two networks name it, are stage 1."""
    if name.startswith("stages."):
        return f"stage {int(name[7:]) + 1}"
    if name == "last":
        return "last convolution"
    return name.replace("stage", "stage ") if name.startswith("stage") else name
