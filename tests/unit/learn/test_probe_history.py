"""Probes of a run, read from its log and drawn."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from resnet_demo.events import Probe, Probing, Resumed, to_line
from resnet_demo.learn.probe_history import (
    DECADES,
    MAX_PROBES,
    ProbeHistory,
    depth_figure,
    log10_or_nan,
)
from resnet_demo.runs.log import EventLog

RESUMED = {
    "device": "cpu",
    "precision": "float32",
    "threads": 1,
    "parameters": 1,
    "macs": 1,
    "steps_per_epoch": 4,
    "epochs": 3,
    "version": "0",
}


def probe(step, value=1.0):
    return Probe(step=step, epoch=1, gradients=[value, 2.0], activations=[3.0, None])


def log_of(tmp_path, *events):
    log = EventLog(tmp_path / "events.jsonl")
    for event in events:
        log.append(event)
    return log


def test_layers_and_probes_are_read_incrementally(tmp_path):
    log = log_of(tmp_path, Probing(step=0, epoch=1, layers=["a", "b"]), probe(1))
    history = ProbeHistory(log)
    assert history.refresh()
    assert (history.layers, [entry.step for entry in history.probes]) == (["a", "b"], [1])
    assert not history.refresh()
    log.append(probe(2))
    assert history.refresh()
    assert [entry.step for entry in history.probes] == [1, 2]


def test_probes_repeated_by_a_resumed_run_are_replaced(tmp_path):
    names = Probing(step=0, epoch=1, layers=["a", "b"])
    back = Resumed(step=2, epoch=1, **RESUMED)
    log = log_of(tmp_path, names, probe(1), probe(2), probe(3, 7.0), back, names, probe(3, 9.0))
    history = ProbeHistory(log)
    history.refresh()
    assert [(entry.step, entry.gradients[0]) for entry in history.probes] == [
        (1, 1),
        (2, 1),
        (3, 9.0),
    ]


def test_the_probes_of_a_long_run_are_thinned_out_evenly(tmp_path):
    log = log_of(tmp_path, Probing(step=0, epoch=1, layers=["a", "b"]))
    with open(log.path, "a") as file:
        file.writelines(to_line(probe(step)) for step in range(5 * MAX_PROBES))
    history = ProbeHistory(log)
    history.refresh()
    steps = [entry.step for entry in history.probes]
    assert MAX_PROBES / 2 <= len(steps) <= MAX_PROBES
    assert len({b - a for a, b in pairwise(steps)}) == 1


def test_a_probe_with_another_number_of_layers_is_ignored(tmp_path):
    log = log_of(tmp_path, probe(1), Probing(step=0, epoch=1, layers=["a"]), probe(2))
    history = ProbeHistory(log)
    history.refresh()
    assert history.probes == []


def test_a_damaged_line_is_ignored(tmp_path):
    log = log_of(tmp_path, Probing(step=0, epoch=1, layers=["a", "b"]), probe(1))
    line = log.path.read_text().splitlines()[1]
    for wrong in ("NaN", '"7"', "1e999", "true", "[]"):
        with open(log.path, "a") as file:
            file.write(line.replace("[1.0, 2.0]", f"[{wrong}, 2.0]") + "\n")
    history = ProbeHistory(log)
    history.refresh()
    assert [entry.step for entry in history.probes] == [1]


def grids(figure):
    return [
        axes.collections[0] for axes in figure.axes if axes.collections and axes.get_title("left")
    ]


def test_each_network_has_a_map_of_layers_by_steps_on_one_scale():
    maps = {"plain": ([1, 5, 9], np.full((4, 3), 0.01)), "residual": ([1, 5, 9], np.ones((4, 3)))}
    figure = depth_figure(maps, "length")
    FigureCanvasAgg(figure).draw()
    assert [axes.get_title("left") for axes in figure.axes[:2]] == ["plain", "residual"]
    entry, other = grids(figure)
    assert entry.get_array().shape == (4, 3)
    np.testing.assert_allclose(entry.get_array(), -2)
    assert entry.get_clim() == other.get_clim() == (-2, 0)
    assert figure.axes[0].yaxis_inverted()  # the first layer is at the top


@pytest.mark.parametrize("dark", [True, False])
def test_nan_stays_blank_and_tiny_values_do_not_stretch_the_scale(dark):
    values = np.array([[1.0, np.nan], [1e-20, 0.0]])
    figure = depth_figure({"plain": ([1, 2], values)}, "length", dark)
    FigureCanvasAgg(figure).draw()
    [mesh] = grids(figure)
    assert mesh.get_clim() == (-DECADES, 0)
    assert np.isnan(np.ma.filled(mesh.get_array().astype(float), np.nan)).sum() == 2


def test_empty_maps_can_be_drawn():
    FigureCanvasAgg(depth_figure({}, "length")).draw()
    FigureCanvasAgg(depth_figure({"plain": ([1], np.full((2, 1), np.nan))}, "length")).draw()


def test_the_logarithm_of_a_value_that_has_none_is_nan():
    np.testing.assert_array_equal(
        log10_or_nan(np.array([10.0, 0.0, -1.0, np.nan])), [1, *[np.nan] * 3]
    )
