import ctypes
import os
import subprocess
import sys

import pytest

from resnet_demo.cli import bench
from resnet_demo.errors import DamagedError
from resnet_demo.paths import Paths
from resnet_demo.tasks.evaluations import run_on_weights
from resnet_demo.tasks.process_setup import SPIN_COUNT, limit_spinning
from resnet_demo.tasks.speed_tests import run_speed_test
from tests.tiny import finished_run


@pytest.fixture
def environment(monkeypatch):
    """Sets the variables to these and no others, and tells what they are afterwards."""

    def after(**told):
        monkeypatch.setattr(os, "environ", dict(told))
        limit_spinning()
        return os.environ

    return after


def test_threads_look_out_for_their_siblings_for_a_moment_and_then_sleep(environment):
    assert environment() == {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": SPIN_COUNT}


def test_what_a_person_says_of_threads_stands(environment):
    for told in ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "PASSIVE"}):
        assert environment(**told) == told
    assert environment(GOMP_SPINCOUNT="7")["GOMP_SPINCOUNT"] == "7"


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="only glibc can be told")
def test_memory_that_was_given_back_is_used_again_as_it_is():
    """20 times 64 MB, one after the other: pages blanked by the system, with and without."""
    program = (
        "import resource; from resnet_demo.tasks.process_setup import configure_process; {}\n"
        "for _ in range(20): b'1' * (64 * 2**20)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt * resource.getpagesize() >> 20)"
    )
    blanked = [
        int(subprocess.check_output([sys.executable, "-c", program.format(first)], text=True))
        for first in ("configure_process()", "pass")
    ]
    assert blanked[0] < 500
    assert blanked[1] > 1280


def benchmark(folder, data):
    with bench.device_reserved(Paths(folder, data, folder)):
        pass


def task(do):
    """A task that ends when its threads have been told: its folder holds nothing to work on."""

    def begin(folder, data):
        (folder / "task.json").write_text("{}")
        with pytest.raises(DamagedError):
            do(folder)

    return begin


@pytest.mark.parametrize(
    "work",
    [
        lambda folder, data: finished_run(folder, data, epochs=1),
        task(lambda folder: run_on_weights(folder, None, None)),
        task(lambda folder: run_speed_test(folder, None)),
        benchmark,
    ],
    ids=["a run", "an evaluation", "a measurement", "a benchmark"],
)
def test_threads_of_whatever_computes_wait_briefly(work, tmp_path, colours, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    work(tmp_path, colours)
    assert os.environ["GOMP_SPINCOUNT"] == SPIN_COUNT
