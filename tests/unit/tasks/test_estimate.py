"""Estimates of a run's duration from earlier runs."""

from dataclasses import replace

import pytest

from resnet_demo.config import make_config, to_json
from resnet_demo.data.image_sizes import image_sizes
from resnet_demo.data.store import Datasets
from resnet_demo.events import Embedding, Epoch, Started, Step
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run, Runs
from resnet_demo.runs.view import RunView
from resnet_demo.tasks.estimate import HEAD_S, RunSpeeds, estimate, read_speed

KNOBS = {
    "dataset": "colours",
    "model": "resnet20",
    "batch_size": 16,
    "val_share": 0.2,
    "epochs": 6,
    "grow_from": 1.0,
}
OPENING = {
    "device": "cpu",
    "precision": "float32",
    "threads": 1,
    "parameters": 1,
    "macs": 1,
    "steps_per_epoch": 8,
    "epochs": 6,
    "version": "0",
}
STEP = {"loss": 1.0, "top1": 0.5, "lr": 0.1}
EPOCH = {
    "train_loss": 1.0,
    "train_top1": 0.5,
    "val_loss": 1.0,
    "val_top1": 0.5,
    "lr": 0.1,
    "images_per_s": 1.0,
}


@pytest.fixture
def runs(tmp_path):
    return Runs(Paths(tmp_path / "runs", tmp_path / "data", tmp_path / "shipped"))


@pytest.fixture
def info(colours):
    return replace(Datasets(colours).get("colours"), train=160)  # 128 to train on: 8 whole batches


@pytest.fixture
def earlier(runs):
    """Return a function that writes a run with the durations of its epochs or step rates."""

    def write(name, seconds=(), steps=(), root=None, **knobs):
        run = Run((root or runs.root) / name)
        run.path.mkdir(parents=True)
        (run.path / "config.json").write_text(to_json(make_config({**KNOBS, **knobs}), "0"))
        sizes = {"epochs": run.config().epochs, "sides": image_sizes(run.config())}
        run.log().append(Started(step=0, epoch=1, **{**OPENING, **sizes}))
        for n, rate in enumerate(steps, 1):
            run.log().append(Step(step=n, epoch=1, images_per_s=rate, **STEP))
        for n, duration in enumerate(seconds, 1):
            run.log().append(Epoch(step=8 * n, epoch=n, seconds=duration, **EPOCH))
        return run

    return write


def test_without_earlier_runs_there_is_no_estimate(runs, info, earlier):
    assert estimate(make_config(KNOBS), info, runs) is None
    earlier("no-steps-1")
    earlier("few-steps-1", steps=[64.0] * 5)
    assert estimate(make_config(KNOBS), info, runs) is None


def test_an_estimate_is_from_the_median_epoch_of_an_earlier_run(runs, info, earlier):
    earlier("resnet20-colours-1", seconds=[100.0, 5.0, 4.0])
    found = estimate(make_config(KNOBS), info, runs)
    assert (found.seconds, found.run_id) == (pytest.approx(6 * 5.0), "resnet20-colours-1")
    longer = make_config({**KNOBS, "epochs": 12, "batch_size": 32, "peak_lr": 0.5})
    assert estimate(longer, info, runs).seconds == pytest.approx(12 * 5.0)


def test_a_run_without_an_epoch_gives_the_rate_of_its_steps(runs, info, earlier):
    earlier("resnet20-colours-1", steps=[64.0] * 6)
    found = estimate(make_config(KNOBS), info, runs)
    assert found.seconds == pytest.approx(6 * 128 / 64)


def test_growing_images_cost_by_their_pixels_in_both_runs(runs, info, earlier):
    growing = {"grow_from": 0.5, "epochs": 5}
    costs = [(side / 32) ** 2 for side in (16, 21, 27, 32, 32)]  # a size for each epoch
    grown = make_config({**KNOBS, **growing})
    earlier("resnet20-colours-1", seconds=[3.0] * 3)
    assert estimate(grown, info, runs).seconds == pytest.approx(3.0 * sum(costs))
    earlier("resnet20-colours-2", seconds=[10 * cost for cost in costs], **growing)
    found = estimate(make_config(KNOBS), info, runs)
    assert (found.run_id, found.seconds) == ("resnet20-colours-2", pytest.approx(6 * 10.0))
    assert estimate(grown, info, runs).seconds == pytest.approx(10.0 * sum(costs))


def test_the_rate_of_small_images_is_scaled_to_full_size(runs, info, earlier):
    earlier("resnet20-colours-1", steps=[64.0] * 6, grow_from=0.5)  # of 16 pixels
    found = estimate(make_config(KNOBS), info, runs)
    assert found.seconds == pytest.approx(4 * 6 * 128 / 64)


@pytest.mark.parametrize(
    "other",
    [
        {"model": "resnet32"},
        {"image_size": 64},
        {"batch_norm": False},
        {"precision": "bf16"},
        {"optimizer": "sgd"},
        {"stem": "imagenet", "image_size": 32},
        {"batch_size": 33},
        {"batch_size": 7},
    ],
    ids=str,
)
def test_a_run_of_other_work_gives_no_estimate(other, runs, info, earlier):
    earlier("resnet20-colours-1", seconds=[5.0], **other)
    assert estimate(make_config(KNOBS), info, runs) is None


def test_a_shipped_run_gives_no_estimate(runs, info, earlier):
    earlier("learn-depth", seconds=[5.0], root=runs.shipped_root)
    assert estimate(make_config(KNOBS), info, runs) is None


def test_a_damaged_run_is_skipped(runs, info, earlier):
    earlier("resnet20-colours-1", seconds=[5.0])
    damaged = earlier("resnet20-colours-2", seconds=[9.0])
    (damaged.path / "config.json").write_text("{")
    assert estimate(make_config(KNOBS), info, runs).run_id == "resnet20-colours-1"


def test_a_log_is_read_once_for_many_estimates_and_again_when_it_has_grown(
    runs, info, earlier, monkeypatch
):
    refreshed, refresh = [], RunView.refresh
    monkeypatch.setattr(
        RunView, "refresh", lambda view: refreshed.append(view.log.path) or refresh(view)
    )
    names = [f"some-run-{number}" for number in range(3)]  # too few steps for a speed
    logs = [earlier(name, steps=[64.0] * 5).log() for name in names]
    speeds = RunSpeeds()
    for epochs in range(1, 11):
        assert estimate(make_config({**KNOBS, "epochs": epochs}), info, runs, speeds) is None
    assert sorted(refreshed) == sorted(log.path for log in logs)
    logs[0].append(Epoch(step=8, epoch=1, seconds=12.8, **EPOCH))
    found = estimate(make_config(KNOBS), info, runs, speeds)
    assert found == estimate(make_config(KNOBS), info, runs)
    assert found.run_id == names[0]


def test_a_cached_speed_is_the_speed_of_the_log(runs, earlier):
    run = earlier("some-run-1", seconds=[5.0, 6.0])
    assert RunSpeeds()(run) == read_speed(run) > 0


def test_a_head_takes_one_pass_over_the_images_of_a_run_that_embedded_some(runs, info, earlier):
    head = {"train_layers": "head"}
    earlier("full-1", seconds=[100.0])  # a run of all layers gives no estimate
    assert estimate(make_config(KNOBS | head), info, runs) is None
    rate = {"step": 0, "epoch": 0, "done": 3, "total": 9, "images_per_s": 32.0}
    earlier("head-1", **head).log().append(Embedding(**rate))
    earlier("head-2", seconds=[0.1], **head)  # had all its embeddings already
    found = estimate(make_config(KNOBS | head), info, runs)
    assert (found.run_id, found.seconds) == ("head-1", pytest.approx(160 / 32 + HEAD_S))
    views = make_config(KNOBS | head | {"views": 3})
    assert estimate(views, info, runs).seconds == pytest.approx((3 * 128 + 32) / 32 + HEAD_S)
