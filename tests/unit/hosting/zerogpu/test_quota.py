"""The GPU time that a run costs, from logs and slices that a test writes."""

import json

import pytest

from resnet_demo import __version__
from resnet_demo.config import make_config, to_json
from resnet_demo.events import Epoch, Started
from resnet_demo.hosting.zerogpu.quota import SliceUse, estimate_cost, record_slice, recorded_slices
from resnet_demo.runs.store import Run

KNOBS = {
    "dataset": "colours",
    "model": "resnet8",
    "image_size": 12,
    "batch_size": 15,
    "grow_from": 1,
}
OPENING = {
    "device": "a GPU",
    "precision": "bf16",
    "threads": 1,
    "version": "0",
    "parameters": 1,
    "macs": 1,
    "steps_per_epoch": 9,
    "epochs": 24,
}
EPOCH = {
    "train_loss": 2.0,
    "train_top1": 0.2,
    "val_loss": 1.5,
    "val_top1": 0.5,
    "lr": 0.1,
    "images_per_s": 13.5,
}


@pytest.fixture
def sliced(launcher):
    """Return a function that writes a run with an epoch of ten seconds, and its slices."""

    def make(*slices):
        run = Run(launcher.paths.runs / "a-run")
        run.path.mkdir(parents=True)
        (run.path / "config.json").write_text(to_json(make_config(KNOBS), __version__))
        run.log().append(Started(step=0, epoch=1, **OPENING))
        run.log().append(Epoch(step=9, epoch=1, seconds=10.0, **EPOCH))
        for use in slices:
            record_slice(run.path, use)
        return run

    return make


def cost(launcher, slice_s=60, **knobs):
    config = make_config({**KNOBS, **knobs})
    return estimate_cost(config, launcher.datasets.get("colours"), launcher.runs, slice_s)


def test_the_cost_is_unknown_before_a_run_of_the_same_work_had_slices(sliced, launcher):
    sliced()  # trained by a worker, on another device
    assert cost(launcher) is None


def test_the_cost_follows_from_the_measured_slices(sliced, launcher):
    sliced(SliceUse(60, 54, 44, False), SliceUse(60, 54, 44, False), SliceUse(60, 60, 1, True))
    estimate = cost(launcher, epochs=22)  # 220 s, of which a slice trains 60 - 6 - 10
    assert (estimate.slices, estimate.seconds) == (5, 220 + 5 * 10)
    assert estimate.epochs_per_slice == pytest.approx(4.4)
    assert (estimate.run_id, estimate.overhead_s) == ("a-run", 10)
    assert cost(launcher, slice_s=120, epochs=22).slices == 3
    assert cost(launcher, epochs=1).slices == 1


def test_the_cost_of_other_work_is_unknown(sliced, launcher):
    sliced(SliceUse(60, 54, 44, False))
    assert cost(launcher, model="resnet14") is None


def test_the_overhead_is_unknown_if_all_slices_were_killed(sliced, launcher):
    sliced(SliceUse(60, 60, 30, True))
    estimate = cost(launcher, epochs=22)
    assert (estimate.slices, estimate.seconds, estimate.overhead_s) == (5, 220, None)


@pytest.mark.parametrize("line", ["{", "[]", "null", json.dumps({"asked": 1}), '{"asked": NaN}'])
def test_a_damaged_line_is_skipped(sliced, line):
    good = SliceUse(60.0, 54.0, 44.0, False)
    run = sliced(good)
    with open(run.path / "slices.jsonl", "a") as file:
        file.write(f"{line}\n")
    record_slice(run.path, good)
    assert recorded_slices(run) == [good, good]
