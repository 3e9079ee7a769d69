"""Measuring the speed, with a fake clock."""

from dataclasses import replace

import pytest
import torch

from resnet_demo.errors import StoppedError
from resnet_demo.training import speed
from resnet_demo.training.speed import Stopwatch, begin_on_noise, measure_speed, repeat_first_batch
from resnet_demo.training.validate import validate


class FakeTime:
    """A clock that goes on only when work is done, and a device that does it when waited for."""

    def __init__(self):
        self.now, self.pending, self.waits = 0.0, 0.0, 0

    def __call__(self):
        return self.now

    def work(self, *seconds):
        """Return work that takes these durations in turn; the last one repeats."""
        each = iter(seconds)

        def ask():
            self.pending += next(each, seconds[-1])

        return ask

    def wait(self):
        self.waits += 1
        self.now, self.pending = self.now + self.pending, 0.0


@pytest.fixture
def time():
    return FakeTime()


@pytest.fixture
def watch(time):
    return Stopwatch(time, time.wait, lambda: False)


@pytest.fixture
def info(datasets):
    return datasets.get("colours")


@pytest.fixture
def costs(monkeypatch, time):
    """Return a function that sets what an image, an update and a validation image cost."""

    def cost(image, update, val_image):
        real, sgd = speed.train_step, torch.optim.SGD.step
        batches = []

        def step(training, x, labels):
            time.now += image * len(labels)
            batches.append(x.shape)
            return real(training, x, labels)

        def update_step(*args):
            time.now += update
            return sgd(*args)

        def validation(training, should_stop):
            time.now += val_image * len(training.batches.val_labels)
            return validate(training, should_stop)

        monkeypatch.setattr(speed, "train_step", step)
        monkeypatch.setattr(torch.optim.SGD, "step", update_step)
        monkeypatch.setattr(speed, "validate", validation)
        return batches

    return cost


def test_the_lower_quartile_is_returned_without_the_first_call(watch, time):
    assert watch.lower_quartile(time.work(90.0, 3.0, 1.0, 2.0, 50.0), 55.0, 2) == 2.0
    assert time.now == 146.0


def test_the_least_number_of_calls_is_timed_however_long_they_take(watch, time):
    assert watch.lower_quartile(time.work(9.0, 5.0, 7.0, 1.0), 1.0, 2) == 5.0
    assert watch.lower_quartile(time.work(9.0, 5.0, 7.0), 1.0, 1) == 5.0


def test_short_calls_are_timed_in_groups_so_that_the_device_is_seldom_waited_for(watch, time):
    assert watch.lower_quartile(time.work(0.001), 1.0, 2) == pytest.approx(0.001)
    assert time.now == pytest.approx(1.0, abs=0.1)
    assert time.waits < 40


def test_the_time_of_an_image_is_its_share_of_a_step(tiny, info, time, costs):
    batches = costs(image=0.01, update=0.1, val_image=0.004)
    speed_result = measure_speed(tiny(optimizer="sgd"), info, seconds=1.0, clock=time)
    assert speed_result.train == pytest.approx(0.01 + 0.1 / 20)
    assert speed_result.val == pytest.approx(0.004)
    assert "cpu" in speed_result.device
    assert batches[-1] == (20, 3, 12, 12)
    assert time.now < 3.5


def test_a_slow_batch_is_cut_and_gives_the_same_result(tiny, info, time, costs):
    batches = costs(image=0.05, update=0.1, val_image=0.02)
    config = tiny(optimizer="sgd", batch_size=4000)
    speed_result = measure_speed(config, replace(info, train=5000), seconds=1.0, clock=time)
    assert speed_result.train == pytest.approx(0.05 + 0.1 / 4000)
    assert speed_result.val == pytest.approx(0.02)
    assert {len(batch) for batch in batches} == {4}
    assert max(batch[0] for batch in batches) * 0.05 <= speed.STEP_S


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"batch_size": 1, "batch_norm": False},
        {"dataset": "cifar10", "validate_in_training_mode": True},
        {"model": "resnet20", "image_size": 16, "cutout": 8, "crop": 0, "val_share": 0.01},
    ],
    ids=str,
)
def test_any_config_that_can_be_trained_can_be_measured(knobs, tiny, info):
    speed_result = measure_speed(tiny(**knobs), info, seconds=0.02)
    assert 0 < speed_result.train < 10
    assert 0 < speed_result.val < 10


def test_a_network_learns_nothing_from_noise(tiny, info):
    training = begin_on_noise(tiny(peak_lr=10.0, optimizer="sgd"), info, 20, 20)
    before = [weights.clone() for weights in training.model.parameters()]
    step = repeat_first_batch(training)
    for _ in range(3):
        step()
    torch.testing.assert_close(list(training.model.parameters()), before, rtol=1e-5, atol=1e-6)
    assert training.tally.seen == 60


def test_a_measurement_stops_before_its_next_step(tiny, info, costs):
    batches = costs(image=0.0, update=0.0, val_image=0.0)
    for allowed in (0, 1, 4):
        batches.clear()
        answers = iter([False] * allowed)
        with pytest.raises(StoppedError):
            measure_speed(tiny(), info, lambda answers=answers: next(answers, True))
        assert len(batches) <= 1 + allowed


def test_full_sized_images_are_measured(tiny, info):
    assert (
        begin_on_noise(tiny(image_size=16, grow_from=0.5), info, 8, 8).batches.image_size_at(0)
        == 16
    )
