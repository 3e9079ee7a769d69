"""Image indexes as tasks: the network's features of a run's training images, computed once.

An index finds the training images that resemble a picture.
"""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_demo.data.store import Datasets
from resnet_demo.errors import DamagedError, DemoError, NotFoundError
from resnet_demo.evaluation.modes import require_images
from resnet_demo.file_locks import release_lock
from resnet_demo.files import open_file, sha256_of, write_atomically
from resnet_demo.models.description import model_description
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run, Runs, check_trained_here
from resnet_demo.tasks.base import (
    Progress,
    check_finished,
    claim_task,
    enter_state,
    read_request,
    remove_task,
    run_task,
)
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.limits import Caller
from resnet_demo.tasks.status import reconcile_status, state_of

if TYPE_CHECKING:  # torch, which the page must not wait for
    from resnet_demo.inference.neighbours import ImageIndex

INDEX, DIGEST = "index.safetensors", "index.safetensors.sha256"
MAX_DIGEST_BYTES = 1000
POLL_S = 0.2
OnBatch = Callable[[int, int], object]


class ImageIndexes:
    """The indexes of a launcher's runs, which all pages share."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def start(self, run_id: str, caller: Caller) -> Path:
        """Index the run's training images in a worker, once for the same weights.

        Return the folder. A damaged index is built again. Any caller may start one. Raises:
        NotFoundError if the images are not on this machine, LimitError, ConfigError, DamagedError.
        """
        run = self.launcher.runs.get(run_id)
        folder, request = self._request(run)
        return self.launcher.start_once("index", folder, request, caller, is_unusable)

    def folder(self, run: Run) -> Path:
        """Return the folder of the index for the current weights and images; it may be missing.

        Raises as `model_description`.
        """
        weights = model_description(run.path)["sha256"][:12]
        content = self.launcher.datasets.content_key(run.config().dataset)
        # By weights and content: another network, or other images, need another index.
        name = "-".join(filter(None, ("index", weights, content)))
        return self.launcher.results_folder(run) / name

    def get_or_build(self, run: Run, on_batch: OnBatch) -> "ImageIndex":
        """Return the run's index; build it in this process, or wait for the one who does.

        run: may be of another root than the launcher's. on_batch(done, total): called meanwhile.
        Raises as `start` and `neighbours.index_training_images`; StoppedError.
        """
        folder, request = self._request(run)
        remove_task(folder, is_unusable)
        lock = claim_task(folder, request)
        if lock is None:
            wait_for_index(folder, on_batch)
        else:
            try:
                build_index(folder, lambda: run, self.launcher.datasets, on_batch)
            finally:
                release_lock(lock)
        return read_index(folder)

    def _request(self, run: Run) -> tuple[Path, dict[str, Any]]:
        """Return the folder and the content of `task.json`. Raises as `start`."""
        check_trained_here(run, "searched for similar images")
        folder = self.folder(run)
        require_images(run.config().dataset, self.launcher.datasets)
        return folder, {"run": run.id, "weights": folder.name.split("-")[1]}


def run_indexing(folder: Path, paths: Paths) -> None:
    """Fill an index's folder. Raises as `run_task`."""
    run_id = read_request(folder)["run"]
    build_index(folder, lambda: Runs(paths).get(run_id), Datasets(paths.data))


def build_index(
    folder: Path,
    find_run: Callable[[], Run],
    datasets: Datasets,
    on_batch: OnBatch = lambda done, total: None,
) -> None:
    """Index the training images of a run and write the index. Raises as `run_task`."""
    weights = read_request(folder)["weights"]

    def work(progress: Progress) -> str:
        from resnet_demo.inference import neighbours
        from resnet_demo.inference.classifier import Classifier

        def report(done: int, total: int) -> None:
            progress(done, total, unit="images")
            on_batch(done, total)

        enter_state(folder, "running", "")
        run = find_run()  # here, so that its error ends in the status
        require_images(run.config().dataset, datasets)
        index = neighbours.index_training_images(Classifier.load(run), datasets, report)
        if not index.weights.startswith(weights):
            raise DemoError("the run has better weights by now: start again")
        write_index(folder, index)
        return ""

    run_task(folder, "loading torch and the images", work)


def wait_for_index(folder: Path, on_batch: OnBatch) -> None:
    """Wait until another process has built the index. Raises StoppedError, DemoError."""
    while (status := reconcile_status(folder)).is_live:
        if status.total:
            on_batch(status.done, status.total)
        time.sleep(POLL_S)
    check_finished(status, "indexing the training images")


def write_index(folder: Path, index: "ImageIndex") -> None:
    """Write INDEX and a file with its sha256. Raises OSError."""
    import safetensors.torch

    tensors = {name: getattr(index, name).contiguous() for name in ("features", "places", "labels")}
    content = safetensors.torch.save(tensors, metadata={"weights": index.weights})
    write_atomically(folder / INDEX, content)
    # The digest last: a kill in between leaves an index that counts as damaged and is built again.
    digest = hashlib.sha256(content).hexdigest()
    write_atomically(folder / DIGEST, f"{digest}  {INDEX}\n".encode())


def check_index(folder: Path) -> None:
    """Raise DamagedError unless the index is what was written; NotFoundError if it is missing.

    No torch here.
    """
    if not (folder / INDEX).exists():
        raise NotFoundError("the training images are not indexed yet")
    try:
        with open_file(folder / DIGEST) as file:
            digest = file.read(MAX_DIGEST_BYTES).decode("ascii").split()[0]
        if sha256_of(folder / INDEX) != digest:
            raise ValueError("sha256")
    except (OSError, ValueError, IndexError) as error:
        raise DamagedError(f"{INDEX} of {folder.name} is damaged and is not used") from error


def is_unusable(folder: Path) -> bool:
    """Return whether a task is finished, or has a damaged status, without a usable index."""
    state = state_of(folder)
    if state != "finished":
        return state == "damaged"
    try:
        check_index(folder)
    except (NotFoundError, DamagedError):
        return True
    return False


def read_index(folder: Path) -> "ImageIndex":
    """Return the index of a finished task. Raises as `check_index`."""
    from safetensors import SafetensorError, safe_open

    from resnet_demo.inference.neighbours import ImageIndex

    check_index(folder)
    try:
        with safe_open(folder / INDEX, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return ImageIndex(**tensors, weights=file.metadata()["weights"])
    except (SafetensorError, TypeError, KeyError, OSError) as error:
        raise DamagedError(f"{INDEX} of {folder.name} is damaged and is not used") from error
