"""Estimated duration of a run, from measurements on this machine. No torch here.

An earlier run is the best measurement; where none did the same work, a speed test is (a few steps
of that network on noise: `speed_tests`). Results of speed tests are stored in a file beside the
runs. A damaged file counts as empty, and the next speed test rewrites it.
"""

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_demo.config import TrainConfig
from resnet_demo.data.image_sizes import image_sizes, relative_cost
from resnet_demo.data.info import DatasetInfo
from resnet_demo.data.splits import split_sizes
from resnet_demo.errors import DamagedError
from resnet_demo.files import file_version, write_atomically
from resnet_demo.json_files import build, read_json
from resnet_demo.lru import LRU
from resnet_demo.runs.store import Run, Runs
from resnet_demo.runs.view import RunView

if TYPE_CHECKING:  # torch
    from resnet_demo.training.speed import Speed

SAME_WORK = (  # fields on which the time of an image depends, besides the batch size
    "model",
    "train_layers",
    "stem",
    "batch_norm",
    "image_size",
    "precision",
    "optimizer",
    "compile",
    "collect_garbage",
)
HEAD_S = 3.0  # to choose the weight decay and to fit a head
SAME_SHARES = ("val_share", "train_images")  # an epoch's time includes its validation
MAX_BATCH_RATIO = 2  # up to which two batch sizes take about the same time an image
HIDDEN_FOLDER = ".tasks"  # under the root of runs; no run
MAX_STORED = 500  # speeds in the file; the oldest is removed
MAX_CACHED = 2000  # runs whose speed is cached
SPEED_VARIABLES = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")  # they change the speed


@dataclass(frozen=True)
class Estimate:
    """An expected duration in seconds, and its source: a run, or else a speed test.

    run_id: empty for a speed test. measured_at: Unix seconds of the speed test, 0 for a run.
    """

    seconds: float
    run_id: str = ""
    measured_at: float = 0.0


@dataclass(frozen=True)
class StoredSpeed:
    """Seconds for a training image and for a validation image; time: Unix seconds."""

    train: float
    val: float
    time: float


class RunSpeeds:
    """The measured seconds per image of runs, read again only when a log has changed.

    Thread-safe. The page needs them at each change of its form, and reading every log each time
    would take seconds on a machine with many long runs.
    """

    def __init__(self) -> None:
        self.cached: LRU[str, tuple[object, float | None]] = LRU(MAX_CACHED)

    def __call__(self, run: Run) -> float | None:
        """Return the seconds for a full-sized image. Raises DamagedError."""
        log, key = run.log(), str(run.path)
        # The size too: an append within one tick of the file system's clock leaves the time as it
        # is.
        version = file_version(log.path), log.size()
        entry = self.cached.get(key)
        if entry is None or entry[0] != version:
            entry = version, read_speed(run)
            self.cached[key] = entry
        return entry[1]


def read_speed(run: Run) -> float | None:
    """Return a run's seconds for a full-sized image, from its whole log. Raises DamagedError."""
    view = RunView(run.log())
    view.refresh()
    return seconds_per_image(view, run.config())


def estimate(
    config: TrainConfig,
    info: DatasetInfo,
    runs: Runs,
    speed_of: Callable[[Run], float | None] = read_speed,
) -> Estimate | None:
    """Return the duration of a run, from the newest run of the same work, else a speed test.

    Return None without either. A run's speed includes validation: what an epoch took, per training
    image. A run without a whole epoch gives its training speed.
    """
    if found := estimate_from_runs(config, info, runs, speed_of=speed_of):
        return found
    speed = find_speed(runs.root, workload(config, info))
    if speed is None:
        return None
    if config.train_layers == "head":  # the speed test validates in the format for training
        seconds = embedded_images(config, info) * speed.val + HEAD_S
        return Estimate(seconds, measured_at=speed.time)
    train, val = split_sizes(config, info.train, info.val)
    cost = relative_cost(image_sizes(config))
    seconds = config.epochs * (train * speed.train * cost + val * speed.val)
    return Estimate(seconds, measured_at=speed.time)


def estimate_from_runs(
    config: TrainConfig,
    info: DatasetInfo,
    runs: Runs,
    accept: Callable[[Run], bool] = lambda run: True,
    speed_of: Callable[[Run], float | None] = read_speed,
) -> Estimate | None:
    """Return the duration according to the newest accepted run of the same work, or None."""
    train, _ = split_sizes(config, info.train, info.val)
    full_sized = config.epochs * train * relative_cost(image_sizes(config))  # images
    for run in runs.list():  # newest first: the machine and the program may have changed since
        try:
            # A shipped run was trained on another machine.
            if run.shipped or not accept(run) or not is_same_work(run.config(), config):
                continue
        except DamagedError:
            continue
        seconds = speed_of(run)
        if seconds and config.train_layers == "head":
            return Estimate(embedded_images(config, info) * seconds + HEAD_S, run.id)
        if seconds:
            return Estimate(full_sized * seconds, run.id)
    return None


def embedded_images(config: TrainConfig, info: DatasetInfo) -> int:
    """Return the number of forward passes before a head is fitted, if no embedding is kept."""
    train, val = split_sizes(config, info.train, info.val)
    return config.views * train + (val if config.val_share or info.val else 0)


def is_same_work(a: TrainConfig, b: TrainConfig) -> bool:
    """Return whether an image takes about the same time with both configs."""
    batches = a.batch_size, b.batch_size
    if max(batches) > MAX_BATCH_RATIO * min(batches):
        return False
    return all(getattr(a, name) == getattr(b, name) for name in (*SAME_WORK, *SAME_SHARES))


def seconds_per_image(view: RunView, config: TrainConfig) -> float | None:
    """Return the seconds for a full-sized training image: of the median epoch, or recent steps.

    Where only the head is trained, for an image that is embedded; None if all were embedded before.
    """
    if config.train_layers == "head":
        return 1 / view.embedding.images_per_s if view.embedding else None
    if view.started and view.epochs:
        images, steps = config.batch_size, view.started.steps_per_epoch
        epochs = [
            (e.seconds, images * view.relative_cost(e.step - steps, e.step)) for e in view.epochs
        ]
        # Per cost, so that epochs on smaller images count for what they are.
        costs = sorted(seconds / images for seconds, images in epochs if images > 0)
        # The median: the first epoch compiles, and others may have run beside something else.
        return costs[len(costs) // 2] if costs else None
    rate = view.images_per_s() if len(view.steps) > 5 else None  # the first steps are slow
    if not rate:
        return None
    # Scaled to full-sized images, as the cost of convolutions grows with the pixels.
    return (config.image_size / (view.image_size or config.image_size)) ** 2 / rate


def workload(config: TrainConfig, info: DatasetInfo) -> dict[str, Any]:
    """Return what the time of an image depends on, ready for JSON.

    stored_size: pixels, before resizing.
    """
    fields = {name: getattr(config, name) for name in (*SAME_WORK, "batch_size")}
    return {**fields, "stored_size": info.size, "machine": machine_name()}


def machine_name() -> str:
    """Return a name of this machine with what changes its speed, found without torch."""
    has_affinity = hasattr(os, "sched_getaffinity")  # not on a Mac
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()
    # Without torch: forms ask for an estimate before it is loaded.
    gpus = sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*"))
    variables = [f"{name}={os.environ[name]}" for name in SPEED_VARIABLES if name in os.environ]
    return " ".join([platform.node(), platform.machine(), f"{cores} cores", *gpus, *variables])


def find_speed(root: Path, work: dict[str, Any]) -> StoredSpeed | None:
    """Return the newest speed of that workload under a root of runs, or None."""
    rows = [row for row in read_speeds(root) if row["work"] == work]
    return max(
        (build(StoredSpeed, row) for row in rows), key=lambda speed: speed.time, default=None
    )


def store_speed(root: Path, work: dict[str, Any], speed: "Speed") -> None:
    """Store a speed, replacing the older one of that workload. For the speed test's worker only."""
    others = [row for row in read_speeds(root) if row["work"] != work]
    row = {"work": work, "time": time.time(), **vars(speed)}
    rows = sorted([*others, row], key=lambda row: row["time"])[-MAX_STORED:]  # the newest stay
    speeds_file(root).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(speeds_file(root), (json.dumps(rows, indent=1) + "\n").encode())


def speed_test_folder(root: Path) -> Path:
    """Return the folder of the speed test's task, under a root of runs."""
    return root / HIDDEN_FOLDER / "measure"


def speeds_file(root: Path) -> Path:
    """Return the file of stored speeds, under a root of runs."""
    return root / HIDDEN_FOLDER / "speeds.json"


def read_speeds(root: Path) -> list[dict[str, Any]]:
    """Return the rows of the file; an empty list if it is damaged or missing."""
    try:
        rows = read_json(speeds_file(root))
    except DamagedError:
        return []
    return rows if isinstance(rows, list) and all(map(is_valid_row, rows)) else []


def is_valid_row(row: Any) -> bool:
    """Return whether a row has a workload and a speed."""
    try:
        return build(StoredSpeed, row).train > 0 and "work" in row
    except ValueError:
        return False
