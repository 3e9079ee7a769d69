"""Figures that matplotlib draws. No pyplot: its global state is no place for many viewers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import PercentFormatter

COLOUR_MAP = "cividis"  # reads the same with every kind of colour vision (Nuñez et al. 2018)
MOST_NUMBERS = 30  # classes; beyond, a number is smaller than can be read
PHONE_WIDTH = 5.6  # inches wide: on a phone, text shrinks to about two thirds
# Okabe and Ito 2008 ("Color Universal Design"): told apart with every kind of colour vision.
BLUE, SKY, VERMILLION, GREY = "#0072B2", "#56B4E9", "#D55E00", "#808080"
COLOURS = ("#E69F00", SKY, "#009E73", BLUE, VERMILLION, "#CC79A7", None)  # None: ink
DASHES = ("-", "--", "-.", ":", "-", "--", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
NAMES = {"jpeg": "JPEG"}
PERCENT = PercentFormatter(1, decimals=0)
LONGEST_NAME = 14  # characters; an imported class may be named by a sentence


def confusion_figure(
    confusion: Sequence[Sequence[int]],
    classes: Sequence[str],
    dark: bool = False,
    percent: bool = True,
) -> Figure:
    """Truth in rows, answers in columns; the brighter, the larger the share of the row's images.

    Brightness goes by the root of the share, or else a few percent could not be told from none.
    percent: numbers are percent of the row, else images. dark: text for a dark page; the
    background is the page's own.
    """
    counts = np.array(confusion)
    share = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    ink, figure = ink_colour(dark), new_figure(PHONE_WIDTH)
    axes = figure.add_subplot(facecolor="none")
    brightness = np.sqrt(share)
    axes.imshow(brightness, cmap=COLOUR_MAP, vmin=0, vmax=1)
    label_axes(axes, classes, ink)
    if len(classes) <= MOST_NUMBERS:
        write_numbers(axes, brightness, share * 100 if percent else counts)
    axes.set_title("% of each row's images" if percent else "images", color=ink, fontsize=10)
    return figure


def reliability_figure(calibration: Mapping[str, Any], dark: bool = False) -> Figure:
    """How often answers were right, by how sure they were; the gap to the diagonal stands out.

    calibration: the fields of `calibration.Calibration`. Below: how many answers each bin has. An
    empty bin has no bar. Otherwise as confusion_figure.
    """
    ink, figure = ink_colour(dark), new_figure(PHONE_WIDTH)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(5, 2))
    edges, count = np.array(calibration["edges"]), np.array(calibration["count"])
    some = count > 0
    left, width = edges[:-1][some], np.diff(edges)[some]
    right, sure = (np.array(calibration[name])[some] for name in ("accuracy", "confidence"))
    bars = {"align": "edge", "width": width}
    blue = {"facecolor": (blue_colour(dark), 0.55), "edgecolor": ink, "linewidth": 0.5}
    upper.bar(left, right, label="right answers", **blue, **bars)
    gap = {
        "facecolor": "none",
        "edgecolor": VERMILLION,
        "hatch": "////",
        "label": "gap",
    }
    upper.bar(left, sure - right, bottom=right, **gap, **bars)
    upper.plot((0, 1), (0, 1), "--", color=ink, linewidth=1.8, label="right as often as sure")
    upper.set_ylim(0, 1)
    lower.bar(left, count[some], color=GREY, **bars)
    write_counts(lower, left + width / 2, count[some], ink)
    style_axes(upper, ink, "right answers", percent="y")
    style_axes(lower, ink, "all answers")
    lower.set_yticks([])
    lower.set_xlabel("confidence of the answer", color=ink)
    lower.xaxis.set_major_formatter(PERCENT)
    lower.set_xlim(0, 1)
    legend(figure, ink, "outside upper center")
    return figure


def write_counts(axes: Axes, middles: np.ndarray, count: np.ndarray, ink: str) -> None:
    """The number of each bar above it, upright: bins are narrower than their numbers."""
    axes.set_ylim(0, 2 * max(count, default=1))
    for middle, number in zip(middles, count, strict=True):
        axes.annotate(
            f"{number:,}", (middle, number), (0, 2), textcoords="offset points", color=ink,
            rotation=90, fontsize=10, ha="center", va="bottom",
        )  # fmt: skip


def confidence_figure(histogram: Mapping[str, Any], dark: bool = False) -> Figure:
    """How sure the right answers were and how sure the wrong ones, each as shares of their own.

    histogram: the fields of `calibration.ConfidenceHistogram`. Shares, because the wrong answers
    of a good network are too few to be seen beside the right ones.
    """
    ink, figure = ink_colour(dark), new_figure(PHONE_WIDTH * 0.7)
    axes = figure.add_subplot()
    edges = np.array(histogram["edges"])
    for name, colour, hatch in (("right", blue_colour(dark), None), ("wrong", VERMILLION, "////")):
        count = np.array(histogram[name])
        label = f"{name} answers ({count.sum():,})"
        share = count / max(count.sum(), 1)
        axes.stairs(share, edges, color=colour, fill=hatch is None, alpha=0.55, hatch=hatch)
        axes.stairs(share, edges, color=colour, linewidth=1.8, label=label)
    axes.set_xlim(0, 1)
    style_axes(axes, ink, "share of all right, of all wrong", percent="xy")
    axes.set_xlabel("confidence of the answer", color=ink)
    legend(figure, ink, "outside upper center")
    return figure


def robustness_figure(result: Mapping[str, Any], dark: bool = False) -> Figure:
    """Accuracy by strength, a line a kind of damage, told apart by colour, dash and marker.

    result: of `runs.robustness`. The band around the clean accuracy is its 95 % interval.
    """
    ink, figure = ink_colour(dark), new_figure(PHONE_WIDTH)
    axes = figure.add_subplot()
    clean, half = result["top1"], result["interval_half_width"]
    axes.axhspan(
        clean - half, clean + half, color=GREY, alpha=0.35, linewidth=0, label="95% interval"
    )
    strengths = [0, *result["strengths"]]
    looks = zip(COLOURS, DASHES, MARKERS, strict=True)
    for (kind, top1), (colour, dash, marker) in zip(result["kinds"].items(), looks, strict=False):
        axes.plot(
            strengths, [clean, *top1], color=colour or ink, linestyle=dash, marker=marker,
            markeredgecolor=ink, markeredgewidth=0.6, linewidth=2, label=NAMES.get(kind, kind),
        )  # fmt: skip
    axes.set_ylim(0, 1)
    axes.set_xticks(strengths, ["none", *map(str, result["strengths"])])
    style_axes(axes, ink, "right answers", percent="y")
    axes.set_xlabel("strength of the damage", color=ink)
    legend(figure, ink, "outside lower center")
    return figure


def ink_colour(dark: bool) -> str:
    """The colour of text and lines."""
    return "#e5e7eb" if dark else "#1f2937"


def blue_colour(dark: bool) -> str:
    """The blue that stands out more from the page."""
    return SKY if dark else BLUE


def new_figure(height: float) -> Figure:
    """An empty figure, as wide as a phone; height in inches."""
    return Figure(figsize=(PHONE_WIDTH, height), layout="constrained", facecolor="none")


def style_axes(axes: Axes, ink: str, label: str, percent: str = "") -> None:
    """The page's own background, its text colour, a faint grid. percent: axes that are shares."""
    axes.set_facecolor("none")
    axes.set_ylabel(label, color=ink)
    axes.tick_params(colors=ink, labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(ink)
    axes.grid(color=GREY, alpha=0.35, linewidth=0.6)
    axes.set_axisbelow(True)
    for axis in percent:
        getattr(axes, f"{axis}axis").set_major_formatter(PERCENT)


def legend(figure: Figure, ink: str, where: str) -> None:
    """A legend beside the axes, never on them, in the text colour."""
    figure.legend(
        loc=where, ncols=3, labelcolor=ink, frameon=False, fontsize=9, handlelength=3.2,
        columnspacing=1.4,
    )  # fmt: skip


def label_axes(axes: Axes, classes: Sequence[str], ink: str) -> None:
    """Names along both sides, smaller and then fewer where there are many."""
    every = -(-len(classes) // MOST_NUMBERS)
    ticks = range(0, len(classes), every)
    names = [drawable_name(classes[tick]) for tick in ticks]
    size = font_size(len(names), largest=10)
    axes.set_xticks(ticks, names, rotation=90, fontsize=size)
    axes.set_yticks(ticks, names, fontsize=size)
    axes.set_xlabel("answer", color=ink)
    axes.set_ylabel("truth", color=ink)
    axes.tick_params(colors=ink, length=0)
    axes.spines[:].set_visible(False)


def write_numbers(axes: Axes, brightness: np.ndarray, numbers: np.ndarray) -> None:
    """A number a cell, none where it would be 0, in black or white: whichever stands out more."""
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
    """Points, so that so many fit side by side."""
    return min(largest, 130 / max(cells, 1))


def text_colour_on(colours: Colormap, value: float) -> str:
    """Black or white on that colour, by its luminance (WCAG 2.2: their contrasts meet at 0.179)."""
    channels = np.array(colours(value)[:3])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else "white"


def drawable_name(name: str) -> str:
    """A class's name as text: cut if long, and no dollar sign starts a formula.

    What the font lacks, it would warn of and draw as a box: a box it is.
    """
    font = get_font(findfont(FontProperties()))
    short = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
    drawn = "".join(sign if font.get_char_index(ord(sign)) else "□" for sign in short)
    return drawn.replace("$", r"\$")
