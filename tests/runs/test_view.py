import random

import pytest

from resnet_demo.events import Epoch, Failed, Finished, Resumed, Started, Step, Stopped, to_line
from resnet_demo.runs.log import EventLog
from resnet_demo.runs.view import RunView, thinned

OPENING = {
    **{"device": "cpu", "precision": "float32", "threads": 2, "parameters": 1, "macs": 1},
    **{"steps_per_epoch": 4, "epochs": 3, "version": "0"},
}


@pytest.fixture
def view(tmp_path):
    return RunView(EventLog(tmp_path / "events.jsonl"))


def started(time=0.0):
    return Started(step=0, epoch=1, time=time, **OPENING)


def resumed(at, time=0.0, seconds=0.0):
    return Resumed(step=at, epoch=at // 4 + 1, time=time, seconds=seconds, **OPENING)


def step(number, loss=1.0, rate=10.0):
    epoch = (number - 1) // 4 + 1
    return Step(
        step=number, epoch=epoch, time=float(number), loss=loss, top1=0.5, lr=0.1,
        images_per_s=rate,
    )  # fmt: skip


def epoch(number, val_top1=0.5, seconds=4.0, loss=1.0):
    return Epoch(
        step=4 * number, epoch=number, time=4.0 * number, train_loss=loss, train_top1=0.5,
        val_loss=1.0, val_top1=val_top1, lr=0.1, seconds=seconds, images_per_s=10.0,
    )  # fmt: skip


def ended(kind, at, seconds=9.0):
    return kind(
        step=at, epoch=1, time=99.0, best_epoch=1, best_val_top1=0.5, seconds=seconds, message=""
    )


def told(view, *events):
    for event in events:
        view.log.append(event)
    view.refresh()
    return view


def test_a_run_without_a_word_is_seen_as_nothing_yet(view):
    assert view.refresh() is False
    assert (view.step, view.total_steps, view.best, view.history()) == (0, 0, None, [])
    assert (view.images_per_s(), view.seconds_left(), view.seconds()) == (None, None, 0.0)


def test_the_fold_keeps_steps_epochs_start_and_end(view):
    steps = [step(n) for n in range(1, 5)]
    told(view, started(), *steps, epoch(1), ended(Finished, 4))
    assert view.started == started()
    assert view.steps == steps
    assert view.epochs == [epoch(1)]
    assert view.ended == ended(Finished, 4)
    assert (view.step, view.total_steps) == (4, 12)


def test_a_refresh_reads_only_what_is_new_and_says_whether_there_was_any(view):
    told(view, started(), step(1))
    assert view.refresh() is False
    view.log.append(step(2))
    assert view.refresh() is True
    assert [s.step for s in view.steps] == [1, 2]


def test_after_a_resume_repeated_steps_and_epochs_replace_the_older(view):
    before = [*(step(n, loss=1) for n in range(1, 5)), epoch(1)]
    lost = [*(step(n, loss=2) for n in range(5, 9)), epoch(2, loss=2), step(9, loss=2)]
    again = [*(step(n, loss=3) for n in range(5, 9)), epoch(2, loss=3)]
    told(view, started(), *before, *lost, resumed(4))
    assert [s.step for s in view.steps] == [1, 2, 3, 4]
    assert [e.epoch for e in view.epochs] == [1]
    assert view.step == 4
    told(view, *again)
    assert [(s.step, s.loss) for s in view.steps] == [(n, 1 if n < 5 else 3) for n in range(1, 9)]
    assert [(row["epoch"], row["train_loss"]) for row in view.history()] == [(1, 1), (2, 3)]


def test_an_epoch_that_is_validated_again_from_the_same_step_counts_once(view):
    told(view, started(), step(4), epoch(1, loss=1), resumed(4), epoch(1, loss=2))
    assert [(row["epoch"], row["train_loss"]) for row in view.history()] == [(1, 2)]


def test_a_resumed_run_has_not_ended(view):
    told(view, started(), step(1), ended(Stopped, 1))
    assert view.ended
    told(view, resumed(1))
    assert view.ended is None
    assert view.steps == [step(1)]


def test_looking_often_and_looking_once_see_the_same(view):
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


def test_a_torn_line_is_folded_once_when_it_is_whole(view):
    line = to_line(step(1))
    view.log.path.write_text(line[:20])
    view.refresh()
    with open(view.log.path, "a") as file:
        file.write(line[20:])
    view.refresh()
    view.refresh()
    assert view.steps == [step(1)]


def test_the_best_epoch_is_the_first_of_the_highest_validation_top1(view):
    told(view, started(), epoch(1, 0.4), epoch(2, 0.6), epoch(3, 0.6))
    assert view.best.epoch == 2


def test_time_left_counts_whole_epochs_with_their_validation(view):
    told(view, started(), *(step(n) for n in range(1, 5)), epoch(1, seconds=8.0), step(5), step(6))
    assert view.seconds_left() == (12 - 6) * 2.0


def test_time_left_in_the_first_epoch_follows_the_steps(view):
    told(view, started(), step(1))
    assert view.seconds_left() is None  # one step is no rate
    told(view, step(2), step(3))
    assert view.seconds_left() == 9.0  # a step took a second, nine are left


def test_nothing_is_left_of_a_run_that_ended(view):
    told(view, started(), step(1), step(2), ended(Finished, 2, seconds=7.5))
    assert view.seconds_left() is None
    assert view.seconds() == view.worked() == 7.5


def test_time_between_two_stretches_does_not_count(view):
    told(view, started(time=0.0), epoch(1, seconds=4.0), resumed(5, 1000.0, seconds=4.5))
    assert view.seconds(at=1003.0) == 4.5 + 3.0


def test_the_rate_is_the_median_of_recent_readings(view):
    rates = [1, 1, 1, 5, 6, 7, 8, 9, 1000, 5, 5, 5]
    told(view, started(), *(step(n + 1, rate=rate) for n, rate in enumerate(rates)))
    assert view.images_per_s() == 6


@pytest.mark.parametrize("most", [4, 5, 60, 61, 600])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 61, 601, 6000])
def test_a_thinned_curve_keeps_first_last_and_extremes_and_the_limit(count, most):
    rng = random.Random(count)
    values = [(float(x), rng.random()) for x in range(count)]
    if count > 10:  # spikes of a single point
        values[count // 3] = (float(count // 3), 100.0)
        values[count // 2] = (float(count // 2), -100.0)
    kept = thinned(values, most)
    assert len(kept) <= max(most, 0)
    assert kept == sorted(set(kept) & set(values))
    if count <= most:
        assert kept == values
    elif most >= 6:
        assert {values[0], values[-1], min(values, key=y), max(values, key=y)} <= set(kept)
    else:
        assert {values[0], values[-1]} <= set(kept)


def test_a_thinned_curve_has_the_extremes_of_every_stretch():
    values = [(float(x), float(x % 100)) for x in range(10_000)]
    kept = thinned(values, 202)
    for start in range(100, 9_900, 100):  # a hundred stretches, each of one sawtooth
        stretch = [p for p in kept if start - 1 <= p[0] <= start + 100]
        assert min(map(y, stretch)) <= 1
        assert max(map(y, stretch)) >= 98


def y(point):
    return point[1]
