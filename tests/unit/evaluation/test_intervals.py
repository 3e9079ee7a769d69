import pytest
from scipy.stats import binomtest

from resnet_demo.evaluation.intervals import wilson


@pytest.mark.parametrize(
    ("right", "n"), [(0, 1), (1, 1), (0, 10_000), (10_000, 10_000), (8568, 10_000), (29, 30)]
)
def test_the_interval_is_the_one_that_scipy_computes(right, n):
    low, high = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert wilson(right, n) == pytest.approx((low, high), abs=1e-7)
    assert 0 <= wilson(right, n)[0] <= right / n <= wilson(right, n)[1] <= 1
