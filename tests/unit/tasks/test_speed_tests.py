"""Speed tests before a run. The work is done in this process, on a tiny network."""

import json
import os
import signal
from dataclasses import replace
from functools import partial

import pytest

from resnet_demo.errors import DemoError, StoppedError
from resnet_demo.file_locks import try_lock
from resnet_demo.tasks import multi_gpu
from resnet_demo.tasks.estimate import (
    estimate,
    find_speed,
    read_speeds,
    speeds_file,
    store_speed,
    workload,
)
from resnet_demo.tasks.limits import Caller, ForbiddenError
from resnet_demo.tasks.locks import DEVICE_LOCK, has_worker
from resnet_demo.tasks.speed_tests import SpeedTests, run_speed_test
from resnet_demo.tasks.status import change_state, end_task, read_status, request_stop
from resnet_demo.training import speed
from resnet_demo.training.speed import Speed

SPEED = Speed(train=0.01, val=0.004, device="cpu (1 threads)")
LONG_AGO, LATER = 1.0, 4e9


@pytest.fixture
def speed_tests(launcher, monkeypatch):
    """Yield speed tests whose workers are listed in `spawned` and never start."""
    monkeypatch.setattr(launcher, "spawn", lambda *worker: speed_tests.spawned.append(worker))
    speed_tests = SpeedTests(launcher)
    speed_tests.spawned = []
    yield speed_tests
    for _, _, lock in speed_tests.spawned:
        close_lock(lock)


@pytest.fixture
def info(launcher):
    return launcher.datasets.get("colours")


@pytest.fixture
def ensure(speed_tests, info, tiny, owner):
    """Return a function that calls `ensure_measured`, by default wanted last."""

    def call(wanted_at=LATER, restart=True, **knobs):
        return speed_tests.ensure_measured(tiny(**knobs), info, owner, wanted_at, restart)

    return call


@pytest.fixture
def quick(monkeypatch):
    """Shorten the real speed test to a twentieth of a second."""
    monkeypatch.setattr(speed, "measure_speed", partial(speed.measure_speed, seconds=0.05))


def close_lock(lock):
    """Close a lock as the end of its worker does."""
    try:
        os.close(lock)
    except OSError:
        return


def end(speed_tests, state, message=""):
    """End the task in that state, and its worker."""
    if state != "failed":
        change_state(speed_tests.folder, "preparing")
        change_state(speed_tests.folder, "running" if state == "finished" else "stopping")
    end_task(speed_tests.folder, state, message)
    close_lock(speed_tests.spawned[-1][2])


def test_a_speed_test_gives_an_estimate_of_a_run(ensure, speed_tests, launcher, tiny, info, quick):
    config = tiny(epochs=7)
    assert estimate(config, info, launcher.runs) is None
    assert ensure() is None
    run_speed_test(speed_tests.folder, launcher.paths)
    status = read_status(speed_tests.folder)
    assert status.state == "finished"
    assert "training images/s on cpu" in status.message
    [row] = json.loads(speeds_file(launcher.paths.runs).read_text())
    found = estimate(config, info, launcher.runs)
    assert found.seconds == pytest.approx(7 * (135 * row["train"] + 15 * row["val"]))
    assert (found.run_id, found.measured_at) == ("", row["time"])
    close_lock(speed_tests.spawned[0][2])
    for wanted_at in (LONG_AGO, LATER):  # no second one for a page that has not read the result
        assert ensure(wanted_at) is None
    assert len(speed_tests.spawned) == 1


@pytest.mark.parametrize(
    "other",
    [{"model": "resnet32"}, {"batch_size": 17}, {"image_size": 13}, {"optimizer": "sgd"}],
    ids=str,
)
def test_the_speed_of_other_work_gives_no_estimate(other, launcher, tiny, info):
    store_speed(launcher.paths.runs, workload(tiny(), info), SPEED)
    assert estimate(tiny(peak_lr=0.5, seed=1), info, launcher.runs)
    assert estimate(tiny(**other), info, launcher.runs) is None
    assert estimate(tiny(), replace(info, size=200), launcher.runs) is None


def test_a_speed_with_other_threads_or_gpus_gives_no_estimate(launcher, tiny, info, monkeypatch):
    store_speed(launcher.paths.runs, workload(tiny(), info), SPEED)
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "7")
            assert estimate(tiny(), info, launcher.runs) is None
    assert estimate(tiny(), info, launcher.runs)


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[1]",
        "[null]",
        '{"train": 1}',
        "\udcff",
        '[{"work": {}, "train": 1, "val": 1}]',
        '[{"work": {}, "train": NaN, "val": 1, "time": 1}]',
        "[" * 100_000,
        '[{"work": {}, "train": -1, "val": 1, "time": 1}]',
        '[{"train": 1, "val": 1, "time": 1}]',
        f'[{{"work": {{}}, "train": 1{"0" * 400}, "val": 1, "time": 1}}]',
    ],
    ids=range(12),
)
def test_a_damaged_file_of_speeds_counts_as_empty_and_is_replaced(damage, launcher, tiny, info):
    root, work = launcher.paths.runs, workload(tiny(), info)
    store_speed(root, work, SPEED)
    speeds_file(root).write_bytes(damage.encode("utf-8", "surrogateescape"))
    assert estimate(tiny(), info, launcher.runs) is None
    store_speed(root, work, SPEED)
    assert estimate(tiny(), info, launcher.runs).seconds == pytest.approx(135 * 0.01 + 15 * 0.004)


def test_a_newer_speed_replaces_an_older_one(launcher, tiny, info):
    root, work = launcher.paths.runs, workload(tiny(), info)
    store_speed(root, {**work, "model": "vgg16"}, SPEED)
    for train in (0.5, 0.25):
        store_speed(root, work, replace(SPEED, train=train))
    assert find_speed(root, work).train == 0.25
    assert len(read_speeds(root)) == 2


def test_all_pages_share_one_speed_test(ensure, speed_tests):
    assert [ensure() for _ in range(5)] == [None] * 5
    [(verb, folder, _)] = speed_tests.spawned
    assert (verb, folder) == ("measure", speed_tests.folder)
    assert speed_tests.status().state == "queued"


def test_only_the_owner_may_start_a_speed_test(speed_tests, tiny, info, launcher):
    stranger = Caller("stranger", is_owner=False)
    with pytest.raises(ForbiddenError, match="only the owner of this app may measure"):
        speed_tests.ensure_measured(tiny(), info, stranger, LATER)
    assert not launcher.paths.runs.exists()


def test_a_new_request_of_a_person_stops_the_older_speed_test_and_replaces_it(ensure, speed_tests):
    ensure(model="resnet32")
    assert ensure(LATER) is None
    assert read_status(speed_tests.folder).state == "stopping"
    assert ensure(LATER) is None
    assert len(speed_tests.spawned) == 1  # its worker still runs
    end_task(speed_tests.folder, "stopped")
    assert ensure(LATER) is None
    assert len(speed_tests.spawned) == 1
    close_lock(speed_tests.spawned[0][2])
    assert ensure(LATER) is None
    assert speed_tests.request()["config"]["model"] == "resnet20"
    assert speed_tests.status().state == "queued"
    assert len(speed_tests.spawned) == 2


@pytest.mark.parametrize(("wanted_at", "restart"), [(LONG_AGO, True), (LATER, False)])
def test_a_newer_speed_test_is_waited_for_and_a_new_page_waits_for_any(
    wanted_at, restart, ensure, speed_tests
):
    ensure(model="resnet32")
    assert ensure(wanted_at, restart) is None
    assert read_status(speed_tests.folder).state == "queued"
    assert len(speed_tests.spawned) == 1


def test_a_failed_speed_test_is_repeated_only_on_a_new_request_of_a_person(ensure, speed_tests):
    ensure()
    end(speed_tests, "failed", "no memory")
    assert ensure(LONG_AGO, True) == "no memory"
    assert ensure(LATER, False) == "no memory"
    assert len(speed_tests.spawned) == 1
    assert ensure(LATER, True) is None
    assert len(speed_tests.spawned) == 2
    end(speed_tests, "failed", "no memory")
    assert ensure(LATER, False, model="resnet32") is None
    assert len(speed_tests.spawned) == 3


def test_a_stopped_speed_test_is_repeated(ensure, speed_tests):
    ensure(LONG_AGO, False)
    end(speed_tests, "stopped")
    assert ensure(LONG_AGO, False) is None
    assert len(speed_tests.spawned) == 2


def test_a_lost_result_is_measured_again_once(ensure, speed_tests):
    ensure()
    end(speed_tests, "finished")
    assert ensure(LONG_AGO, False) == "the result was lost"
    assert ensure(LATER, False) is None
    assert len(speed_tests.spawned) == 2


def test_a_damaged_speed_test_is_replaced(ensure, speed_tests):
    ensure()
    end(speed_tests, "failed", "no memory")
    (speed_tests.folder / "status.json").write_text("{")
    assert speed_tests.status() is None
    assert ensure(LONG_AGO, False) is None
    end(speed_tests, "failed", "no memory")
    (speed_tests.folder / "task.json").write_text("{")
    assert ensure(LONG_AGO, False) is None
    assert len(speed_tests.spawned) == 3


def test_a_folder_that_is_not_writable_is_an_error_message(ensure, launcher):
    launcher.paths.runs.write_text("a file")
    assert ensure() == "Not a directory"


def test_starting_or_resuming_a_run_stops_the_speed_test(
    launcher, device, monkeypatch, tiny, owner, ended, info
):
    speed_tests, spawned, spawn = SpeedTests(launcher), [], launcher.spawn
    monkeypatch.setattr(launcher, "spawn", lambda *worker: spawned.append(worker))
    start = partial(speed_tests.ensure_measured, tiny(), info, owner, LATER)
    start()
    monkeypatch.setattr(launcher, "spawn", spawn)
    run_id = launcher.start(tiny(), owner)
    assert read_status(speed_tests.folder).state == "stopping"
    end_task(speed_tests.folder, "stopped")
    close_lock(spawned[-1][2])
    launcher.stop(run_id, owner)
    ended(launcher.runs.get(run_id).path)
    monkeypatch.setattr(launcher, "spawn", lambda *worker: spawned.append(worker))
    start()
    monkeypatch.setattr(launcher, "spawn", spawn)
    launcher.resume(run_id, owner)
    assert read_status(speed_tests.folder).state == "stopping"
    close_lock(spawned[-1][2])


def test_a_speed_test_does_not_start_beside_a_run(ensure, speed_tests, launcher, tiny, quick):
    run, lock = launcher.make(tiny())
    ensure()
    with pytest.raises(StoppedError, match=f"{run.id} is training"):
        run_speed_test(speed_tests.folder, launcher.paths)
    assert speed_tests.status().state == "stopped"  # not failed: it may start again
    os.close(lock)


def test_a_speed_test_does_not_start_on_a_busy_device(ensure, device, speed_tests, launcher, quick):
    ensure()
    with pytest.raises(DemoError, match="the device is busy"):
        run_speed_test(speed_tests.folder, launcher.paths)
    assert speed_tests.status().state == "failed"  # else the next one would start at once
    assert read_speeds(launcher.paths.runs) == []


def test_the_device_is_locked_during_a_speed_test(ensure, speed_tests, launcher, monkeypatch):
    lock_file = launcher.paths.runs / DEVICE_LOCK

    def check(*_):
        assert try_lock(lock_file) is None
        assert read_status(speed_tests.folder).state == "running"
        return SPEED

    monkeypatch.setattr(speed, "measure_speed", check)
    ensure()
    run_speed_test(speed_tests.folder, launcher.paths)
    os.close(try_lock(lock_file))


def test_a_stopped_speed_test_ends_after_its_step_without_a_result(
    ensure, speed_tests, launcher, monkeypatch
):
    steps, step = [], speed.train_step

    def stop_and_step(*args):
        request_stop(speed_tests.folder)
        steps.append(args)
        return step(*args)

    monkeypatch.setattr(speed, "train_step", stop_and_step)
    ensure()
    with pytest.raises(StoppedError):
        run_speed_test(speed_tests.folder, launcher.paths)
    assert speed_tests.status().state == "stopped"
    assert len(steps) == 1
    assert read_speeds(launcher.paths.runs) == []
    os.close(try_lock(launcher.paths.runs / DEVICE_LOCK))


def test_there_is_no_speed_test_with_several_gpus(
    ensure, speed_tests, launcher, monkeypatch, quick
):
    monkeypatch.setattr(multi_gpu, "process_count", lambda: 4)
    ensure()
    with pytest.raises(DemoError, match="a run uses 4 GPUs here"):
        run_speed_test(speed_tests.folder, launcher.paths)
    assert read_speeds(launcher.paths.runs) == []


def test_a_speed_test_is_not_listed_as_a_run(ensure, speed_tests, launcher):
    ensure()
    assert launcher.runs.list() == []


def test_a_run_does_not_wait_for_the_last_step_of_a_speed_test(launcher, tiny, owner, info, until):
    speed_tests = SpeedTests(launcher)
    assert speed_tests.ensure_measured(tiny(), info, owner, LATER) is None
    until(lambda: speed_tests.status().state == "running")
    os.kill(read_status(speed_tests.folder).pid, signal.SIGSTOP)  # in the middle of a step
    _, lock = launcher.make(tiny())
    until(lambda: not has_worker(speed_tests.folder))
    assert speed_tests.status().state == "stopped"
    os.close(try_lock(launcher.paths.runs / DEVICE_LOCK))
    os.close(lock)
