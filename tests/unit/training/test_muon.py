from copy import deepcopy

import pytest
import torch
from torch import nn

from resnet_demo.training.muon import Muon, orthogonalized


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(8, 27), (32, 32), (64, 16), (1, 9)], ids=str)
def test_an_orthogonalized_matrix_has_singular_values_near_one(shape):
    matrix = random(*shape)
    values = torch.linalg.svdvals(orthogonalized(matrix))
    kept = values[: int((torch.linalg.svdvals(matrix) > 0.02 * matrix.norm()).sum())]
    assert len(kept) > 0
    assert kept.min() > 0.6
    assert kept.max() < 1.3


def test_it_points_where_the_singular_vectors_do():
    matrix = random(16, 40)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    nearest = left @ right  # the orthogonal matrix nearest to it
    got = orthogonalized(matrix)
    assert torch.cosine_similarity(got.flatten(), nearest.flatten(), dim=0) > 0.97


def test_it_does_not_depend_on_the_size_of_the_gradient():
    matrix = random(8, 12)
    torch.testing.assert_close(orthogonalized(1e4 * matrix), orthogonalized(matrix))


def test_a_gradient_of_nothing_moves_nothing():
    assert not orthogonalized(torch.zeros(4, 6)).any()


def by_the_definition(matrix):
    """Jordan's rounds as he wrote them, each on the whole matrix."""
    x = matrix / matrix.norm()
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


@pytest.mark.parametrize("shape", [(8, 27), (32, 32), (64, 16), (1, 9), (64, 576)], ids=str)
def test_rounds_on_the_square_give_what_rounds_on_the_matrix_give(shape):
    matrix = random(*shape)
    wide = matrix if shape[0] <= shape[1] else matrix.T
    exact = by_the_definition(wide.double())
    got = orthogonalized(matrix)
    torch.testing.assert_close(
        got if wide is matrix else got.T, exact.float(), atol=1e-5, rtol=1e-4
    )


def test_a_matrix_of_few_directions_keeps_its_weak_ones_weak():
    strong = random(64, 4) @ random(4, 576, seed=1)
    matrix = strong + 1e-4 * random(64, 576, seed=2)
    got, exact = orthogonalized(matrix), by_the_definition(matrix.double())
    values = torch.linalg.svdvals(got)
    assert values[:4].min() > 0.6
    assert values[4:].max() < 0.02
    assert (got - exact).norm() < 1e-3 * exact.norm()


def test_three_updates_are_those_of_the_definition():
    weight = nn.Parameter(random(6, 4, 3, 3))
    by_hand, momentum, lr = weight.detach().clone(), torch.zeros(6, 4, 3, 3), 0.1
    optimizer = Muon([weight], lr=lr, momentum=0.6)
    for step in range(3):
        grad = random(6, 4, 3, 3, seed=step + 1)
        weight.grad = grad.clone()
        optimizer.step()
        momentum = 0.6 * momentum + grad
        matrix = (grad + 0.6 * momentum).reshape(6, 36)
        direction = by_the_definition(matrix).reshape(6, 4, 3, 3)
        by_hand = by_hand * 6**0.5 / by_hand.norm() - lr * direction
        torch.testing.assert_close(weight.detach(), by_hand)


def test_what_it_keeps_goes_through_a_checkpoint():
    weights = [nn.Parameter(random(6, 4, 3, 3)) for _ in range(2)]
    one, other = (Muon([weight], lr=0.1) for weight in weights)
    weights[0].grad = random(6, 4, 3, 3, seed=1)
    one.step()
    other.load_state_dict(deepcopy(one.state_dict()))
    weights[1].data.copy_(weights[0].data)
    for weight, optimizer in zip(weights, (one, other), strict=True):
        weight.grad = random(6, 4, 3, 3, seed=2)
        optimizer.step()
    torch.testing.assert_close(*weights, rtol=0, atol=0)
