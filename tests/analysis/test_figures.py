import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from resnet_demo.analysis.figures import MAP, confusion_figure, contrasting

CONFUSION = [[90, 10, 0], [4, 996, 0], [0, 0, 0]]  # the last class never occurs
CLASSES = ("cat", "dog", "frog")


def numbers(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def luminance(colour):
    channels = np.array(colour)
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722)


def test_percent_are_of_the_row_and_what_rounds_to_nothing_is_left_out():
    assert numbers(confusion_figure(CONFUSION, CLASSES)) == ["90", "10", "100"]


def test_images_are_counted_when_asked():
    figure = confusion_figure(CONFUSION, CLASSES, percent=False)
    assert numbers(figure) == ["90", "10", "4", "996"]


@pytest.mark.parametrize("dark", [False, True])
def test_words_stand_out_from_the_page_whose_background_shows_through(dark):
    figure = confusion_figure(CONFUSION, CLASSES, dark=dark)
    ink = luminance(to_rgb(figure.axes[0].xaxis.label.get_color()))
    assert (ink > 0.7) if dark else (ink < 0.1)
    assert figure.get_facecolor()[3] == figure.axes[0].get_facecolor()[3] == 0


def test_every_number_stands_out_from_its_cell():
    for value in np.linspace(0, 1, 101):
        cell = luminance(colormaps[MAP](value)[:3])
        text = luminance(to_rgb(contrasting(colormaps[MAP], value)))
        low, high = sorted((cell, text))
        assert (high + 0.05) / (low + 0.05) >= 4.5  # WCAG 2.2, AA


@pytest.mark.parametrize(("n", "written", "names"), [(30, 30, 30), (31, 0, 16), (200, 0, 29)])
def test_many_classes_leave_out_numbers_and_then_names(n, written, names):
    figure = confusion_figure(np.eye(n, dtype=int) * 5, [f"class {i}" for i in range(n)])
    assert len(numbers(figure)) == written
    assert len(figure.axes[0].get_xticks()) == names


def test_names_are_text_and_not_formulas_and_never_too_long():
    figure = confusion_figure(np.eye(2, dtype=int), ["$x^2$ and $", "a very long name of a class"])
    figure.savefig(BytesIO(), format="png")
    assert figure.axes[0].get_xticklabels()[1].get_text() == "a very long n…"


def test_all_is_within_the_picture():
    figure = confusion_figure(np.eye(10, dtype=int), ["a rather long name"] * 10)
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert 0 <= box.x0 < box.x1 <= width
    assert 0 <= box.y0 < box.y1 <= height


def test_pyplot_stays_out():
    program = (
        "import sys, resnet_demo.analysis.figures as f; f.confusion_figure([[1]], ['a'], True);"
        "sys.exit('matplotlib.pyplot' in sys.modules or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
