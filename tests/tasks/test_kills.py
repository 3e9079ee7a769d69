"""Workers killed again and again: what comes out in the end is what nobody disturbed."""

import os
import random
import signal

import pytest
import torch

from resnet_demo.events import Epoch, Step
from resnet_demo.tasks.status import read_status
from resnet_demo.training.device import pick_precision
from tests.tasks.test_worker import assert_same_as

MODELS = {"resnet20": {}, "plain20": {"optimizer": "adamw", "peak_lr": 0.001}, "resnet9": {}}
EPOCHS, STEPS = 40, 9  # as `tiny` has it: STEPS an epoch
KILLS = 7  # of each model: 21 in all, and as many in bf16
HAS_BF16 = pick_precision("auto", torch.device("cpu")) == "bf16"


def at_random_step(run, after, rng):
    """Some steps further on."""
    target = after + rng.randint(1, STEPS)
    return lambda: sum(isinstance(event, Step) for event in run.log()) >= target


def in_validation(run, after, rng):
    """The last step of an epoch is told, and the epoch is not."""
    return lambda: isinstance(last := [None, *run.log()][-1], Step) and last.step % STEPS == 0


def at_the_edge_of_an_epoch(run, after, rng):
    """The epoch is told, and is about to be saved."""
    known = sum(isinstance(event, Epoch) for event in run.log())
    return lambda: sum(isinstance(event, Epoch) for event in run.log()) > known


def in_a_save(run, after, rng):
    """The new checkpoint is being written beside the old one."""
    new = run.path / ".last.pt.new"  # there for some milliseconds: looked for without a pause
    return lambda: any(new.exists() for _ in range(10_000))


MOMENTS = (at_random_step, in_validation, at_the_edge_of_an_epoch, in_a_save)


@pytest.mark.soak
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("model", MODELS)
def test_a_run_killed_seven_times_at_random_equals_one_that_nobody_disturbed(
    model, precision, launchers, tmp_path, tiny, owner, ended, until
):
    if precision == "bf16" and not HAS_BF16:
        pytest.skip("this CPU has no bf16: it would take minutes")
    config = tiny(model=model, precision=precision, epochs=EPOCHS, **MODELS[model])
    whole_launcher, launcher = launchers(tmp_path / "whole"), launchers(tmp_path / "killed")
    whole = whole_launcher.runs.get(whole_launcher.start(config, owner))
    assert ended(whole.path).state == "finished"

    rng, kills = random.Random(model), 0
    run = launcher.runs.get(launcher.start(config, owner))
    for _ in range(4 * KILLS):
        if kills == KILLS:
            break
        done = sum(isinstance(event, Step) for event in run.log())
        is_time = rng.choice(MOMENTS)(run, done, rng)
        until(lambda is_time=is_time: is_time() or not read_status(run.path).is_live)
        if (pid := read_status(run.path).pid) is None:
            break  # it came to its end before that moment
        os.kill(pid, signal.SIGKILL)
        kills += 1
        assert ended(run.path).state == "failed"
        launcher.resume(run.id, owner)
    assert kills == KILLS, "the run was over too soon: the test proved little"
    assert ended(run.path).state == "finished"
    assert_same_as(run, whole)
