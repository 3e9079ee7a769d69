import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binomtest

from resnet_demo.evaluation.compare import compare, mcnemar


@pytest.mark.parametrize(
    ("first", "second"), [(1, 0), (0, 5), (3, 9), (10, 10), (11, 10), (40, 75), (120, 900)]
)
def test_p_is_scipy_s_of_a_fair_coin(first, second):
    expected = binomtest(first, first + second, 0.5).pvalue
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(first, second) == mcnemar(second, first)


def test_p_is_1_where_nothing_divides_the_two():
    assert mcnemar(0, 0) == 1


def test_p_of_very_many_images_is_a_number_too():
    assert mcnemar(0, 5000) == 0  # 2^-4999, less than the least float
    assert 0 < mcnemar(7300, 7700) < 0.01


def test_two_networks_image_by_image():
    labels = torch.tensor([0, 1, 2, 0, 1])
    first = F.one_hot(torch.tensor([0, 1, 2, 1, 0]), 3).float()
    second = F.one_hot(torch.tensor([0, 2, 0, 0, 2]), 3).float()
    result = compare(first, second, labels)
    assert (result.only_first, result.only_second) == ([1, 2], [3])
    assert (result.n, result.difference) == (5, pytest.approx(0.2))
    assert result.p == 1  # one of three coins, or two


def test_a_network_is_no_better_than_itself():
    logits = torch.randn(1, 4, generator=torch.Generator().manual_seed(0))
    result = compare(logits, logits, torch.tensor([2]))
    assert (result.difference, result.only_first, result.only_second, result.p) == (0, [], [], 1)


def test_nan_is_counted_as_one_class():
    labels = torch.arange(70) % 7
    result = compare(F.one_hot(labels).float(), torch.full((70, 7), float("nan")), labels)
    assert result.difference == pytest.approx(6 / 7)
    assert result.p < 1e-15
