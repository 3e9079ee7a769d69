"""Real workers on a tiny dataset. Whatever a test leaves running is stopped behind it."""

import os
from contextlib import suppress

import pytest
import torch

from resnet_demo.config import make_config
from resnet_demo.errors import DemoError
from resnet_demo.paths import Paths
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.limits import Caller
from resnet_demo.tasks.locks import try_lock
from resnet_demo.tasks.status import read_status, reconcile_status


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """On tensors this small, threads that wait for a busy core cost fifty times more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # workers inherit it
        torch.set_num_threads(1)
        yield


@pytest.fixture(scope="session")
def owner():
    return Caller()


@pytest.fixture(scope="session")
def tiny():
    """Asks for a config on `colours`: nine steps an epoch, a hundredth of a second each."""

    def asked(**knobs):
        base = {"dataset": "colours", "model": "resnet20", "image_size": 12, "batch_size": 16}
        return make_config({**base, "epochs": 1, "crop": 2, "grow_from": 1.0, **knobs})

    return asked


@pytest.fixture(scope="session")
def ended(until):
    """Waits for a task's end; its status."""
    return lambda folder: until(lambda: (s := reconcile_status(folder)) and not s.is_live and s)


@pytest.fixture(scope="session")
def at_step(until):
    """Waits for a run to have logged that many steps."""

    def wait(run, steps):
        def reached():
            assert read_status(run.path).is_live, read_status(run.path)
            return sum(event.kind == "step" for event in run.log()) >= steps

        return until(reached)

    return wait


@pytest.fixture(scope="session")
def launchers(colours):
    """Makes launchers over a root; stops what is alive there at the end of the session."""
    made = []

    def over(root):
        made.append(Launcher(Paths(root / "runs", colours, root / "shipped")))
        return made[-1]

    yield over
    for launcher in made:
        for run in launcher.runs.list():
            with suppress(DemoError):
                launcher.stop_task(run.path)


@pytest.fixture
def launcher(launchers, tmp_path):
    return launchers(tmp_path)


@pytest.fixture
def device(launcher):
    """The device is taken: workers wait, and have no reason to load torch."""
    launcher.paths.runs.mkdir()
    lock = try_lock(launcher.paths.runs / ".device.lock")
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
