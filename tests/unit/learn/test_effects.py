import pytest
from scipy import stats

from resnet_demo.learn.effects import T95, effect


def test_the_interval_is_that_of_a_paired_t_test():
    with_it, without = [0.71, 0.74, 0.69, 0.75], [0.66, 0.70, 0.68, 0.69]
    told = effect([a - b for a, b in zip(with_it, without, strict=True)])
    interval = stats.ttest_rel(with_it, without).confidence_interval(0.95)
    assert told.mean == pytest.approx(0.04)
    assert (told.low, told.high) == pytest.approx((interval.low, interval.high), abs=1e-5)
    assert told.is_clear == (stats.ttest_rel(with_it, without).pvalue < 0.05)


@pytest.mark.parametrize("degrees", range(1, 10))
def test_the_table_is_students(degrees):
    assert T95[degrees - 1] == pytest.approx(stats.t.ppf(0.975, degrees), abs=5e-5)


def test_one_pair_says_nothing_of_its_luck():
    told = effect([0.1])
    assert (told.n, told.low, told.high, told.is_clear) == (1, None, None, False)


def test_pairs_that_always_differ_alike_are_clear():
    assert effect([1.0, 1.0]).is_clear
    assert effect([-1.0, -1.1]).is_clear
    assert not effect([0.0, 0.0]).is_clear
    assert not effect([1.0, -0.9]).is_clear
