"""Fixtures of the benchmarks' tests: a tiny training, and a clock that only loops move."""

import json
import os
from itertools import count as count_up

import pytest
import torch

from resnet_demo.bench.loops import begin_training
from resnet_demo.cli import main
from resnet_demo.config import make_config
from resnet_demo.data.store import Datasets
from resnet_demo.paths import Paths
from resnet_demo.tasks.launcher import Launcher
from resnet_demo.tasks.worker import train


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Use one thread: on tiny tensors, threads that wait for a busy core cost fifty times more."""
    torch.set_num_threads(1)


@pytest.fixture
def datasets(colours):
    return Datasets(colours)


def tiny(**fields):
    """Return a config that trains in milliseconds."""
    base = {"dataset": "colours", "model": "resnet20", "image_size": 8, "batch_size": 30, "crop": 2}
    return make_config({**base, "precision": "float32", "optimizer": "sgd", **fields})


@pytest.fixture
def own(datasets):
    return begin_training(tiny(), datasets)


@pytest.fixture(scope="module")
def run(tmp_path_factory, colours):
    """Return a finished run on `colours`."""
    root = tmp_path_factory.mktemp("bench")
    launcher = Launcher(Paths(root / "runs", colours, root / "shipped"))
    fields = {"dataset": "colours", "model": "resnet20", "image_size": 12, "batch_size": 16}
    fields["precision"] = "float32"  # bf16 would round the values that are compared
    run, lock = launcher.make(make_config({**fields, "epochs": 1}), "mine")
    train(run, launcher.paths)
    os.close(lock)
    return run


class FakeTime:
    """A clock that only loops advance. Their steps take 10 images each."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def __call__(self):
        return self.now

    def loop(self, name, *step_seconds):
        """Return a loop whose steps take the next of these seconds in each call."""
        calls = iter(step_seconds)

        def run(should_continue):
            self.order.append(name)
            seconds = next(calls)
            for done in count_up(10, 10):
                self.now += seconds
                if not should_continue(done):
                    return done

        return run


@pytest.fixture
def bench_json(run, colours, monkeypatch, capsys):
    """Return a function that runs `bench ARGS --json` on that run and returns its one object."""
    monkeypatch.setenv("RESNET_DEMO_RUNS", str(run.path.parent))
    monkeypatch.setenv("RESNET_DEMO_DATA", str(colours))

    def call(args):
        assert main(["bench", *args.split(), "--json"]) in (0, None)
        out, err = capsys.readouterr()
        assert (len(out.splitlines()), err) == (1, "")
        return json.loads(out)

    return call
