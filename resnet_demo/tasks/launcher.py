"""Starting, stopping, resuming and deleting tasks. What the page, the API and a test call alike."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from resnet_demo import __version__
from resnet_demo.config import TrainConfig, to_json
from resnet_demo.data.store import Datasets, check_data
from resnet_demo.errors import ConfigError, DamagedError, DemoError
from resnet_demo.paths import REPOSITORY, Paths
from resnet_demo.runs.store import Run, Runs, check_run_id
from resnet_demo.tasks.caller import Caller
from resnet_demo.tasks.disk_space import check_room
from resnet_demo.tasks.limits import Allowance
from resnet_demo.tasks.queue import in_line
from resnet_demo.tasks.secrets import without_secrets
from resnet_demo.tasks.speeds import task_of
from resnet_demo.tasks.status import (
    LIVE,
    change,
    has_worker,
    holder,
    let_go,
    new_task,
    now_queued,
    request_stop,
    settle,
    state_of,
    take_over,
)

TRASH = ".trash"


class Launcher:
    """Makes task directories and the workers that fill them; every worker outlives the app."""

    def __init__(self, paths: Paths, allowance: Allowance | None = None) -> None:
        self.paths, self.allowance = paths, allowance or Allowance()
        self.runs, self.datasets = Runs(paths), Datasets(paths.data)

    def make(self, config: TrainConfig, run_id: str | None = None) -> tuple[Run, int]:
        """A queued run, and the lock of its worker to come. Raises ConfigError."""
        check_room(config, len(check_data(config, self.datasets).classes), self.paths.runs)
        files = {"config.json": to_json(config, __version__).encode()}
        while True:
            name = check_run_id(self.runs.new_id(config) if run_id is None else run_id)
            run = Run(self.paths.runs / name)
            try:
                if self.runs.is_taken(name):
                    raise ConfigError.rule("run_id", "new, or resumed", name)
                lock = new_task(run.path, files)
            except ConfigError:
                if run_id is not None or not run.path.exists():
                    raise  # else somebody took that number a moment ago: the next one
            else:
                self.stop_measuring()
                return run, lock

    def start(self, config: TrainConfig, caller: Caller) -> str:
        """Queue a run and start its worker; the run id.

        Raises ConfigError, ForbiddenError, LimitError.
        """
        caller.must_own("train")
        with self.allowed(caller, config):
            run, lock = self.make(config)
            self.spawn("train", run.path, lock)
        return run.id

    def allowed(self, caller: Caller, *configs: TrainConfig) -> AbstractContextManager[None]:
        """Around the start of runs over one dataset. Raises ConfigError, LimitError."""
        if self.allowance.limits is None:
            return nullcontext()
        classes = len(check_data(configs[0], self.datasets).classes)
        alive = len(in_line(self.paths.runs))
        return self.allowance.training(caller, configs, classes, alive)

    def stop(self, run_id: str, caller: Caller) -> str:
        """Ask a run to end, its checkpoint kept; what will happen, in words."""
        caller.must_own("stop a run")
        return self.stop_task(self.runs.get(run_id).path)

    def stop_task(self, folder: Path) -> str:
        """Ask any task to end. One that is ending or has ended stays as it is."""
        before = settle(folder)
        status = request_stop(folder) if before.is_live else before
        if not status.is_live:
            return f"{folder.name} is not running: it is {status.state}"
        if before.state == "queued":
            return f"{folder.name} leaves the queue"
        return f"{folder.name} stops after this step; Resume goes on from there"

    def kill(self, run_id: str, caller: Caller) -> str:
        """End the worker of a run that was asked to stop and does not; what happened, in words.

        Raises ConfigError for a run that was not asked, and where its process cannot be told.
        """
        caller.must_own("kill a run")
        folder = self.runs.get(run_id).path
        if (state := settle(folder).state) != "stopping":
            raise ConfigError(f"run {run_id} is {state}: only what is stopping is killed", "run")
        pid = holder(folder)
        if pid is None:
            raise ConfigError(f"run {run_id} has no process here that could be killed", "run")
        os.kill(pid, signal.SIGKILL)
        return f"{run_id} was killed; Resume goes on from its last checkpoint"

    def resume(self, run_id: str, caller: Caller) -> str:
        """Queue a stopped or failed run again; the run id. Raises ConfigError."""
        caller.must_own("resume a run")
        run = self.runs.get(run_id)
        must_be_own(run, "resumed")
        with self.allowed(caller, run.config()):
            self.spawn("train", run.path, self.requeue(run))
        return run.id

    def requeue(self, run: Run) -> int:
        """Back into the queue, at its end; the lock of its worker to come.

        Raises ConfigError for a run that is live or finished.
        """
        must_be_own(run, "resumed")
        info = check_data(run.config(), self.datasets)
        check_room(run.config(), len(info.classes), run.path)
        lock = queue_again(run.path)
        self.stop_measuring()
        return lock

    def stop_measuring(self) -> None:
        """Let a measurement give way to a run, which can be seen to wait by now.

        One that begins later sees the run; one that goes on ends after its step.
        """
        with suppress(DemoError, FileNotFoundError):  # there is none, or it is damaged
            request_stop(task_of(self.paths.runs), "a run is to be trained")

    def delete(self, run_id: str, caller: Caller) -> None:
        """Move a run to the trash folder. Raises ConfigError while it is live."""
        caller.must_own("delete a run")
        discard(self.runs.get(run_id))

    def once(self, verb: str, folder: Path, told: Mapping[str, Any], caller: Caller) -> Path:
        """Have a worker fill a folder with what `told` asks for, once; the folder.

        What stopped or failed begins again; what is under way or finished is left as it is.
        Raises LimitError where this would begin more than the caller may.
        """
        if folder.exists() and settle(folder).state in (*LIVE, "finished"):
            return folder
        with self.allowance.evaluating(caller, folder):
            lock = claim(folder, told)
            if lock is not None:
                self.spawn(verb, folder, lock)
        return folder

    def kept(self, run: Run) -> Path:
        """Where results about a run's weights are kept.

        In its own directory, or in a cache for a run that is never written to.
        """
        cache = self.paths.runs / ".cache" / "evaluations"
        return cache / run.id if run.shipped else run.path / "evaluations"

    def spawn(self, verb: str, folder: Path, lock: int) -> None:
        """Start the task's worker. It inherits the lock, so that no moment is without an owner."""
        command = [sys.executable, "-m", "resnet_demo.tasks.worker", verb, str(folder)]
        try:
            with open(folder / "worker.log", "ab") as log:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=REPOSITORY,
                    env={
                        **without_secrets(os.environ),
                        **self.paths.environment(),
                        **self.allowance.environment(),
                    },
                    pass_fds=[lock],
                    start_new_session=True,  # the worker outlives the app and its terminal
                )
        finally:
            os.close(lock)
        threading.Thread(target=reap, args=(process, folder), daemon=True).start()


def claim(folder: Path, told: Mapping[str, Any]) -> int | None:
    """Queue what `told` asks for; the lock of the worker to come, None where it is not to be begun.

    What stopped or failed begins again. Raises ConfigError.
    """
    try:
        if not folder.exists():
            return new_task(folder, {"task.json": json.dumps(told, indent=2).encode()})
        if settle(folder).state in ("stopped", "failed"):
            return queue_again(folder)
    except ConfigError:
        if state_of(folder) not in (*LIVE, "finished"):
            raise  # else somebody asked for it a moment ago
    return None


def queue_again(folder: Path) -> int:
    """From stopped or failed back to queued; the lock of the worker to come. Raises ConfigError."""
    settle(folder)
    lock = take_over(folder)
    try:
        message = "waiting for a worker"
        change(folder, **now_queued(), pid=None, message=message, done=0)
    except ConfigError:
        let_go(lock)
        raise
    return lock


def reap(process: subprocess.Popen, folder: Path) -> None:
    """Wait for a worker of ours, and put down how it ended where it could not itself."""
    code = process.wait()
    if not folder.exists() or has_worker(folder):  # deleted, or resumed since
        return
    how = f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    hint = ", probably out of memory" if code == -9 else ""
    if state_of(folder) == "stopping":
        hint = " after it was asked to stop"
    with suppress(DamagedError, FileNotFoundError):  # deleted at this very moment
        settle(
            folder, f"the worker was {how}{hint}" if code < 0 else f"the worker {how}: see its log"
        )


def discard(run: Run) -> None:
    """Move a run to the trash folder beside it. Raises ConfigError while it is live."""
    must_be_own(run, "deleted")
    state = state_of(run.path)
    if state in LIVE and has_worker(run.path):
        raise ConfigError(f"run {run.id} is {state}: stop it before you delete it", "run")
    lock = take_over(run.path)
    try:
        trash = run.path.parent / TRASH
        trash.mkdir(exist_ok=True)
        os.rename(run.path, free_name(trash / run.id))
    finally:
        let_go(lock)


def must_be_own(run: Run, what: str) -> None:
    """Raises ConfigError for a run that came with the repository."""
    if run.shipped:
        raise ConfigError(f"run {run.id} came with the app and cannot be {what}", "run")


def free_name(path: Path) -> Path:
    """The path, or with a number behind it where that is taken."""
    candidate, number = path, 2
    while candidate.exists():
        candidate, number = path.with_name(f"{path.name}-{number}"), number + 1
    return candidate
