"""What some weights make of the images they learned from, as a task: made once, and kept."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_demo.data.store import Datasets
from resnet_demo.errors import DamagedError, DemoError, NotFoundError, StoppedError
from resnet_demo.evaluation.modes import require_images
from resnet_demo.files import sha256_of, write_atomically
from resnet_demo.models.description import describe
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run, Runs
from resnet_demo.tasks.caller import Caller
from resnet_demo.tasks.evaluations import UNTOLD, remove_useless
from resnet_demo.tasks.launcher import Launcher, claim
from resnet_demo.tasks.progress import Telling, begin, perform
from resnet_demo.tasks.status import Status, settle, state_of

if TYPE_CHECKING:  # torch, which the page must not wait for
    from resnet_demo.inference.neighbours import ImageIndex

INDEX, DIGEST = "index.safetensors", "index.safetensors.sha256"
LOOK_EVERY_S = 0.2
OnBatch = Callable[[int, int], object]


class Indexing:
    """The indexes of a launcher's runs, which all pages share."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def start(self, run_id: str, caller: Caller) -> Path:
        """Look at the run's training images in a worker, once for the same weights; the folder.

        Anybody may. A damaged index is made anew. Raises NotFoundError where the images are not on
        this machine, LimitError, ConfigError, DamagedError.
        """
        run = self.launcher.runs.get(run_id)
        return self.launcher.once("index", *self._asked(run), caller)

    def folder(self, run: Run) -> Path:
        """Where the index for these weights goes, there or not yet. Raises as `describe`."""
        return self.launcher.kept(run) / f"index-{describe(run.path)['sha256'][:12]}"

    def made(self, run: Run, on_batch: OnBatch) -> "ImageIndex":
        """The run's index. What is not there yet is made in this process, or waited for.

        run: any, also one of another folder than the launcher's. on_batch(done, total) is told
        meanwhile. Raises as `start` and `build_index`, StoppedError where somebody stopped it.
        """
        folder, told = self._asked(run)
        lock = claim(folder, told)
        if lock is None:
            waited(folder, on_batch)
        else:
            try:
                fill(folder, lambda: run, self.launcher.datasets, on_batch)
            finally:
                os.close(lock)
        return read_index(folder)

    def _asked(self, run: Run) -> tuple[Path, dict[str, str]]:
        """The folder, free of what cannot be used, and its `task.json`. Raises as `start`."""
        folder = self.folder(run)
        require_images(run.config().dataset, self.launcher.datasets)
        remove_useless(folder, is_useless)
        return folder, {"run": run.id, "weights": folder.name.rpartition("-")[2]}


def index(folder: Path, paths: Paths) -> None:
    """Fill an index's folder. Raises as `perform`."""
    told = json.loads((folder / "task.json").read_text("utf-8"))
    fill(folder, lambda: Runs(paths).get(told["run"]), Datasets(paths.data))


def fill(
    folder: Path,
    find: Callable[[], Run],
    datasets: Datasets,
    on_batch: OnBatch = lambda done, total: None,
) -> None:
    """Look at the training images of the run that `find` finds. Raises as `perform`."""
    told = json.loads((folder / "task.json").read_text("utf-8"))

    def work(tell: Telling) -> str:
        from resnet_demo.inference.classifier import Classifier
        from resnet_demo.inference.neighbours import build_index

        def on_both(done: int, total: int) -> None:
            tell(done, total, unit="images")
            on_batch(done, total)

        begin(folder, "running", "")
        run = find()
        require_images(run.config().dataset, datasets)
        made = build_index(Classifier.load(run), datasets, on_both)
        if not made.weights.startswith(told["weights"]):  # as the folder is named
            raise DemoError("the run has better weights by now: start again")
        write_index(folder, made)
        return ""

    perform(folder, "loading torch and the images", work)


def waited(folder: Path, on_batch: OnBatch) -> None:
    """Until another process is done with it. Raises StoppedError, DemoError where it failed."""
    while (status := settle(folder, UNTOLD)).is_live:
        if status.total:
            on_batch(status.done, status.total)
        time.sleep(LOOK_EVERY_S)
    check_finished(status, "the look at the training images")


def check_finished(status: Status, what: str) -> None:
    """Raises StoppedError or DemoError for a task that ended otherwise. what: it did."""
    if status.state == "stopped":
        raise StoppedError(f"{what} was stopped")
    if status.state == "failed":
        raise DemoError(status.message)


def write_index(folder: Path, made: "ImageIndex") -> None:
    """Write INDEX and its sha256 beside it. Raises OSError."""
    import safetensors.torch

    tensors = {name: getattr(made, name).contiguous() for name in ("features", "places", "labels")}
    content = safetensors.torch.save(tensors, metadata={"weights": made.weights})
    write_atomically(folder / INDEX, content)
    digest = hashlib.sha256(content).hexdigest()
    write_atomically(folder / DIGEST, f"{digest}  {INDEX}\n".encode())


def check_index(folder: Path) -> None:
    """Whether a finished task's index is to the letter what was written. No torch here.

    Raises NotFoundError where there is none, DamagedError.
    """
    if not (folder / INDEX).exists():
        raise NotFoundError("the training images were not looked at yet")
    try:
        if sha256_of(folder / INDEX) != (folder / DIGEST).read_text("ascii").split()[0]:
            raise ValueError("sha256")
    except (OSError, ValueError, IndexError) as error:
        raise DamagedError(f"{INDEX} of {folder.name} is damaged and is not used") from error


def is_useless(folder: Path) -> bool:
    """Whether a look ended well, or nobody knows how, without an index that can be used."""
    state = state_of(folder)
    if state != "finished":
        return state == "damaged"
    try:
        check_index(folder)
    except (NotFoundError, DamagedError):
        return True
    return False


def read_index(folder: Path) -> "ImageIndex":
    """What a finished task put there. Raises as `check_index`."""
    from safetensors import SafetensorError, safe_open

    from resnet_demo.inference.neighbours import ImageIndex

    check_index(folder)
    try:
        with safe_open(folder / INDEX, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return ImageIndex(**tensors, weights=file.metadata()["weights"])
    except (SafetensorError, TypeError, KeyError, OSError) as error:
        raise DamagedError(f"{INDEX} of {folder.name} is damaged and is not used") from error
