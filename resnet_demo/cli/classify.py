"""`classify`: what a trained run says of pictures."""

import argparse
from pathlib import Path
from typing import Any

from resnet_demo.cli.common import find, tell, verb, whole
from resnet_demo.errors import DemoError
from resnet_demo.places import Places


def add(verbs: Any) -> None:
    """The verb and its flags."""
    classify = verb(verbs, "classify", classify_verb, "name what pictures show")
    classify.add_argument("run", metavar="RUN")
    classify.add_argument("files", nargs="+", metavar="FILE")
    classify.add_argument("--top", type=whole, default=5, help="labels a picture, 5")
    classify.add_argument("--dataset", metavar="NAME", help="must have the run's classes")


def classify_verb(asked: argparse.Namespace, places: Places) -> int:
    """A line a picture; a picture that cannot be read does not end the others."""
    from resnet_demo.runs.store import Runs

    run = find(Runs(places), asked.run)
    from resnet_demo.runs.classifier import Classifier

    classifier = Classifier.of(run)
    if asked.dataset is not None:
        from resnet_demo.data.store import Datasets

        classifier.check_classes(Datasets(places.data).get(asked.dataset))
    failed = 0
    for name in asked.files:
        try:
            labels = classifier.classify_file(Path(name), asked.top).labels
            words = ", ".join(f"{row['label']} {row['confidence']:.1%}" for row in labels)
            tell({"file": name, "labels": labels}, f"{name}: {words}", asked.json)
        except DemoError as error:
            failed += 1
            tell({"file": name, "error": str(error)}, f"{name}: {error}", asked.json)
    return 1 if failed else 0
