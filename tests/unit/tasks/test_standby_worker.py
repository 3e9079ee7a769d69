"""Standby workers: runs that they take over, and cases in which a new process starts.

Evaluations, indexes and exports by standby workers are tested beside those tasks.
`STUB` stands for a process that takes no task.
"""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from resnet_demo.runs.store import Run
from resnet_demo.tasks import standby_worker as module
from resnet_demo.tasks.locks import has_worker, is_worker
from resnet_demo.tasks.standby_worker import StandbyWorkers
from resnet_demo.tasks.status import read_status

STUB = ("-c", "import os, sys\nwhile os.read(int(sys.argv[1]), 9): pass")
SECRETS = {"HF_TOKEN": "hf_abcdefgh12345678", "RESNET_DEMO_ADMIN_TOKEN": "opensesame"}


@pytest.fixture
def stubs(until):
    """Return a function that makes standby workers of stubs."""
    made = []

    def make(command=STUB, is_busy=lambda: False, environment=lambda: dict(os.environ), **options):
        made.append(StandbyWorkers(environment, is_busy, check_s=0.01, command=command, **options))
        return made[-1]

    yield make
    for workers in made:
        workers.idle_s = -1.0
        until(lambda workers=workers: workers.thread is None)
        if workers.waiting:
            workers.waiting.end()


def has_ended(pid):
    """Return whether a process is gone, or a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_a_standby_worker_that_takes_a_run_is_a_worker_like_any_other(
    launcher, device, tiny, owner, standby, until, ended, monkeypatch
):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    pid = standby(launcher)

    def maps():
        with open(f"/proc/{pid}/maps") as file:
            return file.read()

    until(lambda: "libtorch_python" in maps())
    run = launcher.runs.get(launcher.start(tiny(), owner))
    assert "libcuda." not in maps()  # the device is chosen by the run
    log = run.path / "worker.log"
    until(lambda: "waiting, place 1 in the queue" in log.read_text())
    assert read_status(run.path).pid == pid
    assert (is_worker(pid, run.path), has_worker(run.path)) == (True, True)
    assert [os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)] == [
        *("/dev/null", str(log), str(log))
    ]
    assert os.getsid(pid) == os.getpgid(pid) == pid  # closing the terminal does not end it
    assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0)
    with open(f"/proc/{pid}/cmdline") as file:
        assert "worker" in file.read()
    with open(f"/proc/{pid}/environ") as file:
        environment = file.read()
    assert f"RESNET_DEMO_RUNS={launcher.paths.runs}" in environment
    assert not [value for value in SECRETS.values() if value in environment]
    second = launcher.runs.get(launcher.start(tiny(), owner))  # no second one is there: a new one
    until(lambda: "waiting, place" in (second.path / "worker.log").read_text())
    os.kill(pid, signal.SIGTERM)
    assert ended(run.path).state == "stopped"
    assert "removed from the queue" in read_status(run.path).message


def test_a_run_that_waits_in_the_queue_leaves_the_standby_worker_alone(
    launcher, device, tiny, owner, stubs, until
):
    launcher.start(tiny(), owner)
    launcher.standby = stubs()
    launcher.standby.want()
    until(lambda: launcher.standby.waiting)
    launcher.start(tiny(), owner)
    assert launcher.standby.waiting


@pytest.mark.parametrize(
    ("imports_s", "patience_s", "is_new"), [(0.5, 60.0, False), (600, 0.1, True)]
)
def test_a_run_that_comes_while_it_imports_is_taken_over_and_not_delayed_for_long(
    launcher, device, tiny, owner, stubs, until, imports_s, patience_s, is_new
):
    code = f"""
import sys, time
from resnet_demo.tasks import standby_worker as module
module.IMPORT_S, module.import_needed = {patience_s}, lambda: time.sleep({imports_s})
module.main(*map(int, sys.argv[1:]))
"""
    environment = partial(launcher._environment, "train")
    workers = launcher.standby = stubs(("-c", code), environment=environment)
    workers.want()
    pid = until(lambda: workers.waiting).process.pid
    run = launcher.runs.get(launcher.start(tiny(), owner))
    until(lambda: "waiting, place 1 in the queue" in (run.path / "worker.log").read_text())
    assert read_status(run.path).pid == pid
    assert is_worker(pid, run.path)
    with open(f"/proc/{pid}/cmdline") as file:
        assert ("resnet_demo.tasks.worker" in file.read()) == is_new


def test_one_whose_imports_fail_ends(stubs, until):
    code = """
import sys
from resnet_demo.tasks import standby_worker as module
module.NEEDED = ("nothing",)
module.main(*map(int, sys.argv[1:]))
"""
    workers = stubs(("-c", code))
    workers.want()
    until(lambda: workers.retry_at)
    assert workers.retry_at > time.monotonic() + 30


@pytest.mark.parametrize("fault", ["killed", "silent", "code", "environment"])
def test_a_standby_worker_that_is_of_no_use_is_replaced_by_a_new_process(
    launcher, device, tiny, owner, stubs, until, monkeypatch, fault
):
    monkeypatch.setattr(module, "ANSWER_S", 0.5)
    workers = launcher.standby = stubs(environment=partial(launcher._environment, "train"))
    workers.want()
    pid = until(lambda: workers.waiting).process.pid
    if fault == "killed":
        monkeypatch.setattr(workers, "_end_waiting", lambda keep: None)  # before it is noticed
        os.kill(pid, signal.SIGKILL)
        until(lambda: has_ended(pid))
    if fault == "code":
        monkeypatch.setattr(module, "code_version", lambda: "a later one")
    if fault == "environment":
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
    started_at = time.monotonic()
    run = Run(launcher.paths.runs / launcher.start(tiny(), owner))
    assert time.monotonic() - started_at < 10  # a page does not wait for it
    until(lambda: "waiting, place 1" in (run.path / "worker.log").read_text())
    assert read_status(run.path).pid != pid
    assert has_ended(pid)


def test_a_changed_file_of_the_package_is_another_version(tmp_path, monkeypatch):
    (tmp_path / "resnet_demo").mkdir()
    file = tmp_path / "resnet_demo" / "a.py"
    file.write_text("a = 1\n")
    monkeypatch.setattr(module, "REPOSITORY", tmp_path)
    before = module.code_version()
    assert module.code_version() == before
    os.utime(file, ns=(1, 1))
    assert module.code_version() != before


def test_it_is_kept_while_a_page_is_open_and_ends_when_none_is_or_memory_is_short(
    stubs, until, monkeypatch
):
    free = [module.START_MEMORY - 1]
    monkeypatch.setattr(module, "free_memory", lambda: free[0])
    workers = stubs(idle_s=600.0)
    workers.want()
    time.sleep(0.1)
    assert workers.waiting is None  # too little memory to start one
    free[0] = module.START_MEMORY
    first = until(lambda: workers.waiting)
    free[0] = module.KEEP_MEMORY  # what it takes itself does not end it
    time.sleep(0.1)
    assert workers.waiting is first
    free[0] = module.KEEP_MEMORY - 1
    until(lambda: has_ended(first.process.pid))
    free[0] = module.START_MEMORY
    second = until(lambda: workers.waiting)
    workers.idle_s = 0.0  # nobody has asked for so long
    until(lambda: workers.thread is None)
    assert has_ended(second.process.pid)
    workers.idle_s = 600.0
    workers.want()  # a page again
    assert until(lambda: workers.waiting)


def test_none_is_started_while_a_worker_starts_and_one_that_ends_by_itself_is_no_loop(stubs, until):
    busy = [True]
    workers = stubs(("-c", "pass"), lambda: busy[0])
    workers.want()
    time.sleep(0.1)
    assert workers.waiting is None
    busy[0] = False
    until(lambda: workers.retry_at)
    assert workers.waiting is None
    assert workers.retry_at > time.monotonic() + 30


def test_the_next_one_does_not_compete_with_the_first_steps_of_a_run(stubs, until, tmp_path):
    changes = iter("abc")
    workers = stubs(environment=lambda: {**os.environ, "CHANGE": next(changes)})
    workers.want()
    until(lambda: workers.waiting)
    taken_at = time.monotonic()
    assert workers.take("train", tmp_path, 0, None) is None  # its environment is another now
    assert workers.retry_at >= taken_at + module.FIRST_STEPS_S
    time.sleep(0.1)
    assert workers.waiting is None


def test_it_ends_with_the_app_even_when_that_is_killed(tmp_path, until):
    code = """
import os, time
from resnet_demo.tasks.standby_worker import StandbyWorker
worker = StandbyWorker(os.environ)
if os.fork() == 0:  # a copy of the socket, as of a process that the app forked
    time.sleep(60)
print(worker.process.pid, flush=True)
time.sleep(600)
"""
    app = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    pid = int(app.stdout.readline())
    app.kill()
    app.wait()
    until(lambda: has_ended(pid))
    os.killpg(app.pid, signal.SIGKILL)  # the forked process
    app.stdout.close()


def test_free_memory_is_known_on_linux():
    assert 0 < module.free_memory() < float("inf")
