from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from resnet_demo.config import make_config
from resnet_demo.training.optim import (
    learning_rate,
    make_optimizer,
    running_mean,
    set_learning_rate,
)

STEPS = 25  # an epoch


def rates(**knobs):
    config = make_config({"epochs": 4, "peak_lr": 0.2, **knobs})
    return [learning_rate(config, step, STEPS) for step in range(4 * STEPS)]


def test_the_constant_schedule_never_moves():
    assert set(rates(schedule="constant")) == {0.2}


def test_the_linear_schedule_falls_by_the_same_amount_each_step():
    got = rates(schedule="linear")
    assert got[0] == 0.2
    assert got[-1] == pytest.approx(0.2 / 100)
    assert all(a - b == pytest.approx(0.002) for a, b in pairwise(got))


def test_the_cosine_schedule_is_torchs_cosine_annealing():
    assert rates(schedule="cosine") == pytest.approx(
        torch_rates(lambda o: CosineAnnealingLR(o, T_max=100))
    )


def test_one_cycle_is_torchs_one_cycle():
    assert rates(schedule="one-cycle") == pytest.approx(
        torch_rates(lambda o: OneCycleLR(o, 0.2, 100, cycle_momentum=False))
    )


def test_one_cycle_peaks_where_the_warm_up_ends():
    got = rates(schedule="one-cycle", warmup_epochs=1)
    assert got.index(max(got)) == STEPS - 1


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_warm_up_rises_to_the_peak_and_the_schedule_starts_there(schedule):
    got = rates(schedule=schedule, warmup_epochs=2)
    rising = got[: 2 * STEPS]
    assert rising == sorted(rising)
    assert 0 < rising[0] < 0.01
    assert rising[-1] < got[2 * STEPS] == 0.2


def test_a_running_mean_is_the_one_done_by_hand():
    model = nn.BatchNorm1d(1)
    mean, expected = running_mean(model, 0.25), None
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
    """Names of the parameters that weight decay alone moves towards zero."""
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


def test_weight_decay_spares_nothing_where_the_article_has_it_so():
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
