"""Figures that matplotlib draws. No pyplot: its global state is no place for many viewers."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

MAP = "cividis"  # reads the same with every kind of colour vision (Nuñez et al. 2018)
MOST_NUMBERS = 30  # classes; beyond, a number is smaller than can be read
PHONE = 5.6  # inches wide: on a phone, text shrinks to about two thirds
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
    ink = "#e5e7eb" if dark else "#1f2937"
    figure = Figure(figsize=(PHONE, PHONE), layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    brightness = np.sqrt(share)
    axes.imshow(brightness, cmap=MAP, vmin=0, vmax=1)
    label_axes(axes, classes, ink)
    if len(classes) <= MOST_NUMBERS:
        write_numbers(axes, brightness, share * 100 if percent else counts)
    axes.set_title("% of each row's images" if percent else "images", color=ink, fontsize=10)
    return figure


def label_axes(axes: Axes, classes: Sequence[str], ink: str) -> None:
    """Names along both sides, smaller and then fewer where there are many."""
    every = -(-len(classes) // MOST_NUMBERS)
    ticks = range(0, len(classes), every)
    names = [plain(classes[tick]) for tick in ticks]
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
            color=contrasting(colormaps[MAP], brightness[row, column]),
            fontsize=size,
            ha="center",
            va="center",
        )


def font_size(cells: int, largest: float) -> float:
    """Points, so that so many fit side by side."""
    return min(largest, 130 / max(cells, 1))


def contrasting(colours: Colormap, value: float) -> str:
    """Black or white on that colour, by its luminance (WCAG 2.2: their contrasts meet at 0.179)."""
    channels = np.array(colours(value)[:3])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else "white"


def plain(name: str) -> str:
    """A class's name as text: cut if long, and no dollar sign starts a formula."""
    short = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
    return short.replace("$", r"\$")
