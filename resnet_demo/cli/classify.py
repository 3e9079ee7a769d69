"""`classify`: what a trained run says of pictures."""

import argparse
import io
from pathlib import Path
from typing import Any

from resnet_demo.cli.common import find, tell, verb, whole
from resnet_demo.errors import ConfigError, DemoError
from resnet_demo.places import Places


def add(verbs: Any) -> None:
    """The verb and its flags."""
    classify = verb(verbs, "classify", classify_verb, "name what pictures show")
    classify.add_argument("run", metavar="RUN")
    classify.add_argument("files", nargs="+", metavar="FILE")
    classify.add_argument(
        "--top", type=whole, default=5, metavar="N", help="labels a picture (5; 1 to all classes)"
    )
    classify.add_argument(
        "--fit", default="crop", metavar="WAY", help="how a square is made of it: crop (default), "
        "squash or pad",
    )  # fmt: skip
    classify.add_argument(
        "--map", type=Path, metavar="PNG", help="write where the first label was seen over the "
        "picture; for one FILE only",
    )  # fmt: skip
    classify.add_argument(
        "--opacity", type=share, default=0.5, metavar="X", help="of the map (0.5; 0 to 1)"
    )
    classify.add_argument("--against", metavar="RUN", help="ask that run too")
    classify.add_argument("--dataset", metavar="NAME", help="must have the run's classes")


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:  # NaN too
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text!r}")
    return value


def classify_verb(asked: argparse.Namespace, places: Places) -> int:
    """A line a picture; a picture that cannot be read does not end the others."""
    from resnet_demo.data.pictures import check_fit
    from resnet_demo.runs.store import Runs

    check_fit(asked.fit)
    check_map(asked)
    runs = [find(Runs(places), name) for name in (asked.run, asked.against) if name is not None]
    from resnet_demo.analysis.classify import check_top
    from resnet_demo.runs.classifier import Classifier

    classifiers = [Classifier.of(run) for run in runs]
    for classifier in classifiers:
        check_top(asked.top, len(classifier.saved.classes))
    if asked.dataset is not None:
        from resnet_demo.data.store import Datasets

        classifiers[0].check_classes(Datasets(places.data).get(asked.dataset))
    failed = 0
    for name in asked.files:
        try:
            told = one_picture(asked, Path(name), *classifiers)
            tell({"file": name, **told}, f"{name}: {in_words(told)}", asked.json)
        except DemoError as error:
            failed += 1
            tell({"file": name, "error": str(error)}, f"{name}: {error}", asked.json)
    return 1 if failed else 0


def check_map(asked: argparse.Namespace) -> None:
    """Raises ConfigError where a map cannot be written."""
    if asked.map is None:
        return
    if len(asked.files) > 1:
        raise ConfigError.rule("map", "asked for with one FILE only", f"{len(asked.files)} files")
    if asked.map.suffix.lower() != ".png" or not asked.map.parent.is_dir():
        raise ConfigError.rule("map", "a .png file in a folder that is there", str(asked.map))


def one_picture(
    asked: argparse.Namespace, path: Path, classifier: Any, other: Any = None
) -> dict[str, Any]:
    """What is told of a picture; its map is written where one was asked for. Raises DemoError."""
    from resnet_demo.data.pictures import decode_picture

    rgb = decode_picture(path)
    said = classifier.classify(rgb, asked.top, asked.fit)
    told = {**said.to_dict(), "fit": asked.fit}
    if asked.map is not None:
        write_map(asked.map, classifier.looked(rgb, said.labels[0]["label"], asked.fit), asked)
        told["map"] = str(asked.map)
    if other is not None:
        labels = other.classify(rgb, asked.top, asked.fit).labels
        told["against"] = {"run": other.run.id, "labels": labels}
    return told


def write_map(path: Path, looked: Any, asked: argparse.Namespace) -> None:
    """The picture under its heat, as a PNG. Raises OSError."""
    from PIL import Image

    from resnet_demo.analysis.overlay import overlay
    from resnet_demo.files import write_atomically

    file = io.BytesIO()
    Image.fromarray(overlay(looked.picture, looked.heat, asked.opacity)).save(file, "PNG")
    write_atomically(path, file.getvalue())


def in_words(told: dict[str, Any]) -> str:
    """Labels, a warning where they should not be believed, and what the other run says."""
    text = listed(told["labels"])
    if told["outside"] and told["outside"]["is_outside"]:
        text += " (unlike the pictures it was trained for: it may be none of its classes)"
    if "against" in told:
        text += f"; {told['against']['run']} says {listed(told['against']['labels'])}"
    return text


def listed(labels: list[dict[str, Any]]) -> str:
    """cat 91.2%, dog 5.0%."""
    return ", ".join(f"{row['label']} {row['confidence']:.1%}" for row in labels)
