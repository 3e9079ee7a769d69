"""The machine's best rates, and the share that training reaches."""

import pytest
import torch
from torch import nn

from resnet_demo.bench import roofline
from resnet_demo.bench import text as bench_text
from resnet_demo.errors import ConfigError
from resnet_demo.models.counts import model_counts
from tests.unit.bench.conftest import FakeTime, tiny


def test_the_best_rate_is_that_of_the_fastest_chunk():
    fake, each = FakeTime(), iter([50.0, 4.0, 1.0, 2.0, 9.0])

    def work():
        fake.now += next(each)

    # The first call is set-up; then chunks of one call, since each is longer than CHUNK_S.
    assert roofline.best_rate(work, 100.0, seconds=16.0, clock=fake) == 100.0
    assert fake.now == 66.0


def test_short_work_is_repeated_between_two_clock_reads():
    fake, reads = FakeTime(), []

    def work():
        fake.now += 0.001

    def clock():
        reads.append(fake.now)
        return fake.now

    assert roofline.best_rate(work, 1.0, 0.2, clock=clock) == pytest.approx(1000)
    assert len(reads) < 40


def test_flop_are_two_per_multiply_add():
    work, flop = roofline.convolution(4, 6, 2, torch.device("cpu"), torch.float32)
    assert work().shape == (2, 4, 6, 6)
    layer = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    assert flop == 2 * 2 * layer.weight.numel() * 36
    product, flop = roofline.gemm(8, torch.device("cpu"), torch.float32)
    assert product().shape == (8, 8)
    assert flop == 2 * 8**3


def test_roofline_has_the_machine_and_a_share_per_network(datasets, monkeypatch):
    monkeypatch.setattr(roofline, "MATRICES", (16, 32))
    monkeypatch.setattr(roofline, "CONVOLUTIONS", ((4, 8, 2),))
    configs = [tiny(), tiny(model="plain20")]
    machine, *rows = roofline.measure_roofline(configs, datasets, seconds=0.05)
    assert machine["gemm_flop_per_s"] == max(machine["gemm"].values())
    assert [row["model"] for row in rows] == ["resnet20", "plain20"]
    for row in rows:
        macs = model_counts(row["model"], 3, 8).macs
        assert row["flop_per_s"] == pytest.approx(row["images_per_s"] * 3 * 2 * macs)
        assert row["share_of_gemm"] == row["flop_per_s"] / machine["gemm_flop_per_s"]
        assert row["share_of_convolution"] == row["flop_per_s"] / machine["convolution_flop_per_s"]
        assert row["parts"].keys() == {"batch", "network", "update"}
        assert "of a step: batch " in bench_text.roofline_line(row)
    assert "3x3 convolution" in bench_text.roofline_line(machine)


def test_every_config_is_checked_before_the_measurement(datasets):
    rows = roofline.measure_roofline([tiny(), tiny(batch_size=136)], datasets, seconds=100)
    with pytest.raises(ConfigError, match="at most the 135 images"):
        next(rows)
