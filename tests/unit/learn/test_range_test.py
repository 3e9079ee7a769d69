"""Analysis of a learning-rate range test."""

import math

import pytest

from resnet_demo.learn.range_test import analyze_range_test, suggest_rate


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
