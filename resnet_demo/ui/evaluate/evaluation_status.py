"""Where evaluations stand. Every page asks once a second: mostly, files are only looked at."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from resnet_demo.errors import DemoError
from resnet_demo.files import Mark, mark
from resnet_demo.models.description import DESCRIPTION, PENDING
from resnet_demo.runs.text import duration_text, escape_markdown
from resnet_demo.tasks.status import LIVE, Status
from resnet_demo.ui.services import Services


@dataclass(frozen=True)
class Asked:
    """What a page wants to know: of a run, and of another beside it or of none."""

    run: str | None
    split: str = "test"
    mode: str = "plain"
    other: str | None = None

    @classmethod
    def of(cls, run: str | None, split: str, mode: str, other: str | None) -> "Asked":
        """What the page's choices mean. A run is not compared with itself."""
        return cls(run, split, mode, other if other and other != run else None)


@dataclass(frozen=True)
class Standing:
    """state: a task's, `none` for one that nobody asked for, `wrong` where it cannot be.

    words: for a person (Markdown). share: how far it is, from 0 to 1. folder: of the task.
    """

    state: str
    words: str = ""
    share: float = 0.0
    folder: str | None = None

    @property
    def done(self) -> str | None:
        """The folder, where the result is in it."""
        return self.folder if self.state == "finished" else None

    @property
    def is_live(self) -> bool:
        """Whether a worker is at it."""
        return self.state in LIVE


@dataclass
class Standings:
    """What is known of the tasks' folders, as long as no file has changed."""

    services: Services
    folders: dict[tuple, tuple[tuple[Mark, ...], Path]] = field(default_factory=dict)
    ended: dict[Path, tuple[Mark, Standing]] = field(default_factory=dict)

    def folder(self, asked: Asked, other: bool = False) -> Path:
        """Of the run's evaluation, or of the other's on the same dataset. Raises DemoError."""
        run_id = asked.other if other else asked.run
        run, evaluating = self.services.runs.get(run_id), self.services.evaluating
        base = self.services.runs.get(asked.run) if other else run
        return self._kept(
            (run.path, base.path, asked.split, asked.mode),
            lambda: evaluating.folder(run, asked.split, base.config().dataset, asked.mode),
        )

    def robustness_folder(self, asked: Asked) -> Path:
        """Of the run's robustness. Raises DemoError."""
        run, evaluating = self.services.runs.get(asked.run), self.services.evaluating
        return self._kept(
            (run.path, asked.split), lambda: evaluating.robustness_folder(run, asked.split)
        )

    def evaluation(self, asked: Asked, other: bool = False) -> Standing:
        """How far it is, or why it cannot be."""
        return self._standing(lambda: self.folder(asked, other))

    def robustness(self, asked: Asked) -> Standing:
        """The same of the run's robustness."""
        return self._standing(lambda: self.robustness_folder(asked))

    def _kept(self, key: tuple, find: Callable[[], Path]) -> Path:
        """What `find` found, until the run has other weights or another dataset has come."""
        paths = (key[0] / DESCRIPTION, key[0] / PENDING, self.services.datasets.root)
        marks = tuple(mark(path) for path in paths)
        if self.folders.get(key, (None, None))[0] != marks:
            self.folders[key] = marks, find()
        return self.folders[key][1]

    def _standing(self, find: Callable[[], Path]) -> Standing:
        try:
            folder = find()
            now = mark(folder / "status.json")
            if folder in self.ended and self.ended[folder][0] == now:
                return self.ended[folder][1]
            status = self.services.evaluating.status(folder) if now else None
        except DemoError as error:
            return Standing("wrong", f"⚠ {escape_markdown(str(error))}")
        standing = told(folder, status) if status else Standing("none", folder=str(folder))
        if standing.done:
            self.ended[folder] = now, standing
        return standing


def told(folder: Path, status: Status) -> Standing:
    """A task's status as the page has it."""
    if status.state == "finished":
        return Standing("finished", share=1.0, folder=str(folder))
    message, share = escape_markdown(status.message), 0.0
    if status.state == "running" and not status.total:
        message = "loading the network and the images"
    if status.is_live and status.total:
        left = f", about {duration_text(status.seconds_left)} left" if status.seconds_left else ""
        message = f"{status.done:,} of {status.total:,} images{left}"
        share = min(1.0, status.done / status.total)
    said = message if message not in ("", status.state) else ""  # not: Stopped: stopped
    words = ": ".join(part for part in (status.state.capitalize(), said) if part)
    return Standing(status.state, words, share, str(folder))
