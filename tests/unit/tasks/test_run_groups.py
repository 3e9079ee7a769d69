"""Groups of runs: created, queued and stopped together."""

import os

import pytest

from resnet_demo.errors import ConfigError, NotFoundError
from resnet_demo.learn.lessons import duel_arms
from resnet_demo.runs.groups import get_group, read_membership
from resnet_demo.tasks.limits import Caller, ForbiddenError
from resnet_demo.tasks.queue import runs_ahead
from resnet_demo.tasks.run_groups import RunGroups
from resnet_demo.tasks.status import state_of

KNOBS = {"dataset": "colours", "image_size": 12, "batch_size": 16, "epochs": 1, "crop": 2}


@pytest.fixture
def groups(launcher):
    return RunGroups(launcher)


def release(made):
    for _, lock in made:
        os.close(lock)


def test_a_group_is_queued_in_its_order(groups):
    group, made = groups.make("duel", duel_arms([8], 2, KNOBS), guess="the plain one")
    runs = [run for run, _ in made]
    assert [run.id for run in runs] == [
        "duel-1-1-plain8",
        "duel-1-2-resnet8",
        "duel-1-3-plain8",
        "duel-1-4-resnet8",
    ]
    assert [len(runs_ahead(run.path)) for run in runs] == [0, 1, 2, 3]
    found = get_group(groups.launcher.runs, group)
    assert {arm: len(of) for arm, of in found.arms.items()} == {"plain8": 2, "resnet8": 2}
    assert found.guess == "the plain one"
    assert [run.config().seed for run in found.arms["plain8"]] == [42, 43]
    release(made)


def test_a_group_is_created_completely_or_not_at_all(groups):
    arms = duel_arms([8], 1, KNOBS)
    arms.append(("too much", duel_arms([8], 1, {**KNOBS, "batch_size": 1000})[0][1]))
    with pytest.raises(ConfigError, match="batch_size must be at most the 135 images"):
        groups.make("duel", arms)
    assert groups.launcher.runs.list() == []
    group, made = groups.make("duel", arms[:2])  # its name is free again
    assert group == "duel-1"
    release(made)


def test_only_the_owner_may_start_and_stop_a_group(groups):
    stranger = Caller("stranger", is_owner=False)
    with pytest.raises(ForbiddenError, match="only the owner of this app may train"):
        groups.start("duel", duel_arms([8], 1, KNOBS), stranger)
    with pytest.raises(ForbiddenError, match="may stop a run"):
        groups.stop("duel-1", stranger)


def test_an_unknown_group_cannot_be_stopped(groups, owner):
    with pytest.raises(NotFoundError, match="group must be one of the groups"):
        groups.stop("duel-7", owner)


def test_stopping_a_group_stops_all_its_runs(groups, owner, device, until):
    group = groups.start("duel", duel_arms([8], 1, KNOBS), owner)
    runs = get_group(groups.launcher.runs, group).runs
    assert groups.stop(group, owner) == 2
    until(lambda: all(state_of(run.path) == "stopped" for run in runs))
    assert groups.stop(group, owner) == 0
    assert all(read_membership(run).group == group for run in runs)


def test_both_arms_see_the_same_images_in_the_same_order(groups):
    """Check that permutation, mirror and crop depend on seed, epoch and step alone."""
    import torch

    from resnet_demo.training.batches import Batches

    arms = duel_arms([8], 1, {**KNOBS, "seed": 3})
    (_, plain), (_, residual) = arms
    datasets, device = groups.launcher.datasets, torch.device("cpu")
    first, second = (Batches.load(config, datasets, device) for config in (plain, residual))
    for epoch in (1, 2):
        plans = first.plan(epoch), second.plan(epoch)
        for index in range(first.steps_per_epoch):
            (x, labels), (y, same) = (
                batches.train_batch(plan, index)
                for batches, plan in zip((first, second), plans, strict=True)
            )
            assert torch.equal(x, y)
            assert torch.equal(labels, same)
