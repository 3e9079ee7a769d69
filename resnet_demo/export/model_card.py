"""The model card of a packed run: what it is, how good, how it was made, what it cannot do."""

from typing import Any

from resnet_demo.config import RECIPES, TrainConfig, defaults
from resnet_demo.data.info import DatasetInfo
from resnet_demo.evaluation.intervals import wilson_interval
from resnet_demo.evaluation.metrics import Scores
from resnet_demo.runs.text import count_text, duration_text, escape_markdown
from resnet_demo.runs.view import RunView

CHOSEN = {
    "best": "the best by validation top-1",
    "last": "the last one, whatever its validation top-1",
}
LICENCE = {
    "cifar10": "The licence of CIFAR-10 (Krizhevsky 2009) is unknown: none of its images is here."
}


def model_card(
    name: str,
    config: TrainConfig,
    info: DatasetInfo,
    view: RunView,
    result: Scores,
    top1_float32: float,
) -> str:
    """The text of README.md (Markdown). result: of the test split, by the weights as stored."""
    best, size, pixels = view.best, count_text(view.started.parameters), square(config.image_size)
    return f"""# {name}

A `{config.model}` of {size} parameters that tells {join_labels(info.classes)}
apart in pictures of {pixels}. It was trained on `{info.name}` by this program. Its settings, its
log, its answers on the test images and its weights, in float16, are all in this folder.

## How good it is

{table("on the test split", "", scores(result, top1_float32))}

The weights are those of epoch {best.epoch} of {config.epochs}, {CHOSEN[config.keep]}
({best.val_top1:.2%}). Precision: the share that was right among those said to be of a class.
Recall: the share that was found among those that are.

{class_table(result)}

## How it was trained

{made(config, info, view)}

Every knob that differs from the program's defaults:

{table("knob", "value | default", knobs(config))}

The same again: `{command(config)}`

## What it cannot do

- It knows {len(info.classes)} classes and nothing else. A picture of anything else is taken for
  one of them, often with high confidence: that says which is likeliest, not whether it is any.
- It sees {pixels}, whatever the picture's size, and learned from pictures of one thing
  in the middle. Drawings, several things at once, details and unusual views are answered worse than
  the figures above say, which hold for images like those it was tested on.
- It was made to show how such networks learn. It is not for decisions about people, and not where
  a wrong answer could harm anybody.

## Licence

The weights, the log and this text have the licence of the code, MIT. {licence(info)}
"""


def scores(result: Scores, top1_float32: float) -> dict[str, str]:
    """What was measured on the test split."""
    low, high = wilson_interval(round(result.top1 * result.n), result.n)
    loss = result.to_dict()["loss"]
    return {
        "images": f"{result.n:,}",
        "top-1": f"**{result.top1:.2%}** (95 % Wilson interval {low:.2%} to {high:.2%})",
        "top-5": f"{result.top5:.2%}",
        "loss": "not a number" if loss is None else f"{loss:.4f} nats",
        "top-1 before the weights were rounded to float16": f"{top1_float32:.2%}",
    }


def class_table(result: Scores) -> str:
    """A row a class."""
    rows = {
        escape_markdown(row["label"]): " | ".join(
            [*(f"{row[part]:.1%}" for part in ("precision", "recall", "f1")), f"{row['support']:,}"]
        )
        for row in result.per_class
    }
    return table("class", "precision | recall | F1 | images", rows)


def made(config: TrainConfig, info: DatasetInfo, view: RunView) -> str:
    """Data, recipe, seed, machine and time."""
    started, synthetic = view.started, ", drawn by this program" if info.synthetic else ""
    some = f" and {config.train_images:,} trained on" if config.train_images else ""
    rows = {
        "data": f"`{info.name}`{synthetic}: {info.train:,} training images, of which "
        f"{config.val_share:.0%} are kept aside for validation{some}, and {info.test:,} test "
        f"images of {square(info.size)}; {escape_markdown(info.source)}",
        "recipe": f"`{config.recipe}`",
        "seed": f"{config.seed}",
        "machine": f"{started.device}, arithmetic in {started.precision}",
        "time": duration_text(view.total_seconds()),
        "program": f"version {started.version}",
    }
    return table("what", "", rows)


def knobs(config: TrainConfig) -> dict[str, str]:
    """Each knob that is not at its default: its value, and the default."""
    asked = config.to_dict()
    return {
        f"`{name}`": f"{asked[name]} | {default}"
        for name, default in defaults().items()
        if asked[name] != default
    }


def command(config: TrainConfig) -> str:
    """The command that trains it again."""
    known = {**defaults(), **RECIPES[config.recipe], "recipe": None, "dataset": None}
    told = {name: value for name, value in config.to_dict().items() if known[name] != value}
    return " ".join(["python -m resnet_demo train", *(as_flag(*item) for item in told.items())])


def as_flag(name: str, value: Any) -> str:
    """As `train` takes it."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"--{name.replace('_', '-')} {text}"


def licence(info: DatasetInfo) -> str:
    """What is known of the data's."""
    return LICENCE.get(info.name, "The images it learned from are not here.")


def square(side: int) -> str:
    """32 × 32 pixels."""
    return f"{side} × {side} pixels"


def join_labels(labels: tuple[str, ...]) -> str:
    """airplane, automobile and bird (Markdown)."""
    labels = tuple(map(escape_markdown, labels))
    return f"{', '.join(labels[:-1])} and {labels[-1]}" if len(labels) > 1 else labels[0]


def table(head: str, heads: str, rows: dict[str, str]) -> str:
    """Markdown; `none` where there is no row. A cell that holds bars is several."""
    if not rows:
        return "none"
    width = heads.count("|") + 2
    lines = [f"| {head} | {heads} |", "|" + " --- |" * width]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows.items())])
