"""Runs whose worker is killed again and again equal uninterrupted ones."""

import os
import random
import signal
import time
from contextlib import suppress

import pytest
import torch

from resnet_demo.events import Epoch, Step, from_line
from resnet_demo.models.device import pick_precision
from resnet_demo.tasks.status import read_status
from tests.unit.tasks.test_worker import assert_same_run

MODELS = {"resnet20": {}, "plain20": {"optimizer": "adamw", "peak_lr": 0.001}, "resnet9": {}}
EPOCHS, STEPS = 40, 9  # as `tiny` has it: STEPS an epoch
LINE = 2000  # bytes: more than a line of the log ever has
KILLS = 7  # of each model: 21 in all, and as many in bf16
HAS_BF16 = pick_precision("auto", torch.device("cpu")) == "bf16"


def at_random_step(run, after, rng):
    """Return a condition: some steps after `after`."""
    target = after + rng.randint(1, STEPS)
    return lambda: sum(isinstance(event, Step) for event in run.log()) >= target


def in_validation(run, after, rng):
    """Return a condition: the last step of an epoch is logged, and the epoch is not."""
    return polling(lambda: isinstance(e := last_logged(run), Step) and e.step % STEPS == 0)


def at_the_edge_of_an_epoch(run, after, rng):
    """Return a condition: an epoch is logged, and about to be saved."""
    known = last_logged(run)
    return polling(lambda: isinstance(e := last_logged(run), Epoch) and e != known)


def in_a_save(run, after, rng):
    """Return a condition: a new checkpoint is being written; not one that a kill left behind."""
    left = written_at(run)
    return polling(lambda: written_at(run) not in (None, left))


def written_at(run):
    """Return when the new checkpoint was last written to, in nanoseconds; None without one."""
    with suppress(FileNotFoundError):
        return (run.path / ".last.pt.new").stat().st_mtime_ns
    return None


def polling(condition):
    """Return a function that polls for 50 ms without a pause: the condition lasts milliseconds."""

    def poll():
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            if condition():
                return True
        return False

    return poll


def last_logged(run):
    """Return the last event of the log, reading only its end; None without one."""
    path = run.path / "events.jsonl"
    if not path.exists():
        return None
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LINE))
        return from_line([b"", *file.read().splitlines()][-1].decode())


MOMENTS = (at_random_step, in_validation, at_the_edge_of_an_epoch, in_a_save)


@pytest.mark.soak
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("model", MODELS)
def test_a_run_killed_seven_times_equals_an_uninterrupted_one(
    model, precision, launchers, tmp_path, tiny, owner, ended, until
):
    if precision == "bf16" and not HAS_BF16:
        pytest.skip("this CPU has no bf16: it would take minutes")
    config = tiny(model=model, precision=precision, epochs=EPOCHS, **MODELS[model])
    whole_launcher, launcher = launchers(tmp_path / "whole"), launchers(tmp_path / "killed")
    whole = whole_launcher.runs.get(whole_launcher.start(config, owner))
    assert ended(whole.path).state == "finished"

    rng, kills, before = random.Random(model), 0, 0
    run = launcher.runs.get(launcher.start(config, owner))
    for _ in range(4 * KILLS):
        if kills == KILLS:
            break
        until(lambda before=before: run.log().size() > before)  # the new worker is training
        done = sum(isinstance(event, Step) for event in run.log())
        is_time = rng.choice(MOMENTS)(run, done, rng)
        until(lambda is_time=is_time: is_time() or not read_status(run.path).is_live)
        if not read_status(run.path).is_live:
            break  # it ended before that moment
        pid = read_status(run.path).pid
        os.kill(pid, signal.SIGKILL)
        kills += 1
        assert ended(run.path).state == "failed"
        before = run.log().size()
        launcher.resume(run.id, owner)
    assert kills == KILLS, "the run ended too early: the test proves little"
    assert ended(run.path).state == "finished"
    assert_same_run(run, whole)
