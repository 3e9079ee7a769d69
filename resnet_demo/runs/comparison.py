"""Several runs side by side: where their configs differ, their final metrics, their curves."""

from collections.abc import Sequence
from typing import Any

from resnet_demo.errors import ConfigError
from resnet_demo.fingerprint import Fingerprint
from resnet_demo.runs.store import Run
from resnet_demo.runs.text import accuracy_text, duration_text, share_text
from resnet_demo.runs.view import RunView

CURVES = ("train_loss", "train_top1", "val_loss", "val_top1")
MAX_ROWS = 12  # epochs in the text
NO_VALUE = "–"


def compare_runs(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the comparison of two or more runs, ready for JSON; lists are in their order.

    differs: name of a setting -> its values, only where these differ. metrics: name -> the values
    at the epoch whose weights are kept, None for a run without an epoch. curves: name -> for each
    run its values, one per epoch. notes: sentences on datasets of one name and other content.
    Raises ConfigError for fewer than two runs, and DamagedError.
    """
    if len(runs) < 2:
        raise ConfigError.rule("runs", "at least two to compare", len(runs))
    configs = [run.config().to_dict() for run in runs]
    views = [RunView(run.log()) for run in runs]
    for view in views:
        view.refresh()
    return {
        "runs": [run.id for run in runs],
        "titles": [run.about_or_empty().title for run in runs],
        "differs": {
            name: [config[name] for config in configs]
            for name in configs[0]
            if any(config[name] != configs[0][name] for config in configs)
        },
        # Of the kept weights, not of the last epoch: those are what a person classifies with.
        "metrics": {
            "epoch": [view.best and view.best.epoch for view in views],
            "epochs": [len(view.epochs) for view in views],
            **{name: [view.best and getattr(view.best, name) for view in views] for name in CURVES},
            "val_images": [view.best and view.best.val_images for view in views],
            "seconds": [view.total_seconds() for view in views],
            "parameters": [view.started and view.started.parameters for view in views],
        },
        "curves": {
            name: [[getattr(epoch, name) for epoch in view.epochs] for view in views]
            for name in CURVES
        },
        "notes": content_notes(runs),
    }


def content_notes(runs: Sequence[Run]) -> list[str]:
    """Return a sentence for each run whose dataset is not that of an earlier run of its name."""
    notes: list[str] = []
    first: dict[str, tuple[Run, Fingerprint]] = {}
    for run in runs:
        found = run.fingerprint()
        if found is None:  # of an older version
            continue
        dataset = run.config().dataset
        other, before = first.setdefault(dataset, (run, found))
        if found != before:
            notes.append(
                f"{run.id} was trained on other content of the dataset {dataset} than {other.id}: "
                f"{before.difference(found)}"
            )
    return notes


def comparison_table(compared: dict[str, Any]) -> str:
    """Return the result of `compare_runs` as a table of text, one column for each run."""
    metrics = compared["metrics"]
    rows: list[Sequence[str]] = [("", *compared["runs"])]
    if any(compared["titles"]):
        rows.append(("title", *(title or NO_VALUE for title in compared["titles"])))
    rows += [(name, *map(setting_text, values)) for name, values in compared["differs"].items()]
    rows += [
        ("kept epoch", *kept_epochs(metrics)),
        ("validation top-1", *map(accuracy, metrics["val_top1"], metrics["val_images"])),
        ("validation loss", *map(loss, metrics["val_loss"])),
        ("training top-1", *map(percent, metrics["train_top1"])),
        ("training loss", *map(loss, metrics["train_loss"])),
        ("time", *map(duration_text, metrics["seconds"])),
    ]
    curves = compared["curves"]["val_top1"]
    epochs = max(map(len, curves))
    if epochs > 1:
        rows.append(("validation top-1 by epoch", *("" for _ in curves)))
        for epoch in shown_epochs(epochs):
            # Runs of different lengths are compared epoch by epoch; a shorter one has dashes at its
            # end.
            values = (curve[epoch - 1] if epoch <= len(curve) else None for curve in curves)
            rows.append((f"  epoch {epoch}", *map(accuracy, values, metrics["val_images"])))
    if not compared["differs"]:
        # Said explicitly: an empty list of differences would look like a fault.
        rows.insert(1, ("same settings", *("" for _ in curves)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*table, *(f"note: {note}" for note in compared["notes"])])


def shown_epochs(epochs: int) -> list[int]:
    """Return at most MAX_ROWS epochs from 1 to the last, about evenly spaced."""
    if epochs <= MAX_ROWS:
        return list(range(1, epochs + 1))
    return [1 + round(row * (epochs - 1) / (MAX_ROWS - 1)) for row in range(MAX_ROWS)]


def kept_epochs(metrics: dict[str, Any]) -> list[str]:
    """Return `7 of 10` for each run: the epoch whose weights are kept, and the epochs so far.

    Epoch 0 is the head that was fitted before all layers were trained.
    """
    pairs = zip(metrics["epoch"], metrics["epochs"], strict=True)
    return [
        NO_VALUE if epoch is None else f"{epoch} of {epochs}" if epoch else "the head"
        for epoch, epochs in pairs
    ]


def setting_text(value: Any) -> str:
    """Return a setting's value as a flag would have it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)  # 0.1, not 0.1000


def accuracy(share: float | None, images: int | None) -> str:
    """Return an accuracy over so many validation images; few are counted."""
    return NO_VALUE if share is None else accuracy_text(share, images or 0)


def percent(share: float | None) -> str:
    """Return a share in percent."""
    return share_text(share, 2)


def loss(value: float | None) -> str:
    """Return a loss in nats."""
    return NO_VALUE if value is None else f"{value:.4f}"
