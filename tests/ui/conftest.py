"""Services over empty folders, and snapshots of runs with given events."""

import time

import pytest

from resnet_demo import __version__
from resnet_demo.config import make_config, to_json
from resnet_demo.events import Epoch, Finished, Started, Step
from resnet_demo.models.description import Description, encode_description, model_description
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.runs.view import RunView
from resnet_demo.tasks.snapshot import RunSnapshot
from resnet_demo.tasks.status import Status
from resnet_demo.ui.services import Services

OPENING = {
    "device": "cpu (2 threads)",
    "precision": "float32",
    "threads": 2,
    "version": "0",
    "parameters": 1_650_000,
    "macs": 40_600_000,
    "steps_per_epoch": 4,
    "epochs": 3,
}
STEP = {"loss": 2.5, "top1": 0.25, "lr": 0.0125, "images_per_s": 1234.0}
EPOCH = {
    "train_loss": 2.0,
    "train_top1": 0.25,
    "val_loss": 1.5,
    "val_top1": 0.5,
    "lr": 0.1,
    "seconds": 40.0,
    "images_per_s": 10.0,
}
END = {"best_epoch": 1, "best_val_top1": 0.5, "seconds": 50.0, "message": "done"}


@pytest.fixture
def services(tmp_path, colours):
    """Return the services of an app without runs."""
    return Services(Paths(tmp_path / "runs", colours, tmp_path / "shipped"))


@pytest.fixture
def seen(tmp_path):
    """Return a function that takes a snapshot of a run with this state and these events."""

    def snapshot(state, events=(), message="", place=None):
        run = Run(tmp_path / "runs" / "some-run-1")
        run.path.mkdir(parents=True, exist_ok=True)
        (run.path / "config.json").write_text(to_json(make_config({}), __version__))
        for event in events:
            run.log().append(event)
        view = RunView(run.log())
        view.refresh()
        status = Status(state=state, message=message, changed_clock=time.monotonic())
        return RunSnapshot(run, status, view, place)

    return snapshot


@pytest.fixture
def events():
    """Return a function that makes a log of five steps and an epoch."""

    def make(ended=False, **opening):
        def ago(seconds):
            return {"time": time.time() - seconds, "clock": time.monotonic() - seconds}

        steps = [Step(step=n, epoch=1 + n // 5, **ago(60 - 10 * n), **STEP) for n in range(1, 6)]
        end = Finished(step=5, epoch=2, **ago(0), **END)
        return [
            Started(step=0, epoch=1, **ago(60), **(OPENING | opening)),
            *steps[:4],
            Epoch(step=4, epoch=1, **ago(11), **EPOCH),
            *steps[4:],
            *([end] if ended else []),
        ]

    return make


@pytest.fixture(scope="session")
def describe_again():
    """Return a function that changes fields of a run's model.json."""

    def change(folder, **fields):
        description = Description(**(model_description(folder) | fields))
        (folder / "model.json").write_bytes(encode_description(description))

    return change
