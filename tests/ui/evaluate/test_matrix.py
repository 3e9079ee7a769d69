import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from resnet_demo.errors import ConfigError
from resnet_demo.ui.evaluate.matrix import (
    MAX_CLASSES,
    MAX_CONFUSIONS,
    STEPS,
    cell_colours,
    clicked_cell,
    matrix_html,
)

COUNTS = [[850, 12, 0], [1, 0, 3], [0, 0, 0]]
CLASSES = ["cat", "dog", "ship"]
HOSTILE = ['<img src=x onerror="alert(1)">', "${alert(1)} {{this}}", "'\" onclick='alert(1)' `x`"]


class Tags(HTMLParser):
    """Parses HTML into its tags with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def parse_matrix(percent=False, counts=COUNTS, classes=CLASSES):
    return Tags(matrix_html(counts, classes, percent, "mine test"))


def test_a_nonzero_cell_is_a_button_labelled_with_its_count():
    buttons = parse_matrix().all("button")
    assert [(button["data-cell"], button["aria-label"]) for button in buttons] == [
        ("0 0", "850 images of cat recognized, 98.6 % of the row"),
        ("0 1", "12 images of cat classified as dog, 1.4 % of the row"),
        ("1 0", "1 image of dog classified as cat, 25.0 % of the row"),
        ("1 2", "3 images of dog classified as ship, 75.0 % of the row"),
    ]


def test_a_class_without_images_has_a_row_without_numbers():
    last = matrix_html(COUNTS, CLASSES, True, "").rpartition("<tr>")[2]
    assert Tags(last).text == "ship"
    assert last.count("<td></td>") == 3


@pytest.mark.parametrize(
    ("percent", "numbers"), [(False, "850 12 1 3"), (True, "98.6 1.4 25.0 75.0")]
)
def test_a_cell_shows_a_count_or_the_percentage_of_its_row(percent, numbers):
    html = matrix_html(COUNTS, CLASSES, percent, "mine test")
    assert re.findall(r"<button[^>]*>([^<]*)</button>", html) == numbers.split()


def test_a_class_that_is_always_recognized_has_100_percent():
    assert ">100<" in matrix_html([[5, 0], [0, 5]], ["a", "b"], True, "")


def test_the_tab_key_stops_at_one_cell_only():
    assert [button["tabindex"] for button in parse_matrix().all("button")] == [
        "0",
        "-1",
        "-1",
        "-1",
    ]


def test_rows_and_columns_have_headings():
    scopes = [heading.get("scope") for heading in parse_matrix().all("th")]
    assert scopes == [None, *["col"] * 3, *["row"] * 3]


def luminance(colour):
    """Return the relative luminance (WCAG 2.2)."""
    names = {"black": "#000000", "white": "#ffffff"}
    parts = [int(names.get(colour, colour)[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("page", ["light", "dark"])
def test_text_on_every_shade_is_readable_and_shades_are_ordered(page):
    shades = []
    for step in range(STEPS + 1):
        cell = re.search(rf"--cell-{page}:([^;]+)", cell_colours(step))[1]
        ink = re.search(rf"--ink-{page}:([^;]+)", cell_colours(step))[1]
        low, high = sorted((luminance(cell), luminance(ink)))
        assert (high + 0.05) / (low + 0.05) >= 4.5
        shades.append(luminance(cell))
    assert shades == sorted(shades, reverse=page == "light")


def test_class_names_are_shown_as_text_and_never_as_html():
    parsed = parse_matrix(counts=[[1, 2, 3]] * 3, classes=HOSTILE)
    assert all(name in parsed.text for name in HOSTILE)
    assert not parsed.all("img")
    for button in parsed.all("button"):
        allowed = {"type", "class", "data-cell", "tabindex", "style", "aria-label", "title"}
        assert set(button) <= allowed
    assert parsed.all("button")[1]["aria-label"].startswith(
        f"2 images of {HOSTILE[0]} classified as {HOSTILE[1]}"
    )
    raw = matrix_html([[1, 2, 3]] * 3, HOSTILE, False, "")
    assert not {"$", "{", "`"} & {*raw}  # these start code in Gradio's templates


def test_many_classes_are_listed_by_their_most_frequent_mistakes():
    n = MAX_CLASSES + 1
    counts = [[100 if i == j else (7 * i + j) % 5 for j in range(n)] for i in range(n)]
    names = [f"class {i}" for i in range(n)]
    parsed = parse_matrix(counts=counts, classes=names)
    mistakes = sorted(
        ((counts[i][j], -i, -j) for i in range(n) for j in range(n) if i != j), reverse=True
    )
    assert [button["data-cell"] for button in parsed.all("button")] == [
        f"{-i} {-j}" for _, i, j in mistakes[:MAX_CONFUSIONS]
    ]
    assert "4 images of class 0 classified as class 4" in parsed.text
    perfect = [[int(i == j) for j in range(n)] for i in range(n)]
    assert "No mistakes" in parse_matrix(counts=perfect, classes=names).text


def test_a_click_returns_true_and_predicted_class():
    assert clicked_cell(SimpleNamespace(truth=2, predicted=0), 3) == (2, 0)


@pytest.mark.parametrize("truth", [3, -1, True, "1", 1.0, None])
def test_a_click_outside_the_matrix_is_refused(truth):
    with pytest.raises(ConfigError, match="cell must be two classes, each a whole number from 0"):
        clicked_cell(SimpleNamespace(truth=truth, predicted=0), 3)
    with pytest.raises(ConfigError, match="cell must be"):
        clicked_cell(SimpleNamespace(), 3)
