"""What a run costs of GPU time, from logs and slices that a test writes down."""

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
    **{"device": "a GPU", "precision": "bf16", "threads": 1, "version": "0", "parameters": 1},
    **{"macs": 1, "steps_per_epoch": 9, "epochs": 24},
}
EPOCH = {
    **{"train_loss": 2.0, "train_top1": 0.2, "val_loss": 1.5, "val_top1": 0.5, "lr": 0.1},
    "images_per_s": 13.5,
}


@pytest.fixture
def sliced(launcher):
    """A run whose epoch of 135 images took ten seconds, in slices that used so much."""

    def make(*slices):
        run = Run(launcher.paths.runs / "a-run")
        run.path.mkdir(parents=True)
        (run.path / "config.json").write_text(to_json(make_config(KNOBS), __version__))
        run.log().append(Started(step=0, epoch=1, **OPENING))
        run.log().append(Epoch(step=9, epoch=1, seconds=10.0, **EPOCH))
        for used in slices:
            record_slice(run.path, used)
        return run

    return make


def cost(launcher, slice_s=60, **knobs):
    config = make_config({**KNOBS, **knobs})
    return estimate_cost(config, launcher.datasets.get("colours"), launcher.runs, slice_s)


def test_before_such_work_ran_in_slices_nobody_knows_what_it_costs(sliced, launcher):
    sliced()  # a worker's, on another device
    assert cost(launcher) is None


def test_slices_and_seconds_are_those_that_were_measured(sliced, launcher):
    sliced(SliceUse(60, 54, 44, False), SliceUse(60, 54, 44, False), SliceUse(60, 60, 1, True))
    told = cost(launcher, epochs=22)  # 220 s, of which a slice trains 60 - 6 - 10
    assert (told.slices, told.seconds) == (5, 220 + 5 * 10)
    assert told.epochs_per_slice == pytest.approx(4.4)
    assert (told.run_id, told.overhead_s) == ("a-run", 10)
    assert cost(launcher, slice_s=120, epochs=22).slices == 3
    assert cost(launcher, epochs=1).slices == 1


def test_other_work_costs_something_else(sliced, launcher):
    sliced(SliceUse(60, 54, 44, False))
    assert cost(launcher, model="resnet14") is None


def test_what_a_slice_spends_beside_training_is_not_known_from_killed_ones(sliced, launcher):
    sliced(SliceUse(60, 60, 30, True))
    told = cost(launcher, epochs=22)
    assert (told.slices, told.seconds, told.overhead_s) == (5, 220, None)


@pytest.mark.parametrize("line", ["{", "[]", "null", json.dumps({"asked": 1}), '{"asked": NaN}'])
def test_a_damaged_line_is_passed_over(sliced, line):
    good = SliceUse(60.0, 54.0, 44.0, False)
    run = sliced(good)
    with open(run.path / "slices.jsonl", "a") as file:
        file.write(f"{line}\n")
    record_slice(run.path, good)
    assert recorded_slices(run) == [good, good]
