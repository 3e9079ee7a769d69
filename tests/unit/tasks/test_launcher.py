"""Operations on runs. The workers here wait for a busy device, without torch."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from resnet_demo.config import TrainConfig, to_json
from resnet_demo.errors import ConfigError, NotFoundError
from resnet_demo.events import Started, Stopped
from resnet_demo.file_locks import try_lock
from resnet_demo.runs.store import Run
from resnet_demo.tasks import launcher as module
from resnet_demo.tasks.base import requeue_task
from resnet_demo.tasks.launcher import move_to_trash
from resnet_demo.tasks.limits import Caller, ForbiddenError
from resnet_demo.tasks.locks import WORKER_LOCK, has_worker, is_worker
from resnet_demo.tasks.snapshot import Snapshots, run_summary, snapshot_dict
from resnet_demo.tasks.status import (
    Status,
    read_status,
    reconcile_status,
    status_json,
)


@pytest.fixture
def idle_run(launcher, tiny):
    """Return a function that creates a run in some state without a worker."""

    def make(name, state="stopped", root=None):
        folder = (root or launcher.paths.runs) / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(to_json(tiny(), "0.1.0"))
        (folder / "status.json").write_bytes(status_json(Status(state=state)))
        return Run(folder, shipped=root is not None)

    return make


def snapshot_of(folder):
    """Return the files and folders of a folder, with their times and contents."""
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.is_dir() or path.read_bytes())
        for path in folder.rglob("*")
    }


def test_an_invalid_config_is_refused_before_a_run_exists(launcher, tiny, owner):
    for knobs, rule in (
        ({"dataset": "nope"}, "dataset must be one of shapes10, colours, got 'nope'"),
        ({"batch_size": 136}, "batch_size must be at most the 135 images .*, got 136"),
    ):
        with pytest.raises(ConfigError, match=rule):
            launcher.start(tiny(**knobs), owner)
    assert not launcher.paths.runs.exists()


def test_an_invalid_or_taken_run_id_is_refused(launcher, tiny, idle_run):
    idle_run("mine")
    idle_run("cifar10-shipped", root=launcher.paths.shipped)
    for name in ("mine", "cifar10-shipped"):
        with pytest.raises(ConfigError, match=f"run_id must be new, or resumed, got '{name}'"):
            launcher.make(tiny(), name)
    for name in ("", "A", "../mine"):
        with pytest.raises(ConfigError, match="run_id must be 1 to 64"):
            launcher.make(tiny(), name)
    assert [run.id for run in launcher.runs.list()] == ["mine", "cifar10-shipped"]


def test_a_number_that_another_process_takes_meanwhile_is_skipped(launcher, tiny, monkeypatch):
    offered = iter(["resnet20-colours-1", "resnet20-colours-1", "resnet20-colours-2"])
    monkeypatch.setattr(launcher.runs, "new_id", lambda config: next(offered))
    runs = [launcher.make(tiny()) for _ in range(2)]
    assert [run.id for run, _ in runs] == ["resnet20-colours-1", "resnet20-colours-2"]
    for _, lock in runs:
        os.close(lock)


def test_only_the_owner_may_change_a_run(launcher, tiny, idle_run):
    idle_run("mine")
    stranger, before = Caller("stranger", is_owner=False), snapshot_of(launcher.paths.runs)
    for call in (
        lambda: launcher.start(tiny(), stranger),
        lambda: launcher.stop("mine", stranger),
        lambda: launcher.kill("mine", stranger),
        lambda: launcher.resume("mine", stranger),
        lambda: launcher.delete("mine", stranger),
    ):
        with pytest.raises(ForbiddenError, match="only the owner of this app may"):
            call()
    assert snapshot_of(launcher.paths.runs) == before


def test_a_queued_run_reports_its_pid_and_its_place(launcher, device, tiny, owner, until):
    run = launcher.runs.get(launcher.start(tiny(), owner))
    until(lambda: "waiting, place 1" in (run.path / "worker.log").read_text())
    status = read_status(run.path)
    assert status.state == "queued"
    assert has_worker(run.path)
    with open(f"/proc/{status.pid}/cmdline") as file:
        assert "resnet_demo.tasks.worker" in file.read()
    with open(f"/proc/{status.pid}/maps") as file:
        assert "libtorch" not in file.read()
    assert os.getsid(status.pid) == status.pid  # closing the terminal does not end it


def test_a_queued_run_can_be_removed_from_the_queue(launcher, device, tiny, owner, ended):
    run = launcher.runs.get(launcher.start(tiny(), owner))
    assert launcher.stop(run.id, owner) == f"{run.id} is removed from the queue"
    status = ended(run.path)
    assert (status.state, status.pid) == ("stopped", None)
    assert [type(event) for event in run.log()] == [Stopped]
    assert "is not running: it is stopped" in launcher.stop(run.id, owner)


@pytest.mark.parametrize(
    ("number", "state", "message"),
    [
        (signal.SIGTERM, "stopped", "removed from the queue"),
        (signal.SIGKILL, "failed", "the worker was killed by signal 9"),
        (signal.SIGSEGV, "failed", "the worker was killed by signal 11"),
    ],
)
def test_a_signal_ends_a_worker_and_the_status_says_which(
    launcher, device, tiny, owner, ended, until, number, state, message
):
    run = launcher.runs.get(launcher.start(tiny(), owner))
    until(lambda: "waiting" in (run.path / "worker.log").read_text())
    os.kill(read_status(run.path).pid, number)
    assert ended(run.path).state == state
    until(lambda: message in read_status(run.path).message)
    assert ended(run.path).state == state


def test_a_suspended_worker_is_reported_and_can_be_killed_after_a_stop(
    launcher, device, tiny, owner, ended, until
):
    run = launcher.runs.get(launcher.start(tiny(), owner))
    until(lambda: "waiting" in (run.path / "worker.log").read_text())
    assert not Snapshots().get(run).is_suspended
    pid = read_status(run.path).pid
    assert is_worker(pid, run.path)
    os.kill(pid, signal.SIGSTOP)
    until(lambda: Snapshots().get(run).is_suspended)
    assert not Snapshots().get(run).ignores_stop  # no stop was requested
    with pytest.raises(ConfigError, match=r"is queued: only a stopping run can be killed"):
        launcher.kill(run.id, owner)
    launcher.stop(run.id, owner)
    until(lambda: Snapshots().get(run).ignores_stop)
    assert launcher.kill(run.id, owner).endswith("Resume continues from its last checkpoint")
    assert ended(run.path).state == "stopped"
    message = "the worker was killed by signal 9 after it was asked to stop"
    until(lambda: read_status(run.path).message == message)
    with pytest.raises(ConfigError, match=r"is stopped"):
        launcher.kill(run.id, owner)


def test_the_message_of_a_worker_that_exits_early_names_its_log(
    launcher, tiny, owner, ended, until, monkeypatch
):
    monkeypatch.setattr(module.sys, "executable", "/bin/false")
    run = launcher.runs.get(launcher.start(tiny(), owner))
    assert ended(run.path).state == "failed"
    until(lambda: "ended with exit code 1: see its log" in read_status(run.path).message)


def test_a_worker_that_cannot_be_started_leaves_a_failed_run(launcher, tiny, owner, monkeypatch):
    def refuse(*args, **options):
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(module.subprocess, "Popen", refuse)
    with pytest.raises(OSError, match="temporarily unavailable"):
        launcher.start(tiny(), owner)
    [run] = launcher.runs.list()
    assert not has_worker(run.path)
    assert reconcile_status(run.path).state == "failed"


def test_a_worker_outlives_the_app_that_started_it(launcher, device, tiny, owner, ended):
    code = """
import sys
from pathlib import Path
from resnet_demo.config import make_config
from resnet_demo.paths import Paths
from resnet_demo.tasks.limits import Caller
from resnet_demo.tasks.launcher import Launcher
launcher = Launcher(Paths(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[1]) / "none"))
print(launcher.start(make_config({"dataset": "colours", "batch_size": 16}), Caller()))
"""
    command = [sys.executable, "-c", code, launcher.paths.runs, launcher.paths.data]
    run_id = subprocess.check_output(command, text=True).strip()
    run = launcher.runs.get(run_id)
    assert snapshot_dict(run)["state"] == "queued"
    assert has_worker(run.path)
    launcher.stop(run_id, owner)
    assert ended(run.path).state == "stopped"


@pytest.mark.parametrize("state", ["stopped", "failed"])
def test_a_run_resumed_by_many_at_once_is_resumed_once(launcher, device, idle_run, owner, state):
    run = idle_run("mine", state)
    barrier, resumed, refused = threading.Barrier(4), [], []

    def race():
        barrier.wait()
        try:
            resumed.append(launcher.resume("mine", owner))
        except ConfigError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert resumed == ["mine"]
    assert refused == ["mine is queued: it has a worker"] * 3
    assert reconcile_status(run.path).state == "queued"


def test_a_resumed_run_goes_to_the_end_of_the_queue(launcher, device, idle_run, tiny, owner):
    run = idle_run("early")
    (run.path / "status.json").write_bytes(status_json(Status(state="stopped", queued_clock=1.0)))
    waiting = launcher.runs.get(launcher.start(tiny(), owner))
    launcher.resume("early", owner)
    assert (snapshot_dict(waiting)["place"], snapshot_dict(run)["place"]) == (0, 1)


@pytest.mark.parametrize("state", ["finished", "queued"])
def test_only_a_stopped_or_failed_run_can_be_resumed(launcher, idle_run, owner, state):
    run = idle_run("mine", state)
    lock = try_lock(run.path / WORKER_LOCK) if state == "queued" else None
    with pytest.raises(ConfigError, match=f"mine is {state}: it (has a worker|cannot become que)"):
        launcher.resume("mine", owner)
    assert read_status(run.path).state == state
    if lock:
        os.close(lock)
    assert not has_worker(run.path)


def test_a_run_whose_dataset_is_gone_is_not_queued(launcher, idle_run, owner):
    run = idle_run("mine")
    text = to_json(TrainConfig(dataset="gone"), "0.1.0")
    (run.path / "config.json").write_text(text)
    with pytest.raises(NotFoundError, match=r"dataset must be one of .*, got 'gone'"):
        launcher.resume("mine", owner)
    assert read_status(run.path).state == "stopped"


@pytest.mark.parametrize("state", ["queued", "preparing", "running", "stopping"])
def test_a_live_run_is_not_deleted(launcher, idle_run, owner, state):
    run = idle_run("mine", state)
    lock = try_lock(run.path / WORKER_LOCK)
    before = snapshot_of(launcher.paths.runs)
    with pytest.raises(ConfigError, match=f"run mine is {state}: stop it before you delete it"):
        launcher.delete("mine", owner)
    assert snapshot_of(launcher.paths.runs) == before
    os.close(lock)
    launcher.delete("mine", owner)  # its worker is gone
    assert not run.path.exists()


def test_deleted_runs_of_one_name_are_numbered_in_the_trash(launcher, idle_run, owner):
    for number in range(3):
        (idle_run("mine").path / "note").write_text(str(number))
        launcher.delete("mine", owner)
    trash = launcher.paths.runs / ".trash"
    notes = {path.parent.name: path.read_text() for path in trash.glob("*/note")}
    assert notes == {"mine": "0", "mine-2": "1", "mine-3": "2"}
    assert list(launcher.runs.list()) == []
    with pytest.raises(NotFoundError):
        launcher.delete("mine", owner)


def test_a_damaged_run_can_be_deleted(launcher, idle_run, owner):
    (idle_run("mine").path / "status.json").write_text("{")
    (idle_run("yours").path / "config.json").write_text("{")
    launcher.delete("mine", owner)
    launcher.delete("yours", owner)
    assert list(launcher.runs.list()) == []


def test_a_run_that_is_being_resumed_is_not_deleted(launcher, idle_run, owner):
    run = idle_run("mine")
    lock = requeue_task(run.path)
    with pytest.raises(ConfigError, match="run mine is queued: stop it"):
        launcher.delete("mine", owner)
    os.close(lock)


def test_a_new_run_under_a_deleted_id_has_a_new_view(launcher, idle_run, owner):
    started = Started(
        step=0,
        epoch=1,
        device="old",
        precision="float32",
        threads=1,
        parameters=1,
        macs=1,
        steps_per_epoch=1,
        epochs=1,
        version="0",
    )
    snapshots = Snapshots()
    run = idle_run("mine")
    for _ in range(3):
        run.log().append(started)
    assert snapshots.get(run).view.started.device == "old"
    launcher.delete("mine", owner)
    run = idle_run("mine")
    assert snapshots.get(run).view.started is None
    run.log().append(replace(started, device="new"))
    assert snapshots.get(run).view.started.device == "new"


def test_a_deleted_run_comes_back_from_the_trash(launcher, idle_run, owner):
    run = idle_run("mine")
    run.describe(title="Roses")
    before = snapshot_of(run.path)
    assert launcher.delete("mine", owner) == "mine"
    assert launcher.runs.list() == []
    launcher.undelete("mine", "mine", owner)
    assert before.items() <= snapshot_of(launcher.runs.get("mine").path).items()
    with pytest.raises(ConfigError, match=r"^there is a new run mine"):
        launcher.undelete("mine", "mine", owner)


def test_of_two_deleted_runs_of_one_name_the_right_one_comes_back(launcher, idle_run, owner):
    for title in ("first", "second"):
        idle_run("mine").describe(title=title)
        launcher.delete("mine", owner)
    launcher.undelete("mine", "mine-2", owner)
    assert launcher.runs.get("mine").about().title == "second"
    assert launcher.delete("mine", owner) == "mine-2"
    assert launcher.empty_trash(owner) == 2
    with pytest.raises(ConfigError, match=r"^mine-2 is no longer in the trash"):
        launcher.undelete("mine", "mine-2", owner)


@pytest.mark.parametrize("name", ["..", "../other", "", "/etc"])
def test_only_a_folder_of_the_trash_comes_back(name, launcher, idle_run, owner):
    idle_run("other")
    with pytest.raises(ConfigError, match="no longer in the trash"):
        launcher.undelete("mine", name, owner)
    assert launcher.runs.get("other")


def test_a_shipped_run_is_never_written_to(launcher, idle_run, owner):
    run = idle_run("learn-plain56", "finished", root=launcher.paths.shipped)
    before = snapshot_of(launcher.paths.shipped)
    for call in (launcher.delete, launcher.resume):
        with pytest.raises(ConfigError, match="run learn-plain56 came with the app and cannot be"):
            call("learn-plain56", owner)
    with pytest.raises(ConfigError, match="came with the app"):
        move_to_trash(run)
    assert "is not running: it is finished" in launcher.stop("learn-plain56", owner)
    assert snapshot_dict(run)["state"] == run_summary(run)["state"] == "finished"
    assert [r.id for r in launcher.runs.list()] == ["learn-plain56"]
    assert snapshot_of(launcher.paths.shipped) == before


def test_the_status_of_a_shipped_run_is_not_corrected(launcher, idle_run):
    run = idle_run("learn-plain56", "running", root=launcher.paths.shipped)
    before = snapshot_of(launcher.paths.shipped)
    assert snapshot_dict(run)["state"] == "running"
    assert snapshot_of(launcher.paths.shipped) == before


def test_a_damaged_run_is_listed_with_the_damaged_file(idle_run):
    status, config = idle_run("a"), idle_run("b")
    (status.path / "status.json").write_text("")
    (config.path / "config.json").write_text("[]")
    for run, name in ((status, "status.json"), (config, "config.json")):
        row = run_summary(run)
        assert row["state"] == "damaged"
        assert f"{name} of" in row["message"]
    assert snapshot_dict(config)["config"] is None  # the rest is still readable
    assert snapshot_dict(config)["state"] == "stopped"


def test_an_unknown_run_is_named_in_the_error(launcher, idle_run, owner):
    idle_run("mine")
    for call in (launcher.stop, launcher.resume, launcher.delete):
        with pytest.raises(NotFoundError, match="got 'nope'"):
            call("nope", owner)
