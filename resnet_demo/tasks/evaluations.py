"""Evaluations as tasks: one for the same weights, split, mode and content of the dataset.

An evaluation only reads the run and writes its own folder, so that a live run is not disturbed.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resnet_demo.data.info import check_name
from resnet_demo.data.splits import check_split
from resnet_demo.data.store import Datasets, check_test_split
from resnet_demo.errors import DamagedError, DemoError
from resnet_demo.evaluation.modes import check_images, check_mode, require_images
from resnet_demo.evaluation.stored_results import (
    EVALUATION_KEYS,
    ROBUSTNESS_KEYS,
    read_answers,
    read_result,
    write_result,
)
from resnet_demo.models.description import model_description, predictions_sha256
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run, Runs, check_trained_here
from resnet_demo.tasks.base import Progress, enter_state, read_request, run_task
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.limits import Caller
from resnet_demo.tasks.process_setup import configure_process, import_quickly
from resnet_demo.tasks.status import Status, reconcile_status, state_of

OnBatch = Callable[[int, int], None]
Save = Callable[[], None]
PREFIX = "robustness-"  # of a robustness folder's name; no split has that name


class Evaluations:
    """The evaluations of a launcher's runs, which all pages share."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def start(
        self,
        run_id: str,
        split: str,
        caller: Caller,
        dataset: str | None = None,
        mode: str = "plain",
    ) -> Path:
        """Evaluate a run in a worker, once for the same weights and request; return the folder.

        A result that is damaged or of an older version is computed again. Any caller may start one.
        Raises: LimitError, ConfigError, NotFoundError, DamagedError.
        """
        run = self.launcher.runs.get(run_id)
        return self._start_once("evaluate", run, self._request(run, split, dataset, mode), caller)

    def folder(self, run: Run, split: str, dataset: str, mode: str = "plain") -> Path:
        """Return the folder of the result for the current weights, which may be missing.

        Raises: ConfigError, NotFoundError, DamagedError.
        """
        return self._folder(run, self._request(run, split, dataset, mode))

    def can_compare(self, run_id: str, other_id: str, split: str, mode: str = "plain") -> bool:
        """Return whether both runs can be evaluated on the same images: the first run's split."""
        try:
            first, second = self.launcher.runs.get(run_id), self.launcher.runs.get(other_id)
            config, other = first.config(), second.config()
            self.folder(first, split, config.dataset, mode)
            self.folder(second, split, config.dataset, mode)
            classes = [model_description(run.path)["classes"] for run in (first, second)]
            # Other classes: an answer of one cannot be compared with an answer of the other.
            if classes[0] != classes[1]:
                return False
            if split == "test":
                return True
            datasets, name = self.launcher.datasets, config.dataset
            # A validation split depends on val_share and seed: the images must be the same ones.
            parts = [datasets.split_positions(each, split, name)[1] for each in (config, other)]
        except DemoError:
            return False
        return np.array_equal(*parts)

    def start_robustness(self, run_id: str, split: str, caller: Caller) -> Path:
        """Evaluate a run on corrupted images in a worker; otherwise as `start`."""
        run = self.launcher.runs.get(run_id)
        return self._start_once("robustness", run, self._robustness_request(run, split), caller)

    def robustness_folder(self, run: Run, split: str) -> Path:
        """Return the folder of the robustness result, which may be missing. Raises as `folder`."""
        return self._folder(run, self._robustness_request(run, split))

    def status(self, folder: Path) -> Status | None:
        """Return the status of an evaluation; None if it has to be started.

        A finished one has a result that `read_result` can read.
        """
        try:
            status = reconcile_status(folder)
            if status.state == "finished":
                # A finished task of an older version may have a result with other keys.
                read_result(folder, keys_of(folder))
        except (DamagedError, FileNotFoundError):
            return None
        return status

    def _request(self, run: Run, split: str, dataset: str | None, mode: str) -> dict[str, Any]:
        """Return the content of `task.json`. Raises as `folder`."""
        check_trained_here(run, "evaluated")
        check_split(split)
        check_mode(mode)
        name, datasets = check_name(dataset or run.config().dataset), self.launcher.datasets
        described, is_here = model_description(run.path), name in datasets.names()
        check_images(mode, name, datasets)
        if is_here:
            check_test_split(datasets.get(name), split)
        elif predictions_sha256(described["metrics"], split, name) is None:
            datasets.get(name)  # raises: neither images nor stored predictions
        return {
            "run": run.id,
            "split": split,
            "dataset": name,
            "weights": described["sha256"][:12],  # part of the folder's name
            "fingerprint": datasets.content_key(name),
            "mode": mode,
            # Without the images, the stored predictions are scored; with them, they are repeated.
            "stored": not is_here,
        }

    def _robustness_request(self, run: Run, split: str) -> dict[str, Any]:
        """Return the content of a robustness task's `task.json`. Raises as `folder`."""
        check_trained_here(run, "evaluated")
        check_split(split)
        name = check_name(run.config().dataset)
        weights = model_description(run.path)["sha256"][:12]
        datasets = self.launcher.datasets
        require_images(name, datasets)
        check_test_split(datasets.get(name), split)
        return {
            "run": run.id,
            "split": split,
            "dataset": name,
            "weights": weights,
            "fingerprint": datasets.content_key(name),
        }

    def _folder(self, run: Run, request: Mapping[str, Any]) -> Path:
        """Return where the result of a request is stored."""
        parts = [request[key] for key in ("split", "dataset", "weights", "fingerprint")]
        # All that a result depends on is in the name, so that a result is never one of other
        # weights.
        name = "-".join(filter(None, parts))
        if "mode" not in request:
            name = PREFIX + name
        elif request["mode"] != "plain":
            name += f"-{request['mode']}"
        if request.get("stored"):
            name += "-stored"
        return self.launcher.results_folder(run) / name

    def _start_once(self, verb: str, run: Run, request: Mapping[str, Any], caller: Caller) -> Path:
        folder = self._folder(run, request)
        return self.launcher.start_once(verb, folder, request, caller, is_unusable)


def keys_of(folder: Path) -> tuple[str, ...]:
    """Return the keys that a result in that folder must have."""
    return ROBUSTNESS_KEYS if folder.name.startswith(PREFIX) else EVALUATION_KEYS


def is_unusable(folder: Path) -> bool:
    """Return whether a task is finished, or has a damaged status, without a usable result."""
    state = state_of(folder)
    if state not in ("finished", "damaged"):
        return False
    try:
        read_result(folder, keys_of(folder))
        # A robustness result has no answers of single images.
        if keys_of(folder) is EVALUATION_KEYS:
            read_answers(folder)
    except DamagedError:
        return True
    return state == "damaged"


def run_evaluation(folder: Path, paths: Paths) -> None:
    """Fill an evaluation's folder with the result and the answers. Raises as `run_task`."""

    def compute(
        run: Run, request: dict[str, Any], datasets: Datasets, on_batch: OnBatch
    ) -> tuple[dict[str, Any], Save]:
        from resnet_demo.evaluation.evaluate_run import evaluate_run

        mode = request.get("mode", "plain")  # an older version may have written the request
        split, dataset = request["split"], request["dataset"]
        evaluated = evaluate_run(run, datasets, split, dataset, mode, on_batch)
        return evaluated.result, lambda: evaluated.save(folder)

    run_on_weights(folder, paths, compute)


def run_robustness(folder: Path, paths: Paths) -> None:
    """Fill a robustness folder with the result. Raises as `run_task`."""

    def compute(
        run: Run, request: dict[str, Any], datasets: Datasets, on_batch: OnBatch
    ) -> tuple[dict[str, Any], Save]:
        from resnet_demo.evaluation.robustness import measure_robustness

        result = measure_robustness(run, datasets, request["split"], request["dataset"], on_batch)
        return result, lambda: write_result(folder, result)

    run_on_weights(folder, paths, compute)


def run_on_weights(
    folder: Path, paths: Paths, compute: Callable[..., tuple[dict[str, Any], Save]]
) -> None:
    """Compute a result and save it, if the run still has the weights that the folder is for.

    compute: takes run, request, datasets and a callback for progress; returns the result and a
    function that saves it. Raises as `run_task`.
    """
    request = read_request(folder)
    configure_process()

    def work(progress: Progress) -> str:
        import_quickly("resnet_demo.evaluation.evaluate_run")
        enter_state(folder, "running", "")
        run, on_batch = Runs(paths).get(request["run"]), report_images(progress)
        result, save = compute(run, request, Datasets(paths.data), on_batch)
        # A live run may have saved better weights since the request.
        if not result["weights"].startswith(request["weights"]):
            raise DemoError("the run has better weights by now: evaluate it again")
        fingerprint = request.get("fingerprint")
        if fingerprint and not result["fingerprint"].startswith(fingerprint):
            raise DemoError(f"the dataset {result['dataset']} has changed meanwhile: try again")
        save()
        return ""

    run_task(folder, "loading torch and the images", work)


def report_images(progress: Progress) -> OnBatch:
    """Return a callback that reports images done and images a second since the first batch."""
    start: tuple[float, int] | None = None  # time and images of the first batch

    def on_batch(done: int, total: int) -> None:
        nonlocal start
        now = time.monotonic()
        # From the first batch on: loading the images and setting up do not count.
        start = start or (now, done)
        seconds = now - start[0]
        rate = (done - start[1]) / seconds if seconds > 0 else 0.0
        progress(done, total, unit="images", rate=rate)

    return on_batch
