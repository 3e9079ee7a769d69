"""The configs of each lesson."""

import math
from dataclasses import asdict

import pytest
from scipy import stats

from resnet_demo.architectures import CIFAR_DEPTHS
from resnet_demo.data.info import DatasetInfo
from resnet_demo.data.splits import split_sizes, steps_per_epoch
from resnet_demo.errors import ConfigError
from resnet_demo.learn import lessons
from resnet_demo.learn.lessons import (
    BASELINE_ARM,
    BUGS,
    MAX_SEEDS,
    analyze_range_test,
    guessing_loss,
    suggest_rate,
)
from resnet_demo.runs.groups import Membership, write_membership
from resnet_demo.runs.store import Run

DATA = {"dataset": "shapes10"}


def changed_fields(one, other):
    return {name for name, value in asdict(one).items() if value != asdict(other)[name]}


def test_experiments_are_the_runs_of_lessons_and_their_recordings(tmp_path):
    def run(name, shipped=False, **membership):
        folder = tmp_path / name
        folder.mkdir()
        if membership:
            write_membership(folder, Membership(group="g", arm="a", **membership))
        return Run(folder, shipped)

    assert lessons.is_experiment(run("learn-plain56", shipped=True))
    for kind in lessons.KINDS:
        assert lessons.is_experiment(run(f"{kind}-1-1", kind=kind))
    assert not lessons.is_experiment(run("cifar10-shipped", shipped=True))
    assert not lessons.is_experiment(run("mine"))
    assert not lessons.is_experiment(run("sweep-1-1", kind="sweep"))


def test_the_arms_of_a_duel_differ_in_the_network_alone():
    arms = lessons.duel_arms([20, 8], 1, {**DATA, "epochs": 3})
    assert [arm for arm, _ in arms] == ["plain8", "resnet8", "plain20", "resnet20"]
    first = arms[0][1]
    for arm, config in arms:
        assert config.model == arm
        assert changed_fields(first, config) <= {"model"}
    assert (first.dataset, first.epochs, first.recipe) == ("shapes10", 3, "paper")


def test_every_arm_has_the_same_seeds_and_pairs_come_first():
    arms = lessons.duel_arms([8], 3, {**DATA, "seed": 7})
    assert [(arm, config.seed) for arm, config in arms] == [
        (arm, seed) for seed in (7, 8, 9) for arm in ("plain8", "resnet8")
    ]


def test_each_bug_changes_only_its_own_fields():
    arms = dict(lessons.bug_arms(list(BUGS), 1, DATA))
    for name, (_, fields) in BUGS.items():
        assert changed_fields(arms[BASELINE_ARM], arms[name]) == set(fields)
    assert list(arms) == [BASELINE_ARM, *BUGS]
    assert list(dict(lessons.bug_arms(["decay"], 1, DATA))) == [BASELINE_ARM, "decay"]


def test_the_lesson_on_gradients_probes_three_networks_of_one_depth():
    arms = dict(lessons.gradient_arms(20, 1, DATA))
    assert {(c.model, c.batch_norm) for c in arms.values()} == {
        ("plain20", False),
        ("plain20", True),
        ("resnet20", True),
    }
    assert all(config.probe_every for config in arms.values())


def test_vgg_and_resnet_differ_in_the_network_alone():
    (_, one), (_, other) = lessons.vgg_arms(1, DATA)
    assert changed_fields(one, other) == {"model"}


def test_a_range_test_takes_the_given_number_of_steps():
    [(_, config)] = lessons.range_arms(100, {**DATA, "batch_size": 64, "model": "resnet8"})
    assert (config.schedule, config.peak_lr, config.epochs) == ("range-test", 10.0, 1)
    assert config.train_images == 100 * 64


def test_a_range_test_on_few_images_takes_as_many_steps_in_several_epochs():
    grey = dict.fromkeys(("mean", "std", "per_image_std"), (0.5,) * 3)
    info = DatasetInfo(
        name="few",
        classes=("a", "b"),
        size=32,
        train=1000,
        test=0,
        synthetic=False,
        source="",
        **grey,
    )
    [(_, config)] = lessons.range_arms(100, {**DATA, "batch_size": 64}, info)
    train, _ = split_sizes(config, info.train)
    assert 100 <= config.epochs * steps_per_epoch(train, 64) <= 107


def test_both_arms_on_transfer_see_the_same_few_images_of_each_class():
    arms = lessons.transfer_arms([30, 10], 2, {**DATA, "seed": 5})
    assert [arm for arm, _ in arms[:4]] == [
        "scratch 10",
        "transfer 10",
        "scratch 30",
        "transfer 30",
    ]
    assert [config.seed for _, config in arms] == [5] * 4 + [6] * 4
    by_name = dict(arms)
    for count in (10, 30):
        pair = [by_name[f"{learner} {count}"] for learner in ("scratch", "transfer")]
        # What decides which images are trained on, and which are held out.
        for name in ("train_images", "val_share", "stratify", "dataset"):
            assert getattr(pair[0], name) == getattr(pair[1], name), name
        assert pair[0].train_images == 10 * count
    assert [c.weights for _, c in arms[:2]] == ["random", "imagenet"]
    # From scratch, fewer images are seen more often, in smaller batches.
    (few, many) = (by_name[f"scratch {count}"] for count in (10, 30))
    assert (few.epochs, few.batch_size) == (40, 25)
    assert few.epochs > many.epochs
    chosen = lessons.transfer_arms([10], 1, {**DATA, "epochs": 3})
    assert [config.epochs for _, config in chosen] == [3, 3]
    assert [c.train_layers for _, c in arms[:2]] == ["all", "head"]


@pytest.mark.parametrize(
    ("arm", "parsed"),
    [
        ("scratch 10", ("scratch", 10)),
        ("transfer 300", ("transfer", 300)),
        ("plain 10", None),
        ("scratch", None),
        ("scratch x", None),
        ("<b> 1", None),
    ],
)
def test_an_arm_on_transfer_has_a_learner_and_a_number(arm, parsed):
    assert lessons.parse_arm(arm) == parsed


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lessons.transfer_arms([], 1, DATA), "choose at least one number of images"),
        (lambda: lessons.transfer_arms([1], 1, DATA), "per_class must be whole numbers from 2 to"),
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
        (lambda: lessons.range_arms(None, DATA), "steps must be a whole number from 20 to 2000"),
    ],
)
def test_an_invalid_request_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def curve(best, n=100, low=1e-4, high=10.0, diverges=True):
    """Yield (rate, loss): the loss falls until `best` and rises steeply after it."""
    for i in range(n):
        rate = low * (high / low) ** (i / (n - 1))
        distance = math.log10(rate / best)
        yield rate, 0.5 + 0.4 * min(distance, 0) ** 2 + (50 * max(distance, 0) ** 2) * diverges


def test_the_suggestion_is_a_tenth_of_the_rate_of_the_lowest_loss():
    result = analyze_range_test(list(curve(best=0.3)))
    assert 0.2 < result.lowest[0] < 0.8  # the smoothed loss lags a little
    assert result.suggested == suggest_rate(result.lowest[0])
    assert result.diverged
    assert len(result.points) < 100  # points after the divergence are left out


def test_the_smoothed_loss_has_no_bias_at_the_start():
    result = analyze_range_test([(0.1, 2.0)] * 20)
    assert [loss for _, loss in result.points] == pytest.approx([2.0] * 20)


def test_a_loss_that_never_falls_below_that_of_guessing_gives_no_suggestion():
    steps = [(1e-4 * 10 ** (n / 20), 2.5 - 0.0018 * n) for n in range(100)]
    result = analyze_range_test(steps, guessing=math.log(10))
    assert 2.3 < result.lowest[1] < 2.34
    assert (result.suggested, result.guessing) == (None, math.log(10))
    assert analyze_range_test(steps, guessing=2.5).suggested


def test_guessing_is_the_first_loss_where_the_classes_are_not_known():
    result = analyze_range_test([*curve(0.3)])
    assert result.guessing == pytest.approx(result.points[9][1])
    assert analyze_range_test([(0.1, 2.0)] * 20).suggested is None


def test_the_loss_of_guessing_is_the_entropy_of_the_classes():
    assert guessing_loss([50] * 10) == pytest.approx(math.log(10))
    assert guessing_loss([90, 10]) == pytest.approx(stats.entropy([0.9, 0.1]))
    assert guessing_loss([5, 0]) == 0


def test_too_few_steps_give_no_suggestion():
    result = analyze_range_test(list(curve(0.3))[:9])
    assert (result.lowest, result.suggested, result.diverged) == (None, None, False)
    assert analyze_range_test([]).points == []


def test_a_loss_that_never_rises_has_not_diverged():
    result = analyze_range_test(list(curve(best=100.0, diverges=False)))
    assert not result.diverged
    assert result.suggested == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("rate", "tenth"), [(1.234, 0.12), (0.5, 0.05), (10.0, 1.0), (0.0099, 0.00099)]
)
def test_suggested_rates_have_two_digits(rate, tenth):
    assert suggest_rate(rate) == pytest.approx(tenth)
