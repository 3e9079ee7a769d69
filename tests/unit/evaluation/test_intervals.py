"""Confidence intervals, compared with SciPy."""

import pytest
from scipy import stats
from scipy.stats import binomtest

from resnet_demo.evaluation.intervals import T_95, paired_effect, wilson_interval


@pytest.mark.parametrize(
    ("correct", "n"), [(0, 1), (1, 1), (0, 10_000), (10_000, 10_000), (8568, 10_000), (29, 30)]
)
def test_wilson_interval_agrees_with_scipy(correct, n):
    low, high = binomtest(correct, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(correct, n) == pytest.approx((low, high), abs=1e-7)
    assert 0 <= wilson_interval(correct, n)[0] <= correct / n <= wilson_interval(correct, n)[1] <= 1


def test_paired_effect_is_the_interval_of_a_paired_t_test():
    with_it, without = [0.71, 0.74, 0.69, 0.75], [0.66, 0.70, 0.68, 0.69]
    result = paired_effect([a - b for a, b in zip(with_it, without, strict=True)])
    interval = stats.ttest_rel(with_it, without).confidence_interval(0.95)
    assert result.mean == pytest.approx(0.04)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high), abs=1e-5)
    assert result.is_clear == (stats.ttest_rel(with_it, without).pvalue < 0.05)


@pytest.mark.parametrize("degrees", range(1, 10))
def test_the_quantiles_are_those_of_student_s_t(degrees):
    assert T_95[degrees - 1] == pytest.approx(stats.t.ppf(0.975, degrees), abs=5e-5)


def test_one_pair_has_no_interval():
    result = paired_effect([0.1])
    assert (result.n, result.low, result.high, result.is_clear) == (1, None, None, False)


def test_an_effect_is_clear_if_its_interval_excludes_zero():
    assert paired_effect([1.0, 1.0]).is_clear
    assert paired_effect([-1.0, -1.1]).is_clear
    assert not paired_effect([0.0, 0.0]).is_clear
    assert not paired_effect([1.0, -0.9]).is_clear
