"""The export format `report`: one HTML file about a run, to print and to hand in.

It needs nothing beside it: figures are SVG and pictures are JPEG inside of it, and its policy
forbids scripts and requests. What people wrote (title, notes, class names) is escaped by the
template.
"""

import base64
import io
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from resnet_demo import __version__
from resnet_demo.config import RECIPES, TrainConfig, defaults, help_text
from resnet_demo.data.store import Datasets
from resnet_demo.errors import DamagedError, DemoError, StoppedError, counted
from resnet_demo.evaluation.evaluate_run import RunEvaluation, evaluate_run
from resnet_demo.evaluation.example_images import ExampleImage, load_example_images
from resnet_demo.evaluation.figures import (
    BLUE,
    VERMILLION,
    confusion_figure,
    ink_colour,
    new_figure,
    reliability_figure,
    style_axes,
)
from resnet_demo.evaluation.intervals import wilson_interval
from resnet_demo.evaluation.metrics import Predictions, worst_mistakes
from resnet_demo.export.code import template_environment
from resnet_demo.export.model_card import CHOSEN_EPOCH, DATA_LICENCES, train_command
from resnet_demo.files import write_atomically
from resnet_demo.inference.classifier import Classifier
from resnet_demo.paths import Paths
from resnet_demo.runs.store import About, Run, check_trained_here, created_at
from resnet_demo.runs.text import (
    accuracy_text,
    calibration_text,
    count_of,
    count_text,
    duration_text,
    image_notes,
    interval_text,
    learning_curve_text,
    loss_text,
    share_range,
    share_text,
)
from resnet_demo.runs.view import RunView, thin_points

MAX_EXAMPLES = 12  # pictures of each kind
MAX_EPOCHS = 20  # rows of the table of epochs
MAX_POINTS = 400  # of a curve
MAX_CONFUSIONS = 10
PACKAGES = ("torch", "torchvision", "numpy", "pillow")
QUALITY = 90  # of JPEG
COMMAND_COLUMNS = 72  # of a line of the command
SPLIT_HEADS = {"train": "Training", "val": "Validation", "test": "Test"}
OWN_LICENCE = "that of this program, which generates the pictures"
SOURCE_LICENCE = "that of the source"
OnProgress = Callable[[str, int, int], object]


def write_report(
    run: Run, folder: Path, paths: Paths, on_progress: OnProgress = lambda what, done, total: None
) -> tuple[str, list[str]]:
    """Write the report of a run with weights; return the file's name and what it leaves out.

    The kept weights are evaluated on the test images, on the validation images of a dataset
    without test images; without images, by the predictions that came with the run. Raises
    NotFoundError before the first weights, ConfigError, DamagedError, OSError, and what on_progress
    raises.
    """
    check_trained_here(run, "reported on")
    datasets, left_out = Datasets(paths.data), []
    classifier = Classifier.load(run)
    config, view = run.config(), RunView(run.log())
    view.refresh()
    survey = dataset_survey(run, config, datasets, left_out)
    evaluation = evaluate(run, config, datasets, on_progress, left_out)
    values = {
        "run": run.id,
        "about": about_or_empty(run),
        "created": time.strftime("%Y-%m-%d", time.gmtime(created_at(run.path))),
        "written": time.strftime("%Y-%m-%d", time.gmtime()),
        "config": config,
        "facts": facts(run, config, view, classifier),
        "training": training_part(config, view),
        "changed": changed_settings(config),
        "settings": all_settings(config),
        "survey": survey,
        "result": evaluation and result_part(evaluation),
        "mistakes": [],
        "examples": [],
        "environment": environment_rows(view),
        "command": shell_lines(train_command(config)),
        "sha256": classifier.saved.sha256,
        "left_out": left_out,
    }
    if evaluation:
        values |= picture_parts(classifier, datasets, evaluation, left_out)
    template = template_environment(is_html=True).get_template("report.html.jinja")
    name = f"{run.id}.html"
    write_atomically(folder / name, template.render(values).encode())
    return name, [f"The report leaves out: {text}." for text in left_out]


def about_or_empty(run: Run) -> About:
    """Return the run's title and notes; empty ones where they are damaged."""
    try:
        return run.about()
    except DamagedError:
        return About()


def evaluate(
    run: Run,
    config: TrainConfig,
    datasets: Datasets,
    on_progress: OnProgress,
    left_out: list[str],
) -> RunEvaluation | None:
    """Return the evaluation of the kept weights; None where there are no images to score."""
    try:
        has_test = config.dataset not in datasets.names() or datasets.get(config.dataset).test
        return evaluate_run(
            run,
            datasets,
            "test" if has_test else "val",
            on_batch=lambda done, total: on_progress("evaluating", done, total),
        )
    except StoppedError:
        raise
    except DemoError as error:
        left_out.append(f"results ({error})")
        return None


def facts(run: Run, config: TrainConfig, view: RunView, classifier: Classifier) -> dict[str, str]:
    """Return the rows of the first table."""
    started, best = view.started, view.best
    rows = {
        "Network": config.model,
        "Dataset": f"{config.dataset}, {counted(len(classifier.saved.classes), 'class')}",
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
            f"epoch {best.epoch} of {config.epochs}, {CHOSEN_EPOCH[config.keep]}; validation "
            f"accuracy {accuracy_text(best.val_top1, best.val_images)}"
        )
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
    every = -(-len(view.epochs) // MAX_EPOCHS)
    epochs = [
        {
            "epoch": epoch.epoch,
            "train_loss": f"{epoch.train_loss:.4f}",
            "val_loss": f"{epoch.val_loss:.4f}",
            "train_top1": f"{epoch.train_top1:.2%}",
            "val_top1": accuracy_text(epoch.val_top1, epoch.val_images),
            "time": duration_text(epoch.seconds),
            "kept": epoch is view.best,
        }
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
    figure = new_figure(3.4)
    parts = figure.subplot_mosaic([["loss", "accuracy"], ["rate", "rate"]], height_ratios=(5, 2))
    loss, accuracy, rate = (parts[name] for name in ("loss", "accuracy", "rate"))
    marks = {"marker": "o", "markersize": 3} if len(view.epochs) <= 60 else {}
    for axes, name in ((loss, "loss"), (accuracy, "top1")):
        train = [(step.step / per_epoch, getattr(step, name)) for step in view.steps]
        val = [(epoch.epoch, getattr(epoch, f"val_{name}")) for epoch in view.epochs]
        lines = ((train, BLUE, "training batches", {}), (val, VERMILLION, "validation", marks))
        for points, colour, label, style in lines:
            if points:
                x, y = zip(*thin_points(points, MAX_POINTS), strict=True)
                axes.plot(x, y, color=colour, label=label, linewidth=1.2, **style)
    accuracy.set_ylim(0, 1)
    if view.steps:
        rates = [(step.step / per_epoch, step.lr) for step in view.steps]
        rate.plot(*zip(*thin_points(rates, MAX_POINTS), strict=True), color=ink, linewidth=1.2)
    style_axes(loss, ink, "loss")
    style_axes(accuracy, ink, "accuracy", percent="y")
    style_axes(rate, ink, "learning rate")
    rate.set_xlabel("epoch", color=ink)
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
        parts.append(f"validation accuracy from {first.val_top1:.1%} to {last.val_top1:.1%}")
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


def result_part(evaluation: RunEvaluation) -> dict[str, Any]:
    """Return accuracy, scores by class, confusions and figures."""
    result = evaluation.result
    labels = [row["label"] for row in result["per_class"]]
    return {
        "split": {"test": "test", "val": "validation"}[result["split"]],
        "accuracy": accuracy_text(result["top1"], result["n"]),
        "interval": interval_text(result),
        "rows": result_rows(result),
        "notes": [text for text in (image_notes(result).removeprefix("note: "),) if text],
        "calibration": capitalized(calibration_text(result["calibration"])),
        "classes": [
            class_row(row, result["confusion"][number][number])
            for number, row in enumerate(result["per_class"])
        ],
        "confusions": most_confused(result["confusion"], labels),
        "matrix": svg_uri(confusion_figure(result["confusion"], labels)),
        "reliability": svg_uri(reliability_figure(result["calibration"])),
    }


def result_rows(result: dict[str, Any]) -> dict[str, str]:
    """Return the rows of the table of results."""
    many = len(result["per_class"]) > 5  # with five classes or fewer, top-5 is always 100 %
    stored = "; predictions stored with the weights" if result["stored"] else ""
    folds = f", each by cross-validation in {result['folds']} parts" if result.get("folds") else ""
    return {
        "Images": f"{result['n']:,}{folds}{stored}",
        "Accuracy": accuracy_text(result["top1"], result["n"]),
        "95 % interval": share_range(*result["interval"], result["n"]),
        **({"Top-5 accuracy": f"{result['top5']:.2%}"} if many else {}),
        "Loss": loss_text(result),
        "Mean F1 over the classes": f"{result['macro_f1']:.2%}",
    }


def class_row(row: dict[str, Any], correct: int) -> dict[str, str]:
    """Return the scores of a class as text; recall with its 95 % interval."""
    n = row["support"]
    return {
        "label": row["label"],
        "precision": share_text(row["precision"]),
        "recall": share_text(row["recall"]),
        "interval": share_range(*wilson_interval(correct, n), 0) if n else "–",
        "f1": share_text(row["f1"]),
        "images": count_of(correct, n),
    }


def most_confused(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> list[dict]:
    """Return the pairs of classes that are mistaken most often."""
    counts = np.array(confusion)
    np.fill_diagonal(counts, 0)
    order = counts.ravel().argsort(kind="stable")[::-1][:MAX_CONFUSIONS]
    cells = (np.unravel_index(cell, counts.shape) for cell in order)
    return [
        {"truth": labels[row], "predicted": labels[column], "count": int(counts[row, column])}
        for row, column in cells
        if counts[row, column]
    ]


def picture_parts(
    classifier: Classifier,
    datasets: Datasets,
    evaluation: RunEvaluation,
    left_out: list[str],
) -> dict[str, list[dict[str, str]]]:
    """Return the worst mistakes, and the most confident right answer of each class."""
    logits, labels = evaluation.logits, evaluation.labels
    predictions = Predictions.from_logits(logits)
    right = predictions.predicted == labels
    best = [
        max(places, key=lambda place: predictions.confidence[place].item())
        for number in range(logits.shape[1])
        if len(places := (right & (labels == number)).nonzero().flatten().tolist())
    ]
    try:
        chosen = {"mistakes": worst_mistakes(logits, labels, MAX_EXAMPLES), "examples": best}
        return {
            name: [
                example_row(example)
                for example in load_example_images(
                    classifier, datasets, evaluation, indices, MAX_EXAMPLES
                )
            ]
            for name, indices in chosen.items()
        }
    except DemoError as error:
        left_out.append(f"pictures and class maps ({error})")
        return {}


def example_row(example: ExampleImage) -> dict[str, str]:
    """Return a picture and its class map for the template."""
    return {
        "picture": jpeg_uri(example.picture),
        "overlay": jpeg_uri(example.overlay),
        "truth": example.truth,
        "predicted": example.predicted,
        "confidence": f"{example.confidence:.1%}",
    }


def dataset_survey(
    run: Run, config: TrainConfig, datasets: Datasets, left_out: list[str]
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


def capitalized(text: str) -> str:
    """Return a text with a capital first letter."""
    return text[:1].upper() + text[1:]


def svg_uri(figure: Figure) -> str:
    """Return a figure as an address that holds it as SVG."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", facecolor="white")
    return data_uri("image/svg+xml", file.getvalue())


def jpeg_uri(rgb: np.ndarray) -> str:
    """Return a picture (H, W, 3) uint8 as an address that holds it as JPEG."""
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=QUALITY, subsampling=0)
    return data_uri("image/jpeg", file.getvalue())


def data_uri(kind: str, content: bytes) -> str:
    """Return an address that holds the content itself. An image there runs no script."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
