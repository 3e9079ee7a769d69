"""What every tab is given: the runs, the datasets, the launcher; and how errors reach a person."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.context import LocalContext
from gradio.utils import get_upload_folder
from starlette.requests import HTTPConnection

from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DamagedError, DemoError
from resnet_demo.hosting.access import Access
from resnet_demo.hosting.zerogpu.slices import Slice, Slices
from resnet_demo.inference.classifier_cache import Classifiers
from resnet_demo.models.description import WEIGHTS
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run, Runs
from resnet_demo.tasks.caller import Caller
from resnet_demo.tasks.datasets import DataTasks
from resnet_demo.tasks.evaluations import Evaluating
from resnet_demo.tasks.image_indexes import Indexing
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.limits import Allowance, Limits
from resnet_demo.tasks.run_groups import Comparing
from resnet_demo.tasks.snapshot import States, Watcher
from resnet_demo.tasks.speed_tests import Measuring
from resnet_demo.ui.fair_queue import Fair
from resnet_demo.ui.page_uploads import Sessions
from resnet_demo.ui.train.curves import Curves

if TYPE_CHECKING:  # torch, which the page must not wait for
    from resnet_demo.inference.classifier import Classifier

QUIET = {"show_progress": "hidden", "api_visibility": "private"}
NOT_UPLOADED = ConfigError(
    "a file must come through an upload, got a path of this machine", "image"
)
END = object()
MOST_PICTURE = 20 * 2**20  # bytes
TICK = {**QUIET, "concurrency_limit": None, "trigger_mode": "once"}  # a slow answer is not doubled
NEWS = {**TICK, "trigger_mode": "always_last"}  # never two at once, and none is lost


@dataclass
class Services:
    """One of each for the whole app; `watcher` is for the ticks, which all run in one thread.

    access: who may change things, where strangers may ask; limits: how much, None: no matter. gpu:
    on ZeroGPU, what takes a slice of GPU time; a visitor then trains in such slices.
    """

    paths: Paths
    access: Access = field(default_factory=Access)
    limits: Limits | None = None
    gpu: Slice | None = None
    allowance: Allowance = field(init=False)
    launcher: Launcher = field(init=False)
    data: DataTasks = field(init=False)
    measuring: Measuring = field(init=False)
    evaluating: Evaluating = field(init=False)
    indexing: Indexing = field(init=False)
    comparing: Comparing = field(init=False)
    slices: Slices | None = field(init=False)
    watcher: Watcher = field(default_factory=Watcher)
    states: States = field(default_factory=States)
    curves: Curves = field(default_factory=Curves)
    classifiers: Classifiers = field(default_factory=Classifiers)
    fair: Fair = field(default_factory=Fair)
    sessions: Sessions = field(default_factory=Sessions)

    def __post_init__(self) -> None:
        self.allowance = Allowance(self.limits)
        self.launcher = Launcher(self.paths, self.allowance)
        self.data = DataTasks(self.launcher)
        self.measuring = Measuring(self.launcher)
        self.evaluating = Evaluating(self.launcher)
        self.indexing = Indexing(self.launcher)
        self.comparing = Comparing(self.launcher)
        self.slices = Slices(self.launcher, self.gpu) if self.gpu else None

    @property
    def runs(self) -> Runs:
        """The runs on this machine."""
        return self.launcher.runs

    @property
    def datasets(self) -> Datasets:
        """The datasets on this machine."""
        return self.launcher.datasets

    def caller(self) -> Caller:
        """Who asked for what runs at this moment, told by the request that Gradio is at.

        Outside of a request: the owner on a person's own machine, a stranger in public.
        """
        asked = LocalContext.request.get(None)
        request = getattr(asked, "request", None)
        return self.access.caller(request if isinstance(request, HTTPConnection) else None)

    async def in_turns(self, steps: Iterator[Any]) -> AsyncIterator[Any]:
        """What slow work tells step by step, each in a thread once it is the visitor's turn."""
        name, fresh = self.caller().name, True
        with plainly():
            while True:
                async with self.fair.turn(name, fresh):
                    told = await asyncio.to_thread(next, steps, END)
                if told is END:
                    return
                yield told
                fresh = False

    async def in_turn(self, work: Callable[..., Any], *values: Any) -> Any:
        """What slow work gives, in a thread once it is the visitor's turn. Raises LimitError."""
        async with self.fair.turn(self.caller().name):
            return await asyncio.to_thread(work, *values)

    def classifier(self, run_id: str) -> "Classifier":
        """The run's kept weights, in memory while it keeps them. Raises DemoError."""
        return self.classifiers.get(self.runs.get(run_id))

    def picture(self, path: str | None) -> Path:
        """An uploaded picture, which is kept as long as a page shows it. Raises ConfigError."""
        file = uploaded_picture(path)
        self.sessions.note(file)
        return file

    def run_labels(self, trained: bool = False) -> list[tuple[str, str]]:
        """What a choice of runs shows, and the id behind it; trained: only those with weights."""
        runs = self.trained() if trained else self.runs.list()
        return [(self.label(run), run.id) for run in runs]

    def label(self, run: Run) -> str:
        """A run in a choice of runs: its id, and its state, or where it came from."""
        what = self.state(run)
        told = "came with the app" if run.shipped and what == "finished" else what
        return f"{run.id} · {told}"

    def state(self, run: Run) -> str:
        """A run's state in a word."""
        try:
            return self.states(run)
        except DamagedError:
            return "damaged"

    def trained(self) -> list[Run]:
        """The runs that have weights by now, newest first, those that came with the app last."""
        return [run for run in self.runs.list() if (run.path / WEIGHTS).exists()]

    def first_choice(self) -> str | None:
        """The run to try first: a person's newest finished one, else one that came with the app."""
        runs = self.trained()
        finished = [run for run in runs if run.shipped or self.state(run) == "finished"]
        return next((run.id for run in [*finished, *runs]), None)

    def latest(self) -> str | None:
        """The run a new page opens with: the live one that trains, else the newest."""
        labels = self.runs.list()
        live = [run for run in labels if self.state(run) in ("running", "preparing", "stopping")]
        return next((run.id for run in [*live, *labels]), None)


@contextmanager
def plainly() -> Iterator[None]:
    """DemoErrors within, or within the function it decorates, reach a person as one sentence."""
    try:
        yield
    except DemoError as error:
        raise gr.Error(str(error), print_exception=False) from error


def uploaded(path: str | None) -> Path:
    """The file of an upload. Raises ConfigError for a path that did not come through one.

    A raw request can name any file of this machine: only Gradio's own folder is looked into.
    """
    folder = Path(get_upload_folder()).resolve()
    if not isinstance(path, str) or not path or "\0" in path:
        raise ConfigError("a file must be uploaded first, got nothing", "image")
    try:
        file = Path(path).resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:  # no file, a ring of links, no Unicode
        raise NOT_UPLOADED from error
    if not file.is_relative_to(folder) or not file.is_file():
        raise NOT_UPLOADED
    return file


def uploaded_picture(path: str | None) -> Path:
    """The same of a single picture, which may not be as large as an archive."""
    file = uploaded(path)
    if (size := file.stat().st_size) > MOST_PICTURE:
        rule = f"a file of at most {MOST_PICTURE:,} bytes"
        raise ConfigError(f"the picture must be {rule}, got {size:,}", "image")
    return file
