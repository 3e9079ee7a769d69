"""A residual block as an SVG drawing: the branch on the left, the shortcut on the right."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # needs torch, which the app does not load at start
    from resnet_demo.models.anatomy import BlockAnatomy, Layer

# Sizes in pixels. The drawing is narrow enough that its text can be read on a phone.
WIDTH = 410
BRANCH_X, SHORTCUT_X = 103, 307  # centres of the two columns
BOX_WIDTH, BOX_HEIGHT = 190, 40
ROW_HEIGHT = 62
ARROW_HEAD = (
    '<marker id="head" markerWidth="8" markerHeight="8" refX="6" refY="3" orient="auto">'
    '<path d="M0,0 L6,3 L0,6 z" fill="currentColor"/></marker>'
)


def block_drawing(block: "BlockAnatomy") -> str:
    """Return the drawing of a block, with the shapes of the real module."""
    has_shortcut = block.shortcut is not None
    rows = branch_rows(block.branch)
    bottom = 60 + ROW_HEIGHT * len(rows)
    parts = [
        text(BRANCH_X, 20, "x", "name"),
        text(BRANCH_X + 14, 20, shape_text(block.input), "shape", "start"),
    ]
    y = 30
    for number, (title, shape) in enumerate(rows):
        top = 44 + ROW_HEIGHT * number
        parts += [arrow_down(BRANCH_X, y, top), box(BRANCH_X, top, title, shape)]
        y = top + BOX_HEIGHT
    parts += [arrow_down(BRANCH_X, y, bottom), sum_circle(BRANCH_X, bottom + 12, has_shortcut)]
    if has_shortcut:
        parts += shortcut_parts(block.shortcut, bottom)
    parts += [
        arrow_down(BRANCH_X, bottom + 24, bottom + 46),
        box(BRANCH_X, bottom + 46, "ReLU", shape_text(block.output)),
    ]
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
    parts = [line(BRANCH_X, 36, SHORTCUT_X, 36)]
    y, top = 36, (36 + bottom) // 2 - ROW_HEIGHT * len(layers) // 2
    for layer in layers:
        parts.append(arrow_down(SHORTCUT_X, y, top))
        parts.append(box(SHORTCUT_X, top, layer.description, shape_text(layer.shape)))
        y, top = top + BOX_HEIGHT, top + ROW_HEIGHT
    parts.append(line(SHORTCUT_X, y, SHORTCUT_X, bottom + 12))
    parts.append(line(SHORTCUT_X, bottom + 12, BRANCH_X + 14, bottom + 12, head=True))
    if not layers:
        parts.append(text(SHORTCUT_X - 8, (36 + bottom) // 2, "unchanged", "shape", "end"))
    return parts


def box(x: int, y: int, title: str, below: str) -> str:
    """Return a layer as a box with two lines of text; x: its centre, y: its top."""
    left = x - BOX_WIDTH // 2
    return (
        f'<rect x="{left}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6"/>'
        + text(x, y + 17, title, "name")
        + text(x, y + 33, below, "shape")
    )


def text(x: int, y: int, content: str, kind: str, anchor: str = "middle") -> str:
    """Return a text; kind: its CSS class. The content is not escaped: it must be the program's."""
    return f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}">{content}</text>'


def line(x: int, y: int, to_x: int, to_y: int, head: bool = False) -> str:
    """Return a straight line, with or without an arrow head."""
    end = ' marker-end="url(#head)"' if head else ""
    return f'<path d="M{x},{y} L{to_x},{to_y}"{end}/>'


def arrow_down(x: int, y: int, to_y: int) -> str:
    """Return an arrow that ends just above `to_y`."""
    return line(x, y, x, to_y - 2, head=True)


def sum_circle(x: int, y: int, adds: bool) -> str:
    """Return the circle where branch and shortcut meet, empty in a plain block."""
    sign, kind = ("+", "sum") if adds else ("", "no-sum")
    return f'<circle cx="{x}" cy="{y}" r="12" class="{kind}"/>' + text(x, y + 5, sign, "name")


def shape_text(sizes: Sequence[int]) -> str:
    """Return a shape as `channels × height × width`."""
    return " × ".join(map(str, sizes))
