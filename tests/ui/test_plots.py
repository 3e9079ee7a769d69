"""The tables of the learning curves: values, colours, thinning and the cache."""

import math
import random
from dataclasses import replace

import pytest

from resnet_demo.events import Epoch, Started, Step
from resnet_demo.runs.log import EventLog
from resnet_demo.runs.view import RunView
from resnet_demo.ui import plots

MAX_ROWS = 600  # the browser stalls above
OPENING = {
    "device": "cpu",
    "precision": "float32",
    "threads": 1,
    "parameters": 1,
    "macs": 1,
    "epochs": 100,
    "version": "0",
}
EPOCH = {
    "train_loss": 1.0,
    "train_top1": 0.5,
    "val_top1": 0.25,
    "lr": 0.1,
    "seconds": 1.0,
    "images_per_s": 1.0,
}


def view(steps, epochs=(), per_epoch=1000):
    """Return the view of a log with these losses. Every second step is right, the others wrong."""
    view = RunView(EventLog(None))
    view.started = Started(step=0, epoch=1, steps_per_epoch=per_epoch, **OPENING)
    view.steps = [
        Step(step=n, epoch=1, loss=loss, top1=n % 2, lr=0.1, images_per_s=1.0)
        for n, loss in enumerate(steps, 1)
    ]
    view.epochs = [
        Epoch(step=per_epoch * n, epoch=n, val_loss=loss, **EPOCH)
        for n, loss in enumerate(epochs, 1)
    ]
    return view


def line(table, split):
    """Return the points of one split."""
    return [(x, y) for x, y, name in table["data"] if name == split and y is not None]


@pytest.mark.parametrize("table", [plots.loss_table, plots.accuracy_table])
def test_before_the_first_point_the_plot_is_empty(table):
    for empty in (view([]), RunView(EventLog(None))):
        assert {(y, split) for _, y, split in table(empty)["data"]} == {
            (None, "train"),
            (None, "val"),
        }


@pytest.mark.parametrize("losses", [([1.0],), ([1.0, 2.0], [1.0]), ([], [1.0, 2.0])], ids=str)
@pytest.mark.parametrize("table", [plots.loss_table, plots.accuracy_table])
def test_every_table_has_both_splits_so_that_colours_stay(table, losses):
    seen = view(*losses)
    rows = table(seen)
    assert {row[2] for row in rows["data"]} == {"train", "val"}
    assert {len(row) for row in rows["data"]} == {len(rows["columns"])} == {3}
    assert rows["datatypes"].keys() == set(rows["columns"])


def test_a_lone_validation_draws_a_line_at_its_value():
    val = line(plots.loss_table(view([1.0] * 5, [0.75])), "val")
    assert len(val) == 2
    assert val[-1] == (1.0, 0.75)
    assert val[0][1] == 0.75
    assert val[0][0] < 1.0


def test_two_validations_are_drawn_unchanged():
    assert line(plots.loss_table(view([], [0.75, 0.5])), "val") == [(1.0, 0.75), (2.0, 0.5)]


@pytest.mark.parametrize("table", [plots.loss_table, plots.accuracy_table])
def test_a_hundred_thousand_steps_make_a_table_that_a_browser_can_draw(table):
    rng = random.Random(0)
    losses = [rng.random() for _ in range(100_000)]
    assert 250 < len(table(view(losses, losses[:1000]))["data"]) <= MAX_ROWS


def test_a_spike_of_one_step_survives_the_thinning():
    losses = [1.0] * 100_000
    losses[54_321], losses[65_432] = 9.0, 0.125
    train = line(plots.loss_table(view(losses)), "train")
    assert (54.322, 9.0) in train
    assert (65.433, 0.125) in train
    assert (train[0], train[-1]) == ((0.001, 1.0), (100.0, 1.0))


def test_the_log_scale_is_log10_and_leaves_out_zero():
    rows = plots.loss_table(view([100.0, 0.0, 0.01], [10.0, 1.0]), log=True)
    assert rows["columns"] == ["epoch", "loss", "split"]
    assert line(rows, "train") == [(0.001, 2.0), (0.003, -2.0)]
    assert line(rows, "val") == [(1.0, 1.0), (2.0, 0.0)]


def test_accuracy_is_in_percent_and_the_batches_are_a_running_mean():
    rows = plots.accuracy_table(view([1.0] * 20, [1.0, 1.0]))
    assert [y for _, y in line(rows, "val")] == [25.0, 25.0]
    train = [y for _, y in line(rows, "train")]
    assert train[0] == 100.0  # right and wrong alternate
    assert train[9:] == [50.0] * 11
    short = plots.accuracy_table(view([1.0] * 4, per_epoch=10))
    assert [y for _, y in line(short, "train")] == [100.0, 0.0, 100.0, 0.0]


def test_a_running_mean_of_one_is_the_curve_itself():
    points = [(0.0, 3.0), (1.0, -1.0), (2.0, 5.0)]
    assert plots.running_mean(points, over=1) == points
    means = [y for _, y in plots.running_mean(points, over=2)]
    assert means == [3.0, 1.0, 2.0]
    assert all(map(math.isfinite, means))


def test_the_legend_has_the_colours_of_the_lines():
    assert all(colour in plots.LEGEND for colour in plots.COLOURS.values())
    assert set(plots.COLOURS) == {"train", "val"}
    assert len(set(plots.COLOURS.values())) == 2


def test_the_table_has_a_row_per_epoch(seen, events):
    rows = plots.epoch_table(seen("running", events()).view)["data"]
    assert rows == [[1, "2.0000", "1.5000", "25.00%", "50.00%", "40 s"]]
    assert len(rows[0]) == len(plots.EPOCH_COLUMNS)


def test_curves_are_drawn_once_for_all_pages_and_again_when_the_log_has_grown(
    seen, events, monkeypatch
):
    made = []
    draw_curves = plots.draw_curves

    def draw(view, log_loss):
        made.append(log_loss)
        return draw_curves(view, log_loss)

    monkeypatch.setattr(plots, "draw_curves", draw)
    curves, log = plots.CurveCache(), events()
    first = curves(seen("running", log[:-1]).view, False)
    same = curves(seen("running").view, False)  # another page's snapshot of the same log
    assert same is first
    assert len(made) == 1
    grown = seen("running", log[-1:]).view
    assert curves(grown, False) == draw_curves(grown, False) != first
    assert curves(grown, True) == draw_curves(grown, True)
    assert len(made) == 3


def test_another_run_of_the_same_name_has_its_own_curves(seen, events):
    curves, look = plots.CurveCache(), seen("running", events())
    before = curves(look.view, False)
    look.run.log().path.unlink()
    again = seen("running", events())
    assert again.view.started != look.view.started
    assert curves(again.view, False) is not before


def test_the_cache_of_curves_is_limited(seen, events, monkeypatch):
    monkeypatch.setattr(plots, "MAX_CACHED", 1)
    curves, look = plots.CurveCache(), seen("running", events())
    for log_loss in (False, True, False):
        curves(look.view, log_loss)
        assert len(curves.cached) == 1


def test_a_step_changes_the_version_only_if_the_line_can_show_it(seen, events):
    view = seen("running", events()).view
    short, long = view.step, 64 * 440  # with 280 points: one for 64 to 128 steps

    def at(step):
        view.steps.append(replace(view.steps[-1], step=step))
        view.last = view.steps[-1]
        return plots.curve_version(view)

    assert at(short + 1) != at(short + 2)
    assert at(long) == at(long + 63) != at(long + 64)
    before = at(long)
    view.epochs.append(view.epochs[-1])
    assert at(long) != before
