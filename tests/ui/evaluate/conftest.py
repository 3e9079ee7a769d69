"""Runs for the Evaluate tab, and tasks in any state."""

import os
import shutil

import pytest
import torch

from resnet_demo.file_locks import try_lock
from resnet_demo.paths import Paths
from resnet_demo.tasks.locks import WORKER_LOCK
from resnet_demo.tasks.status import Status, status_json
from resnet_demo.ui.evaluate.evaluation_status import StatusCache
from resnet_demo.ui.services import Services
from tests.ui.fake_evaluations import untrained_runs


@pytest.fixture(scope="package")
def runs(tmp_path_factory):
    """Return a folder with two runs of the same network, `mine` and `yours`."""
    torch.set_num_threads(1)  # on tensors this small, threads only wait for each other
    return untrained_runs(tmp_path_factory.mktemp("untrained"), "mine", "yours")


@pytest.fixture
def statuses(tmp_path, runs, colours):
    """Return the tab's status cache over a copy of both runs."""
    shutil.copytree(runs, tmp_path / "runs")
    return StatusCache(Services(Paths(tmp_path / "runs", colours, tmp_path / "shipped")))


@pytest.fixture
def without_images(statuses, tmp_path):
    """Return the same services on a machine without datasets."""
    return Services(Paths(statuses.services.paths.runs, tmp_path / "none"))


@pytest.fixture
def put_task():
    """Return a function that sets a task's status and holds its lock, as a worker does."""
    locks = []

    def put(folder, **status):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "status.json").write_bytes(status_json(Status(**status)))
        locks.append(try_lock(folder / WORKER_LOCK))  # None where the test holds it already

    yield put
    for lock in filter(None, locks):
        os.close(lock)
