import pytest
from scipy import stats
from scipy.stats import binomtest

from resnet_demo.evaluation.intervals import T_95, paired_effect, wilson_interval


@pytest.mark.parametrize(
    ("right", "n"), [(0, 1), (1, 1), (0, 10_000), (10_000, 10_000), (8568, 10_000), (29, 30)]
)
def test_the_interval_is_the_one_that_scipy_computes(right, n):
    low, high = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(right, n) == pytest.approx((low, high), abs=1e-7)
    assert 0 <= wilson_interval(right, n)[0] <= right / n <= wilson_interval(right, n)[1] <= 1


def test_the_interval_is_that_of_a_paired_t_test():
    with_it, without = [0.71, 0.74, 0.69, 0.75], [0.66, 0.70, 0.68, 0.69]
    told = paired_effect([a - b for a, b in zip(with_it, without, strict=True)])
    interval = stats.ttest_rel(with_it, without).confidence_interval(0.95)
    assert told.mean == pytest.approx(0.04)
    assert (told.low, told.high) == pytest.approx((interval.low, interval.high), abs=1e-5)
    assert told.is_clear == (stats.ttest_rel(with_it, without).pvalue < 0.05)


@pytest.mark.parametrize("degrees", range(1, 10))
def test_the_table_is_students(degrees):
    assert T_95[degrees - 1] == pytest.approx(stats.t.ppf(0.975, degrees), abs=5e-5)


def test_one_pair_says_nothing_of_its_luck():
    told = paired_effect([0.1])
    assert (told.n, told.low, told.high, told.is_clear) == (1, None, None, False)


def test_pairs_that_always_differ_alike_are_clear():
    assert paired_effect([1.0, 1.0]).is_clear
    assert paired_effect([-1.0, -1.1]).is_clear
    assert not paired_effect([0.0, 0.0]).is_clear
    assert not paired_effect([1.0, -0.9]).is_clear
