"""The command line over a folder of runs and one of data, in this process."""

import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from resnet_demo.cli import main

TINY = ["train", "--dataset", "colours", "--model", "resnet20", "--image-size", "12"]
TINY += ["--batch-size", "16", "--crop", "2"]
TINY += ["--precision", "float32"]  # bf16 would round the values that tests compare


@dataclass(frozen=True)
class Answer:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def objects(self):
        """Return the objects of standard output, which must be JSON lines and nothing else."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True)
class CommandLine:
    """`python -m resnet_demo` over one folder of runs and one of data, in this process."""

    runs: Path
    data: Path

    @property
    def environment(self):
        return {"RESNET_DEMO_RUNS": str(self.runs), "RESNET_DEMO_DATA": str(self.data)}

    def __call__(self, *args):
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in self.environment.items():
                patch.setenv(name, value)
            try:
                code = main([str(arg) for arg in args])
            except SystemExit as end:  # of argparse
                code = end.code
        return Answer(code, out.getvalue(), err.getvalue())

    def copy(self, root):
        """Return a command line over the same data and a copy of the runs."""
        shutil.copytree(self.runs, root / "runs")
        return CommandLine(root / "runs", self.data)


def modification_times(folder):
    """Return the time of the last change of each file, without lock files."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if ".lock" not in path.name}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Train with one thread: on tensors this small, more threads are many times slower."""
    torch.set_num_threads(1)


@pytest.fixture
def demo(tmp_path, colours):
    return CommandLine(tmp_path / "runs", colours)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, colours):
    """Return a command line with the finished run `mine`, and the output of its training."""
    torch.set_num_threads(1)
    demo = CommandLine(tmp_path_factory.mktemp("trained") / "runs", colours)
    answer = demo(*TINY, "--epochs", 2, "--run-id", "mine", "--seed", 7, "--json")
    assert answer.code == 0, answer.err
    return demo, answer


@pytest.fixture
def picture(tmp_path):
    """Return a function that writes a picture of one colour."""
    from PIL import Image

    def make(name, colour):
        Image.new("RGB", (20, 12), colour).save(tmp_path / name)
        return tmp_path / name

    return make
