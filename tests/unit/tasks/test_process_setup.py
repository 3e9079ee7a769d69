"""Threads and memory of processes that compute."""

import ctypes
import gc
import importlib
import os
import subprocess
import sys

import pytest

from app import set_variables
from resnet_demo.cli import bench
from resnet_demo.errors import DamagedError
from resnet_demo.paths import Paths
from resnet_demo.tasks.evaluations import run_on_weights
from resnet_demo.tasks.launcher import worker_environment
from resnet_demo.tasks.process_setup import SPIN_COUNT, import_quickly, limit_spinning
from resnet_demo.tasks.speed_tests import run_speed_test
from tests.tiny import finished_run


@pytest.fixture
def environment(monkeypatch):
    """Return a function that sets the environment, limits spinning and returns the result."""

    def after(**variables):
        monkeypatch.setattr(os, "environ", dict(variables))
        limit_spinning()
        return os.environ

    return after


def test_threads_spin_briefly_and_then_sleep(environment):
    assert environment() == {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": SPIN_COUNT}


def test_a_policy_that_is_set_is_not_changed(environment):
    for variables in ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "PASSIVE"}):
        assert environment(**variables) == variables
    assert environment(GOMP_SPINCOUNT="7")["GOMP_SPINCOUNT"] == "7"


def test_modules_are_imported_while_the_garbage_collector_is_off(monkeypatch):
    seen = []

    def load(name):
        seen.append((name, gc.isenabled()))
        if name == "missing":
            raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", load)
    with pytest.raises(ModuleNotFoundError):
        import_quickly("there", "missing")
    assert (seen, gc.isenabled()) == ([("there", False), ("missing", False)], True)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc only")
def test_freed_memory_is_reused_without_being_zeroed():
    """Compare megabytes that the kernel zeroes for 20 times 64 MB, with the setup and without."""
    program = (
        "import resource; from resnet_demo.tasks.process_setup import configure_process; {}\n"
        "for _ in range(20): b'1' * (64 * 2**20)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt * resource.getpagesize() >> 20)"
    )
    zeroed = [
        int(subprocess.check_output([sys.executable, "-c", program.format(first)], text=True))
        for first in ("configure_process()", "pass")
    ]
    assert zeroed[0] < 500
    assert zeroed[1] > 1280


def benchmark(folder, data):
    with bench.device_reserved(Paths(folder, data, folder)):
        pass


def task(do):
    """Return work that ends after its set-up: the folder of the task holds nothing else."""

    def begin(folder, data):
        (folder / "task.json").write_text("{}")
        with pytest.raises(DamagedError):
            do(folder)

    return begin


def test_a_worker_of_the_app_spins_as_one_of_the_command_line_does(monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    set_variables()
    limits = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": SPIN_COUNT}
    assert limits.items() <= worker_environment(os.environ, "train").items()


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
def test_every_process_that_computes_limits_spinning(work, tmp_path, colours, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    work(tmp_path, colours)
    assert os.environ["GOMP_SPINCOUNT"] == SPIN_COUNT


SECRETS = {
    *("DATABASE_URL", "GITHUB_PAT", "SLACK_WEBHOOK_URL", "SMTP_PASS", "MY_THING", "HF_TOKEN"),
    *("AZURE_STORAGE_CONNECTION_STRING", "RESNET_DEMO_ADMIN_TOKEN", "AWS_SECRET_ACCESS_KEY"),
    *("OAUTH_CLIENT_SECRET", "PYTHON_API_KEY", "https_proxy", "HTTP_PROXY", "SSH_AUTH_SOCK"),
}
NEEDED = {
    *("PATH", "HOME", "LANG", "LC_ALL", "RESNET_DEMO_RUNS", "RESNET_DEMO_DATA", "HF_HOME"),
    *("RESNET_DEMO_MAX_EPOCHS", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "PYTHONPATH"),
    *("TORCH_HOME", "LD_LIBRARY_PATH", "TMPDIR"),
}


def test_a_worker_gets_what_it_needs_and_no_secret():
    given = dict.fromkeys(SECRETS | NEEDED, "x")
    assert set(worker_environment(given, "train")) == NEEDED
    assert set(worker_environment(given, "get")) == NEEDED | {"https_proxy", "HTTP_PROXY"}
    for value in ("hf_abcdefgh12345678", "-----BEGIN RSA PRIVATE KEY-----"):
        assert worker_environment({"RESNET_DEMO_NOTE": value}, "train") == {}
