"""How long a run would take, from what this machine measured in earlier runs. No torch here."""

from dataclasses import dataclass

from resnet_demo.config import TrainConfig
from resnet_demo.data.store import DatasetInfo
from resnet_demo.errors import DamagedError
from resnet_demo.runs.store import Runs
from resnet_demo.runs.view import RunView

SAME_WORK = ("model", "stem", "batch_norm", "image_size", "precision", "optimizer")


@dataclass(frozen=True)
class Estimate:
    """Expected seconds, and the run that they were measured in."""

    seconds: float
    run_id: str


def estimate(config: TrainConfig, info: DatasetInfo, runs: Runs) -> Estimate | None:
    """From the newest run here of the same network, size and precision; None where there is none.

    Its rate counts validation too: what an epoch took, an image. A run that has no whole epoch yet
    gives its training rate.
    """
    images = config.epochs * (info.train - int(info.train * config.val_share))
    for run in runs.list():
        try:
            if run.shipped or not same_work(run.config(), config):
                continue
        except DamagedError:
            continue
        view = RunView(run.log())
        view.refresh()
        seconds = seconds_per_image(view, run.config())
        if seconds:
            return Estimate(images * seconds, run.id)
    return None


def same_work(one: TrainConfig, other: TrainConfig) -> bool:
    """Whether an image costs the same in both."""
    return all(getattr(one, name) == getattr(other, name) for name in SAME_WORK)


def seconds_per_image(view: RunView, config: TrainConfig) -> float | None:
    """Seconds of the median epoch for each image trained on, or of recent steps."""
    if view.started and view.epochs:
        images = view.started.steps_per_epoch * config.batch_size
        seconds = sorted(epoch.seconds for epoch in view.epochs)
        return seconds[len(seconds) // 2] / images
    rate = view.images_per_s() if len(view.steps) > 5 else None
    return 1 / rate if rate else None
