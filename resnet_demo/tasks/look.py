"""What there is to see of a run, for the page, the command line and the API alike."""

import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from resnet_demo.errors import DamagedError
from resnet_demo.runs.store import Run, made_at
from resnet_demo.runs.view import RunView
from resnet_demo.runs.words import duration
from resnet_demo.tasks.status import Status, is_frozen, read_status, settle
from resnet_demo.tasks.turns import ahead

STOP_S = 10.0  # a stop is heard between two steps, and between two batches of validation


@dataclass(frozen=True)
class Look:
    """A run at one moment: its state, what its log told, its place in the queue (1: next)."""

    run: Run
    status: Status
    view: RunView
    place: int | None

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
        waited = time.time() - self.status.changed_at
        steps = self.view.steps[-10:]
        usual = max([STOP_S, *(3 * (b.time - a.time) for a, b in pairwise(steps))])
        return self.status.state == "stopping" and (waited > usual or self.frozen)

    @property
    def frozen(self) -> bool:
        """Whether a signal has suspended its process."""
        return is_frozen(self.status)

    def silent_s(self) -> float | None:
        """Seconds since the last word of a run that trains; None for any other."""
        if self.status.state not in ("running", "stopping") or not self.view.last:
            return None
        return max(0.0, time.time() - max(self.view.last.time, self.status.changed_at))


@dataclass
class Watcher:
    """Looks at runs again and again, reading only what is new in their logs."""

    views: dict[tuple[str, float], RunView] = field(default_factory=dict)

    def look(self, run: Run) -> Look:
        """The run as it is now. Raises DamagedError."""
        status = status_of(run)
        key = (str(run.path), made_at(run.path))  # an id may come again after a deletion
        view = self.views.setdefault(key, RunView(run.log()))
        view.refresh()
        place = len(ahead(run.path)) if status.state == "queued" else None
        return Look(run, status, view, place)


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
    best = f", best validation top-1 {row['best_val_top1']:.2%}" if row["best_val_top1"] else ""
    return (
        f"{row['run']}: {row['state']}, {row['model']} on {row['dataset']}, "
        f"{row['epoch']} of {row['epochs']} epochs in {duration(row['seconds'])}{best}"
    )
