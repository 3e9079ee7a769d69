"""Runs that are small enough for a test to train, and datasets that change after the training."""

import os

import numpy as np

from resnet_demo.config import make_config
from resnet_demo.data.folder import describe, new_dataset, write_info, write_split
from resnet_demo.data.store import Datasets
from resnet_demo.paths import Paths
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.status import request_stop
from resnet_demo.tasks.worker import train

TINY = {
    "dataset": "colours",
    "model": "resnet20",
    "image_size": 12,
    "batch_size": 16,
    "grow_from": 1.0,
    "precision": "float32",  # bf16, where the hardware has it, would round what tests compare
}
SPLITS = ("train", "test")


def stopped_run(root, data, **settings):
    """Train `mine` as `finished_run` does, stop it after its first epoch, and return it."""

    def stop(event):
        if event.kind == "epoch":
            request_stop(run.path)

    launcher = Launcher(Paths(root / "runs", data, root / "shipped"))
    run, lock = launcher.make(make_config({**TINY, "epochs": 2, "seed": 7, **settings}), "mine")
    train(run, launcher.paths, stop)
    os.close(lock)
    return run


def replace_dataset(root, name, change):
    """Replace a dataset by what `change` makes of its classes and arrays.

    change: called with the classes and with split -> [images, labels]; it changes them in place.
    """
    datasets = Datasets(root)
    info = datasets.get(name)
    classes = [*info.classes]
    splits = {split: [np.array(part) for part in datasets.load(name, split)] for split in SPLITS}
    change(classes, splits)
    datasets.delete(name)
    with new_dataset(root, name) as folder:
        statistics = {
            split: write_split(folder, split, [images], labels, info.size)
            for split, (images, labels) in splits.items()
        }
        write_info(folder, describe(name, tuple(classes), info.size, statistics, "a test"))


def finished_run(root, data, **settings):
    """Train a run called `mine` in root/runs on `colours`, in this process, and return it."""
    launcher = Launcher(Paths(root / "runs", data, root / "shipped"))
    run, lock = launcher.make(make_config({**TINY, "epochs": 2, "seed": 7, **settings}), "mine")
    train(run, launcher.paths)
    os.close(lock)
    return run
