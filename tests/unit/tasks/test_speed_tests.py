"""Measurements before a run. The work is done in this process, on a network of a moment."""

import json
import os
from dataclasses import replace
from functools import partial

import pytest

from resnet_demo.errors import DemoError, StoppedError
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
from resnet_demo.tasks.locks import try_lock
from resnet_demo.tasks.speed_tests import SpeedTests, run_speed_test
from resnet_demo.tasks.status import change_state, end_task, read_status, request_stop
from resnet_demo.training import speed
from resnet_demo.training.speed import Speed

SPEED = Speed(train=0.01, val=0.004, device="cpu (1 threads)")
LONG_AGO, LATER = 1.0, 4e9


@pytest.fixture
def measuring(launcher, monkeypatch):
    """Measurements whose workers are put down in a list, and never start."""
    monkeypatch.setattr(launcher, "spawn", lambda *worker: measuring.spawned.append(worker))
    measuring = SpeedTests(launcher)
    measuring.spawned = []
    yield measuring
    for _, _, lock in measuring.spawned:
        let_go(lock)


@pytest.fixture
def info(launcher):
    return launcher.datasets.get("colours")


@pytest.fixture
def asked(measuring, info, tiny, owner):
    """Asks for a measurement, now or at another time; why there will be none."""

    def ask(wanted_at=LATER, insists=True, **knobs):
        return measuring.ensure_measured(tiny(**knobs), info, owner, wanted_at, insists)

    return ask


@pytest.fixture
def quick(monkeypatch):
    """The real measurement takes a twentieth of a second."""
    monkeypatch.setattr(speed, "measure_speed", partial(speed.measure_speed, seconds=0.05))


def let_go(lock):
    """What the end of a worker does."""
    try:
        os.close(lock)
    except OSError:
        return


def end(measuring, state, message=""):
    """The worker's end, in that state."""
    if state != "failed":
        change_state(measuring.folder, "preparing")
        change_state(measuring.folder, "running" if state == "finished" else "stopping")
    end_task(measuring.folder, state, message)
    let_go(measuring.spawned[-1][2])


def test_a_measurement_tells_how_long_a_run_would_take(
    asked, measuring, launcher, tiny, info, quick
):
    config = tiny(epochs=7)
    assert estimate(config, info, launcher.runs) is None
    assert asked() is None
    run_speed_test(measuring.folder, launcher.paths)
    status = read_status(measuring.folder)
    assert status.state == "finished"
    assert "training images/s on cpu" in status.message
    [row] = json.loads(speeds_file(launcher.paths.runs).read_text())
    found = estimate(config, info, launcher.runs)
    assert found.seconds == pytest.approx(7 * (135 * row["train"] + 15 * row["val"]))
    assert (found.run_id, found.measured_at) == ("", row["time"])
    let_go(measuring.spawned[0][2])
    for wanted_at in (LONG_AGO, LATER):  # who has not seen the result yet starts no second one
        assert asked(wanted_at) is None
    assert len(measuring.spawned) == 1


@pytest.mark.parametrize(
    "other",
    [{"model": "resnet32"}, {"batch_size": 17}, {"image_size": 13}, {"optimizer": "sgd"}],
    ids=str,
)
def test_a_measurement_of_other_work_tells_nothing(other, launcher, tiny, info):
    store_speed(launcher.paths.runs, workload(tiny(), info), SPEED)
    assert estimate(tiny(peak_lr=0.5, seed=1), info, launcher.runs)
    assert estimate(tiny(**other), info, launcher.runs) is None
    assert estimate(tiny(), replace(info, size=200), launcher.runs) is None


def test_what_was_measured_with_other_threads_or_gpus_tells_nothing(
    launcher, tiny, info, monkeypatch
):
    store_speed(launcher.paths.runs, workload(tiny(), info), SPEED)
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "7")
            assert estimate(tiny(), info, launcher.runs) is None
    assert estimate(tiny(), info, launcher.runs)


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[1]", "[null]", '{"train": 1}', "\udcff", '[{"work": {}, "train": 1, "val": 1}]',
     '[{"work": {}, "train": NaN, "val": 1, "time": 1}]', "[" * 100_000,
     '[{"work": {}, "train": -1, "val": 1, "time": 1}]',
     '[{"train": 1, "val": 1, "time": 1}]',
     f'[{{"work": {{}}, "train": 1{"0" * 400}, "val": 1, "time": 1}}]'],
    ids=range(12),
)  # fmt: skip
def test_a_damaged_file_of_measurements_is_none_and_is_replaced(damage, launcher, tiny, info):
    root, work = launcher.paths.runs, workload(tiny(), info)
    store_speed(root, work, SPEED)
    speeds_file(root).write_bytes(damage.encode("utf-8", "surrogateescape"))
    assert estimate(tiny(), info, launcher.runs) is None
    store_speed(root, work, SPEED)
    assert estimate(tiny(), info, launcher.runs).seconds == pytest.approx(135 * 0.01 + 15 * 0.004)


def test_a_newer_measurement_takes_the_place_of_an_older_one(launcher, tiny, info):
    root, work = launcher.paths.runs, workload(tiny(), info)
    store_speed(root, {**work, "model": "vgg16"}, SPEED)
    for train in (0.5, 0.25):
        store_speed(root, work, replace(SPEED, train=train))
    assert find_speed(root, work).train == 0.25
    assert len(read_speeds(root)) == 2


def test_all_who_ask_share_one_measurement(asked, measuring):
    assert [asked() for _ in range(5)] == [None] * 5
    [(verb, folder, _)] = measuring.spawned
    assert (verb, folder) == ("measure", measuring.folder)
    assert measuring.status().state == "queued"


def test_only_the_owner_starts_a_measurement(measuring, tiny, info, launcher):
    stranger = Caller("stranger", is_owner=False)
    with pytest.raises(ForbiddenError, match="only the owner of this app may measure"):
        measuring.ensure_measured(tiny(), info, stranger, LATER)
    assert not launcher.paths.runs.exists()


def test_who_asks_for_something_new_stops_the_older_measurement_and_then_gets_another(
    asked, measuring
):
    asked(model="resnet32")
    assert asked(LATER) is None
    assert read_status(measuring.folder).state == "stopping"
    assert asked(LATER) is None
    assert len(measuring.spawned) == 1  # it has a worker still
    end_task(measuring.folder, "stopped")
    assert asked(LATER) is None
    assert len(measuring.spawned) == 1
    let_go(measuring.spawned[0][2])
    assert asked(LATER) is None
    assert measuring.request()["config"]["model"] == "resnet20"
    assert measuring.status().state == "queued"
    assert len(measuring.spawned) == 2


@pytest.mark.parametrize(("wanted_at", "insists"), [(LONG_AGO, True), (LATER, False)])
def test_a_newer_measurement_is_waited_for_and_so_is_any_by_a_fresh_page(
    wanted_at, insists, asked, measuring
):
    asked(model="resnet32")
    assert asked(wanted_at, insists) is None
    assert read_status(measuring.folder).state == "queued"
    assert len(measuring.spawned) == 1


def test_what_failed_is_tried_again_only_when_a_person_asks_anew(asked, measuring):
    asked()
    end(measuring, "failed", "no memory")
    assert asked(LONG_AGO, True) == "no memory"
    assert asked(LATER, False) == "no memory"
    assert len(measuring.spawned) == 1
    assert asked(LATER, True) is None
    assert len(measuring.spawned) == 2
    end(measuring, "failed", "no memory")
    assert asked(LATER, False, model="resnet32") is None
    assert len(measuring.spawned) == 3


def test_what_was_stopped_is_measured_after_all(asked, measuring):
    asked(LONG_AGO, False)
    end(measuring, "stopped")
    assert asked(LONG_AGO, False) is None
    assert len(measuring.spawned) == 2


def test_a_result_that_is_lost_is_measured_again_and_not_for_ever(asked, measuring):
    asked()
    end(measuring, "finished")
    assert asked(LONG_AGO, False) == "the result was lost"
    assert asked(LATER, False) is None
    assert len(measuring.spawned) == 2


def test_a_measurement_whose_files_are_damaged_gives_way_to_another(asked, measuring):
    asked()
    end(measuring, "failed", "no memory")
    (measuring.folder / "status.json").write_text("{")
    assert measuring.status() is None
    assert asked(LONG_AGO, False) is None
    end(measuring, "failed", "no memory")
    (measuring.folder / "task.json").write_text("{")
    assert asked(LONG_AGO, False) is None
    assert len(measuring.spawned) == 3


def test_a_folder_that_cannot_be_written_to_is_told(asked, launcher):
    launcher.paths.runs.write_text("a file")
    assert asked() == "Not a directory"


def test_a_run_that_is_started_or_resumed_stops_the_measurement(
    launcher, device, monkeypatch, tiny, owner, ended, info
):
    measuring, spawned, spawn = SpeedTests(launcher), [], launcher.spawn
    monkeypatch.setattr(launcher, "spawn", lambda *worker: spawned.append(worker))
    start = partial(measuring.ensure_measured, tiny(), info, owner, LATER)
    start()
    monkeypatch.setattr(launcher, "spawn", spawn)
    run_id = launcher.start(tiny(), owner)
    assert read_status(measuring.folder).state == "stopping"
    end_task(measuring.folder, "stopped")
    let_go(spawned[-1][2])
    launcher.stop(run_id, owner)
    ended(launcher.runs.get(run_id).path)
    monkeypatch.setattr(launcher, "spawn", lambda *worker: spawned.append(worker))
    start()
    monkeypatch.setattr(launcher, "spawn", spawn)
    launcher.resume(run_id, owner)
    assert read_status(measuring.folder).state == "stopping"
    let_go(spawned[-1][2])


def test_a_measurement_does_not_begin_beside_a_run(asked, measuring, launcher, tiny, quick):
    run, lock = launcher.make(tiny())
    asked()
    with pytest.raises(StoppedError, match=f"{run.id} is training"):
        run_speed_test(measuring.folder, launcher.paths)
    assert measuring.status().state == "stopped"  # and not failed: it may be begun again
    os.close(lock)


def test_a_measurement_does_not_begin_where_the_device_is_taken(
    asked, device, measuring, launcher, quick
):
    asked()
    with pytest.raises(DemoError, match="the device is busy"):
        run_speed_test(measuring.folder, launcher.paths)
    assert measuring.status().state == "failed"  # or the next one would begin at once
    assert read_speeds(launcher.paths.runs) == []


def test_while_it_is_measured_no_run_begins_and_afterwards_one_may(
    asked, measuring, launcher, monkeypatch
):
    lock_file = launcher.paths.runs / ".device.lock"

    def looks(*_):
        assert try_lock(lock_file) is None
        assert read_status(measuring.folder).state == "running"
        return SPEED

    monkeypatch.setattr(speed, "measure_speed", looks)
    asked()
    run_speed_test(measuring.folder, launcher.paths)
    os.close(try_lock(lock_file))


def test_a_stopped_measurement_ends_after_its_step_and_leaves_nothing(
    asked, measuring, launcher, monkeypatch
):
    steps, step = [], speed.train_step

    def last(*args):
        request_stop(measuring.folder)
        steps.append(args)
        return step(*args)

    monkeypatch.setattr(speed, "train_step", last)
    asked()
    with pytest.raises(StoppedError):
        run_speed_test(measuring.folder, launcher.paths)
    assert measuring.status().state == "stopped"
    assert len(steps) == 1
    assert read_speeds(launcher.paths.runs) == []
    os.close(try_lock(launcher.paths.runs / ".device.lock"))


def test_of_several_gpus_nothing_is_said(asked, measuring, launcher, monkeypatch, quick):
    monkeypatch.setattr(multi_gpu, "process_count", lambda: 4)
    asked()
    with pytest.raises(DemoError, match="a run trains on 4 GPUs here"):
        run_speed_test(measuring.folder, launcher.paths)
    assert read_speeds(launcher.paths.runs) == []


def test_a_measurement_is_no_run(asked, measuring, launcher):
    asked()
    assert launcher.runs.list() == []
