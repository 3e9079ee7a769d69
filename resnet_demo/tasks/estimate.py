"""How long a run would take, from what was measured on this machine. No torch here.

An earlier run is the best measurement; where there is none of the same work, a few steps of that
network on noise tell (`measuring`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from resnet_demo.config import TrainConfig
from resnet_demo.data.image_sizes import image_sizes, relative_cost
from resnet_demo.data.splits import split_sizes
from resnet_demo.data.store import DatasetInfo
from resnet_demo.errors import DamagedError
from resnet_demo.files import mark
from resnet_demo.lru import LRU
from resnet_demo.runs.store import Run, Runs
from resnet_demo.runs.view import RunView
from resnet_demo.tasks import speeds
from resnet_demo.tasks.speeds import SAME_WORK

SAME_SHARES = ("val_share", "train_images")  # an epoch's time has its validation in it
SAME_BATCH = 2  # a batch up to so many times as large takes about as long an image
MAX_SPEEDS = 2000  # runs whose speed is remembered


@dataclass(frozen=True)
class Estimate:
    """Expected seconds; the run that they were measured in, or when a measurement was made.

    run_id: empty where it was no run. measured_at: Unix seconds, 0 where it was one.
    """

    seconds: float
    run_id: str = ""
    measured_at: float = 0.0


class RunSpeeds:
    """The measured seconds per image of runs, read again only when a log has changed.

    Thread-safe. The page asks at each change of its form: reading every log each time would take
    seconds on a machine with many long runs.
    """

    def __init__(self) -> None:
        self.cached: LRU[str, tuple[object, float | None]] = LRU(MAX_SPEEDS)

    def __call__(self, run: Run) -> float | None:
        """Return the seconds for each full-sized image. Raises DamagedError."""
        log, key = run.log(), str(run.path)
        version = mark(log.path), log.size()
        entry = self.cached.get(key)
        if entry is None or entry[0] != version:
            entry = version, read_speed(run)
            self.cached[key] = entry
        return entry[1]


def read_speed(run: Run) -> float | None:
    """Return a run's seconds for each full-sized image, from its whole log. Raises DamagedError."""
    view = RunView(run.log())
    view.refresh()
    return seconds_per_image(view, run.config())


def estimate(
    config: TrainConfig,
    info: DatasetInfo,
    runs: Runs,
    speed_of: Callable[[Run], float | None] = read_speed,
) -> Estimate | None:
    """From the newest run here of the same work, else from a measurement; None without either.

    A run's rate counts validation too: what an epoch took, an image. A run that has no whole epoch
    yet gives its training rate.
    """
    if known := estimate_from_runs(config, info, runs, speed_of=speed_of):
        return known
    found = speeds.find(runs.root, speeds.work_of(config, info))
    if found is None:
        return None
    train, val = split_sizes(config, info.train)
    seconds = config.epochs * (
        train * found.train * relative_cost(image_sizes(config)) + val * found.val
    )
    return Estimate(seconds, measured_at=found.time)


def estimate_from_runs(
    config: TrainConfig,
    info: DatasetInfo,
    runs: Runs,
    counts: Callable[[Run], bool] = lambda run: True,
    speed_of: Callable[[Run], float | None] = read_speed,
) -> Estimate | None:
    """The same from runs alone, of those that count."""
    train, _ = split_sizes(config, info.train)
    for run in runs.list():
        try:
            if run.shipped or not counts(run) or not same_work(run.config(), config):
                continue
        except DamagedError:
            continue
        seconds = speed_of(run)
        if seconds:
            return Estimate(
                config.epochs * train * seconds * relative_cost(image_sizes(config)), run.id
            )
    return None


def same_work(one: TrainConfig, other: TrainConfig) -> bool:
    """Whether an image costs about the same in both."""
    batches = one.batch_size, other.batch_size
    alike = max(batches) <= SAME_BATCH * min(batches)
    names = (*SAME_WORK, *SAME_SHARES)
    return alike and all(getattr(one, name) == getattr(other, name) for name in names)


def seconds_per_image(view: RunView, config: TrainConfig) -> float | None:
    """Seconds of the median epoch for each full-sized image trained on, or of recent steps."""
    if view.started and view.epochs:
        images, each = config.batch_size, view.started.steps_per_epoch
        done = [(e.seconds, images * view.work(e.step - each, e.step)) for e in view.epochs]
        costs = sorted(seconds / work for seconds, work in done if work > 0)
        return costs[len(costs) // 2] if costs else None
    rate = view.images_per_s() if len(view.steps) > 5 else None
    if not rate:
        return None
    return (config.image_size / (view.side or config.image_size)) ** 2 / rate
