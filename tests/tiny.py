"""A run that is small enough for a test to train."""

import os

from resnet_demo.config import make_config
from resnet_demo.paths import Paths
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.worker import train

TINY = {
    "dataset": "colours",
    "model": "resnet20",
    "image_size": 12,
    "batch_size": 16,
    "grow_from": 1.0,
    "precision": "float32",  # bf16, where the hardware has it, would round what tests compare
}


def finished_run(root, data, **settings):
    """Train a run called `mine` in root/runs on `colours`, in this process, and return it."""
    launcher = Launcher(Paths(root / "runs", data, root / "shipped"))
    run, lock = launcher.make(make_config({**TINY, "epochs": 2, "seed": 7, **settings}), "mine")
    train(run, launcher.paths)
    os.close(lock)
    return run
