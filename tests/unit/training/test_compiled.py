"""Compiling the network before the first step, with a stand-in for the compiler."""

import pytest
import torch

from resnet_demo.errors import ConfigError
from resnet_demo.training.compiled import batch_indices_by_size, warm_up
from resnet_demo.training.fit import fit
from resnet_demo.training.state import Training


@pytest.fixture
def begun(tiny, datasets, monkeypatch):
    """Return a training and the calls of the stand-in: the real compiler takes a minute."""
    calls = []

    def compile(model, **options):
        calls.append(options)

        def compiled(x):
            calls.append(tuple(x.shape))
            return model(x)

        return compiled

    monkeypatch.setattr(torch, "compile", compile)
    return Training.begin(tiny(compile=True), datasets, None), calls


def test_each_size_of_batch_is_compiled_before_the_first_step(begun):
    training, calls = begun
    assert [
        len(training.batches.positions(index)) for index in batch_indices_by_size(training)
    ] == [20, 15]
    event = warm_up(training)
    assert calls == [{"dynamic": False}, (20, 3, 12, 12), (15, 3, 12, 12)]
    assert (event.kind, event.step) == ("compiled", 0)
    assert event.seconds > 0


def test_compiling_changes_no_weight_and_no_buffer(begun):
    training, _ = begun
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    warm_up(training)
    for name, value in training.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(weight.grad is None for weight in training.model.parameters())


def test_a_compiled_run_has_the_losses_of_an_uncompiled_one(begun, tiny, datasets):
    _, calls = begun

    def curve(compile):
        events = fit(tiny(compile=compile), datasets)
        return [event.loss for event in events if event.kind == "step"]

    assert curve(True) == curve(False)
    assert (20, 3, 12, 12) in calls


def test_a_failed_compilation_names_the_field(begun, monkeypatch):
    from torch._inductor.exc import InductorError

    training, _ = begun

    def fails(x):
        raise InductorError(RuntimeError("no C++ compiler\nand more"), None)

    training.wrapped = fails
    with pytest.raises(ConfigError, match=r"compile must be false .*no C\+\+ compiler$") as refused:
        warm_up(training)
    assert refused.value.field == "compile"
