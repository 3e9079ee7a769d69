"""Real workers on a tiny dataset. What a test leaves running is stopped after it."""

import os
from contextlib import suppress

import pytest
import torch

from resnet_demo.config import make_config
from resnet_demo.errors import DemoError
from resnet_demo.file_locks import try_lock
from resnet_demo.paths import Paths
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.limits import Caller
from resnet_demo.tasks.locks import DEVICE_LOCK
from resnet_demo.tasks.status import read_status, reconcile_status


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Use one thread: on tensors this small, waiting for a busy core costs fifty times more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # workers inherit it
        torch.set_num_threads(1)
        yield


@pytest.fixture(scope="session")
def owner():
    return Caller()


@pytest.fixture(scope="session")
def tiny():
    """Return a function that makes a config on `colours`: nine steps an epoch, 10 ms each."""

    def make(**knobs):
        base = {"dataset": "colours", "model": "resnet20", "image_size": 12, "batch_size": 16}
        return make_config({**base, "epochs": 1, "crop": 2, "grow_from": 1.0, **knobs})

    return make


@pytest.fixture(scope="session")
def ended(until):
    """Return a function that waits for a task's end and returns its status."""
    return lambda folder: until(lambda: (s := reconcile_status(folder)) and not s.is_live and s)


@pytest.fixture(scope="session")
def at_step(until):
    """Return a function that waits until a run has logged so many steps."""

    def wait(run, steps):
        def reached():
            assert read_status(run.path).is_live, read_status(run.path)
            return sum(event.kind == "step" for event in run.log()) >= steps

        return until(reached)

    return wait


@pytest.fixture(scope="session")
def launchers(colours):
    """Return a function that makes a launcher over a root; live runs are stopped at the end."""
    launchers = []

    def make(root):
        launchers.append(Launcher(Paths(root / "runs", colours, root / "shipped")))
        return launchers[-1]

    yield make
    for launcher in launchers:
        for run in launcher.runs.list():
            with suppress(DemoError):
                launcher.stop_task(run.path)


@pytest.fixture
def launcher(launchers, tmp_path):
    return launchers(tmp_path)


@pytest.fixture
def device(launcher):
    """Lock the device: workers wait, and do not import torch."""
    launcher.paths.runs.mkdir()
    lock = try_lock(launcher.paths.runs / DEVICE_LOCK)
    yield lock
    for run in launcher.runs.list():
        with suppress(DemoError):
            launcher.stop_task(run.path)
    os.close(lock)


@pytest.fixture
def queued(launcher, tiny):
    """Return a function that makes a queued run; this process acts as its worker."""
    locks = []

    def make(**knobs):
        run, lock = launcher.make(tiny(**knobs))
        locks.append(lock)
        return run

    yield make
    for lock in locks:
        os.close(lock)


@pytest.fixture
def standby(until):
    """Return a function that waits until a launcher has a standby worker; it returns the pid.

    No other one follows that until the next call: it would import torch for nothing.
    """
    used = []

    def wait(launcher):
        used.append(launcher)
        launcher.keep_standby()
        launcher.standby.retry_at = 0.0
        worker = until(lambda: launcher.standby.waiting)
        launcher.standby.retry_at = float("inf")
        return worker.process.pid

    yield wait
    for launcher in used:
        launcher.standby.idle_s = -1.0  # its thread ends the next one
        until(lambda launcher=launcher: launcher.standby.thread is None)
