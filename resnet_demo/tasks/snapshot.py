"""A run at one moment, for the page, the command line and the API alike."""

import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resnet_demo.errors import DamagedError, counted
from resnet_demo.events import to_dict
from resnet_demo.files import FileVersion, file_version
from resnet_demo.learn import lessons
from resnet_demo.lru import LRU
from resnet_demo.runs.log import CHUNK
from resnet_demo.runs.store import ABOUT, Run, created_at
from resnet_demo.runs.text import accuracy_text, duration_text
from resnet_demo.runs.view import RunView, seconds_between
from resnet_demo.tasks.locks import is_suspended
from resnet_demo.tasks.queue import runs_ahead
from resnet_demo.tasks.status import Status, read_status, reconcile_status

STOP_S = 10.0  # a worker checks for a stop between two steps, or two batches of validation
MAX_VIEWS = 2 * lessons.MAX_RUNS  # a page shows a whole group, and each tick reads all its runs

RunKey = tuple[str, float]  # path and time of creation: an id may come again after a deletion


@dataclass(frozen=True)
class RunSnapshot:
    """A run at one moment: its status, what its log holds, its place in the queue (1: next).

    is_loading: the log is long and is being read in a thread; the view is still empty.
    """

    run: Run
    status: Status
    view: RunView
    place: int | None
    is_loading: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return state, progress and history, ready for JSON."""
        best = self.view.best
        return {
            "run": self.run.id,
            "state": self.status.state,
            "message": self.status.message,
            "place": self.place,
            "progress": self.progress(),
            "best": {"epoch": best.epoch, "val_top1": best.val_top1} if best else None,
            "history": self.view.history(),
            "head": self.view.head and to_dict(self.view.head),
            **asdict(self.run.about_or_empty()),
            "config": config_or_none(self.run),
            "fingerprint": fingerprint_or_none(self.run),
        }

    def progress(self) -> dict[str, Any]:
        """Return the position, the speed and the remaining time; None for unknown values."""
        view, started = self.view, self.view.started
        return {
            "step": view.step,
            "total_steps": view.total_steps,
            "epoch": view.last.epoch if view.last else 0,
            "epochs": started.epochs if started else None,
            "loss": view.steps[-1].loss if view.steps else None,
            "lr": view.steps[-1].lr if view.steps else None,
            "images_per_s": view.images_per_s(),
            "embedded": view.embedding and [view.embedding.done, view.embedding.total],
            "seconds": view.seconds_so_far() if self.status.is_live else view.total_seconds(),
            "seconds_left": view.seconds_left() if self.status.state == "running" else None,
            "silent_s": self.silent_s(),
            "device": started.device if started else None,
            "precision": started.precision if started else None,
            "parameters": started.parameters if started else None,
            "macs": started.macs if started else None,
        }

    @property
    def ignores_stop(self) -> bool:
        """Return whether the run is stopping for longer than its steps take."""
        # A step of a slow network may take longer than STOP_S.
        usual = max([STOP_S, *(3 * pause for pause in self.view.step_durations())])
        return self.status.state == "stopping" and (self.state_age_s() > usual or self.is_suspended)

    @property
    def is_suspended(self) -> bool:
        """Return whether a signal has suspended the run's process."""
        return self.status.is_live and is_suspended(self.status.pid)

    def silent_s(self) -> float | None:
        """Return the seconds since a training run's last event; None for any other run."""
        if self.status.state not in ("running", "stopping") or not self.view.last:
            return None
        # A resumed run has been silent since its resume only.
        return min(seconds_between(self.view.last), self.state_age_s())

    def state_age_s(self) -> float:
        """Return the seconds since the state changed, by the monotonic clock."""
        return max(0.0, time.monotonic() - self.status.changed_clock)


class Snapshots:
    """Takes snapshots of runs, reading only what is new in their logs. For one thread."""

    def __init__(self) -> None:
        self.views: LRU[RunKey, RunView] = LRU(MAX_VIEWS)
        self.loading: set[RunKey] = set()
        self.damaged: LRU[RunKey, tuple[int, DamagedError]] = LRU(MAX_VIEWS)  # size of the log

    def get(self, run: Run) -> RunSnapshot:
        """Return the run as it is now, however long that takes. Raises DamagedError."""
        key = run_key(run)
        status = run_status(run)  # before the log, which is then at least as new
        # Taken out, so that a view whose log turns out damaged is not used again.
        view = self.views.pop(key, None) or RunView(run.log())
        view.refresh()
        self.views[key] = view
        return RunSnapshot(run, status, view, queue_place(run, status))

    def get_nowait(self, run: Run) -> RunSnapshot:
        """Return the run at once; a long log is read in a thread meanwhile. Raises DamagedError."""
        key = run_key(run)
        view = self.views.get(key)
        size = run.log().size()
        found_at, error = self.damaged.get(key, (-1, None))
        if error is not None and found_at == size:
            raise error
        unread = size - (view.offset if view else 0)
        # One chunk is read within a tick; more would hold up every page that polls.
        if key not in self.loading and unread <= CHUNK:
            return self.get(run)
        if key not in self.loading:
            self.loading.add(key)
            threading.Thread(target=self._load, args=(run, key), daemon=True).start()
        status, empty = run_status(run), RunView(run.log())
        return RunSnapshot(run, status, empty, queue_place(run, status), is_loading=True)

    def _load(self, run: Run, key: RunKey) -> None:
        """Read a whole log, and publish its view when it is complete."""
        view, size = RunView(run.log()), run.log().size()
        try:
            view.refresh()
            self.views[key] = view
        except DamagedError as error:  # raised by the next `get_nowait`
            self.damaged[key] = size, error
        finally:
            self.loading.discard(key)


class RunStates:
    """The states of many runs, for a page that needs them every second.

    An ended run is read again only when its status was replaced, a shipped run only once.
    """

    def __init__(self) -> None:
        self.ended: dict[Path, tuple[FileVersion, str]] = {}

    def __call__(self, run: Run) -> str:
        """Return the run's state. Raises DamagedError."""
        # Before the status is read: if the file is replaced in between, the next call reads it
        # again.
        now = None if run.shipped else file_version(run.path / "status.json")
        if run.path in self.ended and self.ended[run.path][0] == now:
            return self.ended[run.path][1]
        status = run_status(run)
        if not status.is_live:
            self.ended[run.path] = now, status.state
        return status.state


class RunTitles:
    """The titles of many runs, for a page that needs them every second.

    A title is read again only when its file was replaced.
    """

    def __init__(self) -> None:
        self.read: dict[Path, tuple[FileVersion, str]] = {}

    def __call__(self, run: Run) -> str:
        """Return the run's title; "" if it has none."""
        now = file_version(run.path / ABOUT)
        if now is None:
            return ""
        if run.path not in self.read or self.read[run.path][0] != now:
            self.read[run.path] = now, run.about_or_empty().title
        return self.read[run.path][1]


def run_key(run: Run) -> RunKey:
    """Return the key of a run among views."""
    return str(run.path), created_at(run.path)


def run_status(run: Run) -> Status:
    """Return a run's status; a shipped run is finished and never written to."""
    return read_status(run.path) if run.shipped else reconcile_status(run.path)


def queue_place(run: Run, status: Status) -> int | None:
    """Return a queued run's place in the queue; None for any other."""
    return len(runs_ahead(run.path)) if status.state == "queued" else None


def config_or_none(run: Run) -> dict[str, Any] | None:
    """Return the run's config; None if it is damaged, since the rest is still of use."""
    try:
        return run.config().to_dict()
    except DamagedError:
        return None


def fingerprint_or_none(run: Run) -> dict[str, Any] | None:
    """Return the fingerprint of what the run was trained on; None if it has none or is damaged."""
    try:
        fingerprint = run.fingerprint()
    except DamagedError:
        return None
    return fingerprint and fingerprint.to_dict()


def snapshot_dict(run: Run) -> dict[str, Any]:
    """Return state, progress and history of a run, ready for JSON. Raises DamagedError."""
    return Snapshots().get(run).to_dict()


def run_summary(run: Run) -> dict[str, Any]:
    """Return a row of the list of runs; a damaged run has one too, with the state `damaged`."""
    try:
        snapshot, config = Snapshots().get(run), run.config()
    except DamagedError as error:
        return {"run": run.id, "state": "damaged", "message": str(error)}
    best = snapshot.view.best
    return {
        "run": run.id,
        "title": run.about_or_empty().title,
        "state": snapshot.status.state,
        "model": config.model,
        "dataset": config.dataset,
        "recipe": config.recipe,
        "epoch": len(snapshot.view.epochs),
        "epochs": 0 if run.is_pretrained else config.epochs,
        "best_val_top1": best.val_top1 if best else None,
        "val_images": best.val_images if best else 0,
        "seconds": snapshot.progress()["seconds"],
        "message": snapshot.status.message,
    }


def run_summary_text(row: dict[str, Any]) -> str:
    """Return a summary as a line of text."""
    if row["state"] == "damaged":
        return f"{row['run']}: {row['message']}"
    best = row["best_val_top1"]
    top1 = f", validation top-1 {accuracy_text(best, row['val_images'])}" if best else ""
    title = f" ({row['title']})" if row["title"] else ""
    epochs, took = counted(row["epochs"], "epoch"), duration_text(row["seconds"])
    progress = f"{row['epoch']} of {epochs} in {took}{top1}"
    return (
        f"{row['run']}{title}: {row['state']}, {row['model']} on {row['dataset']}, "
        f"{progress if row['epochs'] else row['message']}"
    )
