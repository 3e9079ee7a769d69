import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from resnet_demo.errors import ConfigError
from resnet_demo.ui.evaluate.matrix import (
    MOST_CLASSES,
    MOST_CONFUSIONS,
    STEPS,
    cell_of,
    matrix_html,
    paint,
)

COUNTS = [[850, 12, 0], [1, 0, 3], [0, 0, 0]]
CLASSES = ["cat", "dog", "ship"]
HOSTILE = ['<img src=x onerror="alert(1)">', "${alert(1)} {{this}}", "'\" onclick='alert(1)' `x`"]


class Tags(HTMLParser):
    """All tags with their attributes as a browser reads them, and all text."""

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


def drawn(percent=False, counts=COUNTS, classes=CLASSES):
    return Tags(matrix_html(counts, classes, percent, "mine test"))


def test_a_cell_is_a_button_that_says_what_it_counts_and_an_empty_one_is_none():
    buttons = drawn().all("button")
    assert [(button["data-cell"], button["aria-label"]) for button in buttons] == [
        ("0 0", "850 images of cat recognised, 98.6% of the row"),
        ("0 1", "12 images of cat taken for dog, 1.4% of the row"),
        ("1 0", "1 image of dog taken for cat, 25.0% of the row"),
        ("1 2", "3 images of dog taken for ship, 75.0% of the row"),
    ]


@pytest.mark.parametrize(
    ("percent", "numbers"), [(False, "850 12 1 3"), (True, "98.6 1.4 25.0 75.0")]
)
def test_a_cell_shows_images_or_percent_of_its_row(percent, numbers):
    told = matrix_html(COUNTS, CLASSES, percent, "mine test")
    assert re.findall(r"<button[^>]*>([^<]*)</button>", told) == numbers.split()


def test_a_class_that_is_always_found_has_a_hundred_percent():
    assert ">100<" in matrix_html([[5, 0], [0, 5]], ["a", "b"], True, "")


def test_the_tab_key_stops_once():
    assert [button["tabindex"] for button in drawn().all("button")] == ["0", "-1", "-1", "-1"]


def test_rows_and_columns_have_headings():
    scopes = [heading.get("scope") for heading in drawn().all("th")]
    assert scopes == [None, *["col"] * 3, *["row"] * 3]


def luminance(colour):
    """WCAG 2.2, relative luminance."""
    names = {"black": "#000000", "white": "#ffffff"}
    parts = [int(names.get(colour, colour)[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("page", ["light", "dark"])
def test_every_shade_can_be_read_and_each_differs_more_from_the_page(page):
    shades = []
    for step in range(STEPS + 1):
        cell = re.search(rf"--cell-{page}:([^;]+)", paint(step))[1]
        ink = re.search(rf"--ink-{page}:([^;]+)", paint(step))[1]
        low, high = sorted((luminance(cell), luminance(ink)))
        assert (high + 0.05) / (low + 0.05) >= 4.5
        shades.append(luminance(cell))
    assert shades == sorted(shades, reverse=page == "light")


def test_names_are_shown_to_the_letter_and_are_no_marks():
    told = drawn(counts=[[1, 2, 3]] * 3, classes=HOSTILE)
    assert all(name in told.text for name in HOSTILE)
    assert not told.all("img")
    for button in told.all("button"):
        assert set(button) <= {
            *("type", "class", "data-cell", "tabindex", "style", "aria-label", "title"),
        }
    assert told.all("button")[1]["aria-label"].startswith(
        f"2 images of {HOSTILE[0]} taken for {HOSTILE[1]}"
    )
    raw = matrix_html([[1, 2, 3]] * 3, HOSTILE, False, "")
    assert not {"$", "{", "`"} & {*raw}  # with which Gradio's templates begin to run


def test_many_classes_are_a_list_of_the_commonest_mistakes():
    n = MOST_CLASSES + 1
    counts = [[100 if i == j else (7 * i + j) % 5 for j in range(n)] for i in range(n)]
    names = [f"class {i}" for i in range(n)]
    told = drawn(counts=counts, classes=names)
    mistakes = sorted(
        ((counts[i][j], -i, -j) for i in range(n) for j in range(n) if i != j), reverse=True
    )
    assert [button["data-cell"] for button in told.all("button")] == [
        f"{-i} {-j}" for _, i, j in mistakes[:MOST_CONFUSIONS]
    ]
    assert "4 images of class 0 taken for class 4" in told.text
    perfect = [[int(i == j) for j in range(n)] for i in range(n)]
    assert "Not a single mistake" in drawn(counts=perfect, classes=names).text


def test_a_click_names_two_classes():
    assert cell_of(SimpleNamespace(truth=2, said=0), 3) == (2, 0)


@pytest.mark.parametrize(
    "told", [{}, {"truth": 3, "said": 0}, {"truth": -1, "said": 0}, {"truth": True, "said": 0},
             {"truth": "1", "said": 0}, {"truth": 1.0, "said": 0}], ids=str,
)  # fmt: skip
def test_what_is_no_cell_is_refused(told):
    with pytest.raises(ConfigError, match="cell must be two classes, each a whole number from 0"):
        cell_of(SimpleNamespace(**told), 3)
