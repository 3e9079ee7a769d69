"""Starting, stopping, resuming and deleting runs, and starting the worker of any task.

The page, the API, the command line and the tests call the same methods.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from resnet_demo import __version__
from resnet_demo.config import TrainConfig, to_json
from resnet_demo.data.recipe_fit import check_data
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DemoError
from resnet_demo.file_locks import hand_over, release_lock
from resnet_demo.files import open_file, reporting_read_only
from resnet_demo.paths import REPOSITORY, Paths
from resnet_demo.runs.dataset import check_dataset
from resnet_demo.runs.store import About, Run, Runs, check_not_shipped, check_run_id
from resnet_demo.runs.weights import check_is_id, with_resolved_weights
from resnet_demo.tasks.base import claim_task, reap_worker, remove_task, requeue_task
from resnet_demo.tasks.disk_space import check_disk_space
from resnet_demo.tasks.estimate import speed_test_folder
from resnet_demo.tasks.limits import Allowance, Caller
from resnet_demo.tasks.locks import has_worker, is_worker
from resnet_demo.tasks.queue import live_runs
from resnet_demo.tasks.standby_worker import StandbyWorkers
from resnet_demo.tasks.status import (
    LIVE,
    acquire_worker_lock,
    create_task,
    read_status,
    reconcile_status,
    request_stop,
    state_of,
)
from resnet_demo.tasks.trash import empty_trash, put_in_trash, take_from_trash

# What a worker gets of the app's environment. A list of secrets to leave out can never be complete.
WORKER_VARIABLES = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "HOSTNAME"),
    *("TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LD_PRELOAD", "CC", "CXX"),
    *("DYLD_LIBRARY_PATH", "LIBRARY_PATH", "CPATH", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("REQUESTS_CA_BUNDLE", "HF_HOME", "HF_HUB_DISABLE_TELEMETRY", "MASTER_ADDR", "MASTER_PORT"),
)
WORKER_PREFIXES = (
    *("RESNET_DEMO_", "LC_", "PYTHON", "XDG_", "MALLOC_"),
    # threads and libraries of the CPU
    *("OMP_", "GOMP_", "KMP_", "MKL_", "DNNL_", "ONEDNN_", "OPENBLAS_", "VECLIB_", "NUMEXPR_"),
    *("TORCH", "PYTORCH_", "ATEN_", "TRITON_", "NCCL_", "GLOO_", "TP_"),
    *("CUDA_", "CUDNN_", "CUBLAS_", "NVIDIA_", "ROCM_", "ROCR_", "HIP_", "HSA_", "MIOPEN_"),
)
# A proxy may need a password in its address, and only a download needs a proxy.
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
# Tasks without torch, and the measurement of the form: Train is pressed after it.
COLD_VERBS = ("get", "survey", "import", "measure")
QUEUED_S = 10.0  # a task that does not wait is no longer queued by then
SECRET_NAMES = re.compile(
    r"TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE|APIKEY|_KEY\b|_KEY_", re.IGNORECASE
)
SECRET_VALUES = re.compile(r"\bhf_[A-Za-z0-9]{8,}|-----BEGIN [A-Z ]*PRIVATE KEY-----")


class Launcher:
    """Creates task folders and starts their workers, which outlive the app."""

    def __init__(self, paths: Paths, allowance: Allowance | None = None) -> None:
        self.paths, self.allowance = paths, allowance or Allowance()
        self.runs, self.datasets = Runs(paths), Datasets(paths.data)
        self.standby: StandbyWorkers | None = None
        self.started: list[StartedWorker] = []

    def make(self, config: TrainConfig, run_id: str | None = None) -> tuple[Run, int]:
        """Create a queued run; return it and the lock for its worker.

        Raises: ConfigError, DiskFullError.
        """
        # All refusals come before the folder exists: a run that cannot train leaves nothing.
        classes = len(check_data(config, self.datasets).classes)
        config = with_resolved_weights(config, self.paths)
        check_disk_space(config, classes, self.paths.runs)
        files = {"config.json": to_json(config, __version__).encode()}
        while True:
            name = check_run_id(self.runs.new_id(config) if run_id is None else run_id)
            run = Run(self.paths.runs / name)
            try:
                if self.runs.is_taken(name):
                    raise ConfigError.rule("run_id", "new, or resumed", name)
                lock = create_task(run.path, files)
            except ConfigError:
                if run_id is not None or not run.path.exists():
                    raise
                # another process took that number a moment ago: try the next one
            else:
                self.stop_speed_test()
                return run, lock

    def start(self, config: TrainConfig, caller: Caller) -> str:
        """Queue a run and start its worker; return the run id.

        Raises: ConfigError, DiskFullError, ForbiddenError, LimitError.
        """
        caller.require_owner("train")
        check_is_id(config)
        with self.within_limits(caller, config):
            run, lock = self.make(config)
            self.spawn("train", run.path, lock)
        return run.id

    def within_limits(
        self, caller: Caller, *configs: TrainConfig, paused: Collection[str] = ()
    ) -> AbstractContextManager[None]:
        """Check, around their start, that runs of one dataset are within the limits.

        paused: ids of runs that wait for GPU time; they count as live ones.
        Raises: ConfigError, LimitError.
        """
        if self.allowance.limits is None:
            return nullcontext()
        classes = len(check_data(configs[0], self.datasets).classes)
        live = len({*paused, *(folder.name for folder in live_runs(self.paths.runs))})
        return self.allowance.start_training(caller, configs, classes, live)

    def stop(self, run_id: str, caller: Caller) -> str:
        """Ask a run to stop and save a checkpoint; return a message that says what happens."""
        caller.require_owner("stop a run")
        return self.stop_task(self.runs.get(run_id).path)

    def stop_task(self, folder: Path) -> str:
        """Ask any task to stop; one that is ending or ended is unchanged. Return a message."""
        before = reconcile_status(folder)
        status = request_stop(folder) if before.is_live else before
        if not status.is_live:
            return f"{folder.name} is not running: it is {status.state}"
        if before.state == "queued":
            return f"{folder.name} is removed from the queue"
        return f"{folder.name} stops after this step; Resume continues from there"

    def kill(self, run_id: str, caller: Caller) -> str:
        """Kill the worker of a run that does not react to a stop; return a message.

        Raises: ConfigError for a run that is not stopping, or whose process is unknown.
        """
        caller.require_owner("kill a run")
        folder = self.runs.get(run_id).path
        if (state := reconcile_status(folder).state) != "stopping":
            raise ConfigError(f"run {run_id} is {state}: only a stopping run can be killed", "run")
        if not kill_worker(folder):
            raise ConfigError(f"run {run_id} has no process here that could be killed", "run")
        return f"{run_id} was killed; Resume continues from its last checkpoint"

    def resume(self, run_id: str, caller: Caller) -> str:
        """Queue a stopped or failed run again and start its worker; return the run id.

        Raises: ConfigError, DiskFullError, ForbiddenError, LimitError.
        """
        caller.require_owner("resume a run")
        run = self.runs.get(run_id)
        check_not_shipped(run, "resumed")
        with self.within_limits(caller, run.config()):
            self.spawn("train", run.path, self.requeue(run))
        return run.id

    def requeue(self, run: Run) -> int:
        """Queue a run again, at the end of the queue; return the lock for its worker.

        Raises: ConfigError for a run that is live or finished, or whose dataset has changed;
        DiskFullError.
        """
        check_not_shipped(run, "resumed")
        # Again: dataset and disk may have changed since the run was made.
        info = check_data(run.config(), self.datasets)
        check_dataset(run, self.datasets)
        check_disk_space(run.config(), len(info.classes), run.path)
        lock = requeue_task(run.path)
        self.stop_speed_test()
        return lock

    def stop_speed_test(self) -> None:
        """End a speed test that is live, once the run that needs the device is in the queue.

        A speed test that starts later finds the run in the queue and ends by itself.
        """
        folder = speed_test_folder(self.paths.runs)
        with suppress(DemoError, FileNotFoundError):  # there is none, or it is damaged
            if request_stop(folder, "a run is waiting for the device").is_live:
                # It keeps nothing that could be lost, and the run would wait for its last step.
                kill_worker(folder)

    def delete(self, run_id: str, caller: Caller) -> str:
        """Move a run to the trash folder; return its name there. Raises ConfigError if live."""
        caller.require_owner("delete a run")
        return move_to_trash(self.runs.get(run_id))

    def undelete(self, run_id: str, name: str, caller: Caller) -> None:
        """Move a run back from the trash. name: as `delete` returned it. Raises ConfigError."""
        caller.require_owner("bring back a run")
        # The id may have been given to a new run since the deletion.
        if self.runs.is_taken(run_id):
            raise ConfigError(f"there is a new run {run_id}: delete or move it first", "run")
        with reporting_read_only(self.paths.runs):
            take_from_trash(self.paths.runs, name, run_id)

    def empty_trash(self, caller: Caller) -> int:
        """Remove all deleted runs from the disk; return how many."""
        caller.require_owner("empty the trash")
        return empty_trash(self.paths.runs)

    def describe(
        self, run_id: str, caller: Caller, title: str | None = None, notes: str | None = None
    ) -> About:
        """Store a run's title or notes, as `Run.describe`. Raises ConfigError, ForbiddenError."""
        caller.require_owner("rename a run")
        return self.runs.get(run_id).describe(title, notes)

    def start_once(
        self,
        verb: str,
        folder: Path,
        request: Mapping[str, Any],
        caller: Caller,
        is_unusable: Callable[[Path], bool],
    ) -> Path:
        """Start a worker that fills a folder as requested, once; return the folder.

        A task that stopped, failed or has an unusable result starts again; one that is live or
        finished is left as it is. Raises: LimitError.
        """
        # Removed first, so that a damaged result is computed again instead of being returned.
        remove_task(folder, is_unusable)
        if folder.exists() and reconcile_status(folder).state in (*LIVE, "finished"):
            return folder
        with self.allowance.start_evaluation(caller, folder):
            lock = claim_task(folder, request)
            if lock is not None:
                self.spawn(verb, folder, lock)
        return folder

    def results_folder(self, run: Run) -> Path:
        """Return where results about a run's weights are stored.

        In its own folder, or in a cache for a shipped run, which is never written to.
        """
        cache = self.paths.runs / ".cache" / "evaluations"
        return cache / run.id if run.shipped else run.path / "evaluations"

    def spawn(self, verb: str, folder: Path, lock: int) -> None:
        """Start the task's worker, which gets the lock: the task is never without an owner."""
        try:
            with open_file(folder / "worker.log", append=True) as log:
                # Output goes to a file: once the app is gone, a full pipe would block the worker.
                process = self._take_standby(verb, folder, lock, log)
                if process is None:
                    process = subprocess.Popen(
                        [sys.executable, "-m", "resnet_demo.tasks.worker", verb, str(folder)],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        cwd=REPOSITORY,  # where `-m` finds the package of a checkout
                        env=self._environment(verb),
                        pass_fds=[lock],
                        start_new_session=True,  # the worker outlives the app and its terminal
                    )
        except BaseException:
            release_lock(lock)
            raise
        hand_over(lock, process.pid)
        os.close(lock)  # not released: the worker's copy holds it
        self.started.append(StartedWorker(process, verb, folder))
        # Until its parent waits for it, an ended child is a zombie, and how it ended is unknown.
        threading.Thread(target=reap_worker, args=(process, folder), daemon=True).start()

    def _environment(self, verb: str) -> dict[str, str]:
        """Return the environment of a worker of that verb."""
        # The worker reads the same folders and limits as this app, whatever its working directory.
        return {
            **worker_environment(os.environ, verb),
            **self.paths.environment(),
            **self.allowance.environment(),
        }

    def keep_standby(self) -> None:
        """Let the next task find a standby worker; to be called while a page is open."""
        if self.standby is None:
            self.standby = StandbyWorkers(lambda: self._environment("train"), self._is_busy)
        self.standby.want()

    def _take_standby(
        self, verb: str, folder: Path, lock: int, log: BinaryIO
    ) -> subprocess.Popen | None:
        """Give the task to a standby worker; return its process, None where a new one is needed."""
        if self.standby is None or verb in COLD_VERBS:
            return None
        # A run that waits in the queue must not hold the memory of torch meanwhile.
        if verb == "train" and live_runs(self.paths.runs) != [folder]:
            return None
        return self.standby.take(verb, folder, lock, log)

    def _is_busy(self) -> bool:
        """Return whether a worker is still starting, or measures the speed of this machine."""
        for worker in [*self.started]:  # a copy: ended workers are removed below
            if worker.process.returncode is not None:
                self.started.remove(worker)
        return any(worker.verb == "measure" or worker.is_starting for worker in self.started)


@dataclass(frozen=True)
class StartedWorker:
    """A worker that this launcher started."""

    process: subprocess.Popen
    verb: str
    folder: Path
    at: float = field(default_factory=time.monotonic)

    @property
    def is_starting(self) -> bool:
        """Return whether its task is about to begin; a run may stay in the queue for hours."""
        state = state_of(self.folder)
        return state == "preparing" or (state == "queued" and time.monotonic() - self.at < QUEUED_S)


def worker_environment(environment: Mapping[str, str], verb: str) -> dict[str, str]:
    """Return the variables that a worker of that verb needs, and no secrets.

    What a worker has may end in a log.
    """
    return {
        name: value
        for name, value in environment.items()
        if (
            (name in WORKER_VARIABLES or name.startswith(WORKER_PREFIXES))
            and not SECRET_NAMES.search(name)
            and not SECRET_VALUES.search(value)
        )
        or (verb == "get" and name.lower() in PROXIES)
    }


def kill_worker(folder: Path) -> bool:
    """Kill the worker of a task; return False if no process here is known to be its worker."""
    pid = read_status(folder).pid
    # The pid alone proves nothing: it may belong to another process by now.
    if pid is None or not is_worker(pid, folder):
        return False
    # Not SIGTERM: it only asks for a stop.
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(pid, signal.SIGKILL)
    return True


def move_to_trash(run: Run) -> str:
    """Move a run to the trash folder beside it; return its name there.

    Raises ConfigError while it is live.
    """
    check_not_shipped(run, "deleted")
    state = state_of(run.path)
    if state in LIVE and has_worker(run.path):
        raise ConfigError(f"run {run.id} is {state}: stop it before you delete it", "run")
    # Under the worker's lock no other process can resume the run meanwhile.
    lock = acquire_worker_lock(run.path)
    try:
        with reporting_read_only(run.path.parent):
            return put_in_trash(run.path).name
    finally:
        release_lock(lock)
