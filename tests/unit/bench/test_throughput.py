"""Throughput of the product against other loops and against itself."""

import pytest

from resnet_demo.bench import text as bench_text
from resnet_demo.bench.loops import begin_training
from resnet_demo.bench.throughput import measure_throughput
from resnet_demo.training import fit
from resnet_demo.training.probes import StepProbe
from tests.unit.bench.conftest import tiny


def test_throughput_has_rates_ratios_and_conditions(datasets):
    result = measure_throughput(tiny(), datasets, seconds=0.01, rounds=1, workers=0)
    assert result["images_per_s"] > 0
    assert result["against"].keys() == result["ratio"].keys() == {"article", "loader"}
    for name, ratio in result["ratio"].items():
        assert ratio == pytest.approx(result["images_per_s"] / result["against"][name])
    conditions = {
        "model": "resnet20",
        "image_size": 8,
        "batch_size": 30,
        "precision": "float32",
        "dataset": "colours",
        "rounds": 1,
        "workers": 0,
    }
    assert result | conditions == result
    table = list(bench_text.throughput_lines(result))
    assert table[0].startswith("resnet20 on colours, 8 pixels, batches of 30, float32, cpu (1")
    names = [line.split("  ")[0] for line in table[2:]]
    assert names == ["this program", "the tutorial's loop", "DataLoader, 0 workers"]


def test_the_probed_variant_probes_every_second_step(datasets, monkeypatch):
    probed, steps, step = [], [], fit.train_step
    monkeypatch.setattr(fit, "StepProbe", lambda model: probed.append(model) or StepProbe(model))
    monkeypatch.setattr(fit, "train_step", lambda *args: steps.append(args[-1]) or step(*args))
    result = measure_throughput(tiny(), datasets, ("probed",), seconds=0.01, rounds=1)
    assert result["ratio"].keys() == {"probed"}
    assert probed
    assert len({id(model) for model in probed}) == 1  # of one of the two loops only
    assert len(probed) == sum(probe is not None for probe in steps) < len(steps)


def test_images_do_not_grow_during_a_measurement(datasets):
    growing = tiny(image_size=16, grow_from=0.5)
    assert begin_training(growing, datasets).batches.image_size_at(0) == 16


def test_the_compiled_variant_compiles_one_of_the_two_networks(datasets, monkeypatch):
    compiled = []
    monkeypatch.setattr("torch.compile", lambda model, **how: compiled.append(model) or model)
    result = measure_throughput(
        tiny(grow_from=0.5), datasets, ("compiled",), seconds=0.01, rounds=1
    )
    assert result["ratio"].keys() == {"compiled"}
    assert len(compiled) == 1
