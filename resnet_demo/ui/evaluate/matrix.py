"""A clickable confusion matrix: an HTML table of buttons, coloured by share of the row."""

import math
from collections.abc import Sequence
from functools import cache
from html import escape
from typing import Any

import gradio as gr

from resnet_demo.errors import ConfigError
from resnet_demo.runs.text import share_text

MAX_CLASSES = 25  # with more, cells are too small to click: the top confusions are listed instead
MAX_CONFUSIONS = 30
MAX_LETTERS = 20  # of a class name in a heading
STEPS = 40  # shades, from 0 to 100 % of a row
# One hue with evenly changing lightness, readable with any colour vision. The lightest shade of
# light pages and the darkest of dark ones differ from the page's background.
SHADES = {"light": ["#f3f7fd", "#5d9fe8", "#123a7a"], "dark": ["#1f2c44", "#2f6fd6", "#dceafe"]}

ON_LOAD = """
const cells = () => [...element.querySelectorAll('button[data-cell]')];
const shown = () => element.querySelector('[data-of]');
const mark = () => {
  if (shown()?.dataset.of != element.dataset.of) delete element.dataset.at;
  for (const cell of cells()) {
    if (cell.dataset.cell == element.dataset.at) cell.setAttribute('aria-current', 'true');
    else cell.removeAttribute('aria-current');
  }
};
element.addEventListener('click', (event) => {
  const cell = event.target.closest('button[data-cell]');
  if (!cell) return;
  Object.assign(element.dataset, {at: cell.dataset.cell, of: shown().dataset.of});
  mark();
  const [truth, predicted] = cell.dataset.cell.split(' ').map(Number);
  trigger('click', {truth, predicted});
});
// One cell is in the tab order, and arrow keys move from it to the next nonzero cell.
element.addEventListener('focusin', (event) => {
  if (!event.target.matches('td button')) return;
  cells().forEach((cell) => { cell.tabIndex = cell == event.target ? 0 : -1; });
});
const moves = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
element.addEventListener('keydown', (event) => {
  const move = moves[event.key], size = element.querySelectorAll('tbody tr').length;
  if (!move || !event.target.matches('td button')) return;
  event.preventDefault();
  let [row, column] = event.target.dataset.cell.split(' ').map(Number), next = null;
  while (!next) {
    row += move[0]; column += move[1];
    if (Math.min(row, column) < 0 || Math.max(row, column) >= size) return;
    next = element.querySelector(`button[data-cell="${row} ${column}"]`);
  }
  next.focus();
});
watch('value', mark);
"""
# Unmark the cell when other images are chosen.
UNMARK = """() => {
  for (const marked of document.querySelectorAll('#matrix [data-at]')) delete marked.dataset.at;
  for (const cell of document.querySelectorAll('#matrix [aria-current]'))
    cell.removeAttribute('aria-current');
}"""


def matrix_html(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], percent: bool, source: str
) -> str:
    """Return counts (C, C), true class in rows, as a table; a list beyond MAX_CLASSES.

    percent: show percent of the row, else images. source: identifies the evaluation; while it
    stays the same, the marked cell stays marked. A click sends class indices `truth` and
    `predicted`.
    """
    if len(classes) > MAX_CLASSES:
        return confusions_html(confusion, classes, source)
    # Buttons in a table: a screen reader names row and column, and keys reach every cell.
    heads = "".join(f'<th scope="col"><span>{heading(name)}</span></th>' for name in classes)
    letters = min(MAX_LETTERS, max(map(len, classes)))
    # The Tab key stops at the first cell only; arrow keys move between cells.
    first = next(((i, j) for i, row in enumerate(confusion) for j, n in enumerate(row) if n), None)
    rows = []
    for truth, counts in enumerate(confusion):
        cells = "".join(
            f"<td>{cell(counts, truth, predicted, classes, percent, first == (truth, predicted))}"
            "</td>"
            for predicted in range(len(classes))
        )
        rows.append(f'<tr><th scope="row">{heading(classes[truth])}</th>{cells}</tr>')
    return (
        f'<div class="matrix-box"><table class="matrix" data-of="{escape(source)}" '
        f'style="--classes:{len(classes)};--letters:{letters}">'
        f'<thead><tr><th class="corner"><span>true ↓ &nbsp;predicted →</span></th>{heads}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def cell(
    counts: Sequence[int],
    truth: int,
    predicted: int,
    classes: Sequence[str],
    percent: bool,
    in_tab_order: bool,
) -> str:
    """Return a cell's button as HTML; "" for a count of 0. counts: of the whole row."""
    count, total = counts[predicted], sum(counts)
    if not count:
        return ""  # nothing to click
    share = count / total
    # The square root, because a few percent would otherwise look like none.
    shades = cell_colours(round(STEPS * math.sqrt(share)))
    number = cell_percent(share) if percent else str(count)
    text = cell_text(count, classes[truth], classes[predicted])
    label = escape_html(f"{text}, {share_text(share)} of the row")
    return (
        f'<button type="button" data-cell="{truth} {predicted}" '
        f'tabindex="{0 if in_tab_order else -1}" '
        f'style="{shades}" aria-label="{label}" title="{label}">{number}</button>'
    )


@cache  # 41 shades serve all cells of all pages
def cell_colours(step: int) -> str:
    """Return background and text colour of a shade from 0 to STEPS, for light and dark pages."""
    # Imported only now: the first page does not wait for matplotlib.
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    from resnet_demo.evaluation.figures import text_colour_on

    share = step / STEPS
    maps = {name: LinearSegmentedColormap.from_list(name, row) for name, row in SHADES.items()}
    return ";".join(
        f"--cell-{name}:{to_hex(colours(share))};--ink-{name}:{text_colour_on(colours, share)}"
        for name, colours in maps.items()
    )


def confusions_html(confusion: Sequence[Sequence[int]], classes: Sequence[str], source: str) -> str:
    """Return the most frequent mistakes as a list of buttons, most images first."""
    # By label where counts are equal, so that the order is the same each time.
    mistakes = sorted(
        (-count, truth, predicted)
        for truth, row in enumerate(confusion)
        for predicted, count in enumerate(row)
        if count and truth != predicted
    )[:MAX_CONFUSIONS]
    items = "".join(
        f'<li><button type="button" data-cell="{truth} {predicted}">'
        f"{escape_html(cell_text(-minus, classes[truth], classes[predicted]))}</button></li>"
        for minus, truth, predicted in mistakes
    )
    none = "" if mistakes else "<p>No mistakes.</p>"
    return f'<ul class="confusions" data-of="{escape(source)}">{items}</ul>{none}'


def cell_text(count: int, truth: str, predicted: str) -> str:
    """Return the description of a cell: `12 images of cat classified as dog`."""
    images = f"{count:,} image{'' if count == 1 else 's'} of {truth}"
    return f"{images} recognized" if truth == predicted else f"{images} classified as {predicted}"


def cell_percent(share: float) -> str:
    """Return a percentage without its sign, short enough for a cell: 100, 85.3, 0.1."""
    return "100" if share == 1 else f"{100 * share:.1f}"


def heading(name: str) -> str:
    """Return a class name for a heading; the page truncates a long one and shows it on hover."""
    return f'<b title="{escape_html(name)}">{escape_html(name)}</b>'


def escape_html(text: str) -> str:
    """Escape text for HTML, and the characters that start code in Gradio's templates."""
    # gr.HTML executes `${…}` inside a value, even where HTML is escaped.
    return escape(text).replace("$", "&#36;").replace("{", "&#123;").replace("`", "&#96;")


def clicked_cell(event: gr.EventData, num_classes: int) -> tuple[int, int]:
    """Return true and predicted class of the clicked cell. Raises ConfigError for another value."""
    cell = getattr(event, "truth", None), getattr(event, "predicted", None)
    if not all(is_class(number, num_classes) for number in cell):
        rule = f"two classes, each a whole number from 0 to {num_classes - 1}"
        raise ConfigError.rule("cell", rule, cell)
    return cell


def is_class(number: Any, num_classes: int) -> bool:
    """Return whether a value from the browser is a class index."""
    # `type`, not isinstance: True is an int too.
    return type(number) is int and 0 <= number < num_classes
