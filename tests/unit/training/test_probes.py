"""Probes measure gradients and activations, and change nothing."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resnet_demo.errors import ConfigError
from resnet_demo.events import Probe, Probing, Resumed, from_line, to_dict, to_line
from resnet_demo.models.zoo import build_model
from resnet_demo.training.fit import fit, train_step
from resnet_demo.training.probes import StepProbe, is_probed, probed_layers, round_digits
from resnet_demo.training.state import Training


def events_of(events, kind):
    return [event for event in events if isinstance(event, kind)]


def test_probed_layers_are_the_trained_ones_in_order():
    names = list(probed_layers(build_model("resnet20")))
    assert len(names) == 20  # what its name counts
    assert names[0], names[-1] == ("stem.conv", "head")
    assert "stem" not in probed_layers(build_model("resnet9"))  # its weights come from the images
    assert not [name for name in probed_layers(build_model("resnet18")) if "shortcut" in name]


@pytest.mark.parametrize("knobs", [{"optimizer": "sgd", "weight_decay": 0.0}, {}])
def test_measurements_are_those_computed_by_hand(datasets, tiny, knobs):
    """Read the gradients before the update, which changes them in place with Nesterov momentum."""
    training = Training.begin(tiny(model="resnet8", **knobs), datasets, None)
    model, plan = training.model, training.batches.plan(1)
    x, labels = training.batches.train_batch(plan, 0)
    twin = Training.begin(training.config, datasets, None).model.train()
    outputs = {}
    for name, layer in probed_layers(twin).items():
        layer.register_forward_hook(lambda _, __, y, name=name: outputs.update({name: y.detach()}))
    F.cross_entropy(twin(x), labels, label_smoothing=training.config.label_smoothing).backward()

    model.train()
    probe = StepProbe(model)
    train_step(training, x, labels, probe=probe)
    seen = probe.event(training)
    by_hand = [layer.weight.grad.norm().item() for layer in probed_layers(twin).values()]
    scales = [outputs[name].square().mean().sqrt().item() for name in probed_layers(twin)]
    assert seen.gradients == pytest.approx(by_hand, rel=1e-3)
    assert seen.activations == pytest.approx(scales, rel=1e-3)


def test_probing_changes_nothing_and_leaves_no_hook(datasets, tiny):
    plain, probed = tiny(epochs=2), tiny(epochs=2, probe_every=3)
    seen = list(fit(probed, datasets))
    assert curve(seen) == curve(fit(plain, datasets))
    assert not events_of(fit(plain, datasets), Probe)
    model = nn.Sequential(nn.Conv2d(3, 2, 1))
    with StepProbe(model).forward_hooks():
        pass
    assert not model[0]._forward_hooks


def test_probes_come_at_fixed_steps_with_a_number_per_layer(datasets, tiny):
    events = list(fit(tiny(epochs=2, probe_every=5), datasets))
    (names,) = events_of(events, Probing)
    probes = events_of(events, Probe)
    assert [probe.step for probe in probes] == [1, 5, 10]
    for probe in probes:
        assert len(probe.gradients) == len(probe.activations) == len(names.layers)
        assert all(number > 0 for number in [*probe.gradients, *probe.activations])
    assert events.index(names) == 1  # right after the opening


def test_a_resumed_run_repeats_its_probes_to_the_digit(datasets, tiny, tmp_path):
    config = tiny(epochs=2, probe_every=2)
    whole = events_of(fit(config, datasets), Probe)
    first = []
    for event in fit(config, datasets, tmp_path, lambda: len(events_of(first, Probe)) >= 4):
        first.append(event)
    rest = list(fit(config, datasets, tmp_path))
    assert events_of(rest, Resumed)
    parts = {probe.step: probe for probe in [*events_of(first, Probe), *events_of(rest, Probe)]}
    assert [numbers(parts[probe.step]) for probe in whole] == [numbers(probe) for probe in whole]


@pytest.mark.parametrize(("step", "every", "seen"), [(1, 0, 0), (1, 9, 1), (8, 9, 0), (18, 9, 1)])
def test_which_steps_are_probed(step, every, seen):
    assert is_probed(step, every) == bool(seen)


def test_nan_and_infinity_become_null():
    assert [round_digits(value) for value in (math.nan, math.inf, 0.123456)] == [None, None, 0.1235]
    probe = Probe(step=1, epoch=1, gradients=[1.5, None], activations=[0.0, 2e-9])
    line = to_line(probe)
    assert from_line(line) == probe
    assert json.loads(line) == to_dict(probe)


def test_a_compiled_network_cannot_be_probed(tiny):
    with pytest.raises(ConfigError, match="probe_every must be 0 when compile is on, got 5"):
        tiny(compile=True, probe_every=5)


def curve(events):
    kept = {"step": ("step", "loss", "top1", "lr"), "epoch": ("epoch", "train_loss", "val_loss")}
    dicts = (to_dict(event) for event in events)
    return [[row[name] for name in kept[row["event"]]] for row in dicts if row["event"] in kept]


def numbers(probe):
    return probe.gradients, probe.activations


def test_no_gradient_is_kept_beyond_the_step(datasets, tiny):
    training = Training.begin(tiny(), datasets, None)
    x, labels = training.batches.train_batch(training.batches.plan(1), 0)
    probe = StepProbe(training.model.train())
    train_step(training, x, labels, probe=probe)
    assert not any(length.requires_grad for length in probe.gradient_norms)
    assert all(
        torch.is_tensor(scale) and scale.ndim == 0 for scale in probe.activation_rms.values()
    )
