from dataclasses import asdict

import pytest

from resnet_demo.architectures import CIFAR_DEPTHS
from resnet_demo.errors import ConfigError
from resnet_demo.learn import lessons
from resnet_demo.learn.lessons import BASELINE_ARM, BUGS, MAX_SEEDS

DATA = {"dataset": "shapes10"}


def differing(one, other):
    return {name for name, value in asdict(one).items() if value != asdict(other)[name]}


def test_a_duel_differs_in_the_network_alone():
    told = lessons.duel_arms([20, 8], 1, {**DATA, "epochs": 3})
    assert [arm for arm, _ in told] == ["plain8", "resnet8", "plain20", "resnet20"]
    first = told[0][1]
    for arm, config in told:
        assert config.model == arm
        assert differing(first, config) <= {"model"}
    assert (first.dataset, first.epochs, first.recipe) == ("shapes10", 3, "paper")


def test_seeds_are_the_same_in_every_arm_and_pairs_are_whole_early():
    told = lessons.duel_arms([8], 3, {**DATA, "seed": 7})
    assert [(arm, config.seed) for arm, config in told] == [
        (arm, seed) for seed in (7, 8, 9) for arm in ("plain8", "resnet8")
    ]


def test_each_bug_changes_what_it_says_and_nothing_else():
    told = dict(lessons.bug_arms(list(BUGS), 1, DATA))
    for name, (_, knobs) in BUGS.items():
        assert differing(told[BASELINE_ARM], told[name]) == set(knobs)
    assert list(told) == [BASELINE_ARM, *BUGS]
    assert list(dict(lessons.bug_arms(["decay"], 1, DATA))) == [BASELINE_ARM, "decay"]


def test_gradients_are_looked_into_in_three_networks_of_one_depth():
    told = dict(lessons.gradient_arms(20, 1, DATA))
    assert {(c.model, c.batch_norm) for c in told.values()} == {
        ("plain20", False), ("plain20", True), ("resnet20", True),
    }  # fmt: skip
    assert all(config.probe_every for config in told.values())


def test_vgg_and_resnet_have_the_same_recipe():
    (_, one), (_, other) = lessons.vgg_arms(1, DATA)
    assert differing(one, other) == {"model"}


def test_a_range_test_takes_so_many_steps_up_to_the_largest_rate():
    [(_, config)] = lessons.range_arms(100, {**DATA, "batch_size": 64, "model": "resnet8"})
    assert (config.schedule, config.peak_lr, config.epochs) == ("range-test", 10.0, 1)
    assert config.train_images == 100 * 64


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: lessons.duel_arms([], 1, DATA), "choose at least one depth"),
        (lambda: lessons.duel_arms([21], 1, DATA), "depths must be one of 8, 14, .*got 21"),
        (
            lambda: lessons.duel_arms([8], 0, DATA),
            f"seeds must be a whole number from 1 to {MAX_SEEDS}",
        ),
        (lambda: lessons.duel_arms([8], 2.5, DATA), "seeds must be a whole number"),
        (lambda: lessons.duel_arms([8], True, DATA), "seeds must be a whole number"),
        (
            lambda: lessons.duel_arms(CIFAR_DEPTHS, 5, DATA),
            "runs must be at most 40 in a group, got 70",
        ),
        (lambda: lessons.gradient_arms(9, 1, DATA), "depth must be one of"),
        (lambda: lessons.bug_arms([], 1, DATA), "choose at least one switch"),
        (lambda: lessons.bug_arms(["typo"], 1, DATA), "bugs must be one of training mode"),
        (lambda: lessons.bug_arms(["decay"], 1, {"epochs": 0}), "epochs must be"),
    ],
)
def test_what_cannot_be_is_refused(ask, message):
    with pytest.raises(ConfigError, match=message):
        ask()
