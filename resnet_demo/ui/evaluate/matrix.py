"""A confusion matrix that is clicked: an HTML table of buttons, coloured by share of the row."""

import math
from collections.abc import Sequence
from functools import cache
from html import escape
from typing import Any

import gradio as gr
from matplotlib.colors import LinearSegmentedColormap, to_hex

from resnet_demo.errors import ConfigError
from resnet_demo.evaluation.figures import text_colour_on

MOST_CLASSES = 25  # beyond, a cell is too small to be hit, and the strongest confusions are listed
MOST_CONFUSIONS = 30
MOST_LETTERS = 20  # of a class's name that there is room for
STEPS = 40  # shades from none to all of a row
# one hue whose lightness goes evenly: any colour vision reads it. Away from the page's own shade
LIGHT = LinearSegmentedColormap.from_list("light", ["#f3f7fd", "#5d9fe8", "#123a7a"])
DARK = LinearSegmentedColormap.from_list("dark", ["#1f2c44", "#2f6fd6", "#dceafe"])

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
  const [truth, said] = cell.dataset.cell.split(' ').map(Number);
  trigger('click', {truth, said});
});
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
# the cell whose images are shown gives way to another choice of images
UNMARK = """() => {
  for (const marked of document.querySelectorAll('#matrix [data-at]')) delete marked.dataset.at;
  for (const cell of document.querySelectorAll('#matrix [aria-current]'))
    cell.removeAttribute('aria-current');
}"""


def matrix_html(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], percent: bool, of: str
) -> str:
    """The (C, C) counts, truth in rows, as a table; beyond MOST_CLASSES a list of confusions.

    percent: of the row's images, else their number. of: names what is shown; while it stays the
    same, the marked cell does. A click is told as `truth` and `said`, numbers of classes.
    """
    if len(classes) > MOST_CLASSES:
        return confusions_html(confusion, classes, of)
    heads = "".join(f'<th scope="col"><span>{name}</span></th>' for name in map(shown, classes))
    letters = min(MOST_LETTERS, max(map(len, classes)))
    first = next(((i, j) for i, row in enumerate(confusion) for j, n in enumerate(row) if n), None)
    rows = []
    for truth, counts in enumerate(confusion):
        cells = "".join(
            f"<td>{cell(counts, truth, said, classes, percent, first == (truth, said))}</td>"
            for said in range(len(classes))
        )
        rows.append(f'<tr><th scope="row">{shown(classes[truth])}</th>{cells}</tr>')
    return (
        f'<div class="matrix-box"><table class="matrix" data-of="{escape(of)}" '
        f'style="--classes:{len(classes)};--letters:{letters}">'
        f'<thead><tr><th class="corner"><span>truth ↓ &nbsp;answer →</span></th>{heads}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def cell(
    counts: Sequence[int],
    truth: int,
    said: int,
    classes: Sequence[str],
    percent: bool,
    first: bool,
) -> str:
    """A button, or nothing where no image is. first: the one that the Tab key reaches."""
    count, total = counts[said], sum(counts)
    if not count:
        return ""
    share = count / total
    # by the root, or else a few percent could not be told from none
    shades = paint(round(STEPS * math.sqrt(share)))
    number = percent_text(share) if percent else str(count)
    kind = ' class="right"' if truth == said else ""
    told = f"{said_text(count, classes[truth], classes[said])}, {share:.1%} of the row"
    return (
        f'<button type="button"{kind} data-cell="{truth} {said}" tabindex="{0 if first else -1}" '
        f'style="{shades}" aria-label="{safe(told)}" title="{safe(told)}">{number}</button>'
    )


@cache
def paint(step: int) -> str:
    """Background and ink of a shade from 0 to STEPS, on a light page and on a dark one."""
    share = step / STEPS
    return ";".join(
        f"--cell-{name}:{to_hex(colours(share))};--ink-{name}:{text_colour_on(colours, share)}"
        for name, colours in (("light", LIGHT), ("dark", DARK))
    )


def confusions_html(confusion: Sequence[Sequence[int]], classes: Sequence[str], of: str) -> str:
    """The commonest mistakes as a list of buttons, the most images first."""
    mistakes = sorted(
        (-count, truth, said)
        for truth, row in enumerate(confusion)
        for said, count in enumerate(row)
        if count and truth != said
    )[:MOST_CONFUSIONS]
    items = "".join(
        f'<li><button type="button" data-cell="{truth} {said}">'
        f"{safe(said_text(-minus, classes[truth], classes[said]))}</button></li>"
        for minus, truth, said in mistakes
    )
    none = "" if mistakes else "<p>Not a single mistake.</p>"
    return f'<ul class="confusions" data-of="{escape(of)}">{items}</ul>{none}'


def said_text(count: int, truth: str, said: str) -> str:
    """What a cell counts, in words: `12 images of cat taken for dog`."""
    images = f"{count:,} image{'' if count == 1 else 's'} of {truth}"
    return f"{images} recognised" if truth == said else f"{images} taken for {said}"


def percent_text(share: float) -> str:
    """Short enough for a cell: 100, 85.3, 0.1."""
    return "100" if share == 1 else f"{100 * share:.1f}"


def shown(name: str) -> str:
    """A class's name in a heading; a long one is cut by the page and whole when pointed at."""
    return f'<b title="{safe(name)}">{safe(name)}</b>'


def safe(text: str) -> str:
    """Text in HTML. A template never gets to see a name's own marks either."""
    return escape(text).replace("$", "&#36;").replace("{", "&#123;").replace("`", "&#96;")


def cell_of(event: gr.EventData, num_classes: int) -> tuple[int, int]:
    """Truth and answer of the cell that was clicked. Raises ConfigError for what is none."""
    cell = getattr(event, "truth", None), getattr(event, "said", None)
    if not all(is_class(number, num_classes) for number in cell):
        rule = f"two classes, each a whole number from 0 to {num_classes - 1}"
        raise ConfigError.rule("cell", rule, cell)
    return cell


def is_class(number: Any, num_classes: int) -> bool:
    """Whether it is the number of a class; a browser is not trusted."""
    return type(number) is int and 0 <= number < num_classes
