"""The part of a report that is about the run: summary, curves, settings, dataset, environment.

Everything is text or an address that holds an image, ready for the template.
"""

import base64
import io
import platform
from importlib.metadata import version
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from resnet_demo import __version__
from resnet_demo.config import TrainConfig, defaults, help_text
from resnet_demo.data.store import Datasets
from resnet_demo.errors import DemoError, counted
from resnet_demo.evaluation.figures import BLUE, VERMILLION, ink_colour, new_figure, style_axes
from resnet_demo.export.model_card import DATA_LICENCES, chosen_epoch
from resnet_demo.recipes import RECIPES
from resnet_demo.runs.text import (
    accuracy_text,
    count_text,
    duration_text,
    learning_curve_text,
    share_text,
)
from resnet_demo.runs.view import RunView, thin_points

MAX_EPOCHS = 20  # rows of the table of epochs
MAX_POINTS = 400  # of a curve
PACKAGES = ("torch", "torchvision", "numpy", "pillow")
QUALITY = 90  # of JPEG
COMMAND_COLUMNS = 72  # of a line of the command
SPLIT_HEADS = {"train": "Training", "val": "Validation", "test": "Test"}
OWN_LICENCE = "that of this program, which generates the pictures"
SOURCE_LICENCE = "that of the source"


def summary_rows(config: TrainConfig, view: RunView, classes: int) -> dict[str, str]:
    """Return the rows of the first table."""
    started, best = view.started, view.best
    rows = {
        "Network": config.model,
        "Dataset": f"{config.dataset}, {counted(classes, 'class')}",
        "Recipe": config.recipe,
    }
    if config.weights != "random":
        layers = "the last layer" if config.train_layers == "head" else "all layers"
        rows["Initial weights"] = f"{config.weights}; {layers} trained"
    if started:
        rows["Parameters"] = count_text(started.parameters)
        rows["Multiply-adds per image"] = count_text(started.macs)
        rows["Training time"] = f"{duration_text(view.total_seconds())} on {started.device}"
    if best:
        rows["Kept weights"] = (
            f"epoch {best.epoch} of {config.epochs}, {chosen_epoch(config, view)}; validation "
            f"accuracy {accuracy_text(best.val_top1, best.val_images)}"
        )
    # Only the head was fitted: there are no epochs.
    elif view.head:
        curve = view.head.curve
        n = curve[-1][2] if curve else 0
        rows["Validation accuracy"] = accuracy_text(view.head.val_top1, n)
    if view.ended and view.ended.kind != "finished":
        rows["State"] = view.ended.kind
    elif not view.ended:
        rows["State"] = "not finished"
    return rows


def training_part(config: TrainConfig, view: RunView) -> dict[str, Any]:
    """Return curves, table of epochs and sentences about the training."""
    texts = []
    if view.head:
        texts.append(learning_curve_text(view.head.curve))
    if config.label_smoothing and view.steps:
        share = f"{config.label_smoothing:g}"
        texts.append(
            f"The training loss includes label smoothing {share}, the validation's does not"
        )
    every = -(-len(view.epochs) // MAX_EPOCHS)  # rounded up: at most MAX_EPOCHS rows
    epochs = [
        {
            "epoch": epoch.epoch,
            "train_loss": f"{epoch.train_loss:.4f}",
            "val_loss": f"{epoch.val_loss:.4f}",
            "train_top1": share_text(epoch.train_top1, 2),
            "val_top1": accuracy_text(epoch.val_top1, epoch.val_images),
            "time": duration_text(epoch.seconds),
            "kept": epoch is view.best,
        }
        # From the end, so that the last epoch is always a row.
        for number, epoch in enumerate(reversed(view.epochs))
        if number % every == 0 or epoch is view.best
    ]
    has_curve = len(view.steps) > 1 or len(view.epochs) > 1
    return {
        "curves": svg_uri(curve_figure(view)) if has_curve else "",
        "description": curve_text(view),
        "epochs": epochs[::-1],
        "every": every,
        "texts": [text for text in texts if text],
    }


def curve_figure(view: RunView) -> Figure:
    """Draw loss, accuracy and learning rate by epoch."""
    per_epoch, ink = view.started.steps_per_epoch if view.started else 1, ink_colour(False)
    # A head is fitted without steps, and without a learning rate.
    places = [["loss", "accuracy"], *([["rate", "rate"]] if view.steps else [])]
    figure = new_figure(3.4 if view.steps else 2.4)
    axes_by_name = figure.subplot_mosaic(places, height_ratios=(5, 2)[: len(places)])
    loss, accuracy = axes_by_name["loss"], axes_by_name["accuracy"]
    # More dots than this would run into each other.
    marks = {"marker": "o", "markersize": 3} if len(view.epochs) <= 60 else {}
    for axes, name in ((loss, "loss"), (accuracy, "top1")):
        train = [(step.step / per_epoch, getattr(step, name)) for step in view.steps]
        val = [(epoch.epoch, getattr(epoch, f"val_{name}")) for epoch in view.epochs]
        lines = ((train, BLUE, "training batches", {}), (val, VERMILLION, "validation", marks))
        for points, colour, label, style in lines:
            if points:
                # Thinned: as SVG, each point takes some bytes of the file.
                x, y = zip(*thin_points(points, MAX_POINTS), strict=True)
                axes.plot(x, y, color=colour, label=label, linewidth=1.2, **style)
    accuracy.set_ylim(0, 1)
    style_axes(loss, ink, "loss")
    style_axes(accuracy, ink, "accuracy", percent="y")
    if view.steps:
        rate = axes_by_name["rate"]
        style_axes(rate, ink, "learning rate")
        rates = [(step.step / per_epoch, step.lr) for step in view.steps]
        rate.plot(*zip(*thin_points(rates, MAX_POINTS), strict=True), color=ink, linewidth=1.2)
    bottom = ("rate",) if view.steps else ("loss", "accuracy")
    for name in bottom:
        axes_by_name[name].set_xlabel("epoch", color=ink)
    handles, labels = loss.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    return figure


def curve_text(view: RunView) -> str:
    """Return what the curves show, for who cannot see them."""
    parts = []
    if len(view.steps) > 1:
        first, last = view.steps[0], view.steps[-1]
        parts.append(f"training loss from {first.loss:.3f} to {last.loss:.3f}")
    if view.epochs:
        first, last = view.epochs[0], view.epochs[-1]
        parts.append(f"validation loss from {first.val_loss:.3f} to {last.val_loss:.3f}")
        parts.append(
            f"validation accuracy from {share_text(first.val_top1)} to {share_text(last.val_top1)}"
        )
    return f"Curves by epoch: {', '.join(parts)}."


def changed_settings(config: TrainConfig) -> list[dict[str, Any]]:
    """Return the settings that differ from the recipe's."""
    recipe = {**defaults(), **RECIPES[config.recipe]}
    return [
        {**row, "recipe": value_text(recipe[row["name"]])}
        for row in all_settings(config)
        if getattr(config, row["name"]) != recipe[row["name"]]
        and row["name"] not in ("recipe", "dataset")
    ]


def all_settings(config: TrainConfig) -> list[dict[str, Any]]:
    """Return every setting with its value and its help."""
    return [
        {
            "name": name,
            "value": value_text(getattr(config, name)),
            "unit": field.metadata.get("unit", ""),
            "help": help_text(field),
        }
        for name, field in TrainConfig.__dataclass_fields__.items()
    ]


def value_text(value: Any) -> str:
    """Return a setting's value as a person would type it."""
    return str(value).lower() if isinstance(value, bool) else f"{value}"


def dataset_survey(
    config: TrainConfig, datasets: Datasets, left_out: list[str]
) -> dict[str, Any] | None:
    """Return the classes, counts and sizes of the run's dataset; None if it is not here."""
    name = config.dataset
    try:
        info, counts = datasets.get(name), datasets.class_counts(name)
        used, held_out = datasets.split_sizes(config)
    except DemoError as error:
        left_out.append(f"the dataset ({error})")
        return None
    fitted = {"crop": "cropped to their centre", "squash": "squashed", "pad": "padded"}[info.fit]
    mean, std = (", ".join(f"{value:.4f}" for value in part) for part in (info.mean, info.std))
    held = "cross-validation" if config.folds else f"{held_out:,} for validation"
    return {
        "name": name,
        "rows": {
            "Source": info.source,
            "Stored size": f"{info.size} × {info.size} pixels, pictures made square: {fitted}",
            "Input of the network": f"{config.image_size} × {config.image_size} pixels",
            "Split": f"{used:,} training images, {held}, {info.test:,} test images",
            "Mean and deviation": f"{mean}; {std} (red, green, blue, from 0 to 1)",
            **({"Unreadable files": f"{info.skipped_count:,}"} if info.skipped_count else {}),
            "Licence": DATA_LICENCES.get(name, OWN_LICENCE if info.synthetic else SOURCE_LICENCE),
        },
        "splits": [SPLIT_HEADS[split] for split in counts],
        "classes": [
            {"label": label, "counts": [f"{counts[split][label]:,}" for split in counts]}
            for label in info.classes
        ],
    }


def environment_rows(view: RunView) -> dict[str, str]:
    """Return the versions and the device of the run, and those of this report."""
    rows = {}
    if view.started:
        started = view.started
        rows = {
            "Device": started.device,
            "Number format": started.precision,
            "CPU threads": f"{started.threads}",
            "resnet_demo, in training": started.version,
        }
    # Of this report: a run does not record the versions of its packages.
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return {
        **rows,
        "resnet_demo, for this report": __version__,
        "Python": f"{platform.python_version()} on {platform.system()}",
        "Packages, for this report": packages,
    }


def shell_lines(command: str) -> str:
    """Return a command on several lines, as a shell reads it, none of which ends in an option."""
    lines = [""]
    for option in command.split(" --"):
        text = f"--{option} " if lines[0] else f"{option} "
        if len(lines[-1]) + len(text) > COMMAND_COLUMNS:
            lines.append("    ")
        lines[-1] += text
    return "\\\n".join(lines).rstrip()


def svg_uri(figure: Figure) -> str:
    """Return a figure as an address that holds it as SVG."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", facecolor="white")  # white: a report is printed
    return data_uri("image/svg+xml", file.getvalue())


def jpeg_uri(rgb: np.ndarray) -> str:
    """Return a picture (H, W, 3) uint8 as an address that holds it as JPEG."""
    file = io.BytesIO()
    # Full colour: pictures of 32 pixels are enlarged, and half of the colours would be visible.
    Image.fromarray(rgb).save(file, "JPEG", quality=QUALITY, subsampling=0)
    return data_uri("image/jpeg", file.getvalue())


def data_uri(kind: str, content: bytes) -> str:
    """Return an address that holds the content itself. An image there runs no script."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
