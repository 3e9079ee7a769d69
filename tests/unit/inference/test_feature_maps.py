import numpy as np
import pytest
import torch
from matplotlib import colormaps

from resnet_demo.inference.feature_maps import (
    GREY,
    draw_grid,
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


def test_every_stage_shows_its_strongest_maps(model):
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


def test_the_last_stage_puts_out_the_features(model):
    last = strongest_maps(model, X, 64)[-1]
    features = model.eval().features(X)
    torch.testing.assert_close(last.maps[1], features[1, last.channels[1]])


def test_a_picture_alone_shows_the_same(model):
    alone, together = strongest_maps(model, X[1:], 3)[2], strongest_maps(model, X, 3)[2]
    assert alone.channels.tolist() == together.channels[1:].tolist()


def test_no_more_maps_than_channels(model):
    assert [stage.maps.shape[1] for stage in strongest_maps(model, X, 40)] == [16, 16, 32, 40]


def test_channels_that_are_not_a_number_come_last(model):
    with torch.no_grad():
        model.stem.bn.bias[5] = float("nan")
    first = strongest_maps(model, X, 16)[0]
    assert first.channels[:, -1].tolist() == [5, 5]


def test_a_network_that_names_no_stages_has_none_to_show():
    class Nameless(Network):
        def features(self, x):
            """(B, 3, H, W) as it is."""
            return x

    assert strongest_maps(Nameless(), X, 3) == []


def test_a_grid_shows_each_map_in_its_place_and_every_pixel_as_a_square():
    maps = torch.tensor([[[0.0, 2.0], [1.0, -3.0]], [[5.0, 0.0], [0.0, 0.0]]])
    picture = draw_grid(maps)
    assert (picture.shape, picture.dtype) == ((2 * 64 + 2, 4 * 64 + 3 * 2, 3), np.uint8)
    black, middle, top = (colormaps["inferno"](v, bytes=True)[:3] for v in (0.0, 128 / 255, 1.0))
    for row, column, colour in (
        (0, 0, black), (0, 63, top), (63, 0, middle), (63, 63, black),  # the first map's corners
        (31, 31, black), (31, 32, top), (32, 31, middle),
        (0, 66, top), (31, 97, top), (32, 66, black),  # the second one's
        (0, 64, [GREY] * 3), (0, 65, [GREY] * 3), (64, 0, [GREY] * 3), (66, 0, [GREY] * 3),
    ):  # fmt: skip
        assert picture[row, column].tolist() == list(colour), (row, column)


def test_maps_larger_than_a_tile_are_shown_as_they_are():
    assert draw_grid(torch.rand(8, 100, 100)).shape == (202, 406, 3)


def test_every_stage_has_a_grid_and_a_name_in_words(model):
    stages = stage_grids(model, X[:1])
    assert [name for name, _ in stages] == ["stem", "stage 1", "stage 2", "stage 3"]
    shapes = [picture.shape for _, picture in stages]
    assert shapes == [(130, 262, 3)] * 4
    strongest = strongest_maps(model, X[:1], 8)
    for (_, picture), stage in zip(stages, strongest, strict=True):
        np.testing.assert_array_equal(picture, draw_grid(stage.maps[0]))


@pytest.mark.parametrize(
    ("name", "words"), [("stage1", "stage 1"), ("stages.0", "stage 1"), ("stem", "stem")]
)
def test_stages_are_counted_from_one(name, words):
    assert stage_title(name) == words
