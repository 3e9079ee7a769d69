"""An evaluation as a task: begun once for the same weights, split and dataset, and kept."""

import json
from functools import partial
from pathlib import Path

from resnet_demo.data.rules import check_split
from resnet_demo.data.store import Datasets
from resnet_demo.errors import DemoError
from resnet_demo.files import write_atomically
from resnet_demo.models.description import describe, predictions_sha256
from resnet_demo.places import Places
from resnet_demo.runs.store import Run, Runs
from resnet_demo.tasks.caller import Caller
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.work import Telling, begin, perform


class Evaluating:
    """The evaluations of a launcher's runs, which all pages share."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def start(self, run_id: str, split: str, caller: Caller, dataset: str | None = None) -> Path:
        """Evaluate in a worker, once for the same weights and split; the task's folder."""
        caller.must_own("evaluate a run")
        run = self.launcher.runs.get(run_id)
        name = dataset or run.config().dataset
        folder = self.folder(run, split, name)
        weights = folder.name.rpartition("-")[2]
        told = {"run": run.id, "split": split, "dataset": name, "weights": weights}
        return self.launcher.once("evaluate", folder, told)

    def folder(self, run: Run, split: str, dataset: str) -> Path:
        """Where the result for these weights goes, there or not yet.

        Raises ConfigError, NotFoundError, DamagedError.
        """
        check_split(split)
        described = describe(run.path)
        if predictions_sha256(described["metrics"], split, dataset) is None:
            self.launcher.datasets.get(dataset)  # else the answers are here
        weights = described["sha256"]
        return self.launcher.kept(run) / f"{split}-{dataset}-{weights[:12]}"


def evaluate(folder: Path, places: Places) -> None:
    """Fill an evaluation's folder with `result.json`. Raises as `perform`."""
    told = json.loads((folder / "task.json").read_text("utf-8"))

    def work(tell: Telling) -> str:
        from resnet_demo.runs.evaluation import evaluate_run

        begin(folder, "running", "")
        run = Runs(places).get(told["run"])
        on_batch = partial(tell, unit="images")
        datasets = Datasets(places.data)
        result = evaluate_run(run, datasets, told["split"], told["dataset"], on_batch)
        if not result["weights"].startswith(told["weights"]):  # as the folder is named
            raise DemoError("the run has better weights by now: evaluate it again")
        write_atomically(folder / "result.json", json.dumps(result).encode())
        return ""

    perform(folder, "loading torch and the images", work)
