"""`evaluate`: how good a trained run is."""

import argparse
from typing import Any

from resnet_demo.cli.common import find, tell, verb
from resnet_demo.places import Places
from resnet_demo.runs.words import evaluation_text


def add(verbs: Any) -> None:
    """The verb and its flags."""
    evaluate = verb(verbs, "evaluate", evaluate_verb, "score a run on a split")
    evaluate.add_argument("run", metavar="RUN")
    evaluate.add_argument("--split", default="test", help="test (default), val or train")
    evaluate.add_argument("--dataset", metavar="NAME", help="instead of the run's own")


def evaluate_verb(asked: argparse.Namespace, places: Places) -> None:
    """Score a run's best weights."""
    from resnet_demo.data.rules import check_split
    from resnet_demo.data.store import Datasets
    from resnet_demo.runs.store import Runs

    check_split(asked.split)
    run = find(Runs(places), asked.run)
    from resnet_demo.runs.evaluation import evaluate_run

    result = evaluate_run(run, Datasets(places.data), asked.split, asked.dataset)
    note = "\nCounted on the answers kept with the run: its images are not on this machine."
    tell(result, evaluation_text(result) + (note if result["stored"] else ""), asked.json)
