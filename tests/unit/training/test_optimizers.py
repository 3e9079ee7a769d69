"""Optimizers, moving average and learning-rate schedules, compared with torch and by hand."""

from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from resnet_demo.config import make_config
from resnet_demo.training.optimizers import (
    Muon,
    exponential_average,
    learning_rate,
    make_optimizer,
    orthogonalize,
    set_learning_rate,
)

STEPS = 25  # an epoch


def learning_rates(**knobs):
    config = make_config({"epochs": 4, "peak_lr": 0.2, **knobs})
    return [learning_rate(config, step, STEPS) for step in range(4 * STEPS)]


def test_the_constant_schedule_is_constant():
    assert set(learning_rates(schedule="constant")) == {0.2}


def test_the_linear_schedule_falls_by_the_same_amount_each_step():
    got = learning_rates(schedule="linear")
    assert got[0] == 0.2
    assert got[-1] == pytest.approx(0.2 / 100)
    assert all(a - b == pytest.approx(0.002) for a, b in pairwise(got))


def test_the_cosine_schedule_is_torchs_cosine_annealing():
    assert learning_rates(schedule="cosine") == pytest.approx(
        torch_rates(lambda o: CosineAnnealingLR(o, T_max=100))
    )


def test_one_cycle_is_torchs_one_cycle():
    assert learning_rates(schedule="one-cycle") == pytest.approx(
        torch_rates(lambda o: OneCycleLR(o, 0.2, 100, cycle_momentum=False))
    )


def test_one_cycle_peaks_where_the_warm_up_ends():
    got = learning_rates(schedule="one-cycle", warmup_epochs=1)
    assert got.index(max(got)) == STEPS - 1


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_warm_up_rises_to_the_peak_and_the_schedule_starts_there(schedule):
    got = learning_rates(schedule=schedule, warmup_epochs=2)
    rising = got[: 2 * STEPS]
    assert rising == sorted(rising)
    assert 0 < rising[0] < 0.01
    assert rising[-1] < got[2 * STEPS] == 0.2


def test_the_moving_average_is_the_one_computed_by_hand():
    model = nn.BatchNorm1d(1)
    mean, expected = exponential_average(model, 0.25), None
    for n, value in enumerate([8.0, 4.0, 6.0, 2.0, 5.0]):
        nn.init.constant_(model.weight, value)
        model.running_var.fill_(10 * value)
        mean.update_parameters(model)
        decay = min(0.25, (1 + n) / (10 + n))  # 2/11, then 1/4
        expected = value if n == 0 else decay * expected + (1 - decay) * value
        assert mean.module.weight.item() == pytest.approx(expected)
        assert mean.module.running_var.item() == pytest.approx(10 * expected)
    assert model.weight.item() == 5.0


def torch_rates(schedule):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    scheduler, got = schedule(optimizer), []
    for _ in range(100):
        got.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return got


def decayed(model, **knobs):
    """Return the names of the parameters that weight decay moves towards zero."""
    config = make_config({"optimizer": "sgd", "weight_decay": 0.5, "peak_lr": 0.1, **knobs})
    optimizer = make_optimizer(model, config)
    before = {name: p.clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


def small_model():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    return model


def test_weight_decay_spares_biases_and_batch_norm():
    assert decayed(small_model()) == {"0.weight", "2.weight"}


def test_weight_decay_spares_nothing_with_decay_all():
    model = small_model()
    assert decayed(model, decay_all=True) == {name for name, _ in model.named_parameters()}


def test_sgd_with_nesterov_makes_the_update_of_sutskever():
    weight = nn.Parameter(torch.tensor([1.0]))
    model = nn.ParameterList([weight])
    knobs = {"optimizer": "sgd", "peak_lr": 0.1, "momentum": 0.9, "nesterov": True}
    config = make_config({**knobs, "weight_decay": 0.0})
    optimizer = make_optimizer(model, config)
    weight.grad = torch.tensor([2.0])
    optimizer.step()
    assert weight.item() == pytest.approx(1.0 - 0.1 * (2.0 + 0.9 * 2.0))


def test_adamw_takes_its_first_step_by_the_learning_rate_whatever_the_gradient():
    weight = nn.Parameter(torch.tensor([[1.0]]))
    config = make_config({"optimizer": "adamw", "peak_lr": 0.001, "weight_decay": 0.0})
    optimizer = make_optimizer(nn.ParameterList([weight]), config)
    weight.grad = torch.tensor([[123.0]])
    optimizer.step()
    assert weight.item() == pytest.approx(1.0 - 0.001)


def test_muon_moves_convolutions_and_sgd_the_rest_at_half_its_rate():
    model = small_model()
    optimizer = make_optimizer(model, make_config({"optimizer": "muon", "peak_lr": 0.2}))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    set_learning_rate(optimizer, 0.1)
    optimizer.step()
    moved = {name: before[name] - p.detach() for name, p in model.named_parameters()}
    pull = 0.05 * 5e-4 * 1.85  # weight decay, on the linear layer's weight of ones alone
    step = 0.05 * 1.85  # Nesterov's first update with momentum 0.85 is 1.85 times the gradient
    for name in ("0.bias", "1.weight", "1.bias", "2.bias"):
        torch.testing.assert_close(moved[name], torch.full_like(moved[name], step))
    torch.testing.assert_close(moved["2.weight"], torch.full((2, 2), step + pull))
    assert model[0].weight.norm().item() == pytest.approx(2**0.5, abs=0.15)  # see test_muon.py


def test_muon_and_its_sgd_come_back_from_a_checkpoint():
    config = make_config({"optimizer": "muon"})
    model, other = small_model(), small_model()
    one, two = make_optimizer(model, config), make_optimizer(other, config)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    one.step()
    two.load_state_dict(deepcopy(one.state_dict()))
    other.load_state_dict(model.state_dict())
    for parameter in other.parameters():
        parameter.grad = torch.ones_like(parameter)
    one.step()
    two.step()
    torch.testing.assert_close(model.state_dict(), other.state_dict(), rtol=0, atol=0)


# --- Muon


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(8, 27), (32, 32), (64, 16), (1, 9)], ids=str)
def test_an_orthogonalized_matrix_has_singular_values_near_one(shape):
    matrix = random(*shape)
    values = torch.linalg.svdvals(orthogonalize(matrix))
    kept = values[: int((torch.linalg.svdvals(matrix) > 0.02 * matrix.norm()).sum())]
    assert len(kept) > 0
    assert kept.min() > 0.6
    assert kept.max() < 1.3


def test_orthogonalize_points_where_the_singular_vectors_do():
    matrix = random(16, 40)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    nearest = left @ right  # the orthogonal matrix nearest to it
    got = orthogonalize(matrix)
    assert torch.cosine_similarity(got.flatten(), nearest.flatten(), dim=0) > 0.97


def test_orthogonalize_does_not_depend_on_the_size_of_the_gradient():
    matrix = random(8, 12)
    torch.testing.assert_close(orthogonalize(1e4 * matrix), orthogonalize(matrix))


def test_orthogonalize_keeps_a_zero_gradient_zero():
    assert not orthogonalize(torch.zeros(4, 6)).any()


def by_the_definition(matrix):
    """Compute Jordan's rounds as he wrote them, each on the whole matrix."""
    x = matrix / matrix.norm()
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


@pytest.mark.parametrize("shape", [(8, 27), (32, 32), (64, 16), (1, 9), (64, 576)], ids=str)
def test_rounds_on_the_square_equal_rounds_on_the_matrix(shape):
    matrix = random(*shape)
    wide = matrix if shape[0] <= shape[1] else matrix.T
    exact = by_the_definition(wide.double())
    got = orthogonalize(matrix)
    torch.testing.assert_close(
        got if wide is matrix else got.T, exact.float(), atol=1e-5, rtol=1e-4
    )


def test_a_matrix_of_few_directions_keeps_its_weak_ones_weak():
    strong = random(64, 4) @ random(4, 576, seed=1)
    matrix = strong + 1e-4 * random(64, 576, seed=2)
    got, exact = orthogonalize(matrix), by_the_definition(matrix.double())
    values = torch.linalg.svdvals(got)
    assert values[:4].min() > 0.6
    assert values[4:].max() < 0.02
    assert (got - exact).norm() < 1e-3 * exact.norm()


def test_three_muon_updates_are_those_of_the_definition():
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


def test_muon_state_survives_a_checkpoint():
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
