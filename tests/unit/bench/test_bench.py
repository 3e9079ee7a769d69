"""What `bench` measures with, on fake clocks, and what it measures: whose loops, on what."""

import gc
import multiprocessing
from dataclasses import replace
from itertools import count as count_up
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from resnet_demo.bench import accuracy, roofline
from resnet_demo.bench import text as bench_text
from resnet_demo.bench.interleaved import compare_rates, measure_interleaved
from resnet_demo.bench.loops import (
    ArticleLoop,
    DataLoaderLoop,
    ImageDataset,
    ProductLoop,
    article_transform,
    augmenting_transform,
    begin_training,
)
from resnet_demo.bench.throughput import measure_throughput
from resnet_demo.config import make_config
from resnet_demo.data.preprocess import preprocessing_for
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError
from resnet_demo.models.counts import model_counts
from resnet_demo.training import fit
from resnet_demo.training.probes import StepProbe


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """On tensors this small, threads that wait for a busy core cost fifty times more."""
    torch.set_num_threads(1)


@pytest.fixture
def datasets(colours):
    return Datasets(colours)


def tiny(**knobs):
    base = {"dataset": "colours", "model": "resnet20", "image_size": 8, "batch_size": 30, "crop": 2}
    return make_config({**base, "precision": "float32", "optimizer": "sgd", **knobs})


@pytest.fixture
def own(datasets):
    return begin_training(tiny(), datasets)


class FakeTime:
    """A clock that only loops move; a loop of n seconds a step, 10 images each."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def __call__(self):
        return self.now

    def loop(self, name, *step_seconds):
        each = iter(step_seconds)

        def run(goes_on):
            self.order.append(name)
            took = next(each)
            for done in count_up(10, 10):
                self.now += took
                if not goes_on(done):
                    return done

        return run


# --- taking turns


def test_loops_take_turns_and_the_first_round_does_not_count():
    fake = FakeTime()
    loops = {"a": fake.loop("a", 9.0, 0.5, 0.25), "b": fake.loop("b", 9.0, 1.0, 2.0)}
    rates = measure_interleaved(loops, rounds=2, seconds=4.0, clock=fake)
    assert fake.order == ["a", "b"] * 3
    assert rates == {"a": [20.0, 40.0], "b": [10.0, 5.0]}


def test_the_first_step_of_a_turn_is_not_timed():
    fake = FakeTime()

    def run(goes_on):  # a step of 100 s, then steps of 1 s
        for done in count_up(10, 10):
            fake.now += 100.0 if done == 10 else 1.0
            if not goes_on(done):
                return done

    assert measure_interleaved({"a": run}, 1, 2.0, clock=fake) == {"a": [10.0]}


def test_a_step_longer_than_the_seconds_is_measured_once():
    fake = FakeTime()
    assert measure_interleaved({"a": fake.loop("a", 50.0, 50.0)}, 1, 0.1, clock=fake) == {
        "a": [0.2]
    }
    assert fake.now == 200.0  # two rounds of one step that does not count and one that does


def test_the_device_is_waited_for_before_each_look_at_the_clock():
    fake, pending = FakeTime(), []

    def run(goes_on):  # asks for work; it takes its time only when it is waited for
        for done in (10, 20):
            pending.append(2.0)
            if not goes_on(done):
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


# --- the loops


def steps(loop, n):
    """Lets a loop do n steps; what it says it did, and what it was asked with."""
    asked = []

    def goes_on(images):
        asked.append(images)
        return len(asked) < n

    return loop(goes_on), asked


def test_the_products_loop_is_the_code_of_fit(own, monkeypatch):
    from resnet_demo.training import fit

    seen = []
    real = fit.train_step
    monkeypatch.setattr(fit, "train_step", lambda *told: seen.append(told[0]) or real(*told))
    before = own.model.head.weight.clone()
    assert steps(ProductLoop(own), 3) == (90, [30, 60, 90])
    assert seen == [own] * 3
    assert not torch.equal(own.model.head.weight, before)


def test_the_products_loop_goes_on_over_epochs_and_from_call_to_call(own):
    loop = ProductLoop(own)  # 135 images: four steps of 30 and one of 15
    assert steps(loop, 6) == (165, [30, 60, 90, 120, 135, 165])
    assert (own.epochs_done, own.step) == (1, 6)
    assert steps(loop, 5) == (135, [30, 60, 90, 105, 135])


def test_the_products_loop_outlives_the_last_epoch(own):
    own.config = replace(own.config, epochs=3)  # the rise of one-cycle takes a part of an epoch
    assert steps(ProductLoop(own), 16)[0] == 3 * 135 + 30
    assert own.step == 1


@pytest.mark.parametrize("size", [8, 12, 20])
def test_the_article_prepares_each_image_as_the_product_does_a_batch(datasets, own, size):
    preprocessing = preprocessing_for(datasets.get("colours"), size)
    pictures = ImageDataset(own.batches, article_transform(preprocessing))
    images = torch.stack([pictures[index][0] for index in range(20)])
    expected = preprocessing.prepare(own.batches.train_images[:20])
    level = 1 / 255 / min(preprocessing.std)  # PIL rounds to whole levels
    torch.testing.assert_close(images, expected, atol=level if size != 12 else 1e-5, rtol=0)
    assert [pictures[index][1] for index in range(20)] == own.batches.train_labels[:20].tolist()


def test_the_articles_loop_is_the_tutorials(own, monkeypatch):
    swept = {"gc": 0, "cuda": 0}
    monkeypatch.setattr(gc, "collect", lambda: swept.update(gc=swept["gc"] + 1))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: swept.update(cuda=swept["cuda"] + 1))
    loop = ArticleLoop(own)
    norm = next(m for m in loop.model.modules() if isinstance(m, nn.BatchNorm2d))
    assert steps(loop, 6) == (165, [30, 60, 90, 120, 135, 165])
    assert swept == {"gc": 6, "cuda": 6}
    assert norm.training
    assert norm.num_batches_tracked == 6
    assert loop.loader.num_workers == 0
    (group,) = loop.optimizer.param_groups
    told = group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]
    assert told == (0.01, 0.9, 0.001, False)


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


def test_a_single_image_left_over_is_left_out_as_the_product_does(datasets):
    own = begin_training(tiny(batch_size=67), datasets)  # 135 = 2 × 67 + 1
    for loop in (ProductLoop(own), ArticleLoop(own), DataLoaderLoop(own, 0)):
        assert steps(loop, 3)[0] == 3 * 67


def test_the_usual_loop_moves_and_mirrors_and_normalizes(datasets, own):
    preprocessing = preprocessing_for(datasets.get("colours"), 12)
    pictures = ImageDataset(own.batches, augmenting_transform(preprocessing))
    plain = preprocessing.prepare(own.batches.train_images[:1])[0]
    torch.manual_seed(0)
    drawn = torch.stack([pictures[0][0] for _ in range(400)])
    assert drawn.shape == (400, 3, 12, 12)
    assert drawn.dtype == torch.float32
    same = [x for x in drawn if torch.allclose(x, plain, atol=1e-5)]
    mirrored = [x for x in drawn if torch.allclose(x, plain.flip(2), atol=1e-5)]
    assert 0 < len(same) + len(mirrored) < 40  # 1 in 81 is not moved
    assert len(torch.unique(drawn.flatten(1), dim=0)) > 100


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_the_usual_loops_workers_end_with_its_turn(own):
    loop = DataLoaderLoop(own, 1)
    alive = []
    assert loop(lambda images: bool(alive.append(multiprocessing.active_children()))) == 30
    assert len(alive[0]) == 1
    assert multiprocessing.active_children() == []


# --- throughput


def test_throughput_tells_rates_ratios_and_conditions(datasets):
    result = measure_throughput(tiny(), datasets, seconds=0.01, rounds=1, workers=0)
    assert result["images_per_s"] > 0
    assert result["against"].keys() == result["ratio"].keys() == {"article", "loader"}
    for name, ratio in result["ratio"].items():
        assert ratio == pytest.approx(result["images_per_s"] / result["against"][name])
    told = ("model", "image_size", "batch_size", "precision", "dataset", "rounds", "workers")
    assert [result[name] for name in told] == [
        "resnet20", 8, 30, "float32", "colours", 1, 0,
    ]  # fmt: skip
    table = list(bench_text.throughput_lines(result))
    assert table[0].startswith("resnet20 on colours, 8 pixels, batches of 30, float32, cpu (1")
    assert [line.split("  ")[0] for line in table[2:]] == [
        "this program", "the tutorial's loop", "DataLoader, 0 workers",
    ]  # fmt: skip


def test_throughput_against_one_leaves_the_other_out(datasets):
    result = measure_throughput(tiny(), datasets, ("article",), seconds=0.01, rounds=1)
    assert result["ratio"].keys() == {"article"}
    assert result["workers"] is None


def test_throughput_against_itself_with_probes_looks_into_every_second_step(datasets, monkeypatch):
    looked, steps, step = [], [], fit.train_step
    monkeypatch.setattr(fit, "StepProbe", lambda model: looked.append(model) or StepProbe(model))
    monkeypatch.setattr(fit, "train_step", lambda *args: steps.append(args[-1]) or step(*args))
    result = measure_throughput(tiny(), datasets, ("probed",), seconds=0.01, rounds=1)
    assert result["ratio"].keys() == {"probed"}
    assert looked
    assert len({id(model) for model in looked}) == 1  # of one of the two loops only
    assert len(looked) == sum(look is not None for look in steps) < len(steps)


def test_rates_are_of_full_sized_images_whatever_the_recipe_says(datasets):
    growing = tiny(image_size=16, grow_from=0.5)
    assert begin_training(growing, datasets).batches.image_size_at(0) == 16


def test_throughput_against_itself_compiled_compiles_one_of_the_two(datasets, monkeypatch):
    made = []
    monkeypatch.setattr("torch.compile", lambda model, **how: made.append(model) or model)
    result = measure_throughput(
        tiny(grow_from=0.5), datasets, ("compiled",), seconds=0.01, rounds=1
    )
    assert result["ratio"].keys() == {"compiled"}
    assert len(made) == 1


# --- time to accuracy


@pytest.fixture
def small_reference(monkeypatch):
    monkeypatch.setattr(accuracy, "REFERENCE_BATCH", 4)


def test_accuracy_is_a_row_a_seed_and_a_sum(datasets, small_reference):
    config = tiny(epochs=2, peak_lr=0.02)
    *rows, last = accuracy.measure_accuracy(config, datasets, seeds=2, seconds=0.01)
    assert [row["seed"] for row in rows] == [0, 1]
    for row in rows:
        assert 0 <= row["test_top1"] <= 1
        assert 0 < row["train_seconds"] < row["seconds"]
    times = [row["seconds"] for row in rows]
    assert last["seconds"] == {"median": sum(times) / 2, "min": min(times), "max": max(times)}
    assert last["scale"] == pytest.approx(last["reference_images_per_s"] / 1160)
    assert last["allowance"] == pytest.approx(1 / last["scale"])
    assert last["scaled_seconds"]["max"] == pytest.approx(max(times) * last["scale"])
    assert (last["model"], last["batch_size"], last["image_size"]) == ("resnet20", 30, 8)
    text = "\n".join(line for row in (*rows, last) for line in bench_text.accuracy_lines(row))
    assert text.startswith("seed 0: test top-1 ")
    for name in ("six", "ten"):
        views = last[f"test_top1_of_{name}"]["median"]
        assert f"test top-1, {name} views      {views:.2%} (" in text
    assert "recipe quick, 2 epochs, resnet20 on colours" in text


def test_a_seed_is_trained_by_fit_and_scored_on_the_test_images(datasets, tmp_path):
    from resnet_demo.training.fit import fit

    config = tiny(epochs=2, peak_lr=0.02, seed=3)
    row = accuracy.measure_seed(config, datasets)
    *_, finished = fit(config, datasets)
    assert (row["seed"], row["best_epoch"]) == (3, finished.best_epoch)
    assert row["val_top1"] == finished.best_val_top1


def test_seconds_in_steps_are_those_that_the_images_took(datasets, monkeypatch):
    epoch = accuracy.Epoch(
        step=5, epoch=1, train_loss=1.0, train_top1=0.5, val_loss=1.0, val_top1=0.5, lr=0.1,
        seconds=9.0, images_per_s=27.0,
    )  # fmt: skip
    end = SimpleNamespace(best_epoch=1, best_val_top1=0.5, seconds=18.0)
    monkeypatch.setattr(accuracy, "fit", lambda *_: iter([epoch, epoch, end]))
    top1 = {"flip-and-shift": 0.5, "flip-and-five-shifts": 0.75}
    monkeypatch.setattr(
        accuracy,
        "evaluate_run",
        lambda *_, mode: SimpleNamespace(result={"top1": top1[mode], "beside": {"top1": 0.25}}),
    )
    row = accuracy.measure_seed(tiny(), datasets)
    assert row["train_seconds"] == 2 * 135 / 27
    assert (row["seconds"], row["test_top1"]) == (18.0, 0.25)
    assert (row["test_top1_of_six"], row["test_top1_of_ten"]) == (0.5, 0.75)


def test_the_reference_network_has_its_own_widths_whatever_resnet9_has(datasets, small_reference):
    training = accuracy.reference_training(tiny(), datasets)
    convolutions = [m for m in training.model.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [32, 64, 64, 64, 128, 256, 256, 256]
    trained = [p for group in training.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in trained} == {id(p) for p in training.model.parameters()}
    assert training.precision == "float32"


# --- roofline


def test_the_best_rate_is_of_the_fastest_chunk():
    fake, each = FakeTime(), iter([50.0, 4.0, 1.0, 2.0, 9.0])

    def work():
        fake.now += next(each)

    # the first does not count; then chunks of one call, since each is longer than a look
    assert roofline.best_rate(work, 100.0, seconds=16.0, clock=fake) == 100.0
    assert fake.now == 66.0


def test_short_work_is_repeated_between_two_looks_at_the_clock():
    fake, looks = FakeTime(), []

    def work():
        fake.now += 0.001

    def clock():
        looks.append(fake.now)
        return fake.now

    assert roofline.best_rate(work, 1.0, 0.2, clock=clock) == pytest.approx(1000)
    assert len(looks) < 40


def test_a_convolutions_operations_are_two_for_each_multiply_add():
    work, flop = roofline.convolution(4, 6, 2, torch.device("cpu"), torch.float32)
    assert work().shape == (2, 4, 6, 6)
    layer = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    assert flop == 2 * 2 * layer.weight.numel() * 36
    product, flop = roofline.gemm(8, torch.device("cpu"), torch.float32)
    assert product().shape == (8, 8)
    assert flop == 2 * 8**3


def test_the_roofline_is_the_machine_and_a_share_for_each_network(datasets, monkeypatch):
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


def test_every_network_is_checked_before_anything_is_measured(datasets):
    rows = roofline.measure_roofline([tiny(), tiny(batch_size=136)], datasets, seconds=100)
    with pytest.raises(ConfigError, match="at most the 135 images"):
        next(rows)
