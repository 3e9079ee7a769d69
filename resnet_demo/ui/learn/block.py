"""Chapter 1: a block as a drawing, with the shapes of the real module, and a network as a table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from resnet_demo.architectures import MODELS, smallest_image
from resnet_demo.runs.text import count_text
from resnet_demo.ui.learn.chapter_form import as_int, chapter_text
from resnet_demo.ui.services import QUIET_EVENT, show_errors

if TYPE_CHECKING:  # torch, which the page must not wait for
    from resnet_demo.models.anatomy import BlockAnatomy, Layer, Part

SHORTCUTS = [
    ("identity: add the input as it is", "identity"),
    ("zero padding: no weights", "padding"),
    ("projection: a 1×1 convolution", "projection"),
    ("none: a plain network", "none"),
]
COLUMNS = ["part", "blocks", "puts out", "parameters", "multiply-adds", "share"]
WORKING = {**QUIET_EVENT, "show_progress": "minimal", "trigger_mode": "always_last"}  # loads torch
# of the drawing, whose letters a phone can still show: pixels between layers, width, columns, box
STEP, WIDE, LEFT, RIGHT, BOX = 62, 410, 103, 307, 190
OPENING = ("basic", 16, 32, 2, "projection", 32)


def block_chapter(tab: gr.Tab) -> None:
    """Words, the choices, the drawing beside the code; the whole network below."""
    chapter_text("1-block")
    with gr.Row():
        kind = gr.Radio(
            [("basic: two 3×3", "basic"), ("bottleneck: 1×1, 3×3, 1×1", "bottleneck")],
            value=OPENING[0], label="Block", interactive=True, elem_id="block-kind",
        )  # fmt: skip
        stride = gr.Radio(
            [("1: keeps the size", 1), ("2: halves it", 2)], value=OPENING[3], label="Stride",
            interactive=True, elem_id="block-stride",
        )  # fmt: skip
    with gr.Row():
        c_in = gr.Dropdown(
            [16, 32, 64, 128, 256, 512], value=OPENING[1], label="Channels in", interactive=True,
            elem_id="block-in", min_width=110,
        )  # fmt: skip
        width = gr.Dropdown(
            [16, 32, 64, 128, 256, 512], value=OPENING[2], label="Width (channels)",
            interactive=True, elem_id="block-width", min_width=110,
        )  # fmt: skip
        side = gr.Dropdown(
            [8, 16, 32, 56, 112], value=OPENING[5], label="Side of the map (pixels)",
            interactive=True, elem_id="block-side", min_width=110,
        )  # fmt: skip
    shortcut = gr.Radio(
        SHORTCUTS, value=OPENING[4], label="Shortcut", interactive=True, elem_id="block-shortcut"
    )
    with gr.Row():
        with gr.Column(min_width=320):
            drawing = gr.HTML(elem_id="block-drawing", padding=False)
            words = gr.Markdown(elem_id="block-words")
        with gr.Column(min_width=320):
            code = gr.Code(
                language="python", label="The code that runs here (resnet_demo/models/blocks.py)",
                interactive=False, elem_id="block-code", max_lines=26,
            )  # fmt: skip
    asked = [kind, c_in, width, stride, shortcut, side]
    gr.on(
        [tab.select, *(one.change for one in asked)], on_block, asked, [drawing, words, code],
        **WORKING,
    )  # fmt: skip
    gr.Markdown("### The whole network")
    with gr.Row():
        name = gr.Dropdown(
            list(MODELS), value="resnet20", label="Network", interactive=True,
            elem_id="network-name", min_width=160,
        )  # fmt: skip
        size = gr.Number(
            32, label="Image side (pixels)", precision=0, interactive=True, elem_id="network-size",
            min_width=120,
        )  # fmt: skip
    stages = gr.HTML(elem_id="network-drawing", padding=False)
    table = gr.Dataframe(headers=COLUMNS, interactive=False, elem_id="network-table")
    gr.on(
        [tab.select, name.change, size.change], on_network, [name, size], [stages, table],
        **WORKING,
    )  # fmt: skip


def on_block(
    kind: str, c_in: int, width: int, stride: int, shortcut: str, side: int
) -> tuple[str, str, str]:
    """The drawing, its figures in words, and the code. Loads torch, the first time."""
    from resnet_demo.errors import ConfigError
    from resnet_demo.models.anatomy import block_anatomy, source_of

    code = source_of(kind)
    try:
        block = block_anatomy(kind, c_in, width, stride, shortcut, side)
    except ConfigError as error:
        return "", f"⚠ {error}.", code
    return block_drawing(block), block_words(block), code


@show_errors()
def on_network(name: str, size: Any) -> tuple[str, list[list[str]]]:
    """The stages as bars and as a table. Loads torch, the first time."""
    from resnet_demo.errors import ConfigError
    from resnet_demo.models.anatomy import network_anatomy

    low, asked = smallest_image(name, "small"), as_int(size)
    if type(asked) is not int or not low <= asked <= 256:
        raise ConfigError.rule("image_size", f"a whole number from {low} to 256 for {name}", size)
    parts = network_anatomy(name, asked)
    return network_drawing(parts), [row(part) for part in parts]


def block_words(block: "BlockAnatomy") -> str:
    """What the block costs, and how it adds up."""
    same = block.entry == block.sum
    told = (
        f"**{count_text(block.parameters)}** parameters, **{count_text(block.macs)}** "
        f"multiply-adds an image. "
    )
    if block.around is None:
        return told + "Nothing is added: a plain block has to carry the input on by itself."
    if not block.around:
        return told + "The input is added as it is: with a silent branch the block changes nothing."
    weights = sum(layer.parameters for layer in block.around)
    cost = f"costs {count_text(weights)} parameters" if weights else "costs nothing"
    change = "" if same else f" from {shape(block.entry)} to {shape(block.sum)}"
    return told + f"The shortcut has to change the shape{change}, which {cost}."


def block_drawing(block: "BlockAnatomy") -> str:
    """Both ways through the block as SVG; every number is read off the real module."""
    left, right = list(block.branch), list(block.around or [])
    rows = branch_rows(left)
    bottom = 60 + STEP * len(rows)
    parts = [text(LEFT, 20, "x", "name"), text(LEFT + 14, 20, shape(block.entry), "shape", "start")]
    y = 30
    for number, (title, what) in enumerate(rows):
        top = 44 + STEP * number
        parts += [arrow(LEFT, y, top), box(LEFT, top, title, what)]
        y = top + 40
    parts += [arrow(LEFT, y, bottom), circle(LEFT, bottom + 12, block.around is not None)]
    if block.around is not None:
        parts += around(right, bottom)
    parts += [
        arrow(LEFT, bottom + 24, bottom + 46), box(LEFT, bottom + 46, "ReLU", shape(block.sum))
    ]  # fmt: skip
    height = bottom + 96
    label = "A residual block" if block.around is not None else "A plain block"
    return (
        f'<svg class="block" viewBox="0 0 {WIDE} {height}" role="img" '
        f'aria-label="{label}: {shape(block.entry)} in, {shape(block.sum)} out">'
        f"<defs>{HEAD}</defs>{''.join(parts)}</svg>"
    )


def branch_rows(layers: "Sequence[Layer]") -> list[tuple[str, str]]:
    """Title and shape of each box of the branch; a ReLU is between convolutions, not at its end."""
    rows, count = [], len(layers)
    for number, layer in enumerate(layers):
        is_norm = layer.what == "BatchNorm"
        relu = " + ReLU" if is_norm and number < count - 1 else ""
        rows.append((layer.what + relu, shape(layer.shape)))
    return rows


def around(layers: "Sequence[Layer]", bottom: int) -> list[str]:
    """The way around: a line, with a box a layer half-way down."""
    parts = [line(LEFT, 36, RIGHT, 36)]
    y, top = 36, (36 + bottom) // 2 - STEP * len(layers) // 2
    for layer in layers:
        parts += [arrow(RIGHT, y, top), box(RIGHT, top, layer.what, shape(layer.shape))]
        y, top = top + 40, top + STEP
    parts += [line(RIGHT, y, RIGHT, bottom + 12), left_arrow(RIGHT, LEFT + 14, bottom + 12)]
    if not layers:
        parts.append(text(RIGHT - 8, (36 + bottom) // 2, "as it is", "shape", "end"))
    return parts


HEAD = (
    '<marker id="head" markerWidth="8" markerHeight="8" refX="6" refY="3" orient="auto">'
    '<path d="M0,0 L6,3 L0,6 z" fill="currentColor"/></marker>'
)


def box(x: int, y: int, title: str, below: str) -> str:
    """A layer: BOX wide, 40 high, its top at y."""
    return (
        f'<rect x="{x - BOX // 2}" y="{y}" width="{BOX}" height="40" rx="6"/>'
        + text(x, y + 17, title, "name")
        + text(x, y + 33, below, "shape")
    )


def text(x: int, y: int, words: str, kind: str, anchor: str = "middle") -> str:
    """Words of ours."""
    return f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}">{words}</text>'


def line(x: int, y: int, to_x: int, to_y: int, head: bool = False) -> str:
    """A straight line, with an arrow's head if asked."""
    end = ' marker-end="url(#head)"' if head else ""
    return f'<path d="M{x},{y} L{to_x},{to_y}"{end}/>'


def arrow(x: int, y: int, to_y: int) -> str:
    """Down."""
    return line(x, y, x, to_y - 2, head=True)


def left_arrow(x: int, to_x: int, y: int) -> str:
    """To the left."""
    return line(x, y, to_x, y, head=True)


def circle(x: int, y: int, adds: bool) -> str:
    """Where both ways meet, or where nothing is added."""
    sign = "+" if adds else ""
    kind = "sum" if adds else "no-sum"
    return f'<circle cx="{x}" cy="{y}" r="12" class="{kind}"/>' + text(x, y + 5, sign, "name")


def network_drawing(parts: "Sequence[Part]") -> str:
    """Each part as high as its share of the multiply-adds is wide: one bar for the whole."""
    cells = "".join(
        f'<div style="flex-grow:{max(part.share, 0.004):.4f}" class="part-{number % 4}" '
        f'title="{part_label(part.name)}: {part.share:.1%}">'
        f"<span>{part_label(part.name) if part.share > 0.07 else ''}</span></div>"
        for number, part in enumerate(parts)
    )
    label = ", ".join(f"{part_label(part.name)} {part.share:.0%}" for part in parts)
    return (
        '<p class="learn-small">Share of the multiply-adds</p>'
        f'<div class="shares" role="img" aria-label="{label}">{cells}</div>'
    )


def row(part: "Part") -> list[str]:
    """A part as a row of the table."""
    return [
        part_label(part.name), str(part.blocks or "–"), shape(part.shape),
        count_text(part.parameters), count_text(part.macs), f"{part.share:.1%}",
    ]  # fmt: skip


def part_label(name: str) -> str:
    """`stages.0` and `stage1` are both stage 1."""
    if name.startswith("stages."):
        return f"stage {int(name[7:]) + 1}"
    return name.replace("stage", "stage ") if name.startswith("stage") else name


def shape(sizes: Sequence[int]) -> str:
    """Channels × height × width."""
    return " × ".join(map(str, sizes))
