"""`classify`: what a trained run says of pictures."""

import argparse
from pathlib import Path
from typing import Any

from resnet_demo.cli.common import find, folder_for, tell, verb, whole
from resnet_demo.cli.data import end_of_line, on_one_line
from resnet_demo.errors import ConfigError, DemoError
from resnet_demo.paths import Paths


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
    classify.add_argument(
        "--inside", metavar="DIR", help="write what each stage of the network sees there, a PNG "
        "each; for one FILE only",
    )  # fmt: skip
    classify.add_argument(
        "--similar", action="store_true", help="also the five most similar training images; the "
        "first time, the run looks at all of them",
    )  # fmt: skip
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


def classify_verb(asked: argparse.Namespace, paths: Paths) -> int:
    """A line a picture; a picture that cannot be read does not end the others."""
    from resnet_demo.data.pictures import check_fit
    from resnet_demo.data.store import Datasets
    from resnet_demo.evaluation.modes import require_images
    from resnet_demo.runs.store import Runs

    check_fit(asked.fit)
    check_map(asked)
    inside = inside_folder(asked)
    runs = [find(Runs(paths), name) for name in (asked.run, asked.against) if name is not None]
    if asked.similar:
        require_images(runs[0].config().dataset, Datasets(paths.data), "similar")
    from resnet_demo.inference.classification import check_top
    from resnet_demo.inference.classifier import Classifier

    classifiers = [Classifier.of(run) for run in runs]
    for classifier in classifiers:
        check_top(asked.top, len(classifier.saved.classes))
    if asked.dataset is not None:
        classifiers[0].check_classes(Datasets(paths.data).get(asked.dataset))
    index = index_of(runs[0], paths) if asked.similar else None
    failed = 0
    for name in asked.files:
        try:
            told = one_picture(asked, Path(name), inside, index, *classifiers)
            tell({"file": name, **told}, f"{name}: {in_words(told)}", asked.json)
        except DemoError as error:
            failed += 1
            tell({"file": name, "error": str(error)}, f"{name}: {error}", asked.json)
    return 1 if failed else 0


def check_map(asked: argparse.Namespace) -> None:
    """Raises ConfigError where a map cannot be written."""
    if asked.map is None:
        return
    check_one_file("map", asked.files)
    if asked.map.suffix.lower() != ".png" or not asked.map.parent.is_dir():
        raise ConfigError.rule("map", "a .png file in a folder that is there", str(asked.map))


def inside_folder(asked: argparse.Namespace) -> Path | None:
    """Where the stages go. Raises ConfigError."""
    if asked.inside is not None:
        check_one_file("inside", asked.files)
    return folder_for("inside", asked.inside)


def check_one_file(field: str, files: list[str]) -> None:
    """Raises ConfigError for more: what is written of one would be lost to the next."""
    if len(files) > 1:
        raise ConfigError.rule(field, "asked for with one FILE only", f"{len(files)} files")


def index_of(run: Any, paths: Paths) -> Any:
    """What the run makes of its training images, kept for page and API too."""
    from resnet_demo.tasks.image_indexes import Indexing
    from resnet_demo.tasks.launcher import Launcher

    told = []

    def on_batch(done: int, total: int) -> None:
        told.append(done)
        on_one_line(f"{run.id}: {done:,} of {total:,} training images")

    try:
        return Indexing(Launcher(paths)).made(run, on_batch)
    finally:
        if told:
            end_of_line()


def one_picture(
    asked: argparse.Namespace,
    path: Path,
    inside: Path | None,
    index: Any,
    classifier: Any,
    other: Any = None,
) -> dict[str, Any]:
    """What is told of a picture; what was asked for is written. Raises DemoError, OSError.

    inside: the folder for its stages. index: of the training images. None: not asked for.
    """
    from resnet_demo.data.pictures import decode_picture

    rgb = decode_picture(path)
    said = classifier.classify(rgb, asked.top, asked.fit)
    told = {**said.to_dict(), "fit": asked.fit}
    if asked.map is not None:
        write_map(asked.map, classifier.looked(rgb, said.labels[0]["label"], asked.fit), asked)
        told["map"] = str(asked.map)
    if inside is not None:
        told["inside"] = write_stages(inside, classifier.inside(rgb, asked.fit))
    if index is not None:
        from resnet_demo.inference.similar_images import rows

        told["similar"] = rows(classifier.similar(rgb, index, asked.fit))
    if other is not None:
        labels = other.classify(rgb, asked.top, asked.fit).labels
        told["against"] = {"run": other.run.id, "labels": labels}
    return told


def write_map(path: Path, looked: Any, asked: argparse.Namespace) -> None:
    """The picture under its heat, as a PNG. Raises OSError."""
    from resnet_demo.files import write_atomically
    from resnet_demo.inference.feature_maps import png
    from resnet_demo.inference.overlay import overlay

    write_atomically(path, png(overlay(looked.picture, looked.heat, asked.opacity)))


def write_stages(folder: Path, stages: list[tuple[str, Any]]) -> list[dict[str, str]]:
    """The strongest maps of each stage as a PNG: stage and file of each. Raises OSError."""
    from resnet_demo.files import write_atomically
    from resnet_demo.inference.feature_maps import png

    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name.replace(' ', '-')}.png" for name, _ in stages]
    for path, (_, grid) in zip(files, stages, strict=True):
        write_atomically(path, png(grid))
    return [
        {"stage": name, "file": str(path)} for path, (name, _) in zip(files, stages, strict=True)
    ]


def in_words(told: dict[str, Any]) -> str:
    """Labels, a warning where they should not be believed, and whatever else was asked for."""
    text = listed(told["labels"])
    if told["outside"] and told["outside"]["is_outside"]:
        text += " (unlike the pictures it was trained for: it may be none of its classes)"
    if "against" in told:
        text += f"; {told['against']['run']} says {listed(told['against']['labels'])}"
    if "similar" in told:
        similar = (f"{one['label']} {one['cosine']:.3f}" for one in told["similar"])
        text += f"; most similar training images: {', '.join(similar)}"
    if "inside" in told:
        text += f"; what its stages see: {', '.join(one['file'] for one in told['inside'])}"
    return text


def listed(labels: list[dict[str, Any]]) -> str:
    """cat 91.2%, dog 5.0%."""
    return ", ".join(f"{row['label']} {row['confidence']:.1%}" for row in labels)
