"""Training for visitors on ZeroGPU: one run per visitor, in one slice of GPU time after the other.

The app starts each slice, in a forked process, while the visitor's page is open. Between slices the
run is stopped. No torch here.
"""

import math
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from resnet_demo.config import TrainConfig
from resnet_demo.data.recipe_fit import check_data
from resnet_demo.errors import ConfigError, DemoError
from resnet_demo.events import Event
from resnet_demo.file_locks import release_lock
from resnet_demo.files import file_version
from resnet_demo.hosting.zerogpu.slice import (
    RunOwner,
    SliceError,
    SliceUse,
    read_owner,
    record_slice,
    visitor_digest,
    write_owner,
)
from resnet_demo.paths import Paths
from resnet_demo.runs.dataset import check_dataset
from resnet_demo.runs.store import Run
from resnet_demo.runs.view import RunView
from resnet_demo.runs.weights import check_is_id, source_run
from resnet_demo.tasks.disk_space import check_disk_space
from resnet_demo.tasks.launcher import Launcher, check_not_shipped
from resnet_demo.tasks.limits import Caller, ForbiddenError
from resnet_demo.tasks.status import end_task, read_status, reconcile_status, request_stop

MIN_SLICE_S, MAX_SLICE_S = 20, 120
DEFAULT_SLICE_S = 60  # as ZeroGPU's own
MAX_SLICES_WITHOUT_SAVE = 2  # slices in a row without a checkpoint, before that is an error
MAX_VISITORS = 1000  # remembered
MAX_NAME_LENGTH = 200
PAUSED_S = 600.0  # so long a run without a slice counts as waiting; then its page is gone
DUE_S = 5.0  # within which an open page starts the slice that is due
WAITING = "waiting for a slice of GPU time"
CUT_OFF = "the slice of GPU time was cut off; the next one continues from the last checkpoint"

Slice = Callable[[Path, Paths, float], Iterator[Event | str]]


@dataclass
class ActiveRun:
    """The run that a visitor trains.

    slices_without_save: its latest slices in a row that saved no checkpoint. due_clock: when its
    next slice became due, in seconds of the monotonic clock.
    """

    run_id: str
    slices_without_save: int = 0
    under_way: bool = False
    due_clock: float = field(default_factory=time.monotonic)

    @property
    def is_active(self) -> bool:
        """Return whether a slice runs, waits for a GPU, or is about to be started by the page."""
        return self.under_way or time.monotonic() - self.due_clock < DUE_S


class VisitorRuns:
    """The runs of visitors. A visitor is any name, of which only a digest is stored.

    gpu: `train_slice` as the platform runs it. It raises SliceError if there is no GPU or the
    process was killed.
    """

    def __init__(self, launcher: Launcher, gpu: Slice) -> None:
        self.launcher, self.gpu = launcher, gpu
        self.active: dict[str, ActiveRun] = {}  # by visitor
        self.lock = threading.Lock()

    def make(self, config: TrainConfig, visitor: str) -> Run:
        """Create a stopped run of the visitor's, for `run_slice`.

        Raises: ConfigError, DiskFullError.
        """
        check_config(config)
        check_visitor(visitor)
        self._check_weights(config, visitor)
        with self._idle_visitor(visitor):
            run, lock = self.launcher.make(config)
            try:
                write_owner(run, RunOwner(visitor_digest(visitor), should_continue=True))
                # The run waits for its slice as `stopped`: no process belongs to it.
                request_stop(run.path, WAITING)
                end_task(run.path, "stopped", WAITING)
            finally:
                release_lock(lock)
            self._activate(visitor, run)
        return run

    def resume(self, run_id: str, visitor: str) -> Run:
        """Make the visitor's run continue. Raises ConfigError, ForbiddenError, DiskFullError."""
        run = self._owned_run(run_id, visitor, "resume")
        check_not_shipped(run, "resumed")
        if (state := reconcile_status(run.path).state) not in ("stopped", "failed"):
            raise ConfigError(f"{run.id} is {state}: it cannot become queued", "run")
        config, datasets = run.config(), self.launcher.datasets
        info = check_data(config, datasets)
        check_dataset(run, datasets)
        check_disk_space(config, len(info.classes), run.path)
        with self._idle_visitor(visitor):
            write_owner(run, RunOwner(visitor_digest(visitor), should_continue=True))
            self._activate(visitor, run)
        return run

    def stop(self, run_id: str, visitor: str, caller: Caller) -> str:
        """Stop a run after its step, or before its next slice; return a message."""
        run = self.launcher.runs.get(run_id)
        if not caller.is_owner:
            self._owned_run(run_id, visitor, "stop")
        # A run without a visitor was started by the owner and has a worker like any other.
        owner = read_owner(run)
        if not owner.visitor:
            return self.launcher.stop(run_id, caller)
        write_owner(run, replace(owner, should_continue=False))
        if reconcile_status(run.path).is_live:
            return self.launcher.stop_task(run.path)
        return f"{run.id} is stopped; Resume continues from its last checkpoint"

    def run_slice(self, run_id: str, visitor: str, seconds: float) -> Generator[Event, None, bool]:
        """Train the visitor's run for one slice; return whether another is due.

        Raises: ForbiddenError, ConfigError, and SliceError if there was no GPU.
        """
        run, seconds = self._owned_run(run_id, visitor, "train"), check_seconds(seconds)
        with self._slice_under_way(run, visitor) as active:
            if active is None or not read_owner(run).should_continue:
                return False
            self.warm_up(run)
            changed_before = read_status(run.path).changed_clock
            saved_before = file_version(run.path / "last.pt")
            trained_before, killed = read_view(run).total_seconds(), False
            try:
                for event in self.gpu(run.path, self.launcher.paths, seconds):
                    if isinstance(event, str):  # a message why there was no slice
                        raise SliceError(event)
                    yield event
            except SliceError:
                if reconcile_status(run.path, CUT_OFF).changed_clock == changed_before:
                    raise  # it had not begun
                killed = True
            reconcile_status(run.path, CUT_OFF)
            # The slice queues the run when its process has the GPU, so this is the time on the GPU.
            used = time.monotonic() - read_status(run.path).queued_clock
            trained = read_view(run).total_seconds() - trained_before
            record_slice(run.path, SliceUse(seconds, used, trained, killed))
            has_saved = file_version(run.path / "last.pt") != saved_before
            is_due = self._is_due(run, active, has_saved)
            active.due_clock = time.monotonic() if is_due else -math.inf
            return is_due

    def is_active(self, run_id: str) -> bool:
        """Return whether the run is stopped only until its next slice."""
        return any(a.run_id == run_id and a.is_active for a in [*self.active.values()])

    def paused_runs(self) -> set[str]:
        """Return the ids of the runs that train or wait for a slice."""
        recent = time.monotonic() - PAUSED_S
        return {
            active.run_id
            for active in [*self.active.values()]
            if active.under_way or (active.due_clock > recent and self._continues(active.run_id))
        }

    def owns(self, run_id: str, visitor: Any) -> bool:
        """Return whether a run is the visitor's."""
        try:
            return bool(self._owned_run(run_id, visitor, "export"))
        except DemoError:
            return False

    def _continues(self, run_id: str) -> bool:
        """Return whether a run is still there and was not stopped."""
        try:
            return read_owner(self.launcher.runs.get(run_id)).should_continue
        except DemoError:
            return False

    def warm_up(self, run: Run) -> None:
        """Import and load here what a forked process would else spend GPU time on.

        Raises as `Datasets.load`.
        """
        import torch

        from resnet_demo.training import fit  # noqa: F401 - and all that training imports

        weight = torch.nn.Parameter(torch.zeros(1))
        torch.optim.SGD([weight]).zero_grad()  # the first optimizer imports half of torch again
        self.launcher.datasets.load(run.config().dataset, "train")  # some are drawn, not read

    def _activate(self, visitor: str, run: Run) -> None:
        """Make a run the visitor's active one; of many visitors the oldest is forgotten."""
        # Taken out first: a dict keeps the place of a key that is set again, and the first is the
        # oldest.
        self.active.pop(visitor, None)
        self.active[visitor] = ActiveRun(run.id)
        if len(self.active) > MAX_VISITORS:
            oldest = next(name for name, active in self.active.items() if not active.under_way)
            self.active.pop(oldest)

    def _is_due(self, run: Run, active: ActiveRun, has_saved: bool) -> bool:
        """Return whether a run needs another slice. Raises SliceError if slices are too short."""
        state = read_status(run.path).state
        # A run that failed without a last event was cut off, and continues.
        has_ended = state == "finished" or (state == "failed" and read_view(run).ended is not None)
        if has_ended or not read_owner(run).should_continue:
            return False
        active.slices_without_save = 0 if has_saved else active.slices_without_save + 1
        if active.slices_without_save >= MAX_SLICES_WITHOUT_SAVE:
            raise SliceError(
                f"{active.slices_without_save} slices saved no checkpoint of {run.id}: "
                "try longer ones"
            )
        return True

    def _owned_run(self, run_id: str, visitor: str, action: str) -> Run:
        """Return the run if it is that visitor's. Raises NotFoundError, ForbiddenError."""
        run = self.launcher.runs.get(run_id)
        if not is_visitor(visitor) or read_owner(run).visitor != visitor_digest(visitor):
            raise ForbiddenError(f"only the visitor who started {run.id} may {action} it")
        return run

    def _check_weights(self, config: TrainConfig, visitor: str) -> None:
        """Raise ConfigError or ForbiddenError unless the initial weights are for all or theirs."""
        check_is_id(config)
        run = source_run(config, self.launcher.paths)
        if run is not None and not run.shipped:
            self._owned_run(run.id, visitor, "start from")

    @contextmanager
    def _idle_visitor(self, visitor: str) -> Iterator[None]:
        """Hold the lock while no slice of the visitor's runs. Raises ConfigError if one does."""
        with self.lock:
            active = self.active.get(visitor)
            if active and active.under_way:
                raise ConfigError(f"one run at a time: stop {active.run_id} first", "run")
            yield

    @contextmanager
    def _slice_under_way(self, run: Run, visitor: str) -> Iterator[ActiveRun | None]:
        """Mark the run's slice as under way; yield None if another run is the active one."""
        with self._idle_visitor(visitor):
            active = self.active.get(visitor)
            if active is None or active.run_id != run.id:
                active = None
            else:
                active.under_way = True
        try:
            # Outside the lock: a slice lasts up to minutes, and other visitors must not wait for
            # it.
            yield active
        finally:
            if active:
                active.under_way = False


def check_config(config: TrainConfig) -> None:
    """Raise ConfigError for what a slice cannot do."""
    if config.compile:
        raise ConfigError.rule("compile", "off on ZeroGPU, which does not support it", True)


def is_visitor(visitor: Any) -> bool:
    """Return whether a value can be a visitor's name; a raw request may send anything."""
    return isinstance(visitor, str) and 0 < len(visitor) <= MAX_NAME_LENGTH


def check_visitor(visitor: Any) -> None:
    """Raise ConfigError for a value that cannot be a visitor's name."""
    if not is_visitor(visitor):
        raise ConfigError.rule("visitor", f"a text of 1 to {MAX_NAME_LENGTH} characters", visitor)


def check_seconds(seconds: Any) -> int:
    """Return the length of a slice. Raises ConfigError."""
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not MIN_SLICE_S <= seconds <= MAX_SLICE_S:
        raise ConfigError.rule("seconds", f"a number from {MIN_SLICE_S} to {MAX_SLICE_S}", seconds)
    return int(seconds)


def read_view(run: Run) -> RunView:
    """Return an up-to-date view of a run's log."""
    view = RunView(run.log())
    view.refresh()
    return view
