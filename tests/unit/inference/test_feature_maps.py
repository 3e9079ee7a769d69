"""Recorded outputs of stages, and grids of their strongest channels."""

import numpy as np
import pytest
import torch
from matplotlib import colormaps

from resnet_demo.inference.feature_maps import (
    GREY,
    draw_grid,
    record_outputs,
    stage_grids,
    stage_title,
    strongest_maps,
)
from resnet_demo.models import build_model
from resnet_demo.models.layers import Network

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_model("resnet20", 7).train()


def hooked(model):
    return [module for module in model.modules() if module._forward_hooks]


def test_the_outputs_of_named_stages_are_recorded(model):
    model.eval()
    with torch.inference_mode(), record_outputs(model, ["stem", "stages.2"]) as outputs:
        logits = model(X)
    assert list(outputs) == ["stem", "stages.2"]
    torch.testing.assert_close(outputs["stem"], model.stem(X))
    torch.testing.assert_close(model.head(outputs["stages.2"].mean((2, 3))), logits)


def test_the_hooks_are_removed_also_after_an_error(model):
    with record_outputs(model, model.stage_names):
        assert len(hooked(model)) == 4
    assert hooked(model) == []
    with pytest.raises(RuntimeError), record_outputs(model, model.stage_names):
        model(torch.zeros(1, 5, 8, 8))  # five channels instead of three
    assert hooked(model) == []


def test_an_unknown_name_is_refused_before_anything_is_hooked(model):
    with pytest.raises(AttributeError, match="prep"), record_outputs(model, ["stem", "prep"]):
        pass
    assert hooked(model) == []


def test_every_stage_has_its_strongest_maps(model):
    stages = strongest_maps(model, X, 4)
    assert model.training
    assert not stages[0].maps.requires_grad
    assert [stage.name for stage in stages] == ["stem", "stages.0", "stages.1", "stages.2"]
    assert [stage.all_channels for stage in stages] == [16, 16, 32, 64]
    assert [stage.maps.shape[-1] for stage in stages] == [16, 16, 8, 4]
    output = model.eval().stem(X)
    for image, channels in enumerate(stages[0].channels):
        means = output[image].mean((1, 2))
        assert channels.tolist() == means.argsort(descending=True)[:4].tolist()
        torch.testing.assert_close(stages[0].maps[image], output[image, channels])


def test_the_last_stage_outputs_the_features(model):
    last = strongest_maps(model, X, 64)[-1]
    features = model.eval().features(X)
    torch.testing.assert_close(last.maps[1], features[1, last.channels[1]])


def test_the_channels_of_an_image_do_not_depend_on_the_others(model):
    alone, together = strongest_maps(model, X[1:], 3)[2], strongest_maps(model, X, 3)[2]
    assert alone.channels.tolist() == together.channels[1:].tolist()


def test_there_are_no_more_maps_than_channels(model):
    assert [stage.maps.shape[1] for stage in strongest_maps(model, X, 40)] == [16, 16, 32, 40]


def test_nan_channels_come_last(model):
    with torch.no_grad():
        model.stem.bn.bias[5] = float("nan")
    first = strongest_maps(model, X, 16)[0]
    assert first.channels[:, -1].tolist() == [5, 5]


def test_a_network_without_named_stages_has_no_maps():
    class Nameless(Network):
        def features(self, x):
            return x

    assert strongest_maps(Nameless(), X, 3) == []


BLACK, MIDDLE, TOP = (
    colormaps["inferno"](value, bytes=True)[:3] for value in (0.0, 128 / 255, 1.0)
)
GAP = [GREY] * 3


@pytest.mark.parametrize(
    ("row", "column", "colour"),
    [
        (0, 0, BLACK),  # the first map's corners
        (0, 63, TOP),
        (63, 0, MIDDLE),
        (63, 63, BLACK),
        (31, 31, BLACK),  # its pixels meet in the middle
        (31, 32, TOP),
        (32, 31, MIDDLE),
        (0, 66, TOP),  # the second map
        (31, 97, TOP),
        (32, 66, BLACK),
        (0, 64, GAP),
        (0, 65, GAP),
        (64, 0, GAP),
        (66, 0, GAP),  # no third map in the row below
    ],
)
def test_a_grid_shows_each_map_in_its_place_with_pixels_as_squares(row, column, colour):
    maps = torch.tensor([[[0.0, 2.0], [1.0, -3.0]], [[5.0, 0.0], [0.0, 0.0]]])
    grid = draw_grid(maps)
    assert (grid.shape, grid.dtype) == ((2 * 64 + 2, 4 * 64 + 3 * 2, 3), np.uint8)
    assert grid[row, column].tolist() == list(colour)


def test_maps_larger_than_a_tile_keep_their_size():
    assert draw_grid(torch.rand(8, 100, 100)).shape == (202, 406, 3)


def test_every_stage_has_a_grid_and_a_title(model):
    stages = stage_grids(model, X[:1])
    assert [title for title, _ in stages] == ["stem", "stage 1", "stage 2", "stage 3"]
    assert [grid.shape for _, grid in stages] == [(130, 262, 3)] * 4
    strongest = strongest_maps(model, X[:1], 8)
    for (_, grid), stage in zip(stages, strongest, strict=True):
        np.testing.assert_array_equal(grid, draw_grid(stage.maps[0]))


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("stage1", "stage 1"),
        ("stages.0", "stage 1"),
        ("stem", "stem"),
        ("last", "last convolution"),
    ],
)
def test_stages_are_counted_from_one(name, title):
    assert stage_title(name) == title
