import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from resnet_demo.learn.gradient_figure import SPAN, depth_figure, log10


def grids(figure):
    return [
        axes.collections[0] for axes in figure.axes if axes.collections and axes.get_title("left")
    ]


def test_each_network_is_a_map_of_layers_by_steps_on_one_scale():
    maps = {"plain": ([1, 5, 9], np.full((4, 3), 0.01)), "residual": ([1, 5, 9], np.ones((4, 3)))}
    figure = depth_figure(maps, "length")
    FigureCanvasAgg(figure).draw()
    assert [axes.get_title("left") for axes in figure.axes[:2]] == ["plain", "residual"]
    one, other = grids(figure)
    assert one.get_array().shape == (4, 3)
    np.testing.assert_allclose(one.get_array(), -2)
    assert one.get_clim() == other.get_clim() == (-2, 0)
    assert figure.axes[0].yaxis_inverted()  # the first layer is at the top


@pytest.mark.parametrize("dark", [True, False])
def test_what_is_no_number_stays_blank_and_what_vanished_does_not_stretch_the_scale(dark):
    values = np.array([[1.0, np.nan], [1e-20, 0.0]])
    figure = depth_figure({"plain": ([1, 2], values)}, "length", dark)
    FigureCanvasAgg(figure).draw()
    [drawn] = grids(figure)
    assert drawn.get_clim() == (-SPAN, 0)
    assert np.isnan(np.ma.filled(drawn.get_array().astype(float), np.nan)).sum() == 2


def test_nothing_to_draw_is_no_error():
    FigureCanvasAgg(depth_figure({}, "length")).draw()
    FigureCanvasAgg(depth_figure({"plain": ([1], np.full((2, 1), np.nan))}, "length")).draw()


def test_logarithms_of_what_has_none_are_nan():
    np.testing.assert_array_equal(log10(np.array([10.0, 0.0, -1.0, np.nan])), [1, *[np.nan] * 3])
