"""`evaluate`: how good a trained run is, beside another one, and on images made worse."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resnet_demo.cli.common import find, folder_for, tell, verb
from resnet_demo.cli.data import end_of_line, on_one_line
from resnet_demo.errors import ConfigError
from resnet_demo.paths import Paths
from resnet_demo.runs.text import comparison_text, evaluation_text, robustness_text


def add(verbs: Any) -> None:
    """The verb and its flags."""
    evaluate = verb(verbs, "evaluate", evaluate_verb, "score a run on a split")
    evaluate.add_argument("run", metavar="RUN")
    evaluate.add_argument("--split", default="test", help="test (default), val or train")
    evaluate.add_argument("--dataset", metavar="NAME", help="instead of the run's own")
    modes = (
        "plain (default), flip, flip-and-shift, flip-and-five-shifts or article (in training mode, "
        "its fault)"
    )
    evaluate.add_argument("--mode", default="plain", help=f"how each image is asked about: {modes}")
    evaluate.add_argument(
        "--against", metavar="OTHER", help="a run to compare with, image by image"
    )
    evaluate.add_argument(
        "--robustness", action="store_true",
        help="also with images made worse: seven kinds of damage, five strengths each",
    )  # fmt: skip
    evaluate.add_argument("--figures", metavar="DIR", help="write figures and tables there")


def evaluate_verb(asked: argparse.Namespace, paths: Paths) -> None:
    """Score a run's kept weights."""
    from resnet_demo.data.rules import check_split
    from resnet_demo.data.store import Datasets
    from resnet_demo.evaluation.modes import check_mode, require_images
    from resnet_demo.runs.store import Runs

    check_split(asked.split)
    check_mode(asked.mode)
    folder = folder_for("figures", asked.figures)
    runs, datasets = Runs(paths), Datasets(paths.data)
    run, other = find(runs, asked.run), other_run(runs, asked.against)
    if asked.robustness:
        require_images(asked.dataset or run.config().dataset, datasets, "robustness")
    try:
        first, result = answers(asked, datasets, run, other)
    finally:
        end_of_line()
    if folder is not None:
        from resnet_demo.evaluation.report import write_report

        write_report(first, folder, result.get("robustness"))
    tell(result, text_of(result, folder), asked.json)


def answers(asked: argparse.Namespace, datasets: Any, run: Any, other: Any) -> tuple[Any, dict]:
    """The run's Evaluated, and all that was asked for."""
    from resnet_demo.evaluation.comparison import with_against
    from resnet_demo.evaluation.evaluate_run import evaluate_run

    first = evaluate_run(run, datasets, asked.split, asked.dataset, asked.mode, shown(run))
    second = other and against(other, datasets, first.result)
    result = with_against(first, second)
    if asked.robustness:
        from resnet_demo.evaluation.robustness import robustness

        bears = robustness(run, datasets, asked.split, asked.dataset, shown(run, " made worse"))
        result = {**result, "robustness": bears}
    return first, result


def shown(run: Any, how: str = "") -> Callable[[int, int], None]:
    """Tells a person at a terminal how many images were looked at."""
    return lambda done, total: on_one_line(f"{run.id}: {done:,} of {total:,} images{how}")


def other_run(runs: Any, name: str | None) -> Any:
    """The run to compare with. Raises ConfigError, whose field is that of the flag."""
    try:
        return None if name is None else find(runs, name)
    except ConfigError as error:
        raise ConfigError(str(error), "against") from error


def against(run: Any, datasets: Any, result: dict[str, Any]) -> Any:
    """The other run asked about the same images. Raises as `other_run`, DamagedError."""
    from resnet_demo.evaluation.evaluate_run import evaluate_run

    try:
        asked = result["split"], result["dataset"], result["mode"]
        return evaluate_run(run, datasets, *asked, shown(run))
    except ConfigError as error:
        raise ConfigError(str(error), "against") from error


def text_of(result: dict[str, Any], folder: Path | None) -> str:
    """All that was found, in words."""
    parts = [evaluation_text(result)]
    if result["stored"]:
        parts.append(
            "Counted on the answers kept with the run: its images are not on this machine."
        )
    if "against" in result:
        parts.append(comparison_text(result["against"]))
    if "robustness" in result:
        parts.append(robustness_text(result["robustness"]))
    if folder is not None:
        parts.append(f"Figures and tables are in {folder}.")
    return "\n".join(parts)
