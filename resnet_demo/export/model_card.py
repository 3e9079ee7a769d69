"""The model card of a run (Markdown): accuracy, training, limitations, licence.

On the Hugging Face Hub, metadata comes before it.
"""

from typing import Any

from resnet_demo.config import TrainConfig, defaults
from resnet_demo.data.info import DatasetInfo
from resnet_demo.evaluation.intervals import wilson_interval
from resnet_demo.evaluation.metrics import Scores
from resnet_demo.recipes import RECIPES
from resnet_demo.runs.text import (
    accuracy_text,
    class_shares,
    count_text,
    duration_text,
    escape_markdown,
    share_range,
    share_text,
)
from resnet_demo.runs.view import RunView

CHOSEN_EPOCH = {
    "best": "the best by validation top-1",
    "last": "the last one, whatever its validation top-1",
    "last-or-head": "the last one, clearly better in validation than the head fitted before",
    "head": "the fitted head: training all layers was not shown to be clearly better in validation",
}
DATA_LICENCES = {
    "cifar10": "The licence of CIFAR-10 (Krizhevsky 2009) is unknown; none of its images is here."
}
PACKED = (
    "This folder has its settings, its log, its predictions on the {split} images, and its weights "
    "in {precision}."
)
NOT_MEASURED = "Not measured: the images were not on the machine that wrote this card."
CLASSES = """Precision: share of correct predictions among all predictions of a class. Recall: share
of a class's images that were predicted as it.

{classes}"""
LICENCE = "The weights, the log and this text have the licence of the code, MIT."
TEMPLATE = """# {name}

A network (`{model}`) with {parameters} parameters that classifies pictures of {pixels} as
{labels}. It was trained on `{dataset}` by ResNet Demo. {contents}

## Accuracy

{scores}

The weights are those of epoch {epoch} of {epochs}, {chosen} ({val_top1}). {classes}

## Training

{training}

Settings that differ from the program's defaults:

{settings}

To train it again: `{command}`

## Limitations

- It knows {num_classes} classes and nothing else. A picture of anything else is classified as one
  of them, often with high confidence: the confidence says which class is likeliest, not whether it
  is any of them.
- It sees {pixels}, whatever the picture's size, and learned from pictures of one centred object.
  Accuracy is lower than stated above on drawings, several objects, details and unusual views.
- It was made to show how such networks learn. It is not for decisions about people, and not for
  uses where a wrong answer could cause harm.

## Licence

{licence} {data_licence}
"""


def chosen_epoch(config: TrainConfig, view: RunView) -> str:
    """Return how the kept weights of a run with an epoch were chosen, as a part of a sentence."""
    if config.keep != "last-or-head":
        return CHOSEN_EPOCH[config.keep]
    if not view.best.epoch:
        return CHOSEN_EPOCH["head"]
    # Without a head there was nothing to compare with: a person may set that for any run.
    return CHOSEN_EPOCH[config.keep if view.head else "last"]


def model_card(
    name: str,
    config: TrainConfig,
    classes: tuple[str, ...],
    view: RunView,
    info: DatasetInfo | None = None,
    scores: Scores | None = None,
    *,
    split: str = "test",
    top1_float32: float | None = None,
    trained_on: int | None = None,
    contents: str,
    licence: str = LICENCE,
) -> str:
    """Return the text of README.md, without metadata.

    info: of the dataset, if it is here. scores: of the stored weights on that split, if they can be
    computed. split: `test` or `validation`. top1_float32: before rounding to float16; None if they
    are not rounded. trained_on: how many of those images are in the training split too; None if not
    known. contents, licence: sentences on what the folder has, and on the licence of the weights.
    """
    table = (
        markdown_table(f"on the {split} split", "", score_rows(scores, top1_float32, trained_on))
        if scores
        else NOT_MEASURED
    )
    return TEMPLATE.format(
        name=name,
        model=config.model,
        parameters=count_text(view.started.parameters),
        pixels=size_text(config.image_size),
        labels=join_labels(classes),
        dataset=config.dataset,
        contents=contents,
        scores=table,
        epoch=view.best.epoch,
        epochs=config.epochs,
        chosen=chosen_epoch(config, view),
        val_top1=accuracy_text(view.best.val_top1, view.best.val_images),
        classes=CLASSES.format(classes=class_table(scores)) if scores else "",
        training=training_table(config, info, view),
        settings=markdown_table("setting", "value | default", changed_settings(config)),
        command=train_command(config),
        num_classes=len(classes),
        licence=licence,
        data_licence=DATA_LICENCES.get(config.dataset, "The training images are not here."),
    )


def score_rows(
    scores: Scores, top1_float32: float | None, trained_on: int | None
) -> dict[str, str]:
    """Return the rows on accuracy: name -> value."""
    low, high = wilson_interval(round(scores.top1 * scores.n), scores.n)
    loss, top1 = scores.to_dict()["loss"], accuracy_text(scores.top1, scores.n)
    rounded = "top-1 before the weights were rounded to float16"
    known = f", of which {trained_on:,} are in the training split too" if trained_on else ""
    return {
        "images": f"{scores.n:,}{known}",
        "top-1": f"**{top1}** (95 % Wilson interval {share_range(low, high, scores.n)})",
        # With five classes or fewer it is 100 % for every network.
        **({"top-5": accuracy_text(scores.top5, scores.n)} if len(scores.per_class) > 5 else {}),
        "loss": "not a number" if loss is None else f"{loss:.4f} nats",
        **({} if top1_float32 is None else {rounded: accuracy_text(top1_float32, scores.n)}),
    }


def class_table(scores: Scores) -> str:
    """Return a table with one row per class."""
    rows = {}
    for row, *shares in class_shares(scores.per_class, scores.confusion):
        shares.append(share_text(row["f1"]))
        rows[escape_markdown(row["label"])] = " | ".join([*shares, f"{row['support']:,}"])
    return markdown_table("class", "precision | recall | F1 | images", rows)


def training_table(config: TrainConfig, info: DatasetInfo | None, view: RunView) -> str:
    """Return a table of data, recipe, seed, machine and time."""
    started = view.started
    rows = {
        "data": f"`{config.dataset}`" + (data_text(config, info) if info else ""),
        "recipe": f"`{config.recipe}`",
        "seed": f"{config.seed}",
        "machine": f"{started.device}, arithmetic in {started.precision}",
        "time": duration_text(view.total_seconds()),
        "program": f"version {started.version}",
    }
    return markdown_table("what", "", rows)


def data_text(config: TrainConfig, info: DatasetInfo) -> str:
    """Return what a dataset has, how it was split, and where it comes from."""
    synthetic = ", generated by this program" if info.synthetic else ""
    limit = f" and {config.train_images:,} used for training" if config.train_images else ""
    validation = (
        f"validated by cross-validation in {config.folds} parts"
        if config.folds
        else f"{info.val:,} validation images"
        if info.val
        else f"of which {share_text(config.val_share, 0)} are kept for validation"
        if config.val_share
        else "which serve for validation too"
    )
    return (
        f"{synthetic}: {info.train:,} training images, {validation}{limit}, and "
        f"{info.test or 'no'} test images of {size_text(info.size)}; {escape_markdown(info.source)}"
    )


def changed_settings(config: TrainConfig) -> dict[str, str]:
    """Return the fields that are not at their default: name -> "value | default"."""
    values = config.to_dict()
    return {
        f"`{name}`": f"{values[name]} | {default}"
        for name, default in defaults().items()
        if values[name] != default
    }


def train_command(config: TrainConfig) -> str:
    """Return the command line that trains with this config."""
    # Recipe and dataset are always given: their defaults may change.
    known = {**defaults(), **RECIPES[config.recipe], "recipe": None, "dataset": None}
    given = {name: value for name, value in config.to_dict().items() if known[name] != value}
    options = [option_text(name, value) for name, value in given.items()]
    return " ".join(["python -m resnet_demo train", *options])


def option_text(name: str, value: Any) -> str:
    """Return a field as an option of `train`."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"--{name.replace('_', '-')} {text}"


def size_text(side: int) -> str:
    """Return the size of a square image: "32 × 32 pixels"."""
    return f"{side} × {side} pixels"


def join_labels(labels: tuple[str, ...]) -> str:
    """Return the labels as a list in Markdown: "airplane, automobile or bird"."""
    labels = tuple(map(escape_markdown, labels))
    return f"{', '.join(labels[:-1])} or {labels[-1]}" if len(labels) > 1 else labels[0]


def markdown_table(name: str, columns: str, rows: dict[str, str]) -> str:
    """Return a Markdown table, or "none" without rows.

    name: heading of the first column. columns: the other headings, separated by bars, like the
    values of the rows.
    """
    if not rows:
        return "none"
    width = columns.count("|") + 2
    lines = [f"| {name} | {columns} |", "|" + " --- |" * width]
    return "\n".join([*lines, *(f"| {key} | {value} |" for key, value in rows.items())])
