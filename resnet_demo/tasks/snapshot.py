"""What there is to see of a run, for the page, the command line and the API alike."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resnet_demo.errors import DamagedError
from resnet_demo.files import Mark, mark
from resnet_demo.runs.log import CHUNK
from resnet_demo.runs.store import Run, made_at
from resnet_demo.runs.text import duration_text
from resnet_demo.runs.view import RunView, elapsed
from resnet_demo.tasks.queue import ahead
from resnet_demo.tasks.status import Status, is_frozen, read_status, settle

STOP_S = 10.0  # a stop is heard between two steps, and between two batches of validation
MOST_VIEWS = 32  # kept in memory


@dataclass(frozen=True)
class Look:
    """A run at one moment: its state, what its log told, its place in the queue (1: next).

    reading: its log is long, and is being read: the view is empty as yet.
    """

    run: Run
    status: Status
    view: RunView
    place: int | None
    reading: bool = False

    def to_dict(self) -> dict[str, Any]:
        """State, progress and history, ready for JSON."""
        best = self.view.best
        return {
            "run": self.run.id,
            "state": self.status.state,
            "message": self.status.message,
            "place": self.place,
            "progress": self.progress(),
            "best": {"epoch": best.epoch, "val_top1": best.val_top1} if best else None,
            "history": self.view.history(),
            "config": config_of(self.run),
        }

    def progress(self) -> dict[str, Any]:
        """Where it is, how fast, and how long to go; seconds_left is None where nobody knows."""
        view, started = self.view, self.view.started
        return {
            "step": view.step,
            "total_steps": view.total_steps,
            "epoch": view.last.epoch if view.last else 0,
            "epochs": started.epochs if started else None,
            "loss": view.steps[-1].loss if view.steps else None,
            "lr": view.steps[-1].lr if view.steps else None,
            "images_per_s": view.images_per_s(),
            "seconds": view.seconds() if self.status.is_live else view.worked(),
            "seconds_left": view.seconds_left() if self.status.state == "running" else None,
            "silent_s": self.silent_s(),
            "device": started.device if started else None,
            "precision": started.precision if started else None,
            "parameters": started.parameters if started else None,
            "macs": started.macs if started else None,
        }

    @property
    def ignores_stop(self) -> bool:
        """Whether it was asked to stop a while ago, longer than a step takes, and still runs."""
        usual = max([STOP_S, *(3 * pause for pause in self.view.pauses())])
        return self.status.state == "stopping" and (self.waited_s() > usual or self.frozen)

    @property
    def frozen(self) -> bool:
        """Whether a signal has suspended its process."""
        return is_frozen(self.status)

    def silent_s(self) -> float | None:
        """Seconds since the last word of a run that trains; None for any other."""
        if self.status.state not in ("running", "stopping") or not self.view.last:
            return None
        return min(elapsed(self.view.last), self.waited_s())

    def waited_s(self) -> float:
        """Seconds since the state changed, by the steady clock."""
        return max(0.0, time.monotonic() - self.status.changed_clock)


@dataclass
class Watcher:
    """Looks at runs again and again, reading only what is new in their logs. For one thread."""

    views: dict[tuple[str, float], RunView] = field(default_factory=dict)
    reading: set[tuple[str, float]] = field(default_factory=set)

    def look(self, run: Run) -> Look:
        """The run as it is now, however long that takes. Raises DamagedError."""
        key, status = key_of(run), status_of(run)  # before the log, which then tells no less
        view = self.views.pop(key, None) or RunView(run.log())
        view.refresh()
        self.keep(key, view)
        return look_at(run, status, view)

    def glance(self, run: Run) -> Look:
        """The same at once: a long log is read in a thread meanwhile. Raises DamagedError."""
        key = key_of(run)
        view = self.views.get(key)
        unread = run.log().size() - (view.offset if view else 0)
        if key not in self.reading and unread <= CHUNK:
            return self.look(run)
        if key not in self.reading:
            self.reading.add(key)
            threading.Thread(target=self.read, args=(run, key), daemon=True).start()
        return look_at(run, status_of(run), RunView(run.log()), reading=True)

    def read(self, run: Run, key: tuple[str, float]) -> None:
        """Read a whole log; the view is there for others when it is complete."""
        view = RunView(run.log())
        try:
            view.refresh()
            self.keep(key, view)
        finally:
            self.reading.discard(key)

    def keep(self, key: tuple[str, float], view: RunView) -> None:
        """Have the view at hand for the next look; the one that nobody asked for longest goes."""
        self.views[key] = view
        while len(self.views) > MOST_VIEWS:
            self.views.pop(next(iter(self.views)), None)


class States:
    """The state of each of many runs, which every page asks for every second.

    A run at rest is read again only when its status was replaced; one that came with the app, once.
    """

    def __init__(self) -> None:
        self.known: dict[Path, tuple[Mark, str]] = {}  # of runs at rest

    def __call__(self, run: Run) -> str:
        """The state in a word. Raises DamagedError."""
        now = None if run.shipped else mark(run.path / "status.json")
        if run.path in self.known and self.known[run.path][0] == now:
            return self.known[run.path][1]
        status = status_of(run)
        if not status.is_live:
            self.known[run.path] = now, status.state
        return status.state


def key_of(run: Run) -> tuple[str, float]:
    """What tells a run apart: an id may come again after a deletion."""
    return str(run.path), made_at(run.path)


def look_at(run: Run, status: Status, view: RunView, reading: bool = False) -> Look:
    """The run with what its log told and its place in the queue."""
    place = len(ahead(run.path)) if status.state == "queued" else None
    return Look(run, status, view, place, reading)


def look(run: Run) -> dict[str, Any]:
    """State, progress and history of a run, once."""
    return Watcher().look(run).to_dict()


def status_of(run: Run) -> Status:
    """A run's status; what came with the repository is finished and is never written to."""
    return read_status(run.path) if run.shipped else settle(run.path)


def config_of(run: Run) -> dict[str, Any] | None:
    """What the run was told; None if that file is damaged, and a look at the rest still helps."""
    try:
        return run.config().to_dict()
    except DamagedError:
        return None


def summary(run: Run) -> dict[str, Any]:
    """A row of the list of runs; a damaged one is listed too, and says so."""
    try:
        seen, config = Watcher().look(run), run.config()
    except DamagedError as error:
        return {"run": run.id, "state": "damaged", "message": str(error)}
    best = seen.view.best
    return {
        "run": run.id,
        "state": seen.status.state,
        "model": config.model,
        "dataset": config.dataset,
        "recipe": config.recipe,
        "epoch": len(seen.view.epochs),
        "epochs": config.epochs,
        "best_val_top1": best.val_top1 if best else None,
        "seconds": seen.progress()["seconds"],
        "message": seen.status.message,
    }


def summary_text(row: dict[str, Any]) -> str:
    """A summary as a line."""
    if row["state"] == "damaged":
        return f"{row['run']}: {row['message']}"
    top1 = f", validation top-1 {row['best_val_top1']:.2%}" if row["best_val_top1"] else ""
    return (
        f"{row['run']}: {row['state']}, {row['model']} on {row['dataset']}, "
        f"{row['epoch']} of {row['epochs']} epochs in {duration_text(row['seconds'])}{top1}"
    )
