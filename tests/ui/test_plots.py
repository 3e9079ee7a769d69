"""The charts of a run: values, thinning and the cache."""

import random
from dataclasses import replace

import pytest

from resnet_demo.events import Epoch, Started, Step
from resnet_demo.runs.log import EventLog
from resnet_demo.runs.view import RunView
from resnet_demo.ui import plots

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


def points(view, plot, name):
    """Return the points of a line of the run's chart."""
    [found] = [each for each in plots.run_curves(view)["plots"] if each["key"] == plot]
    [line] = [each for each in found["lines"] if each["name"] == name]
    return [tuple(point) for point in line["points"]]


def test_before_the_first_step_every_line_is_there_and_empty():
    for empty in (view([]), RunView(EventLog(None))):
        lines = [line for plot in plots.run_curves(empty)["plots"] for line in plot["lines"]]
        assert [line["name"] for line in lines] == [
            *(plots.TRAINING, plots.VALIDATION),
            *(plots.TRAINING, plots.VALIDATION),
            "learning rate",
        ]
        assert all(line["points"] == [] for line in lines)
    assert plots.empty_curves()["x"]["max"] is None


def test_the_axis_ends_at_the_last_epoch_of_the_run_and_names_its_steps():
    chart = plots.run_curves(view([1.0]), "my-run")
    assert (chart["x"]["max"], chart["x"]["steps"], chart["name"]) == (100, 1000, "my-run")


def test_a_hundred_thousand_steps_make_few_points():
    rng = random.Random(0)
    losses = [rng.random() for _ in range(100_000)]
    seen = view(losses, losses[:1000])
    for plot in ("loss", "accuracy"):
        for name in (plots.TRAINING, plots.VALIDATION):
            assert plots.MAX_POINTS <= len(points(seen, plot, name)) <= 2 * plots.MAX_POINTS
    assert 50 < len(points(seen, "lr", "learning rate")) <= plots.MAX_POINTS


def test_a_bin_of_steps_has_its_mean_and_its_spike():
    losses = [1.0] * 100_000
    losses[54_321] = 9.0  # step 54,322
    width = plots.bin_width(100_000)
    train = points(view(losses), "loss", plots.TRAINING)
    [spike] = [point for point in train if len(point) > 2 and point[3] == 9.0]
    assert spike[1] == pytest.approx(1 + 8 / width, abs=1e-4)
    assert spike[2] == 1.0
    assert 0 <= spike[0] - 54.322 < width / 1000
    assert train[-1][0] == 100.0


def test_the_drawn_part_of_a_curve_stays_while_the_run_goes_on():
    rng = random.Random(0)
    losses = [rng.random() for _ in range(50_000)]
    before = points(view(losses[:40_000]), "loss", plots.TRAINING)
    after = points(view(losses), "loss", plots.TRAINING)
    assert plots.bin_width(40_000) == plots.bin_width(50_000)
    assert after[: len(before) - 1] == before[:-1]


def test_few_steps_and_all_validations_are_drawn_as_they_are():
    seen = view([4.0, 2.0, 1.0], [0.75, 0.5])
    assert points(seen, "loss", plots.TRAINING) == [(0.001, 4.0), (0.002, 2.0), (0.003, 1.0)]
    assert points(seen, "loss", plots.VALIDATION) == [(1.0, 0.75), (2.0, 0.5)]
    assert points(seen, "lr", "learning rate") == [(0.001, 0.1), (0.002, 0.1), (0.003, 0.1)]


def test_a_run_without_batches_has_a_point_of_training_for_each_epoch():
    assert points(view([], [0.5, 0.25]), "loss", plots.TRAINING) == [(1, 1), (2, 1)]
    assert points(view([], [0.5, 0.25]), "accuracy", plots.TRAINING) == [(1, 50), (2, 50)]


def test_accuracy_is_in_percent():
    seen = view([1.0, 1.0], [1.0])
    assert points(seen, "accuracy", plots.TRAINING) == [(0.001, 100.0), (0.002, 0.0)]
    assert points(seen, "accuracy", plots.VALIDATION) == [(1.0, 25.0)]
    assert plots.run_curves(seen)["plots"][1]["y"] == (0, 100)


def test_label_smoothing_is_named_beside_the_loss_where_there_is_some():
    loss, accuracy, _ = plots.run_curves(view([1.0]), smoothing=0.1)["plots"]
    assert loss["note"].startswith("Training loss includes label smoothing 0.1;")
    assert accuracy["note"] == ""
    assert plots.run_curves(view([1.0]))["plots"][0]["note"] == ""


def test_a_name_reaches_the_page_as_data_and_not_as_html():
    component = plots.line_chart("some", plots.chart("x", [], name="${alert(1)}<b>"))
    assert "value" not in component.html_template
    assert component.value["name"] == "${alert(1)}<b>"


def test_the_table_has_a_row_per_epoch(seen, events):
    rows = plots.epoch_table(seen("running", events()).view)["data"]
    assert rows == [[1, "2.0000", "1.5000", "25.00 %", "50.00 %", "40 s"]]
    assert len(rows[0]) == len(plots.EPOCH_COLUMNS)


def test_curves_are_drawn_once_for_all_pages_and_again_when_the_log_has_grown(
    seen, events, monkeypatch
):
    made, run_curves = [], plots.run_curves

    def draw(*args):
        made.append(args)
        return run_curves(*args)

    monkeypatch.setattr(plots, "run_curves", draw)
    curves, log = plots.CurveCache(), events()
    first = curves(seen("running", log[:-1]).view)
    same = curves(seen("running").view)  # another page's snapshot of the same log
    assert same is first
    assert len(made) == 1
    grown = seen("running", log[-1:]).view
    assert curves(grown, "some-run-1", 0.1) == (
        run_curves(grown, "some-run-1", 0.1),
        plots.epoch_table(grown),
    )
    assert len(made) == 2


def test_another_run_of_the_same_name_has_its_own_curves(seen, events):
    curves, look = plots.CurveCache(), seen("running", events())
    before = curves(look.view)
    look.run.log().path.unlink()
    again = seen("running", events())
    assert again.view.started != look.view.started
    assert curves(again.view) is not before


def test_the_cache_of_curves_is_limited(seen, events, monkeypatch, tmp_path):
    monkeypatch.setattr(plots, "MAX_CACHED", 1)
    curves, view = plots.CurveCache(), seen("running", events()).view
    for name in ("a", "b", "a"):
        curves(replace(view, log=EventLog(tmp_path / name)))
        assert len(curves.cached) == 1


def test_a_step_changes_the_version_only_if_the_line_can_show_it(seen, events):
    view = seen("running", events()).view
    short, long = view.step, 64 * 240  # with 200 points: one for 64 to 128 steps

    def at(step):
        view.steps.append(replace(view.steps[-1], step=step))
        view.last = view.steps[-1]
        return plots.curve_version(view)

    assert at(short + 1) != at(short + 2)
    assert at(long) == at(long + 63) != at(long + 64)
    before = at(long)
    view.epochs.append(view.epochs[-1])
    assert at(long) != before
