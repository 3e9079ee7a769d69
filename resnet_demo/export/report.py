"""The export format `report`: one HTML file about a run, to print and to hand in.

It needs nothing beside it: figures are SVG and pictures are JPEG inside of it, and its policy
forbids scripts and requests. What people wrote (title, notes, class names) is escaped by the
template.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resnet_demo.config import TrainConfig
from resnet_demo.data.store import Datasets
from resnet_demo.errors import DemoError, StoppedError
from resnet_demo.evaluation.evaluate_run import RunEvaluation, evaluate_run
from resnet_demo.evaluation.example_images import ExampleImage, load_example_images
from resnet_demo.evaluation.figures import confusion_figure, reliability_figure
from resnet_demo.evaluation.intervals import wilson_interval
from resnet_demo.evaluation.metrics import Predictions, worst_mistakes
from resnet_demo.export.code import template_environment
from resnet_demo.export.model_card import train_command
from resnet_demo.export.report_run import (
    all_settings,
    changed_settings,
    dataset_survey,
    environment_rows,
    jpeg_uri,
    shell_lines,
    summary_rows,
    svg_uri,
    training_part,
)
from resnet_demo.files import write_atomically
from resnet_demo.inference.classifier import Classifier
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run, check_trained_here, created_at
from resnet_demo.runs.text import (
    accuracy_text,
    calibration_text,
    count_of,
    image_notes,
    interval_text,
    loss_text,
    share_range,
    share_text,
)
from resnet_demo.runs.view import RunView

MAX_EXAMPLES = 12  # pictures of each kind
MAX_CONFUSIONS = 10
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
    survey = dataset_survey(config, datasets, left_out)
    evaluation = evaluate(run, config, datasets, on_progress, left_out)
    values = {
        "run": run.id,
        "about": run.about_or_empty(),
        # The time of a file would be that of its copy.
        "trained": date_text(view.last.time if view.last else created_at(run.path)),
        "written": date_text(time.time()),
        "config": config,
        "facts": summary_rows(config, view, len(classifier.saved.classes)),
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
    name = f"{run.id}-report.html"
    write_atomically(folder / name, template.render(values).encode())
    return name, [f"The report leaves out: {text}." for text in left_out]


def date_text(seconds: float) -> str:
    """Return a Unix time as a date: 2026-11-30."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def evaluate(
    run: Run,
    config: TrainConfig,
    datasets: Datasets,
    on_progress: OnProgress,
    left_out: list[str],
) -> RunEvaluation | None:
    """Return the evaluation of the kept weights; None where there are no images to score."""
    try:
        # Without the images it is the stored predictions that decide, which are usually of the test
        # split.
        has_test = config.dataset not in datasets.names() or datasets.get(config.dataset).test
        return evaluate_run(
            run,
            datasets,
            "test" if has_test else "val",
            on_batch=lambda done, total: on_progress("evaluating", done, total),
        )
    # Not an error to be noted in the report: the person ended the export.
    except StoppedError:
        raise
    except DemoError as error:
        left_out.append(f"results ({error})")
        return None


def result_part(evaluation: RunEvaluation) -> dict[str, Any]:
    """Return accuracy, scores by class, confusions and figures."""
    result = evaluation.result
    labels = [row["label"] for row in result["per_class"]]
    calibration = calibration_text(result["calibration"])
    return {
        "split": {"test": "test", "val": "validation"}[result["split"]],
        "accuracy": accuracy_text(result["top1"], result["n"]),
        "interval": interval_text(result),
        "rows": result_rows(result),
        "notes": [text for text in (image_notes(result).removeprefix("note: "),) if text],
        "calibration": calibration[:1].upper() + calibration[1:],
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
        **({"Top-5 accuracy": share_text(result["top5"], 2)} if many else {}),
        "Loss": loss_text(result),
        "Mean F1 over the classes": share_text(result["macro_f1"], 2),
    }


def class_row(row: dict[str, Any], correct: int) -> dict[str, str]:
    """Return the scores of a class as text; recall with its 95 % interval."""
    n = row["support"]
    return {
        "label": row["label"],
        "precision": share_text(row["precision"]),
        "recall": share_text(row["recall"]),
        # Without decimals: of one class there are few images.
        "interval": share_range(*wilson_interval(correct, n), 0) if n else "–",
        "f1": share_text(row["f1"]),
        "images": count_of(correct, n),
    }


def most_confused(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> list[dict]:
    """Return the pairs of classes that are mistaken most often."""
    counts = np.array(confusion)
    np.fill_diagonal(counts, 0)  # right answers are no confusion
    # Stable: a report written twice lists equal counts in the same order.
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
        "confidence": share_text(example.confidence),
    }
