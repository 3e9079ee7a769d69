"""What the workers of datasets do: fetch CIFAR-10, look into a person's images, import them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from resnet_demo.data.cifar10.get import DownloadProgress, get_cifar10
from resnet_demo.data.cifar10.sources import cifar10_sources
from resnet_demo.data.importer.import_images import import_images
from resnet_demo.data.importer.scan import scan_source
from resnet_demo.data.importer.survey import write_survey
from resnet_demo.paths import Paths
from resnet_demo.tasks.progress import Telling, begin, perform
from resnet_demo.tasks.status import read_status


def get(
    folder: Path, paths: Paths, watch: Callable[[DownloadProgress], None] | None = None
) -> None:
    """Fetch CIFAR-10 from the first source that gives it. Raises as `perform`.

    watch: is told the progress too.
    """

    def work(tell: Telling) -> str:
        def told(now: DownloadProgress) -> None:
            tell(now.done, now.total, unit=now.unit, rate=now.rate, message=now.message)
            if watch:
                watch(now)

        begin(folder, "running", "looking for a copy")
        sources = cifar10_sources(paths.cifar10_copy)
        info = get_cifar10(paths.data, sources, report=told, should_stop=tell.should_stop)
        return f"{info.train + info.test:,} images: {info.source}"

    perform(folder, "looking for a copy", work)


def survey(folder: Path, paths: Paths) -> None:
    """See what the source named in `task.json` holds, into the folder. Raises as `perform`.

    An upload that cannot be imported after this, since the look failed or was stopped, is removed.
    """
    source = Path(asked(folder)["source"])

    def work(tell: Telling) -> str:
        begin(folder, "running", "looking at the pictures")
        found = scan_source(source, progress=lambda *now: progress(tell, *now))
        write_survey(folder, found)
        return ""

    try:
        perform(folder, "opening it", work)
    finally:
        if read_status(folder).state != "finished":
            shutil.rmtree(folder / "source", ignore_errors=True)


def bring(folder: Path, paths: Paths) -> None:
    """Import what `task.json` names; an upload that was only for this is gone then.

    Raises as `perform`.
    """
    told = asked(folder)
    source = Path(told["source"])

    def work(tell: Telling) -> str:
        begin(folder, "running", "reading the pictures")
        info = import_images(
            paths.data, told["name"], source, size=told["size"],
            progress=lambda *now: progress(tell, *now),
        )  # fmt: skip
        if told["surveyed"]:
            shutil.rmtree(folder.with_name("survey"), ignore_errors=True)
        return f"{info.train:,} training and {info.test:,} test images in {info.name}"

    perform(folder, "opening it", work)


def asked(folder: Path) -> dict:
    """What the task was told."""
    return json.loads((folder / "task.json").read_text("utf-8"))


def progress(tell: Telling, done: int, total: int | None, message: str) -> None:
    """Progress as importing has it: packed bytes or files, which say nothing to a person."""
    tell(done, total, message=message)
