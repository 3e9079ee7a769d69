"""A run that is small enough to be trained by a test."""

import os

from resnet_demo.config import make_config
from resnet_demo.paths import Paths
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.worker import train

TINY = {
    **{"dataset": "colours", "model": "resnet20", "image_size": 12, "batch_size": 16},
    "grow_from": 1.0,
    "precision": "float32",  # bf16, where the hardware has it, rounds what is compared
}


def finished_run(root, data, **knobs):
    """A run called `mine` under root/runs, trained on `colours` in this process."""
    launcher = Launcher(Paths(root / "runs", data, root / "shipped"))
    run, lock = launcher.make(make_config({**TINY, "epochs": 2, "seed": 7, **knobs}), "mine")
    train(run, launcher.paths)
    os.close(lock)
    return run
