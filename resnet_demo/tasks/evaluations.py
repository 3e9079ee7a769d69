"""Evaluations as tasks: each begun once for the same weights, split, dataset and mode, and kept.

An evaluation only reads the run, but for its own folder: a run that trains is not disturbed.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from resnet_demo.data.info import check_name
from resnet_demo.data.splits import check_split
from resnet_demo.data.store import Datasets
from resnet_demo.errors import DamagedError, DemoError
from resnet_demo.evaluation.modes import check_images, check_mode, require_images
from resnet_demo.evaluation.stored_results import (
    EVALUATION_KEYS,
    ROBUSTNESS_KEYS,
    read_answers,
    read_result,
    write_result,
)
from resnet_demo.models.description import describe, predictions_sha256
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run, Runs
from resnet_demo.tasks.caller import Caller
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.process_setup import configure_process
from resnet_demo.tasks.progress import Telling, begin, perform
from resnet_demo.tasks.status import LOCK, Status, settle, state_of, take

OnBatch = Callable[[int, int], None]
Made = tuple[dict[str, Any], Callable[[], None]]  # a result, and what saves it
UNTOLD = "its worker ended without a word"
ROBUST = "robustness"  # how the folder of one begins; no split is called so


class Evaluating:
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
        """Evaluate in a worker, once for the same weights, split, dataset and mode; the folder.

        What an older version left, or what was damaged since, is made anew.
        Anybody may. Raises LimitError, ConfigError, NotFoundError, DamagedError.
        """
        run = self.launcher.runs.get(run_id)
        return self._once("evaluate", run, self._told(run, split, dataset, mode), caller)

    def folder(self, run: Run, split: str, dataset: str, mode: str = "plain") -> Path:
        """Where the result for these weights goes, there or not yet.

        Raises ConfigError, NotFoundError, DamagedError.
        """
        return self._folder(run, self._told(run, split, dataset, mode))

    def start_robustness(self, run_id: str, split: str, caller: Caller) -> Path:
        """See how the run bears images made worse, in a worker; as `start`."""
        run = self.launcher.runs.get(run_id)
        return self._once("robustness", run, self._told_robustness(run, split), caller)

    def robustness_folder(self, run: Run, split: str) -> Path:
        """Where that goes, there or not yet. Raises as `folder`."""
        return self._folder(run, self._told_robustness(run, split))

    def status(self, folder: Path) -> Status | None:
        """How the task of a folder stands; None where it is to be started, anew or at all.

        Of a finished one `results.read_result` then tells the numbers.
        """
        try:
            status = settle(folder, UNTOLD)
            if status.state == "finished":
                read_result(folder, keys_of(folder))
        except (DamagedError, FileNotFoundError):
            return None
        return status

    def _told(self, run: Run, split: str, dataset: str | None, mode: str) -> dict[str, Any]:
        """What `task.json` says of an evaluation. Raises as `folder`."""
        check_split(split)
        check_mode(mode)
        name, datasets = check_name(dataset or run.config().dataset), self.launcher.datasets
        described, is_here = describe(run.path), name in datasets.names()
        check_images(mode, name, datasets)
        if not is_here and predictions_sha256(described["metrics"], split, name) is None:
            datasets.get(name)  # says what is here
        told = {"run": run.id, "split": split, "dataset": name, "weights": described["sha256"][:12]}
        return {**told, "mode": mode, "stored": not is_here}

    def _told_robustness(self, run: Run, split: str) -> dict[str, Any]:
        """The same of a look at robustness."""
        check_split(split)
        name = check_name(run.config().dataset)
        weights = describe(run.path)["sha256"][:12]
        require_images(name, self.launcher.datasets)
        return {"run": run.id, "split": split, "dataset": name, "weights": weights}

    def _folder(self, run: Run, told: Mapping[str, Any]) -> Path:
        parts = [] if "mode" in told else [ROBUST]
        parts += [told["split"], told["dataset"], told["weights"]]
        parts += [told["mode"]] if told.get("mode", "plain") != "plain" else []
        return self.launcher.kept(run) / "-".join(
            [*parts, "stored"] if told.get("stored") else parts
        )

    def _once(self, verb: str, run: Run, told: Mapping[str, Any], caller: Caller) -> Path:
        folder = self._folder(run, told)
        remove_useless(folder)
        return self.launcher.once(verb, folder, told, caller)


def keys_of(folder: Path) -> tuple[str, ...]:
    """What a result in that folder must hold."""
    return ROBUSTNESS_KEYS if folder.name.startswith(f"{ROBUST}-") else EVALUATION_KEYS


def is_useless(folder: Path) -> bool:
    """Whether a task ended well, or nobody knows how, without a result that can be used."""
    state = state_of(folder)
    if state not in ("finished", "damaged"):
        return False
    try:
        read_result(folder, keys_of(folder))
        if keys_of(folder) is EVALUATION_KEYS:
            read_answers(folder)
    except DamagedError:
        return True
    return state == "damaged"


def remove_useless(folder: Path, useless: Callable[[Path], bool] = is_useless) -> None:
    """Make room for another try, unless somebody is at it."""
    with suppress(FileNotFoundError):  # there was none, or another was faster
        if not folder.exists() or not useless(folder) or (lock := take(folder / LOCK)) is None:
            return
        try:
            if useless(folder):  # still, now that nobody else can begin
                away = folder.with_name(f".{folder.name}.{time.monotonic_ns()}.old")
                folder.rename(away)
                shutil.rmtree(away)
        finally:
            os.close(lock)


def evaluate(folder: Path, paths: Paths) -> None:
    """Fill an evaluation's folder with result.json and the answers. Raises as `perform`."""

    def make(run: Run, told: dict[str, Any], datasets: Datasets, on_batch: OnBatch) -> Made:
        from resnet_demo.evaluation.evaluate_run import evaluate_run

        mode = told.get("mode", "plain")  # a task may have been asked for by an older version
        made = evaluate_run(run, datasets, told["split"], told["dataset"], mode, on_batch)
        return made.result, lambda: made.save(folder)

    fill(folder, paths, make)


def bear(folder: Path, paths: Paths) -> None:
    """Fill a robustness folder with result.json. Raises as `perform`."""

    def make(run: Run, told: dict[str, Any], datasets: Datasets, on_batch: OnBatch) -> Made:
        from resnet_demo.evaluation.robustness import measure_robustness

        result = measure_robustness(run, datasets, told["split"], told["dataset"], on_batch)
        return result, lambda: write_result(folder, result)

    fill(folder, paths, make)


def fill(folder: Path, paths: Paths, make: Callable[..., Made]) -> None:
    """Do what `task.json` asks and save it, if it is about the weights that the folder is for."""
    told = json.loads((folder / "task.json").read_text("utf-8"))
    configure_process()

    def work(tell: Telling) -> str:
        begin(folder, "running", "")
        run, on_batch = Runs(paths).get(told["run"]), with_rate(tell)
        result, save = make(run, told, Datasets(paths.data), on_batch)
        if not result["weights"].startswith(told["weights"]):
            raise DemoError("the run has better weights by now: evaluate it again")
        save()
        return ""

    perform(folder, "loading torch and the images", work)


def with_rate(tell: Telling) -> OnBatch:
    """Tells progress in images, and how many there are a second since the first batch."""
    first: list[tuple[float, int]] = []

    def on_batch(done: int, total: int) -> None:
        now = time.monotonic()
        first.append((now, done)) if not first else None
        seconds, before = now - first[0][0], first[0][1]
        tell(done, total, unit="images", rate=(done - before) / seconds if seconds > 0 else 0.0)

    return on_batch
