"""The runs of visitors on ZeroGPU: one a visitor, a slice of GPU time after the other.

The app starts each slice while the visitor's page is open, and forks for it; between slices the
run rests. No torch here.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from resnet_demo.config import TrainConfig
from resnet_demo.data.store import check_data
from resnet_demo.errors import ConfigError
from resnet_demo.events import Event
from resnet_demo.files import file_version
from resnet_demo.hosting.zerogpu.owners import RunOwner, read_owner, visitor_digest, write_owner
from resnet_demo.hosting.zerogpu.quota import SliceUse, record_slice
from resnet_demo.hosting.zerogpu.slice import SliceError
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.runs.view import RunView
from resnet_demo.tasks.disk_space import check_disk_space
from resnet_demo.tasks.launcher import Launcher, check_not_shipped
from resnet_demo.tasks.limits import Caller, ForbiddenError
from resnet_demo.tasks.locks import release_lock
from resnet_demo.tasks.status import end_task, read_status, reconcile_status, request_stop

MIN_SLICE_S, MAX_SLICE_S = 20, 120
DEFAULT_SLICE_S = 60  # as ZeroGPU's own
MOST_IDLE = 2  # slices without a checkpoint, one after the other, before that is told
MOST_VISITORS, MOST_NAME = 1000, 200  # remembered at once; letters
SOON_S = 5.0  # within which an open page asks for the slice that is due
WAITING = "waiting for a slice of GPU time"
CUT_OFF = "its slice of GPU time was cut off; the next one goes on from the last checkpoint"

Slice = Callable[[Path, Paths, float], Iterator[Event | str]]


@dataclass
class ActiveRun:
    """The run that a visitor trains; idle: its last slices that brought no checkpoint.

    due_clock: when its next slice became due, seconds of the steady clock.
    """

    run_id: str
    idle: int = 0
    under_way: bool = False
    due_clock: float = field(default_factory=time.monotonic)

    @property
    def is_active(self) -> bool:
        """Whether a slice runs, waits for a GPU, or is about to be asked for."""
        return self.under_way or time.monotonic() - self.due_clock < SOON_S


class Slices:
    """The runs of visitors. A visitor is a name of any kind, of which only a digest is kept.

    gpu: `train_slice` as the platform runs it; it raises SliceError where there is no GPU or the
    process was killed.
    """

    def __init__(self, launcher: Launcher, gpu: Slice) -> None:
        self.launcher, self.gpu = launcher, gpu
        self.active: dict[str, ActiveRun] = {}
        self.lock = threading.Lock()

    def make(self, config: TrainConfig, visitor: str) -> Run:
        """A run of the visitor's, which rests until `go_on`. Raises ConfigError, DiskFullError."""
        check_config(config), check_visitor(visitor)
        with self.taking(visitor):
            run, lock = self.launcher.make(config)
            try:
                write_owner(run, RunOwner(visitor_digest(visitor), should_continue=True))
                request_stop(run.path, WAITING)
                end_task(run.path, "stopped", WAITING)
            finally:
                release_lock(lock)
            self.take_turn(visitor, run)
        return run

    def resume(self, run_id: str, visitor: str) -> Run:
        """Have the visitor's run go on. Raises ConfigError, ForbiddenError, DiskFullError."""
        run = self.owned(run_id, visitor, "resume")
        check_not_shipped(run, "resumed")
        if (state := reconcile_status(run.path).state) not in ("stopped", "failed"):
            raise ConfigError(f"{run.id} is {state}: it cannot become queued", "run")
        config, datasets = run.config(), self.launcher.datasets
        check_disk_space(config, len(check_data(config, datasets).classes), run.path)
        with self.taking(visitor):
            write_owner(run, RunOwner(visitor_digest(visitor), should_continue=True))
            self.take_turn(visitor, run)
        return run

    def take_turn(self, visitor: str, run: Run) -> None:
        """It is that run's from now on. Of many visitors the one seen first is forgotten."""
        self.active.pop(visitor, None)
        self.active[visitor] = ActiveRun(run.id)
        if len(self.active) > MOST_VISITORS:
            self.active.pop(next(name for name, turn in self.active.items() if not turn.under_way))

    def stop(self, run_id: str, visitor: str, caller: Caller) -> str:
        """End a run after its step, or before its next slice; what will happen, in words."""
        run = self.launcher.runs.get(run_id)
        if not caller.is_owner:
            self.owned(run_id, visitor, "stop")
        owner = read_owner(run)
        if not owner.visitor:
            return self.launcher.stop(run_id, caller)
        write_owner(run, replace(owner, should_continue=False))
        if reconcile_status(run.path).is_live:
            return self.launcher.stop_task(run.path)
        return f"{run.id} rests; Resume goes on from its last checkpoint"

    def run_slice(self, run_id: str, visitor: str, seconds: float) -> Generator[Event, None, bool]:
        """One slice of the visitor's run; returns whether another is due.

        Raises ForbiddenError, ConfigError, and SliceError where no GPU was to be had.
        """
        run, seconds = self.owned(run_id, visitor, "train"), check_seconds(seconds)
        with self.turn_of(run, visitor) as turn:
            if turn is None or not read_owner(run).should_continue:
                return False
            self.warm_up(run)
            before, saved = read_status(run.path).changed_clock, file_version(run.path / "last.pt")
            worked, killed = read_view(run).total_seconds(), False
            try:
                for told in self.gpu(run.path, self.launcher.paths, seconds):
                    if isinstance(told, str):
                        raise SliceError(told)
                    yield told
            except SliceError:
                if reconcile_status(run.path, CUT_OFF).changed_clock == before:
                    raise  # it had not begun
                killed = True
            reconcile_status(run.path, CUT_OFF)
            used = time.monotonic() - read_status(run.path).queued_clock
            record_slice(
                run.path, SliceUse(seconds, used, read_view(run).total_seconds() - worked, killed)
            )
            due = self.is_due(run, turn, file_version(run.path / "last.pt") != saved)
            turn.due_clock = time.monotonic() if due else -SOON_S
            return due

    def is_active(self, run_id: str) -> bool:
        """Whether the run is stopped only until its next slice."""
        return any(turn.run_id == run_id and turn.is_active for turn in [*self.active.values()])

    def warm_up(self, run: Run) -> None:
        """What a forked process finds done, so that it costs no GPU time. Raises as `load`."""
        import torch

        from resnet_demo.training import fit  # noqa: F401 - and all that training imports

        weight = torch.nn.Parameter(torch.zeros(1))
        torch.optim.SGD([weight]).zero_grad()  # the first optimizer loads half of torch again
        self.launcher.datasets.load(run.config().dataset, "train")  # some are made, not read

    def is_due(self, run: Run, turn: ActiveRun, advanced: bool) -> bool:
        """Whether a run goes on after a slice. Raises SliceError where that would lead nowhere."""
        state = read_status(run.path).state
        by_itself = state == "finished" or (state == "failed" and read_view(run).ended is not None)
        if by_itself or not read_owner(run).should_continue:
            return False
        turn.idle = 0 if advanced else turn.idle + 1
        if turn.idle >= MOST_IDLE:
            raise SliceError(f"{turn.idle} slices brought {run.id} no further: try longer ones")
        return True

    def owned(self, run_id: str, visitor: str, what: str) -> Run:
        """The run, if it is that visitor's. Raises NotFoundError, ForbiddenError."""
        run = self.launcher.runs.get(run_id)
        if not is_name(visitor) or read_owner(run).visitor != visitor_digest(visitor):
            raise ForbiddenError(f"only the visitor who started {run.id} may {what} it")
        return run

    @contextmanager
    def taking(self, visitor: str) -> Iterator[None]:
        """While a visitor's next run is chosen. Raises ConfigError where one is under way."""
        with self.lock:
            turn = self.active.get(visitor)
            if turn and turn.under_way:
                raise ConfigError(f"one run at a time: {turn.run_id} trains, stop it first", "run")
            yield

    @contextmanager
    def turn_of(self, run: Run, visitor: str) -> Iterator[ActiveRun | None]:
        """The visitor's turn while a slice is under way; None where it is another run's."""
        with self.taking(visitor):
            turn = self.active.get(visitor)
            mine = turn is not None and turn.run_id == run.id
            if mine:
                turn.under_way = True
        try:
            yield turn if mine else None
        finally:
            if mine:
                turn.under_way = False


def check_config(config: TrainConfig) -> None:
    """Raises ConfigError for what a slice cannot do."""
    if config.compile:
        raise ConfigError.rule("compile", "off on ZeroGPU, which cannot do it", True)


def is_name(visitor: Any) -> bool:
    """Whether it can be a visitor's; a raw request may send anything."""
    return isinstance(visitor, str) and 0 < len(visitor) <= MOST_NAME


def check_visitor(visitor: Any) -> None:
    """Raises ConfigError for what can be no visitor's name."""
    if not is_name(visitor):
        raise ConfigError.rule("visitor", f"a text of 1 to {MOST_NAME} letters", visitor)


def check_seconds(seconds: Any) -> int:
    """The length of a slice. Raises ConfigError."""
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not MIN_SLICE_S <= seconds <= MAX_SLICE_S:
        raise ConfigError.rule("seconds", f"a number from {MIN_SLICE_S} to {MAX_SLICE_S}", seconds)
    return int(seconds)


def read_view(run: Run) -> RunView:
    """What its log tells."""
    view = RunView(run.log())
    view.refresh()
    return view
