"""Interleaved measurement of loops, on a fake clock."""

from itertools import count as count_up

from resnet_demo.bench.interleaved import compare_rates, measure_interleaved
from tests.unit.bench.conftest import FakeTime


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
