"""The training loops that are compared: which code they run, and on which data."""

import gc
import multiprocessing
from dataclasses import replace
from itertools import count as count_up

import pytest
import torch
from torch import nn

from resnet_demo.bench.loops import (
    ArticleLoop,
    DataLoaderLoop,
    ImageDataset,
    ProductLoop,
    article_transform,
    augmenting_transform,
    begin_training,
    compare_rates,
    measure_interleaved,
)
from resnet_demo.data.preprocess import preprocessing_for
from tests.unit.bench.conftest import FakeTime, tiny


def steps(loop, n):
    """Run n steps of a loop; return its result and the calls of `should_continue`."""
    calls = []

    def should_continue(images):
        calls.append(images)
        return len(calls) < n

    return loop(should_continue), calls


def test_the_product_loop_runs_the_code_of_fit(own, monkeypatch):
    from resnet_demo.training import fit

    seen = []
    real = fit.train_step
    monkeypatch.setattr(fit, "train_step", lambda *args: seen.append(args[0]) or real(*args))
    before = own.model.head.weight.clone()
    assert steps(ProductLoop(own), 3) == (90, [30, 60, 90])
    assert seen == [own] * 3
    assert not torch.equal(own.model.head.weight, before)


def test_the_product_loop_continues_over_epochs_and_calls(own):
    loop = ProductLoop(own)  # 135 images: four steps of 30 and one of 15
    assert steps(loop, 6) == (165, [30, 60, 90, 120, 135, 165])
    assert (own.epochs_done, own.step) == (1, 6)
    assert steps(loop, 5) == (135, [30, 60, 90, 105, 135])


def test_the_product_loop_starts_again_after_the_last_epoch(own):
    own.config = replace(own.config, epochs=3)  # one-cycle needs several epochs
    assert steps(ProductLoop(own), 16)[0] == 3 * 135 + 30
    assert own.step == 1


@pytest.mark.parametrize("size", [8, 12, 20])
def test_the_article_transform_agrees_with_the_product_s(datasets, own, size):
    preprocessing = preprocessing_for(datasets.get("colours"), size)
    dataset = ImageDataset(own.batches, article_transform(preprocessing))
    images = torch.stack([dataset[index][0] for index in range(20)])
    expected = preprocessing.prepare(own.batches.train_images[:20])
    level = 1 / 255 / min(preprocessing.std)  # PIL rounds to integers
    torch.testing.assert_close(images, expected, atol=level if size != 12 else 1e-5, rtol=0)
    assert [dataset[index][1] for index in range(20)] == own.batches.train_labels[:20].tolist()


def test_the_article_loop_is_the_tutorial_s(own, monkeypatch):
    calls_of = {"gc": 0, "cuda": 0}
    monkeypatch.setattr(gc, "collect", lambda: calls_of.update(gc=calls_of["gc"] + 1))
    monkeypatch.setattr(
        torch.cuda, "empty_cache", lambda: calls_of.update(cuda=calls_of["cuda"] + 1)
    )
    loop = ArticleLoop(own)
    norm = next(m for m in loop.model.modules() if isinstance(m, nn.BatchNorm2d))
    assert steps(loop, 6) == (165, [30, 60, 90, 120, 135, 165])
    assert calls_of == {"gc": 6, "cuda": 6}
    assert norm.training
    assert norm.num_batches_tracked == 6
    assert loop.loader.num_workers == 0
    (group,) = loop.optimizer.param_groups
    settings = group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]
    assert settings == (0.01, 0.9, 0.001, False)


@pytest.mark.parametrize("make", [ArticleLoop, lambda own: DataLoaderLoop(own, 0)])
def test_the_other_loops_train_the_same_network_in_float32_and_contiguous(datasets, make):
    own = begin_training(tiny(precision="bf16"), datasets)
    loop, seen = make(own), []
    own_weights = own.model.state_dict()
    for name, tensor in loop.model.state_dict().items():
        torch.testing.assert_close(tensor, own_weights[name])
    loop.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    steps(loop, 2)
    weights = loop.model.stem.conv.weight
    assert weights.dtype == torch.float32
    assert weights.is_contiguous()
    assert {(x.dtype, x.is_contiguous(), tuple(x.shape)) for x in seen} == {
        (torch.float32, True, (30, 3, 8, 8))
    }


def test_all_loops_drop_a_last_batch_of_one_image(datasets):
    own = begin_training(tiny(batch_size=67), datasets)  # 135 = 2 × 67 + 1
    for loop in (ProductLoop(own), ArticleLoop(own), DataLoaderLoop(own, 0)):
        assert steps(loop, 3)[0] == 3 * 67


def test_the_dataloader_transform_crops_flips_and_normalizes(datasets, own):
    preprocessing = preprocessing_for(datasets.get("colours"), 12)
    dataset = ImageDataset(own.batches, augmenting_transform(preprocessing))
    plain = preprocessing.prepare(own.batches.train_images[:1])[0]
    torch.manual_seed(0)
    augmented = torch.stack([dataset[0][0] for _ in range(400)])
    assert augmented.shape == (400, 3, 12, 12)
    assert augmented.dtype == torch.float32
    same = [x for x in augmented if torch.allclose(x, plain, atol=1e-5)]
    mirrored = [x for x in augmented if torch.allclose(x, plain.flip(2), atol=1e-5)]
    assert 0 < len(same) + len(mirrored) < 40  # 1 in 81 crops is the image itself
    assert len(torch.unique(augmented.flatten(1), dim=0)) > 100


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_the_dataloader_s_workers_end_with_the_call(own):
    loop = DataLoaderLoop(own, 1)
    alive = []
    assert loop(lambda images: bool(alive.append(multiprocessing.active_children()))) == 30
    assert len(alive[0]) == 1
    assert multiprocessing.active_children() == []


def test_loops_take_turns_and_the_first_round_is_warm_up():
    fake = FakeTime()
    loops = {"a": fake.loop("a", 9.0, 0.5, 0.25), "b": fake.loop("b", 9.0, 1.0, 2.0)}
    rates = measure_interleaved(loops, rounds=2, seconds=4.0, clock=fake)
    assert fake.order == ["a", "b"] * 3
    assert rates == {"a": [20.0, 40.0], "b": [10.0, 5.0]}


def test_the_first_step_of_a_call_is_not_timed():
    fake = FakeTime()

    def run(should_continue):  # a step of 100 s, then steps of 1 s
        for done in count_up(10, 10):
            fake.now += 100.0 if done == 10 else 1.0
            if not should_continue(done):
                return done

    assert measure_interleaved({"a": run}, 1, 2.0, clock=fake) == {"a": [10.0]}


def test_a_step_longer_than_the_time_is_measured_once():
    fake = FakeTime()
    loops = {"a": fake.loop("a", 50.0, 50.0)}
    assert measure_interleaved(loops, 1, 0.1, clock=fake) == {"a": [0.2]}
    assert fake.now == 200.0  # two rounds of two steps, of which one is timed


def test_the_device_is_synchronized_before_the_clock_is_read():
    fake, pending = FakeTime(), []

    def run(should_continue):  # queues work; it takes time only when it is waited for
        for done in (10, 20):
            pending.append(2.0)
            if not should_continue(done):
                break
        return done

    def wait():
        fake.now += sum(pending)
        pending.clear()

    assert measure_interleaved({"a": run}, 1, 0.0, clock=fake, wait=wait) == {"a": [5.0]}


def test_ratios_are_taken_within_each_round():
    result = compare_rates([20.0, 40.0, 30.0], {"article": [10.0, 40.0, 10.0]})
    assert result["images_per_s"] == 30.0
    assert result["against"] == {"article": 10.0}
    assert result["ratio"] == {"article": 2.0}  # of 2, 1 and 3
    assert result["spread"] == {
        "images_per_s": [20.0, 40.0],
        "against": {"article": [10.0, 40.0]},
        "ratio": {"article": [1.0, 3.0]},
    }
