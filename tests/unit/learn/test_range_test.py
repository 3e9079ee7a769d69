import math

import pytest

from resnet_demo.learn.range_test import analyze_range_test, suggest_rate


def curve(best, n=100, low=1e-4, high=10.0, blows_up=True):
    """A loss that falls until `best` and rises steeply behind it."""
    for i in range(n):
        rate = low * (high / low) ** (i / (n - 1))
        distance = math.log10(rate / best)
        yield rate, 0.5 + 0.4 * min(distance, 0) ** 2 + (50 * max(distance, 0) ** 2) * blows_up


def test_the_suggestion_is_a_tenth_of_where_the_loss_was_lowest():
    told = analyze_range_test(list(curve(best=0.3)))
    assert 0.2 < told.lowest[0] < 0.8  # the smoothed loss lags a little
    assert told.suggested == suggest_rate(told.lowest[0])
    assert told.diverged
    assert len(told.points) < 100  # what follows says nothing


def test_the_loss_is_smoothed_without_a_bias_at_the_start():
    told = analyze_range_test([(0.1, 2.0)] * 20)
    assert [loss for _, loss in told.points] == pytest.approx([2.0] * 20)


def test_a_test_that_has_just_begun_suggests_nothing():
    told = analyze_range_test(list(curve(0.3))[:9])
    assert (told.lowest, told.suggested, told.diverged) == (None, None, False)
    assert analyze_range_test([]).points == []


def test_a_loss_that_never_rises_has_not_diverged():
    told = analyze_range_test(list(curve(best=100.0, blows_up=False)))
    assert not told.diverged
    assert told.suggested == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("rate", "tenth"), [(1.234, 0.12), (0.5, 0.05), (10.0, 1.0), (0.0099, 0.00099)]
)
def test_rates_have_two_digits(rate, tenth):
    assert suggest_rate(rate) == pytest.approx(tenth)
