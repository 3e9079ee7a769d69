"""The services that every tab is given: runs, datasets, task launchers, caches, and the caller."""

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import gradio as gr
import numpy as np

from resnet_demo.architectures import STEM_CHOICE_MODELS
from resnet_demo.data.decode_process import decode_in_process, is_cheap
from resnet_demo.data.pictures import decode_picture
from resnet_demo.data.store import Datasets
from resnet_demo.errors import DamagedError, DemoError
from resnet_demo.hosting.access import Access
from resnet_demo.hosting.zerogpu.visitor_runs import Slice, VisitorRuns
from resnet_demo.learn.lessons import is_experiment
from resnet_demo.lru import LRU
from resnet_demo.models.description import WEIGHTS, model_description
from resnet_demo.models.pretrained import weights_available
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run, Runs
from resnet_demo.tasks.datasets import DataTasks
from resnet_demo.tasks.estimate import RunSpeeds
from resnet_demo.tasks.evaluations import Evaluations
from resnet_demo.tasks.exports import Exports
from resnet_demo.tasks.image_indexes import ImageIndexes
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.limits import Allowance, Caller, Limits
from resnet_demo.tasks.run_groups import RunGroups
from resnet_demo.tasks.snapshot import RunStates, RunTitles, Snapshots
from resnet_demo.tasks.speed_tests import SpeedTests
from resnet_demo.ui.fair_queue import FairQueue
from resnet_demo.ui.gradio_fixes import current_request
from resnet_demo.ui.plots import CurveCache
from resnet_demo.ui.uploads import PageUploads, uploaded_picture

if TYPE_CHECKING:  # imports torch, and the page must appear without it
    from resnet_demo.inference.classifier import Classifier

# Options of events. All three hide Gradio's progress overlay and the event's HTTP endpoint.
QUIET_EVENT = {"show_progress": "hidden", "api_visibility": "private"}
# Of work that Services computes in turn: its fair queue limits it.
FAIR_EVENT = {**QUIET_EVENT, "concurrency_limit": None}
# Of a timer: while an answer is on its way, further ticks are dropped.
TICK_EVENT = {**QUIET_EVENT, "concurrency_limit": None, "trigger_mode": "once"}
# Of a change: never two at once, and the last one is never dropped.
LATEST_EVENT = {**TICK_EVENT, "trigger_mode": "always_last"}
MAX_CLASSIFIER_BYTES = 256_000_000  # of parameters and buffers in memory, of all cached networks
MAX_DECODED_AT_ONCE = 2  # large pictures of all visitors, one of each, in separate processes
_END = object()  # instead of StopIteration, which cannot be raised into a future


class ClassifierCache:
    """Loaded networks by run and sha256 of the weights, `max_bytes` in all. Thread-safe."""

    def __init__(self, max_bytes: int = MAX_CLASSIFIER_BYTES) -> None:
        self.classifiers: LRU[tuple[str, str], Classifier] = LRU(
            max_bytes, lambda classifier: classifier.size
        )
        self.lock = Lock()

    def get(self, run: Run) -> "Classifier":
        """Return the run's current weights, however large. Raises as `Classifier.load`."""
        # Held while loading too: else several threads would load the same weights.
        with self.lock:
            classifier = self.classifiers.get((run.id, model_description(run.path)["sha256"]))
            if classifier is None:
                from resnet_demo.inference.classifier import Classifier  # imports torch

                classifier = Classifier.load(run)
                # A run that trains may have replaced its weights since the look-up: the key is
                # the sha256 of what was loaded.
                self.classifiers[run.id, classifier.saved.sha256] = classifier
            return classifier


@dataclass(frozen=True)
class LargePicture:
    """An upload that takes long to decode, and its name in messages."""

    path: Path
    name: str | None = None


@dataclass
class Services:
    """One instance of each service for the whole app.

    access: who may change things. limits: quotas in public mode; None: no limits. gpu: on ZeroGPU,
    the function that trains for one slice of GPU time. `snapshots` and `curves` are not
    thread-safe: only async handlers, which share the server's event loop, use them.
    """

    paths: Paths
    access: Access = field(default_factory=Access)
    limits: Limits | None = None
    gpu: Slice | None = None
    allowance: Allowance = field(init=False)
    launcher: Launcher = field(init=False)
    data: DataTasks = field(init=False)
    speed_tests: SpeedTests = field(init=False)
    evaluations: Evaluations = field(init=False)
    exports: Exports = field(init=False)
    image_indexes: ImageIndexes = field(init=False)
    run_groups: RunGroups = field(init=False)
    slices: VisitorRuns | None = field(init=False)
    snapshots: Snapshots = field(default_factory=Snapshots)
    states: RunStates = field(default_factory=RunStates)
    titles: RunTitles = field(default_factory=RunTitles)
    run_speeds: RunSpeeds = field(default_factory=RunSpeeds)
    curves: CurveCache = field(default_factory=CurveCache)
    classifiers: ClassifierCache = field(default_factory=ClassifierCache)
    fair_queue: FairQueue = field(default_factory=FairQueue)
    # Large pictures wait for each other only, and not in the slots where small ones are computed.
    large_pictures: FairQueue = field(default_factory=lambda: FairQueue(MAX_DECODED_AT_ONCE))
    decoding: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    page_uploads: PageUploads = field(default_factory=PageUploads)

    def __post_init__(self) -> None:
        self.allowance = Allowance(self.limits)
        self.launcher = Launcher(self.paths, self.allowance)
        self.data = DataTasks(self.launcher)
        self.speed_tests = SpeedTests(self.launcher)
        self.evaluations = Evaluations(self.launcher)
        self.exports = Exports(self.launcher)
        self.image_indexes = ImageIndexes(self.launcher)
        self.run_groups = RunGroups(self.launcher)
        self.slices = VisitorRuns(self.launcher, self.gpu) if self.gpu else None

    @property
    def runs(self) -> Runs:
        """Return the runs on this machine."""
        return self.launcher.runs

    @property
    def datasets(self) -> Datasets:
        """Return the datasets on this machine."""
        return self.launcher.datasets

    def caller(self) -> Caller:
        """Return the sender of the current event's request.

        Outside of a request: the owner locally, a stranger in public mode.
        """
        return self.access.caller(current_request())

    async def stream_in_turn(self, steps: Generator[Any, Any, None]) -> AsyncIterator[Any]:
        """Yield the steps of slow work, each computed in a thread, in the visitor's turn.

        A LargePicture is not yielded: the work gets its pixels instead, or the error.
        """
        # The slot is given back between two steps, so that other visitors are served meanwhile.
        name, is_first = self.caller().name, True
        sent: np.ndarray | DemoError | None = None
        with show_errors():
            while True:
                async with self.fair_queue.slot(name, is_first):
                    # The thread gets a copy of the context, which holds the current request.
                    value = await asyncio.to_thread(advance, steps, sent)
                if value is _END:
                    return
                is_first = False  # work that has begun is not refused for a full queue
                if isinstance(value, LargePicture):
                    sent = await self._decode_large(value)
                else:
                    sent = None
                    yield value

    async def _decode_large(self, picture: LargePicture) -> np.ndarray | DemoError:
        """Return the pixels of a large picture, decoded in the visitor's turn, or the error."""
        name = self.caller().name
        # One of each visitor: a slow picture of a stranger leaves a slot for others.
        own = self.decoding.setdefault(name, asyncio.Lock())
        try:
            async with own, self.large_pictures.slot(name):
                return await asyncio.to_thread(decode_in_process, picture.path, picture.name)
        except DemoError as error:
            return error

    def decode_steps(
        self, file: Path, name: str | None = None
    ) -> Generator[LargePicture, np.ndarray, np.ndarray]:
        """Return the pixels of a file, (H, W, 3) uint8; a part of work for `stream_in_turn`.

        Yields a large picture first, so that the slot is free meanwhile. name: in messages.
        Raises DemoError.
        """
        if is_cheap(file, name):
            return decode_picture(file, name=name)
        return (yield LargePicture(file, name))

    async def decode(self, file: Path) -> np.ndarray:
        """Return the pixels of a file, (H, W, 3) uint8, decoded in the visitor's turn."""

        def steps() -> Generator[Any, Any, None]:
            yield (yield from self.decode_steps(file))

        [pixels] = [pixels async for pixels in self.stream_in_turn(steps())]
        return pixels

    async def run_in_turn(self, work: Callable[..., Any], *args: Any) -> Any:
        """Return the result of slow work, run in a thread in the visitor's turn.

        Raises LimitError where too many requests wait.
        """
        async with self.fair_queue.slot(self.caller().name):
            return await asyncio.to_thread(work, *args)

    async def compute(self, work: Callable[..., Any], *args: Any) -> Any:
        """Return the result of work that counts as one picture, computed in the visitor's turn.

        Shows a DemoError as a toast.
        """
        with show_errors():
            self.allowance.count_pictures(self.caller())
            return await self.run_in_turn(work, *args)

    def classifier(self, run_id: str) -> "Classifier":
        """Return the run's saved network, from the cache if it is there. Raises DemoError."""
        return self.classifiers.get(self.runs.get(run_id))

    def picture(self, path: str | None) -> Path:
        """Return an uploaded picture, kept as long as a page shows it. Raises ConfigError."""
        file = uploaded_picture(path)
        self.page_uploads.add(file)
        return file

    def run_choices(
        self,
        trained: bool = False,
        experiments: bool = False,
        keep: str | None = None,
        pretrained: bool = False,
    ) -> list[tuple[str, str]]:
        """Return (label, run id) of each run; trained: only of runs with saved weights.

        experiments: with the runs of lessons. keep: a run that is listed in any case. pretrained:
        with the network that only classifies, at the end.
        """
        runs = self.trained_runs() if trained else self.runs.list()
        return [
            (self.run_label(run), run.id)
            for run in [*runs, *(self.pretrained_runs() if pretrained else [])]
            if experiments or run.id == keep or not is_experiment(run)
        ]

    def runs_of_network(
        self, model: str | None, stem: str | None, batch_norm: bool | None
    ) -> list[tuple[str, str]]:
        """Return (label, run id) of each finished run whose weights fit that network."""

        def fits(run: Run) -> bool:
            try:
                config = run.config()
            except DamagedError:
                return False
            # Networks without a choice have one stem, whatever the form says.
            is_stem = config.stem == stem or model not in STEM_CHOICE_MODELS
            return (config.model, config.batch_norm) == (model, batch_norm) and is_stem

        return [
            (self.run_label(run), run.id)
            for run in self.trained_runs()
            if not is_experiment(run) and self.run_state(run) == "finished" and fits(run)
        ]

    def pretrained_runs(self) -> list[Run]:
        """Return the shipped network that was trained elsewhere, if its weights are here."""
        return [run for run in self.runs.pretrained if weights_available(run.config().model)]

    def has_experiments(self, trained: bool = False) -> bool:
        """Return whether `experiments` would list more runs."""
        return any(map(is_experiment, self.trained_runs() if trained else self.runs.list()))

    def run_label(self, run: Run) -> str:
        """Return a run's title, its id and its state, or that it came with the app."""
        state, title = self.run_state(run), self.titles(run)
        if run.shipped and state == "finished":
            state = "recording" if run.is_recording else "came with the app"
        if run.is_pretrained:  # it was trained elsewhere, so it has no state
            state = "1,000 classes"
        return " · ".join([*([title] if title else []), run.id, state])

    def run_state(self, run: Run) -> str:
        """Return a run's state, or `damaged`."""
        try:
            return self.states(run)
        except DamagedError:
            return "damaged"

    def trained_runs(self) -> list[Run]:
        """Return the runs with saved weights, newest first, shipped ones last."""
        return [run for run in self.runs.list() if (run.path / WEIGHTS).exists()]

    def default_trained_run(self) -> str | None:
        """Return the run to try first: the newest finished one, else a shipped one.

        Runs of lessons are never the default: most of them hardly learned.
        """
        # A run that still trains has weights too, but its answers change from epoch to epoch.
        runs = [run for run in self.trained_runs() if not is_experiment(run)]
        finished = [run for run in runs if run.shipped or self.run_state(run) == "finished"]
        return next((run.id for run in [*finished, *runs]), None)

    def default_run(self) -> str | None:
        """Return the run that a new page shows: the live one, else the newest; none of a lesson."""
        runs = [run for run in self.runs.list() if not is_experiment(run)]
        live = [run for run in runs if self.run_state(run) in ("running", "preparing", "stopping")]
        return next((run.id for run in [*live, *runs]), None)


def advance(steps: Generator[Any, Any, None], sent: np.ndarray | DemoError | None) -> Any:
    """Return the next value of the work, or _END; sent: the answer to its last value, or None."""
    try:
        return steps.throw(sent) if isinstance(sent, DemoError) else steps.send(sent)
    except StopIteration:
        return _END


@contextmanager
def show_errors() -> Iterator[None]:
    """Show any DemoError raised inside, or inside the decorated function, as a toast.

    An error of the disk is shown too, without the path of this machine that it names.
    """
    try:
        yield
    except DemoError as error:
        raise gr.Error(str(error), print_exception=False) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise gr.Error(f"a file could not be read or written: {reason}") from error
