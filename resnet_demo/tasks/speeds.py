"""What was measured here of how long an image takes, kept in a file beside the runs. No torch here.

The file is a convenience: where it is damaged, nothing was measured, and the next measurement
writes it anew.
"""

import json
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_demo.config import TrainConfig
from resnet_demo.data.store import DatasetInfo
from resnet_demo.errors import DamagedError
from resnet_demo.files import write_atomically
from resnet_demo.json_files import build, read_json

SAME_WORK = (
    "model", "stem", "batch_norm", "image_size", "precision", "optimizer", "compile",
    "collect_garbage",
)  # fmt: skip
FOLDER = ".tasks"  # hidden: no run
MOST = 500  # measurements; the oldest goes
TELLING = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")  # variables that change how fast it is


@dataclass(frozen=True)
class Measured:
    """Seconds a training image and a validation image, and when that was (Unix seconds)."""

    train: float
    val: float
    time: float


def work_of(config: TrainConfig, info: DatasetInfo) -> dict[str, Any]:
    """What makes an image cost the same, ready for JSON. stored_size: pixels, before resizing."""
    work = {name: getattr(config, name) for name in (*SAME_WORK, "batch_size")}
    return {**work, "stored_size": info.size, "machine": machine()}


def machine() -> str:
    """This machine, as far as it can be told without torch: another device is another number."""
    known = hasattr(os, "sched_getaffinity")  # not on a Mac
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count()
    gpus = sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*"))
    told = [f"{name}={os.environ[name]}" for name in TELLING if name in os.environ]
    return " ".join([platform.node(), platform.machine(), f"{cores} cores", *gpus, *told])


def find(root: Path, work: dict[str, Any]) -> Measured | None:
    """The newest measurement of that work under a root of runs; None where there is none."""
    rows = [row for row in rows_of(root) if row["work"] == work]
    return max((build(Measured, row) for row in rows), key=lambda one: one.time, default=None)


def keep(root: Path, work: dict[str, Any], speed: Any) -> None:
    """Put down a Speed in the place of an older one. For the one worker that measures."""
    others = [row for row in rows_of(root) if row["work"] != work]
    now = {"work": work, "time": time.time(), **vars(speed)}
    rows = sorted([*others, now], key=lambda row: row["time"])[-MOST:]
    file_of(root).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file_of(root), (json.dumps(rows, indent=1) + "\n").encode())


def task_of(root: Path) -> Path:
    """Where, under a root of runs, the task of measuring lies."""
    return root / FOLDER / "measure"


def file_of(root: Path) -> Path:
    """Where, under a root of runs, the measurements are kept."""
    return root / FOLDER / "speeds.json"


def rows_of(root: Path) -> list[dict[str, Any]]:
    """What the file holds; nothing where it is damaged, or is not there."""
    try:
        rows = read_json(file_of(root))
    except DamagedError:
        return []
    return rows if isinstance(rows, list) and all(map(is_sound, rows)) else []


def is_sound(row: Any) -> bool:
    """Whether a row can be calculated with."""
    try:
        return build(Measured, row).train > 0 and "work" in row
    except ValueError:
        return False
