"""The verb `evaluate`: score a run, compare it with another one, measure its robustness."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resnet_demo.cli.common import (
    add_verb,
    end_progress,
    output_folder,
    print_result,
    show_progress,
)
from resnet_demo.errors import ConfigError, counted
from resnet_demo.paths import Paths
from resnet_demo.runs.text import comparison_text, evaluation_text, robustness_text


def add(verbs: Any) -> None:
    """Add the verb and its options."""
    evaluate = add_verb(verbs, "evaluate", run_evaluate, "score a run on a split")
    evaluate.add_argument("run", metavar="RUN", help="id or folder of a trained run")
    evaluate.add_argument(
        "--split", default="test", metavar="NAME", help="test, val or train (default test)"
    )
    evaluate.add_argument(
        "--dataset", metavar="NAME", help="dataset to score on (default: the run's own)"
    )
    evaluate.add_argument(
        "--mode",
        default="plain",
        metavar="NAME",
        help="test-time augmentation: plain, flip, flip-and-shift, flip-and-five-shifts, or "
        "article, which evaluates in training mode as the article does (default plain)",
    )
    evaluate.add_argument("--against", metavar="RUN", help="compare with this run, image by image")
    evaluate.add_argument(
        "--robustness",
        action="store_true",
        help="also score damaged images: seven corruptions at five strengths",
    )
    evaluate.add_argument("--figures", metavar="DIR", help="write figures and tables there")


def run_evaluate(args: argparse.Namespace, paths: Paths) -> None:
    """Score a run's kept weights and print the result."""
    from resnet_demo.data.splits import check_split
    from resnet_demo.data.store import Datasets, check_test_split
    from resnet_demo.evaluation.modes import check_mode, require_images
    from resnet_demo.runs.store import Runs, check_trained_here

    check_split(args.split)
    check_mode(args.mode)
    # Mistakes are reported before torch is imported and anything is computed.
    folder = output_folder("figures", args.figures)
    runs, datasets = Runs(paths), Datasets(paths.data)
    run, other = runs.find(args.run), find_other_run(runs, args.against)
    for each in filter(None, (run, other)):
        check_trained_here(each, "evaluated")
    name = args.dataset or run.config().dataset
    if args.robustness:
        require_images(name, datasets, "robustness")
    if name in datasets.names():
        check_test_split(datasets.get(name), args.split)
    try:
        first, result = evaluate_all(args, datasets, run, other)
    finally:
        end_progress()
    if folder is not None:
        from resnet_demo.evaluation.report import write_report

        write_report(first, folder, result.get("robustness"))
    print_result(result, result_text(result, folder), args.json)


def evaluate_all(args: argparse.Namespace, datasets: Any, run: Any, other: Any) -> tuple[Any, dict]:
    """Return the run's RunEvaluation, and its result with the parts that were requested."""
    from resnet_demo.tasks.process_setup import import_quickly

    import_quickly("resnet_demo.evaluation.evaluate_run")
    from resnet_demo.evaluation.comparison import with_comparison
    from resnet_demo.evaluation.evaluate_run import evaluate_run

    first = evaluate_run(run, datasets, args.split, args.dataset, args.mode, progress_of(run))
    # On what the first one was scored on, whatever the other run's own dataset is.
    second = other and evaluate_other(other, datasets, first.result)
    result = with_comparison(first, second)
    if args.robustness:
        from resnet_demo.evaluation.robustness import measure_robustness

        on_batch = progress_of(run, " with corruptions")
        scores = measure_robustness(run, datasets, args.split, args.dataset, on_batch)
        result = {**result, "robustness": scores}
    return first, result


def progress_of(run: Any, suffix: str = "") -> Callable[[int, int], None]:
    """Return a callback that shows how many images are done."""
    return lambda done, total: show_progress(
        f"{run.id}: {done:,} of {counted(total, 'image')}{suffix}"
    )


def find_other_run(runs: Any, name: str | None) -> Any:
    """Return the run to compare with. Raises ConfigError, whose field is that of the option."""
    try:
        return None if name is None else runs.find(name)
    except ConfigError as error:  # its field is `run`, the positional argument
        raise ConfigError(str(error), "against") from error


def evaluate_other(run: Any, datasets: Any, result: dict[str, Any]) -> Any:
    """Evaluate the other run on the images of this result. Raises ConfigError, DamagedError."""
    from resnet_demo.evaluation.evaluate_run import evaluate_run

    split, dataset, mode = result["split"], result["dataset"], result["mode"]
    try:
        return evaluate_run(run, datasets, split, dataset, mode, progress_of(run))
    except ConfigError as error:  # about this run, so it names the option --against
        raise ConfigError(str(error), "against") from error


def result_text(result: dict[str, Any], folder: Path | None) -> str:
    """Return the whole result as text; folder: where figures were written."""
    parts = [evaluation_text(result)]
    if result["stored"]:
        parts.append("Computed from stored predictions: the images are not on this machine.")
    if "against" in result:
        parts.append(comparison_text(result["against"]))
    if "robustness" in result:
        from resnet_demo.evaluation.intervals import wilson_interval

        robust = result["robustness"]
        interval = wilson_interval(round(robust["top1"] * robust["n"]), robust["n"])
        parts.append(robustness_text(robust, interval))
    if folder is not None:
        parts.append(f"Figures and tables are in {folder}.")
    return "\n".join(parts)
