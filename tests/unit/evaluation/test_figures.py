"""Figures of an evaluation: numbers, contrast and layout."""

import subprocess
import sys
from dataclasses import asdict
from io import BytesIO

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from resnet_demo.evaluation.corruptions import CORRUPTIONS
from resnet_demo.evaluation.figures import (
    COLOUR_MAP,
    confidence_figure,
    confusion_figure,
    reliability_figure,
    robustness_figure,
    text_colour_on,
)
from resnet_demo.evaluation.intervals import wilson_interval
from resnet_demo.evaluation.metrics import calibration, confidence_histogram

CONFUSION = [[90, 10, 0], [4, 996, 0], [0, 0, 0]]  # the last class never occurs
CLASSES = ("cat", "dog", "frog")
LABELS = torch.arange(300) % 4
LOGITS = 2 * torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
LOGITS[torch.arange(300), LABELS] += 2
CALIBRATION = asdict(calibration(LOGITS, LABELS))
HISTOGRAM = asdict(confidence_histogram(LOGITS, LABELS))
ROBUSTNESS = {
    "top1": 0.95,
    "n": 40,
    "strengths": [1, 2, 3, 4, 5],
    "kinds": {kind: [0.8 - n / 10] * 5 for n, kind in enumerate(CORRUPTIONS)},
}
ALL = {
    "confusion": lambda dark=False: confusion_figure(CONFUSION, CLASSES, dark=dark),
    "reliability": lambda dark=False: reliability_figure(CALIBRATION, dark=dark),
    "confidence": lambda dark=False: confidence_figure(HISTOGRAM, dark=dark),
    "robustness": lambda dark=False: robustness_figure(ROBUSTNESS, dark=dark),
}


def numbers(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def luminance(colour):
    channels = np.array(colour)
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722)


def test_cells_show_percent_of_the_row_unless_it_rounds_to_zero():
    assert numbers(confusion_figure(CONFUSION, CLASSES)) == ["90", "10", "100"]


def test_cells_show_counts_on_request():
    figure = confusion_figure(CONFUSION, CLASSES, percent=False)
    assert numbers(figure) == ["90", "10", "4", "996"]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_text_contrasts_with_the_page_and_the_background_is_transparent(name, dark):
    figure = ALL[name](dark)
    inks = [axes.xaxis.label.get_color() for axes in figure.axes if axes.get_xlabel()]
    inks += [axes.yaxis.label.get_color() for axes in figure.axes]
    inks += [text.get_color() for legend in figure.legends for text in legend.get_texts()]
    inks += [tick.get_color() for axes in figure.axes for tick in axes.get_xticklabels()]
    for ink in inks:
        light = luminance(to_rgb(ink))
        assert (light > 0.7) if dark else (light < 0.1)
    assert figure.get_facecolor()[3] == 0
    assert all(axes.get_facecolor()[3] == 0 for axes in figure.axes)


@pytest.mark.parametrize("name", ALL)
def test_figures_fit_the_width_of_a_phone(name):
    figure = ALL[name]()
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert width <= 5.6
    assert -0.01 <= box.x0 < box.x1 <= width + 0.01
    assert -0.01 <= box.y0 < box.y1 <= height + 0.01


def test_every_number_contrasts_with_its_cell():
    for value in np.linspace(0, 1, 101):
        cell = luminance(colormaps[COLOUR_MAP](value)[:3])
        text = luminance(to_rgb(text_colour_on(colormaps[COLOUR_MAP], value)))
        low, high = sorted((cell, text))
        assert (high + 0.05) / (low + 0.05) >= 4.5  # WCAG 2.2, AA


@pytest.mark.parametrize(("n", "written", "names"), [(30, 30, 30), (31, 0, 16), (200, 0, 29)])
def test_with_many_classes_numbers_and_then_names_are_left_out(n, written, names):
    figure = confusion_figure(np.eye(n, dtype=int) * 5, [f"class {i}" for i in range(n)])
    assert len(numbers(figure)) == written
    assert len(figure.axes[0].get_xticks()) == names


def test_class_names_are_shortened_and_not_read_as_mathtext():
    figure = confusion_figure(np.eye(2, dtype=int), ["$x^2$ and $", "a very long name of a class"])
    figure.savefig(BytesIO(), format="png")
    assert figure.axes[0].get_xticklabels()[1].get_text() == "a very long n…"


def test_long_class_names_stay_within_the_figure():
    figure = confusion_figure(np.eye(10, dtype=int), ["a rather long name"] * 10)
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert 0 <= box.x0 < box.x1 <= width
    assert 0 <= box.y0 < box.y1 <= height


def test_characters_missing_in_the_font_are_boxes_without_a_warning():
    figure = confusion_figure(np.eye(2, dtype=int), ["猫\t", "dög"])
    figure.savefig(BytesIO(), format="png")
    names = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert names == ["□□", "dög"]


def test_reliability_bars_show_accuracy_and_gaps_reach_the_confidence():
    upper, lower = reliability_figure(CALIBRATION).axes
    bars, gaps = upper.containers
    filled = [number for number, count in enumerate(CALIBRATION["count"]) if count]
    assert 5 < len(filled) < 15  # the others are empty and have no bar
    for bar, gap, number in zip(bars, gaps, filled, strict=True):
        assert bar.get_x() == gap.get_x() == pytest.approx(CALIBRATION["edges"][number])
        assert bar.get_height() == pytest.approx(CALIBRATION["accuracy"][number])
        assert gap.get_y() == bar.get_height()
        reach = gap.get_y() + gap.get_height()
        assert reach == pytest.approx(CALIBRATION["confidence"][number])
    counts = [int(text.get_text().replace(",", "")) for text in lower.texts]
    assert counts == [count for count in CALIBRATION["count"] if count]
    (diagonal,) = upper.lines
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]


def test_confidence_figure_shows_shares_of_each_group():
    figure = confidence_figure(HISTOGRAM)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    right, wrong = sum(HISTOGRAM["right"]), sum(HISTOGRAM["wrong"])
    assert names == [f"right ({right})", f"wrong ({wrong})"]
    drawn = [patch.get_data().values for patch in figure.axes[0].patches]
    for values, name, total in zip(drawn[::2], ("right", "wrong"), (right, wrong), strict=True):
        assert (values * total).tolist() == pytest.approx(HISTOGRAM[name])


def test_tick_labels_are_the_percentages_of_their_ticks():
    edges = [i / 20 for i in range(21)]
    counts = [1] * 5 + [0] * 15
    figure = confidence_figure({"edges": edges, "right": counts, "wrong": counts})
    figure.savefig(BytesIO())
    ticks = figure.axes[0].get_yticks()
    assert ticks[1] == 0.025
    labels = [
        float(text.get_text().removesuffix(" %")) for text in figure.axes[0].get_yticklabels()
    ]
    assert labels == pytest.approx(100 * ticks)


def test_figures_without_predictions_can_be_drawn():
    nothing = torch.full((3, 4), float("nan")), torch.tensor([0, 1, 2])
    reliability_figure(asdict(calibration(*nothing))).savefig(BytesIO())
    confidence_figure(asdict(confidence_histogram(*nothing))).savefig(BytesIO())


def test_the_band_of_the_undamaged_accuracy_ends_where_its_interval_does():
    (band,) = robustness_figure(ROBUSTNESS).axes[0].patches
    bottom, top = band.get_y(), band.get_y() + band.get_height()
    assert (bottom, top) == pytest.approx(wilson_interval(38, 40))
    assert top - 0.95 < 0.6 * (0.95 - bottom)  # asymmetric near 100 %


def test_each_corruption_has_its_own_colour_dash_and_marker():
    figure = robustness_figure(ROBUSTNESS)
    lines = figure.axes[0].lines
    assert len(lines) == 7
    assert len({line.get_color() for line in lines}) == 7
    assert len({line.get_marker() for line in lines}) == 7
    for line, (kind, top1) in zip(lines, ROBUSTNESS["kinds"].items(), strict=True):
        assert line.get_label().lower() == kind
        assert line.get_xydata().tolist() == [*map(list, enumerate([0.95, *top1]))]
    shown = {text.get_text().lower() for text in figure.legends[0].get_texts()}
    assert shown == {*CORRUPTIONS, "95 % interval"}


def test_figures_import_neither_pyplot_nor_torch():
    program = (
        "import sys, resnet_demo.evaluation.figures as f; f.confusion_figure([[1]], ['a'], True);"
        "sys.exit('matplotlib.pyplot' in sys.modules or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
