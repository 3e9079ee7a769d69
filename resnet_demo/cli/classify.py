"""The verb `classify`: name what pictures show, with maps and similar images on request."""

import argparse
from pathlib import Path
from typing import Any

from resnet_demo.cli.common import (
    add_verb,
    count_argument,
    end_progress,
    output_folder,
    print_result,
    show_progress,
)
from resnet_demo.errors import ConfigError, DemoError
from resnet_demo.paths import Paths
from resnet_demo.runs.text import DATASET_CHANGED, share_text


def add(verbs: Any) -> None:
    """Add the verb and its options."""
    classify = add_verb(verbs, "classify", run_classify, "name what pictures show")
    classify.add_argument("run", metavar="RUN", help="id or folder of a trained run")
    classify.add_argument("files", nargs="+", metavar="FILE", help="pictures")
    classify.add_argument(
        "--top",
        type=count_argument,
        default=5,
        metavar="N",
        help="labels per picture (1 to the number of classes; default 5)",
    )
    classify.add_argument(
        "--fit",
        metavar="WAY",
        help="how a picture becomes a square: crop, squash or pad (default: as in training)",
    )
    classify.add_argument(
        "--map",
        type=Path,
        metavar="PNG",
        help="write the class activation map of the first label over the picture; one FILE only",
    )
    classify.add_argument(
        "--opacity",
        type=opacity_argument,
        default=0.5,
        metavar="X",
        help="opacity of the map (0 to 1; default 0.5)",
    )
    classify.add_argument(
        "--inside",
        metavar="DIR",
        help="write the strongest feature maps of each stage as a PNG; one FILE only",
    )
    classify.add_argument(
        "--similar",
        action="store_true",
        help="name the five most similar training images; the first time, index all of them",
    )
    classify.add_argument("--against", metavar="RUN", help="classify with this run too")
    classify.add_argument(
        "--dataset", metavar="NAME", help="require that the run has the classes of this dataset"
    )


def opacity_argument(text: str) -> float:
    """Parse a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:  # NaN fails too
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text!r}")
    return value


def run_classify(args: argparse.Namespace, paths: Paths) -> int:
    """Print a result for each picture; return 1 if a picture cannot be read."""
    from resnet_demo.data.pictures import check_fit
    from resnet_demo.data.store import Datasets
    from resnet_demo.evaluation.modes import require_images
    from resnet_demo.runs.dataset import dataset_changed
    from resnet_demo.runs.store import Runs, check_trained_here

    if args.fit is not None:
        check_fit(args.fit)
    check_map(args)
    folder = stages_folder(args)
    # Checks that do not need torch come before it is imported.
    runs = [Runs(paths).find(name) for name in (args.run, args.against) if name is not None]
    if args.similar:
        check_trained_here(runs[0], "searched for similar images")
        require_images(runs[0].config().dataset, Datasets(paths.data), "similar")
    from resnet_demo.inference.classification import check_top
    from resnet_demo.inference.classifier import Classifier

    classifiers = [Classifier.load(run) for run in runs]
    # Both runs, because `--against` may have fewer classes.
    for classifier in classifiers:
        check_top(args.top, len(classifier.saved.classes))
    if args.dataset is not None:
        classifiers[0].check_classes(Datasets(paths.data).get(args.dataset))
    index = load_index(runs[0], paths) if args.similar else None
    changed = dataset_changed(runs[0], Datasets(paths.data)) if args.similar else None
    failed = 0
    for name in args.files:  # an unreadable picture does not stop the others
        try:
            result = classify_picture(args, Path(name), folder, index, *classifiers)
            if args.similar:
                result["dataset_changed"] = changed
            print_result({"file": name, **result}, f"{name}: {result_text(result)}", args.json)
        except DemoError as error:
            failed += 1
            print_result({"file": name, "error": str(error)}, f"{name}: {error}", args.json)
    return 1 if failed else 0


def check_map(args: argparse.Namespace) -> None:
    """Check that the map can be written. Raises ConfigError."""
    if args.map is None:
        return
    check_one_file("map", args.files)
    if args.map.suffix.lower() != ".png" or not args.map.parent.is_dir():
        raise ConfigError.rule("map", "a .png file in an existing folder", str(args.map))


def stages_folder(args: argparse.Namespace) -> Path | None:
    """Return the folder for the feature maps of the stages. Raises ConfigError."""
    if args.inside is not None:
        check_one_file("inside", args.files)
    return output_folder("inside", args.inside)


def check_one_file(field: str, files: list[str]) -> None:
    """Check that one picture is given, as each would overwrite the one before.

    Raises ConfigError.
    """
    if len(files) > 1:
        raise ConfigError.rule(field, "used with one FILE only", f"{len(files)} files")


def load_index(run: Any, paths: Paths) -> Any:
    """Return the run's index of training images; make and store it first if there is none."""
    from resnet_demo.tasks.image_indexes import ImageIndexes
    from resnet_demo.tasks.launcher import Launcher

    has_progress = False  # a stored index is read without any, and then no line must be ended

    def on_batch(done: int, total: int) -> None:
        nonlocal has_progress
        has_progress = True
        show_progress(f"{run.id}: {done:,} of {total:,} training images")

    try:
        return ImageIndexes(Launcher(paths)).get_or_build(run, on_batch)
    finally:
        if has_progress:
            end_progress()


def classify_picture(
    args: argparse.Namespace,
    path: Path,
    folder: Path | None,
    index: Any,
    classifier: Any,
    other: Any = None,
) -> dict[str, Any]:
    """Classify one picture and write the files that were requested.

    folder: for the feature maps, None for none. index: of the training images, None for no similar
    images. other: a second classifier. Raises DemoError, OSError.
    """
    from resnet_demo.data.pictures import decode_picture

    rgb = decode_picture(path)
    answer = classifier.classify(rgb, args.top, args.fit)
    # The fit that was used, which the network's preprocessing names if no option does.
    result = {**answer.to_dict(), "fit": args.fit or classifier.preprocessing.fit}
    if args.map is not None:
        write_map(args.map, classifier.class_map(rgb, answer.labels[0]["label"], args.fit), args)
        result["map"] = str(args.map)
    if folder is not None:
        result["inside"] = write_stages(folder, classifier.feature_maps(rgb, args.fit))
    if index is not None:
        from resnet_demo.inference.neighbours import neighbour_rows

        result["similar"] = neighbour_rows(classifier.similar_images(rgb, index, args.fit))
    if other is not None:
        labels = other.classify(rgb, args.top, args.fit).labels
        result["against"] = {"run": other.run.id, "labels": labels}
    return result


def write_map(path: Path, class_map: Any, args: argparse.Namespace) -> None:
    """Write the picture with its class activation map as a PNG. Raises OSError."""
    from resnet_demo.files import write_atomically
    from resnet_demo.inference.heatmaps import encode_png, overlay

    write_atomically(path, encode_png(overlay(class_map.picture, class_map.heat, args.opacity)))


def write_stages(folder: Path, stages: list[tuple[str, Any]]) -> list[dict[str, str]]:
    """Write the strongest feature maps of each stage as a PNG and return the file names.

    Raises OSError.
    """
    from resnet_demo.files import write_atomically
    from resnet_demo.inference.heatmaps import encode_png

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, grid in stages:
        # Titles of stages have spaces, which are a nuisance in a shell.
        path = folder / f"{name.replace(' ', '-')}.png"
        write_atomically(path, encode_png(grid))
        written.append({"stage": name, "file": str(path)})
    return written


def result_text(result: dict[str, Any]) -> str:
    """Return the result in one line."""
    text = label_list(result["labels"])
    if result["outside"] and result["outside"]["is_outside"]:
        text += " (unlike the training images: it may show none of the classes)"
    if "against" in result:
        text += f"; {result['against']['run']}: {label_list(result['against']['labels'])}"
    if "similar" in result:
        similar = (f"{row['label']} {row['cosine']:.3f}" for row in result["similar"])
        text += f"; most similar training images: {', '.join(similar)}"
        text += f" ({DATASET_CHANGED})" if result["dataset_changed"] else ""
    if "inside" in result:
        text += f"; feature maps: {', '.join(row['file'] for row in result['inside'])}"
    return text


def label_list(labels: list[dict[str, Any]]) -> str:
    """Return labels with their confidence: `cat 91.2 %, dog 5.0 %`."""
    return ", ".join(f"{row['label']} {share_text(row['confidence'])}" for row in labels)
