"""`data`: the datasets on this machine, and bringing more."""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any

from resnet_demo.cli.common import tell, verb, whole
from resnet_demo.errors import ConfigError
from resnet_demo.paths import Paths
from resnet_demo.runs.text import dataset_lines, dataset_text, transfer_text


def add(verbs: Any) -> None:
    """The verb and its arguments."""
    data = verb(verbs, "data", data_verb, "see, fetch, import and delete datasets")
    data.add_argument("what", choices=tuple(DEEDS), metavar="|".join(DEEDS))
    data.add_argument("name", nargs="?", metavar="NAME")
    data.add_argument("path", nargs="?", type=Path, metavar="PATH", help="folder, zip or tar")
    data.add_argument("--size", type=whole, default=32, help="side of the stored images, 32 pixels")


def data_verb(asked: argparse.Namespace, paths: Paths) -> None:
    """Do one of the deeds below."""
    if asked.what != "status" and asked.name is None:
        raise ConfigError.rule("name", "the name of a dataset", asked.name)
    DEEDS[asked.what](asked, paths)


def status(asked: argparse.Namespace, paths: Paths) -> None:
    """A line a dataset."""
    from resnet_demo.data.store import Datasets

    for info in Datasets(paths.data).list():
        tell(info.to_dict(), dataset_text(info), asked.json)


def show(asked: argparse.Namespace, paths: Paths) -> None:
    """One dataset, with the images of each class."""
    from resnet_demo.data.store import Datasets

    datasets = Datasets(paths.data)
    info, counts = datasets.get(asked.name), datasets.counts(asked.name)
    text = "\n".join([dataset_text(info), *dataset_lines(info, counts)])
    tell({**info.to_dict(), "counts": counts}, text, asked.json)


def get(asked: argparse.Namespace, paths: Paths) -> None:
    """Fetch a dataset in this process; Ctrl-C stops, and what has come is kept for next time."""
    from resnet_demo.data.store import Datasets
    from resnet_demo.tasks import data_work
    from resnet_demo.tasks.datasets import DataTasks
    from resnet_demo.tasks.launcher import Launcher
    from resnet_demo.tasks.worker import stop_from_signal

    folder, lock = DataTasks(Launcher(paths)).make_get(asked.name)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in handlers:
        signal.signal(number, lambda *_: stop_from_signal(folder))
    try:
        data_work.get(folder, paths, show_transfer)
    finally:
        os.close(lock)
        end_of_line()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    info = Datasets(paths.data).get(asked.name)
    tell(info.to_dict(), dataset_text(info), asked.json)


def bring(asked: argparse.Namespace, paths: Paths) -> None:
    """Import a folder or an archive of images."""
    if asked.path is None:
        raise ConfigError("data import needs a name and the path of a folder, a zip or a tar")
    from resnet_demo.data.importer.import_images import import_images

    def progress(done: int, total: int | None, what: str) -> None:
        share = f"{done / total:4.0%}  " if total else ""
        on_one_line(f"{share}{what}")

    try:
        info = import_images(paths.data, asked.name, asked.path, size=asked.size, progress=progress)
    finally:
        end_of_line()
    tell(info.to_dict(), dataset_text(info), asked.json)


def delete(asked: argparse.Namespace, paths: Paths) -> None:
    """Delete a dataset that no live run uses."""
    from resnet_demo.tasks.caller import Caller
    from resnet_demo.tasks.datasets import DataTasks
    from resnet_demo.tasks.launcher import Launcher

    DataTasks(Launcher(paths)).delete(asked.name, Caller())
    tell({"name": asked.name, "deleted": True}, f"{asked.name} is deleted", asked.json)


def show_transfer(now: Any) -> None:
    """A Transfer, as the page tells it too."""
    on_one_line(transfer_text(now.what, now.done, now.total, now.unit, now.rate))


def on_one_line(text: str) -> None:
    """Progress for a person at a terminal, each line over the one before."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def end_of_line() -> None:
    """After the last of them."""
    if sys.stderr.isatty():
        print(file=sys.stderr)


DEEDS = {"status": status, "show": show, "get": get, "import": bring, "delete": delete}
