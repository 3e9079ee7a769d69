"""Figures of an evaluation, drawn with matplotlib.

pyplot is not used: its global state is not safe with several viewers at once. In every figure,
`dark` is text for a dark page; the background is transparent.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import FuncFormatter

from resnet_demo.evaluation.intervals import wilson_interval

COLOUR_MAP = "cividis"  # looks the same with every kind of colour vision (Nuñez et al. 2018)
MAX_NUMBERED = 30  # classes; with more, the numbers in the cells are too small to read
PHONE_WIDTH = 5.6  # inches; on a phone, text shrinks to about two thirds
# Okabe and Ito 2008, "Color Universal Design": distinct with every kind of colour vision.
BLUE, SKY, VERMILLION, GREY = "#0072B2", "#56B4E9", "#D55E00", "#808080"
COLOURS = ("#E69F00", SKY, "#009E73", BLUE, VERMILLION, "#CC79A7", None)  # None: text colour
DASHES = ("-", "--", "-.", ":", "-", "--", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
NAMES = {"jpeg": "JPEG"}
PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.4g} %")  # 2.5 %, but 20 %
MAX_NAME = 14  # characters; the name of an imported class may be a sentence


def confusion_figure(
    confusion: Sequence[Sequence[int]],
    classes: Sequence[str],
    dark: bool = False,
    percent: bool = True,
) -> Figure:
    """Draw a confusion matrix: rows are the true class, columns the predicted one.

    A brighter cell is a larger share of the row's images. percent: write percent of the row into
    the cells, else counts.
    """
    counts = np.array(confusion)
    # clip: a class without images is a row of zeros instead of NaN.
    share = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    ink, figure = ink_colour(dark), new_figure(PHONE_WIDTH)
    axes = figure.add_subplot(facecolor="none")
    brightness = np.sqrt(share)  # linear, a few percent would look like zero
    axes.imshow(brightness, cmap=COLOUR_MAP, vmin=0, vmax=1)
    label_axes(axes, classes, ink)
    if len(classes) <= MAX_NUMBERED:
        write_numbers(axes, brightness, share * 100 if percent else counts)
    axes.set_title("% of each row's images" if percent else "images", color=ink, fontsize=10)
    return figure


def reliability_figure(calibration: Mapping[str, Any], dark: bool = False) -> Figure:
    """Draw a reliability diagram with the gap to the diagonal, and the count of each bin below.

    calibration: the fields of `metrics.Calibration`. An empty bin has no bar.
    """
    ink, figure = ink_colour(dark), new_figure(PHONE_WIDTH)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(5, 2))
    edges, count = np.array(calibration["edges"]), np.array(calibration["count"])
    filled = count > 0
    left, width = edges[:-1][filled], np.diff(edges)[filled]
    accuracy = np.array(calibration["accuracy"])[filled]
    confidence = np.array(calibration["confidence"])[filled]
    bars = {"align": "edge", "width": width}
    blue = {"facecolor": (blue_colour(dark), 0.55), "edgecolor": ink, "linewidth": 0.5}
    upper.bar(left, accuracy, label="accuracy", **blue, **bars)
    gap = {
        "facecolor": "none",
        "edgecolor": VERMILLION,
        "hatch": "////",  # recognizable without colour too
        "label": "gap",
    }
    upper.bar(left, confidence - accuracy, bottom=accuracy, **gap, **bars)
    upper.plot((0, 1), (0, 1), "--", color=ink, linewidth=1.8, label="perfect calibration")
    upper.set_ylim(0, 1)
    lower.bar(left, count[filled], color=GREY, **bars)
    write_counts(lower, left + width / 2, count[filled], ink)
    style_axes(upper, ink, "accuracy", percent="y")
    style_axes(lower, ink, "images")
    lower.set_yticks([])  # the numbers above the bars replace them
    lower.set_xlabel("confidence", color=ink)
    lower.xaxis.set_major_formatter(PERCENT)
    lower.set_xlim(0, 1)
    add_legend(figure, ink, "outside upper center")
    return figure


def write_counts(axes: Axes, middles: np.ndarray, count: np.ndarray, ink: str) -> None:
    """Write each bar's count above it, vertically: the bars are narrower than the numbers."""
    # Twice the height of the highest bar leaves space for the numbers.
    axes.set_ylim(0, 2 * max(count, default=1))
    for middle, number in zip(middles, count, strict=True):
        axes.annotate(
            f"{number:,}",
            (middle, number),
            (0, 2),
            textcoords="offset points",
            color=ink,
            rotation=90,
            fontsize=10,
            ha="center",
            va="bottom",
        )


def confidence_figure(histogram: Mapping[str, Any], dark: bool = False) -> Figure:
    """Draw the distribution of confidence of the correct and of the wrong predictions.

    histogram: the fields of `metrics.ConfidenceHistogram`.
    """
    ink, figure = ink_colour(dark), new_figure(PHONE_WIDTH * 0.7)
    axes = figure.add_subplot()
    edges = np.array(histogram["edges"])
    for name, colour, hatch in (("right", blue_colour(dark), None), ("wrong", VERMILLION, "////")):
        count = np.array(histogram[name])
        label = f"{name} ({count.sum():,})"
        # Shares of each group's total: a good network has too few wrong answers to be visible.
        share = count / max(count.sum(), 1)
        axes.stairs(share, edges, color=colour, fill=hatch is None, alpha=0.55, hatch=hatch)
        # The outline separately: `alpha` would fade it with the filling.
        axes.stairs(share, edges, color=colour, linewidth=1.8, label=label)
    axes.set_xlim(0, 1)
    style_axes(axes, ink, "share of each group", percent="xy")
    axes.set_xlabel("confidence", color=ink)
    add_legend(figure, ink, "outside upper center")
    return figure


def robustness_figure(result: Mapping[str, Any], dark: bool = False) -> Figure:
    """Draw accuracy by strength, one line per corruption, distinct by colour, dash and marker.

    result: of `robustness.measure_robustness`. The band is the 95 % interval of the clean accuracy.
    """
    ink, figure = ink_colour(dark), new_figure(PHONE_WIDTH)
    axes = figure.add_subplot()
    clean, n = result["top1"], result["n"]
    low, high = wilson_interval(round(clean * n), n)
    axes.axhspan(low, high, color=GREY, alpha=0.35, linewidth=0, label="95 % interval")
    strengths = [0, *result["strengths"]]
    # Colour, dash and marker together: any one of them distinguishes the lines.
    styles = zip(COLOURS, DASHES, MARKERS, strict=True)
    for (kind, top1), (colour, dash, marker) in zip(result["kinds"].items(), styles, strict=False):
        axes.plot(
            strengths,
            [clean, *top1],
            color=colour or ink,
            linestyle=dash,
            marker=marker,
            markeredgecolor=ink,
            markeredgewidth=0.6,
            linewidth=2,
            label=NAMES.get(kind, kind),
        )
    axes.set_ylim(0, 1)
    axes.set_xticks(strengths, ["none", *map(str, result["strengths"])])
    style_axes(axes, ink, "accuracy", percent="y")
    axes.set_xlabel("strength of the corruption", color=ink)
    add_legend(figure, ink, "outside lower center")
    return figure


def ink_colour(dark: bool) -> str:
    """Return the colour of text and lines."""
    return "#e5e7eb" if dark else "#1f2937"


def blue_colour(dark: bool) -> str:
    """Return the blue with more contrast to the page."""
    return SKY if dark else BLUE


def new_figure(height: float) -> Figure:
    """Return an empty transparent figure as wide as a phone. height: inches."""
    # Only the constrained layout makes room for legends outside of the axes.
    return Figure(figsize=(PHONE_WIDTH, height), layout="constrained", facecolor="none")


def style_axes(axes: Axes, ink: str, label: str, percent: str = "") -> None:
    """Set up the axes: transparent, text colour, faint grid. percent: names of axes in percent."""
    axes.set_facecolor("none")
    axes.set_ylabel(label, color=ink)
    axes.tick_params(colors=ink, labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(ink)
    axes.grid(color=GREY, alpha=0.35, linewidth=0.6)
    axes.set_axisbelow(True)  # bars hide the grid, not the other way round
    for axis in percent:
        getattr(axes, f"{axis}axis").set_major_formatter(PERCENT)


def add_legend(figure: Figure, ink: str, where: str) -> None:
    """Add a legend outside the axes, in the text colour."""
    # Below or above the axes: inside, a legend hides data on a narrow screen.
    figure.legend(
        loc=where,
        ncols=3,
        labelcolor=ink,
        frameon=False,
        fontsize=9,
        handlelength=3.2,
        columnspacing=1.4,
    )


def label_axes(axes: Axes, classes: Sequence[str], ink: str) -> None:
    """Write the class names along both axes; with many classes, smaller and then only some."""
    every = -(-len(classes) // MAX_NUMBERED)  # rounded up: at most MAX_NUMBERED names are written
    ticks = range(0, len(classes), every)
    names = [drawable_name(classes[tick]) for tick in ticks]
    size = font_size(len(names), largest=10)
    axes.set_xticks(ticks, names, rotation=90, fontsize=size)
    axes.set_yticks(ticks, names, fontsize=size)
    axes.set_xlabel("predicted class", color=ink)
    axes.set_ylabel("true class", color=ink)
    axes.tick_params(colors=ink, length=0)
    axes.spines[:].set_visible(False)


def write_numbers(axes: Axes, brightness: np.ndarray, numbers: np.ndarray) -> None:
    """Write the number of each cell unless it rounds to 0, in black or white."""
    size = font_size(len(numbers), largest=9)
    for row, column in zip(*np.nonzero(numbers.round()), strict=True):
        axes.text(
            column,
            row,
            f"{numbers[row, column]:.0f}",
            color=text_colour_on(colormaps[COLOUR_MAP], brightness[row, column]),
            fontsize=size,
            ha="center",
            va="center",
        )


def font_size(cells: int, largest: float) -> float:
    """Return the font size in points at which so many cells fit side by side."""
    return min(largest, 130 / max(cells, 1))


def text_colour_on(colours: Colormap, value: float) -> str:
    """Return black or white, whichever contrasts more with the colour at `value`.

    Relative luminance as in WCAG 2.2; the two contrasts are equal at 0.179.
    """
    channels = np.array(colours(value)[:3])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else "white"


def drawable_name(name: str) -> str:
    """Return a class name that matplotlib can draw: shortened, and without mathtext."""
    font = get_font(findfont(FontProperties()))
    short = name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
    # matplotlib warns of a missing glyph and draws a box; drawing the box avoids the warning.
    drawn = "".join(sign if font.get_char_index(ord(sign)) else "□" for sign in short)
    return drawn.replace("$", r"\$")  # matplotlib takes text between two $ for a formula
