"""The verb `data`: list, fetch, import and delete datasets."""

import argparse
from pathlib import Path
from typing import Any

from resnet_demo.cli.common import (
    add_verb,
    count_argument,
    end_progress,
    print_result,
    show_progress,
    signals_stop,
)
from resnet_demo.errors import ConfigError
from resnet_demo.file_locks import release_lock
from resnet_demo.paths import Paths
from resnet_demo.runs.text import dataset_lines, dataset_text, share_text, transfer_text


def add(verbs: Any) -> None:
    """Add the verb and its options."""
    data = add_verb(verbs, "data", run_data, "list, fetch, import and delete datasets")
    data.add_argument(
        "action",
        choices=tuple(ACTIONS),
        metavar="|".join(ACTIONS),
        help="status: list the datasets and downloaded weights; show: count the images of each "
        "class; get: download cifar10, or weights learned on ImageNet (resnet18-weights, "
        "resnet34-weights, resnet50-weights); import: make a dataset from pictures; delete: "
        "remove a dataset or weights",
    )
    data.add_argument(
        "name", nargs="?", metavar="NAME", help="a dataset or weights; for all but status"
    )
    data.add_argument(
        "path",
        nargs="?",
        type=Path,
        metavar="PATH",
        help="for import: a folder, zip or tar with one folder per class, folders for the splits "
        "(train, val, test), or labels.csv; docs/own-images.md lists all layouts",
    )
    data.add_argument(
        "--size",
        type=count_argument,
        metavar="N",
        help="for import: side of the stored images in pixels (8 to 256; default: the median of "
        "the pictures' shorter sides, at most 224)",
    )
    data.add_argument(
        "--fit",
        default="crop",
        metavar="WAY",
        help="for import: how a picture becomes a square: crop, squash or pad (default crop)",
    )


def run_data(args: argparse.Namespace, paths: Paths) -> None:
    """Run one of ACTIONS."""
    if args.action != "status" and args.name is None:
        raise ConfigError.rule("name", "the name of a dataset", args.name)
    ACTIONS[args.action](args, paths)


def list_datasets(args: argparse.Namespace, paths: Paths) -> None:
    """Print a line for each dataset, and for downloaded weights."""
    from resnet_demo.data.store import Datasets
    from resnet_demo.models.pretrained import downloads, weights_path

    for info in Datasets(paths.data).list():
        print_result(info.to_dict(), dataset_text(info), args.json)
    # Weights have no info file as datasets have, so the files of all downloads are looked for.
    for name, model in downloads().items():
        if path := weights_path(model, paths.weights):
            print_weights(name, path, args)


def show_dataset(args: argparse.Namespace, paths: Paths) -> None:
    """Print one dataset with the number of images of each class."""
    from resnet_demo.data.store import Datasets

    datasets = Datasets(paths.data)
    info, counts = datasets.get(args.name), datasets.class_counts(args.name)
    text = "\n".join([dataset_text(info), *dataset_lines(info, counts)])
    print_result({**info.to_dict(), "counts": counts}, text, args.json)


def download_dataset(args: argparse.Namespace, paths: Paths) -> None:
    """Download a dataset or weights; Ctrl-C stops, and the next call continues the download."""
    from resnet_demo.data.store import Datasets
    from resnet_demo.models.pretrained import downloads, weights_path
    from resnet_demo.tasks.datasets import DataTasks, run_download
    from resnet_demo.tasks.launcher import Launcher

    # The lock shows other processes, such as an open page, that this download is alive.
    folder, lock = DataTasks(Launcher(paths)).make_get(args.name)
    # In this process, unlike on the page, so that Ctrl-C reaches the download itself.
    try:
        with signals_stop(folder):
            run_download(folder, paths, show_transfer)
    finally:
        release_lock(lock)
        end_progress()
    if model := downloads().get(args.name):
        print_weights(args.name, weights_path(model, paths.weights), args)
        return
    info = Datasets(paths.data).get(args.name)
    print_result(info.to_dict(), dataset_text(info), args.json)


def print_weights(name: str, path: Path, args: argparse.Namespace) -> None:
    """Print the file of downloaded weights and its size."""
    values = {"name": name, "file": str(path), "bytes": path.stat().st_size}
    print_result(values, f"{name}: {path}, {values['bytes'] / 1e6:.0f} MB", args.json)


def import_pictures(args: argparse.Namespace, paths: Paths) -> None:
    """Import a folder or an archive of pictures."""
    if args.path is None:
        raise ConfigError("data import needs a name and the path of a folder, a zip or a tar")
    from resnet_demo.data.importer.import_images import import_images
    from resnet_demo.data.importer.survey import Survey, space_text

    def progress(done: int, total: int | None, message: str) -> None:
        # The total is not known while duplicates are looked for.
        share = f"{share_text(done / total, 0):>5}  " if total else ""
        show_progress(f"{share}{message}")

    # The survey comes through a callback, since the import returns the dataset.
    surveys: list[Survey] = []
    try:
        info = import_images(
            paths.data,
            args.name,
            args.path,
            size=args.size,
            fit=args.fit,
            progress=progress,
            on_survey=surveys.append,
        )
    finally:
        end_progress()
    # The same notes as on the page, where they are shown before the import.
    notes = [note for survey in surveys for note in survey.warnings(info.size)]
    space = space_text(info.train + info.val + info.test, info.size)
    text = "\n".join([dataset_text(info), f"  {space}", *(f"  note: {note}" for note in notes)])
    print_result({**info.to_dict(), "notes": notes}, text, args.json)


def delete_dataset(args: argparse.Namespace, paths: Paths) -> None:
    """Delete a dataset that no live run uses, or downloaded weights."""
    from resnet_demo.tasks.datasets import DataTasks
    from resnet_demo.tasks.launcher import Launcher
    from resnet_demo.tasks.limits import Caller

    # Caller() is the owner: whoever has a shell here may do everything.
    DataTasks(Launcher(paths)).delete(args.name, Caller())
    print_result({"name": args.name, "deleted": True}, f"{args.name} is deleted", args.json)


def show_transfer(transfer: Any) -> None:
    """Show the progress of a download."""
    show_progress(
        transfer_text(transfer.message, transfer.done, transfer.total, transfer.unit, transfer.rate)
    )


ACTIONS = {
    "status": list_datasets,
    "show": show_dataset,
    "get": download_dataset,
    "import": import_pictures,
    "delete": delete_dataset,
}
