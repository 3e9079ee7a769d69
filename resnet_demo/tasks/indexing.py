"""What some weights make of the images they learned from, as a task: made once, and kept."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_demo.data.store import Datasets
from resnet_demo.errors import DamagedError, DemoError, NotFoundError
from resnet_demo.files import write_atomically
from resnet_demo.models.description import describe
from resnet_demo.places import Places
from resnet_demo.runs.modes import require_images
from resnet_demo.runs.store import Run, Runs
from resnet_demo.tasks.caller import Caller
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.work import Telling, begin, perform

if TYPE_CHECKING:  # torch, which the page must not wait for
    from resnet_demo.analysis.neighbours import Index

INDEX = "index.safetensors"


class Indexing:
    """The indexes of a launcher's runs, which all pages share."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def start(self, run_id: str, caller: Caller) -> Path:
        """Look at the run's training images in a worker, once for the same weights; the folder.

        Raises NotFoundError where the images are not on this machine, ConfigError, DamagedError.
        """
        caller.must_own("look for similar training images")
        run = self.launcher.runs.get(run_id)
        folder = self.folder(run)
        require_images(run.config().dataset, self.launcher.datasets)
        told = {"run": run.id, "weights": folder.name.rpartition("-")[2]}
        return self.launcher.once("index", folder, told)

    def folder(self, run: Run) -> Path:
        """Where the index for these weights goes, there or not yet. Raises as `describe`."""
        return self.launcher.kept(run) / f"index-{describe(run.path)['sha256'][:12]}"


def index(folder: Path, places: Places) -> None:
    """Fill an index's folder. Raises as `perform`."""
    told = json.loads((folder / "task.json").read_text("utf-8"))

    def work(tell: Telling) -> str:
        from resnet_demo.runs.similar import index_of

        begin(folder, "running", "")
        run, datasets = Runs(places).get(told["run"]), Datasets(places.data)
        require_images(run.config().dataset, datasets)
        made = index_of(run, datasets, partial(tell, unit="images"))
        if not made.weights.startswith(told["weights"]):  # as the folder is named
            raise DemoError("the run has better weights by now: start again")
        write_index(folder, made)
        return ""

    perform(folder, "loading torch and the images", work)


def write_index(folder: Path, made: "Index") -> None:
    """Write INDEX. Raises OSError."""
    import safetensors.torch

    tensors = {name: getattr(made, name).contiguous() for name in ("features", "places", "labels")}
    content = safetensors.torch.save(tensors, metadata={"weights": made.weights})
    write_atomically(folder / INDEX, content)


def read_index(folder: Path) -> "Index":
    """What a finished task put there. Raises NotFoundError where there is none, DamagedError."""
    from safetensors import SafetensorError, safe_open

    from resnet_demo.analysis.neighbours import Index

    path = folder / INDEX
    if not path.exists():
        raise NotFoundError("the training images were not looked at yet")
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return Index(**tensors, weights=file.metadata()["weights"])
    except (SafetensorError, TypeError, KeyError, OSError) as error:
        raise DamagedError(f"{INDEX} of {folder.name} is damaged and is not used") from error
