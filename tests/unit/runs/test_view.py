"""The state of a run, folded from its log."""

import json
import random
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from resnet_demo.events import (
    Epoch,
    Failed,
    Finished,
    Head,
    Resumed,
    Started,
    Step,
    Stopped,
    to_line,
)
from resnet_demo.runs.log import CHUNK, EventLog
from resnet_demo.runs.view import MAX_STEPS, RunView, thin_points

OPENING = {
    "device": "cpu",
    "precision": "float32",
    "threads": 2,
    "parameters": 1,
    "macs": 1,
    "steps_per_epoch": 4,
    "epochs": 3,
    "version": "0",
}


@pytest.fixture
def view(tmp_path):
    return RunView(EventLog(tmp_path / "events.jsonl"))


def started(clock=100.0):
    return Started(step=0, epoch=1, time=0.0, clock=clock, **OPENING)


def resumed(at, clock=100.0, seconds=0.0):
    return Resumed(step=at, epoch=at // 4 + 1, time=0.0, clock=clock, seconds=seconds, **OPENING)


def step(number, loss=1.0, rate=10.0):
    epoch = (number - 1) // 4 + 1
    return Step(
        step=number,
        epoch=epoch,
        time=float(number),
        clock=100.0 + number,
        loss=loss,
        top1=0.5,
        lr=0.1,
        images_per_s=rate,
    )


def epoch(number, val_top1=0.5, seconds=4.0, loss=1.0):
    return Epoch(
        step=4 * number,
        epoch=number,
        time=4.0 * number,
        clock=100.0 + 4 * number,
        train_loss=loss,
        train_top1=0.5,
        val_loss=1.0,
        val_top1=val_top1,
        lr=0.1,
        seconds=seconds,
        images_per_s=10.0,
    )


def ended(kind, at, seconds=9.0):
    return kind(
        step=at, epoch=1, time=99.0, best_epoch=1, best_val_top1=0.5, seconds=seconds, message=""
    )


def after(view, *events):
    """Append events to the view's log and return the refreshed view."""
    for event in events:
        view.log.append(event)
    view.refresh()
    return view


def test_an_empty_log_gives_an_empty_view(view):
    assert view.refresh() is False
    assert (view.step, view.total_steps, view.best, view.history()) == (0, 0, None, [])
    assert (view.images_per_s(), view.seconds_left(), view.seconds_so_far()) == (None, None, 0.0)


def test_a_view_has_steps_epochs_start_and_end(view):
    steps = [step(n) for n in range(1, 5)]
    after(view, started(), *steps, epoch(1), ended(Finished, 4))
    assert view.started == started()
    assert view.steps == steps
    assert view.epochs == [epoch(1)]
    assert view.ended == ended(Finished, 4)
    assert (view.step, view.total_steps) == (4, 12)


def test_a_refresh_reads_only_new_lines_and_returns_whether_there_were_any(view):
    after(view, started(), step(1))
    assert view.refresh() is False
    view.log.append(step(2))
    assert view.refresh() is True
    assert [s.step for s in view.steps] == [1, 2]


def test_after_a_resume_repeated_steps_and_epochs_replace_older_ones(view):
    before = [*(step(n, loss=1) for n in range(1, 5)), epoch(1)]
    lost = [*(step(n, loss=2) for n in range(5, 9)), epoch(2, loss=2), step(9, loss=2)]
    again = [*(step(n, loss=3) for n in range(5, 9)), epoch(2, loss=3)]
    after(view, started(), *before, *lost, resumed(4))
    assert [s.step for s in view.steps] == [1, 2, 3, 4]
    assert [e.epoch for e in view.epochs] == [1]
    assert view.step == 4
    after(view, *again)
    assert [(s.step, s.loss) for s in view.steps] == [(n, 1 if n < 5 else 3) for n in range(1, 9)]
    assert [(row["epoch"], row["train_loss"]) for row in view.history()] == [(1, 1), (2, 3)]


def test_an_epoch_that_is_validated_again_from_the_same_step_counts_once(view):
    after(view, started(), step(4), epoch(1, loss=1), resumed(4), epoch(1, loss=2))
    assert [(row["epoch"], row["train_loss"]) for row in view.history()] == [(1, 2)]


def test_a_resumed_run_has_not_ended(view):
    after(view, started(), step(1), ended(Stopped, 1))
    assert view.ended
    after(view, resumed(1))
    assert view.ended is None
    assert view.steps == [step(1)]


def test_many_refreshes_give_the_same_view_as_one(view):
    events = [
        *(started(), step(1), step(2), step(3), step(4), epoch(1), step(5), step(6)),
        *(ended(Failed, 6), resumed(4), step(5), step(6), step(7), step(8), epoch(2)),
    ]
    often = RunView(view.log)
    rng = random.Random(0)
    for event in events:
        view.log.append(event)
        if rng.random() < 0.5:
            often.refresh()
    often.refresh()
    view.refresh()
    assert often == view


def test_a_torn_line_is_folded_once_it_is_complete(view):
    line = to_line(step(1))
    view.log.path.write_text(line[:20])
    view.refresh()
    with open(view.log.path, "a") as file:
        file.write(line[20:])
    view.refresh()
    view.refresh()
    assert view.steps == [step(1)]


def test_the_best_epoch_is_the_first_of_the_highest_validation_top1(view):
    after(view, started(), epoch(1, 0.4), epoch(2, 0.6), epoch(3, 0.6))
    assert view.best.epoch == 2


def test_with_keep_last_the_best_epoch_is_the_last(view):
    last = replace(started(), keep="last")
    assert after(view, last).best is None
    assert after(view, epoch(1, 0.6)).best.epoch == 1
    assert after(view, epoch(2, 0.4)).best.epoch == 2
    assert after(view, replace(resumed(8), keep="last"), epoch(3, 0.5)).best.epoch == 3


def test_with_keep_last_or_head_the_head_is_kept_until_the_end_says_otherwise(view):
    opening = {"keep": "last-or-head"}
    fitted = Head(
        step=0,
        epoch=1,
        weight_decay=0.1,
        folds=0,
        val_loss=0.5,
        val_top1=0.75,
        curve=[[10, 6, 12], [20, 9, 12]],
        seconds=1.0,
        train_loss=0.25,
        train_top1=1.0,
    )
    assert after(view, replace(started(), **opening), fitted, epoch(1, 0.9)).best.epoch == 0
    best = view.best
    assert (best.val_top1, best.val_images, best.train_loss) == (0.75, 12, 0.25)
    last = replace(ended(Finished, 8), best_epoch=0)
    assert after(view, epoch(2, 0.8), last).best == best
    assert after(view, replace(last, best_epoch=2)).best.epoch == 2
    assert after(view, replace(resumed(8), **opening)).best == best


def test_time_left_includes_validation_once_an_epoch_is_done(view):
    after(view, started(), *(step(n) for n in range(1, 5)), epoch(1, seconds=8.0), step(5), step(6))
    assert view.seconds_left() == (12 - 6) * 2.0


def test_time_left_in_the_first_epoch_comes_from_the_steps(view):
    after(view, started(), step(1))
    assert view.seconds_left() is None  # one step is no rate
    after(view, step(2), step(3))
    assert view.seconds_left() == 9.0  # a step took a second, nine are left


def test_time_left_of_growing_images_counts_their_pixels(view):
    growing = replace(started(), sides=[16, 32])  # 12 steps, the first 7.2 on a quarter
    after(view, growing, *(step(n) for n in range(1, 4)))
    assert view.seconds_left() == pytest.approx(4.2 + 4 * 4.8)  # a small one takes a second
    after(view, step(4), epoch(1, seconds=8.0), step(5))
    assert view.seconds_left() == pytest.approx(2 * (2.2 + 4 * 4.8))


def test_a_contradictory_log_has_no_time_left_and_no_image_size(view):
    contradictory = replace(started(), sides=[16, 32], steps_per_epoch=0)
    after(view, contradictory, step(1), step(2))
    assert (view.seconds_left(), view.image_size) == (None, None)
    after(view, replace(started(), sides=[16, 32]), replace(epoch(1), step=99), step(100))
    assert (view.seconds_left(), view.image_size) == (None, 32)


def test_an_ended_run_has_no_time_left(view):
    after(view, started(), step(1), step(2), ended(Finished, 2, seconds=7.5))
    assert view.seconds_left() is None
    assert view.seconds_so_far() == view.total_seconds() == 7.5


def test_time_between_two_sessions_does_not_count(view):
    after(view, started(), epoch(1, seconds=4.0), resumed(5, 1000.0, seconds=4.5))
    assert view.seconds_so_far(until=replace(step(6), clock=1003.0)) == 4.5 + 3.0


def test_the_rate_is_the_median_of_recent_steps(view):
    rates = [1, 1, 1, 5, 6, 7, 8, 9, 1000, 5, 5, 5]
    after(view, started(), *(step(n + 1, rate=rate) for n, rate in enumerate(rates)))
    assert view.images_per_s() == 6


@pytest.mark.parametrize("limit", [4, 5, 60, 61, 600])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 61, 601, 6000])
def test_a_thinned_curve_keeps_ends_and_extremes_within_the_limit(count, limit):
    rng = random.Random(count)
    values = [(float(x), rng.random()) for x in range(count)]
    if count > 10:  # spikes of a single point
        values[count // 3] = (float(count // 3), 100.0)
        values[count // 2] = (float(count // 2), -100.0)
    kept = thin_points(values, limit)
    assert len(kept) <= max(limit, 0)
    assert kept == sorted(set(kept) & set(values))
    if count <= limit:
        assert kept == values
    elif limit >= 6:
        assert {values[0], values[-1], min(values, key=y), max(values, key=y)} <= set(kept)
    else:
        assert {values[0], values[-1]} <= set(kept)


def test_a_thinned_curve_has_the_extremes_of_every_bin():
    values = [(float(x), float(x % 100)) for x in range(10_000)]
    kept = thin_points(values, 202)
    for start in range(100, 9_900, 100):  # a hundred bins of one sawtooth each
        bin_points = [p for p in kept if start - 1 <= p[0] <= start + 100]
        assert min(map(y, bin_points)) <= 1
        assert max(map(y, bin_points)) >= 98


def y(point):
    return point[1]


LINE = (
    '{{"event": "step", "step": {n}, "epoch": 1, "time": {n}.0, "clock": {n}.5, "loss": {loss}, '
    '"top1": {top1}, "lr": 0.1, "images_per_s": 9.0}}\n'
)
LONG = pytest.param(1_000_000, marks=pytest.mark.soak)


def write_log(path, count, losses=None):
    """Write a log of `count` steps, top-1 alternating. losses: of some steps, by number."""
    losses = losses or {}
    with open(path, "w") as file:
        file.write(to_line(started()))
        file.writelines(
            LINE.format(n=n, loss=losses.get(n, 1.0 + n % 7 / 10), top1=float(n % 2))
            for n in range(1, count + 1)
        )


@pytest.mark.parametrize("count", [50_000, LONG])
def test_a_long_log_keeps_few_steps_and_every_extreme(view, count):
    rng = random.Random(0)
    spikes = {rng.randrange(100, count - 100): float(9 + k) for k in range(50)}
    write_log(view.log.path, count, spikes | {count // 2: 0.001})
    view.refresh()
    kept = {step.step: step.loss for step in view.steps}
    assert 1000 < len(kept) <= MAX_STEPS
    assert list(kept) == sorted(kept)
    assert {1, *range(count - 60, count + 1)} <= kept.keys()  # the first, and the last ones whole
    highest, lowest = max(spikes, key=spikes.get), count // 2
    assert (kept[highest], kept[lowest]) == (spikes[highest], 0.001)
    assert (view.step, view.offset) == (count, view.log.path.stat().st_size)


def test_every_bin_of_a_long_log_keeps_its_extremes(view):
    count = 60_000
    losses = {n: 1.0 + abs(n % 200 - 100) / 100 for n in range(1, count + 1)}  # 1 to 2 and back
    write_log(view.log.path, count, losses)
    view.refresh()
    assert all(step.loss == losses[step.step] for step in view.steps)
    for start in range(0, count - 1000, 1000):
        inside = [step.loss for step in view.steps if start < step.step <= start + 1000]
        assert (min(inside), max(inside)) == (1.0, 2.0)
    assert {step.top1 for step in view.steps[1:500]} == {0.5}  # the mean of a bin


def test_a_short_log_keeps_every_step(view):
    write_log(view.log.path, MAX_STEPS)
    view.refresh()
    assert [step.step for step in view.steps] == list(range(1, MAX_STEPS + 1))
    assert {step.top1 for step in view.steps} == {0.0, 1.0}


def test_many_refreshes_of_a_long_log_give_the_same_view_as_one(view):
    often, whole = RunView(view.log), view.log.path.with_name("whole")
    write_log(whole, 20_000)
    lines = whole.read_text().splitlines(keepends=True)
    for start in range(0, len(lines), 777):
        with open(view.log.path, "a") as file:
            file.writelines(lines[start : start + 777])
        often.refresh()
    view.refresh()
    assert often == view


def test_a_resume_in_a_long_log_replaces_the_steps_after_it(view):
    write_log(view.log.path, 30_000)
    with open(view.log.path, "a") as file:
        file.write(to_line(resumed(20_000)))
        file.writelines(LINE.format(n=n, loss=5.0, top1=1.0) for n in range(20_001, 40_001))
    view.refresh()
    assert {step.loss == 5.0 for step in view.steps if step.step > 20_000} == {True}
    assert {step.loss < 5.0 for step in view.steps if step.step <= 20_000} == {True}
    numbers = [step.step for step in view.steps]
    assert numbers == sorted(set(numbers))
    assert len(numbers) <= MAX_STEPS
    assert view.step == 40_000


def test_a_log_is_read_in_chunks_and_only_new_lines_again(view, monkeypatch):
    write_log(view.log.path, 20_000)
    read, pieces = EventLog.read, []

    def recording_read(log, offset=0, limit=None):
        events, end = read(log, offset, limit)
        pieces.append((offset, end - offset))
        return events, end

    monkeypatch.setattr(EventLog, "read", recording_read)
    assert view.refresh()
    assert len(pieces) > 5
    assert max(size for _, size in pieces) <= CHUNK
    pieces.clear()
    size = view.offset
    view.log.append(step(20_001))
    assert view.refresh()
    assert [offset for offset, _ in pieces] == [size, view.offset]
    assert not view.refresh()


def test_ten_thousand_epochs_are_folded_in_order(view):
    after(view, started())
    for number in [*range(1, 10_001), 5_000]:
        view.fold(epoch(number, loss=float(number)))
    assert [e.epoch for e in view.epochs] == list(range(1, 5_001))


MEMORY = """
import resource, sys
from pathlib import Path
from resnet_demo.runs.log import EventLog
from resnet_demo.runs.view import RunView
RunView(EventLog(Path(sys.argv[1]))).refresh()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.soak
def test_memory_does_not_grow_with_the_log(tmp_path):
    megabytes = []
    for count in (100_000, 1_000_000):
        write_log(tmp_path / "log", count)
        command = [sys.executable, "-c", MEMORY, tmp_path / "log"]
        megabytes.append(int(subprocess.check_output(command)))
    assert megabytes[1] < megabytes[0] + 10


CLOCK_JUMPS = {"an hour back": -3600.0, "a day forward": 86_400.0}


@pytest.mark.parametrize("jump", CLOCK_JUMPS.values(), ids=CLOCK_JUMPS)
@pytest.mark.parametrize("moment", range(1, 8))
def test_setting_the_wall_clock_changes_no_duration(view, jump, moment, monkeypatch):
    events = [started(), *(step(n) for n in range(1, 5)), epoch(1, seconds=4.0), step(5), step(6)]
    moved = [
        replace(event, time=event.time + (jump if n >= moment else 0.0))
        for n, event in enumerate(events)
    ]
    plain = RunView(EventLog(view.log.path.with_name("plain")))
    after(view, *moved)
    after(plain, *events)
    monkeypatch.setattr(time, "time", lambda: 1e9 + jump)
    monkeypatch.setattr(time, "monotonic", lambda: 107.5)
    for seen in (view, plain):
        assert seen.seconds_so_far() == 4.0 + 3.5
        assert seen.total_seconds() == 4.0 + 2.0
        assert seen.seconds_left() == 6.0
        assert set(seen.step_durations()) == {1.0}


@pytest.mark.parametrize("jump", CLOCK_JUMPS.values(), ids=CLOCK_JUMPS)
def test_time_left_before_the_first_epoch_uses_the_steady_clock(view, jump):
    after(view, started(), step(1), replace(step(2), time=jump), replace(step(3), time=jump))
    assert view.seconds_left() == 9.0


def test_an_old_log_without_a_steady_clock_has_no_negative_duration(view):
    def old(event):
        values = json.loads(to_line(event))
        del values["clock"]
        return json.dumps(values) + "\n"

    lines = [started(), step(1), step(2), replace(step(3), time=-3600.0)]
    view.log.path.write_text("".join(map(old, lines)))
    view.refresh()
    assert {event.clock for event in view.steps} == {0.0}
    assert view.step_durations() == [1.0, 0.0]
    assert (view.total_seconds(), view.seconds_left()) == (0.0, 0.0)


def test_the_pause_before_a_resume_is_no_step_duration(view):
    after(view, started(), step(1), step(2))
    again = [replace(step(n), clock=90_000.0 + n) for n in (3, 4)]
    after(view, resumed(2, clock=90_000.0), *again)
    assert view.step_durations() == [1.0]
    assert view.seconds_left() == 8.0
