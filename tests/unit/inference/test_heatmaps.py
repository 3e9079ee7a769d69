"""Heat maps: scaled, placed on the picture, and blended with it."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from PIL import Image

from resnet_demo.data.pictures import fit_to_square
from resnet_demo.errors import ConfigError
from resnet_demo.inference.heatmaps import (
    colour,
    encode_png,
    enlarge,
    heatmap,
    overlay,
    place_on_picture,
)

NAN, INF = float("nan"), float("inf")
PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(9, 9), (16, 24)])
def test_maps_are_enlarged_as_by_pil(size):
    maps = torch.rand(2, 3, 4, 8, generator=torch.Generator().manual_seed(0))
    result = enlarge(maps, *size)
    picture = Image.fromarray(maps[1, 2].numpy())
    expected = picture.resize(size[::-1], Image.Resampling.BILINEAR)
    assert result.shape == (2, 3, *size)
    torch.testing.assert_close(
        result[1, 2], torch.from_numpy(np.array(expected)), rtol=1e-4, atol=1e-5
    )


def test_heat_goes_from_0_to_1_and_negative_values_become_0():
    rows = [[-8.0, 2.0], [1.0, 4.0]], [[-1.0, -2.0], [0.0, -3.0]], [[0.0, 9.0], [18.0, 0.0]]
    maps = torch.tensor(rows)
    heat = heatmap(maps, 2)
    assert heat[0].tolist() == [[0, 0.5], [0.25, 1]]
    assert heat[1].tolist() == [[0, 0], [0, 0]]
    assert heat[2].tolist() == [[0, 0.5], [1, 0]]
    large = heatmap(maps, 7)
    expected = F.relu(enlarge(maps, 7, 7)[0])
    torch.testing.assert_close(large[0], expected / expected.max())
    assert large[0].max() == 1


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_nan_and_infinity_count_as_0(value):
    maps = torch.tensor([[value, 1.0], [2.0, 0.0]])
    assert heatmap(maps, 2).tolist() == [[0, 0.5], [1, 0]]
    assert heatmap(torch.full((1, 1, 3, 3), value), 5).count_nonzero() == 0


def white_spot(row, column, height=90, width=120):
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[row - 3 : row + 3, column - 3 : column + 3] = 255
    return rgb


def centre_of_mass(plane):
    """Return row and column."""
    rows, columns = torch.arange(plane.shape[0]) + 0.5, torch.arange(plane.shape[1]) + 0.5
    total = plane.sum()
    return (plane.sum(1) @ rows / total).item(), (plane.sum(0) @ columns / total).item()


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("is_upright", [True, False])
@pytest.mark.parametrize("side", [16, 31])
def test_heat_is_placed_where_the_square_was_cut_from(fit, is_upright, side):
    rgb = white_spot(20, 80)
    rgb = rgb.transpose(1, 0, 2) if is_upright else rgb
    square = torch.from_numpy(fit_to_square(rgb, side, fit))[..., 0].float()
    result = place_on_picture(square, *rgb.shape[:2], fit)
    assert result.shape == rgb.shape[:2]
    expected = (80, 20) if is_upright else (20, 80)
    assert centre_of_mass(result) == pytest.approx(expected, abs=2)


def test_the_part_that_a_crop_left_out_is_0():
    result = place_on_picture(torch.ones(4, 4), 10, 31, "crop")
    torch.testing.assert_close(result[:, 10:20], torch.ones(10, 10))
    assert result[:, :10].max() == result[:, 20:].max() == 0


def test_the_padding_is_cut_off():
    square = torch.zeros(4, 8, 8)
    square[:, 2:6] = 0.5  # the picture fills four rows of eight
    result = place_on_picture(square, 20, 40, "pad")
    torch.testing.assert_close(result, torch.full((4, 20, 40), 0.5))


def test_a_squashed_heat_is_stretched():
    heat = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(place_on_picture(heat, 9, 13, "squash"), enlarge(heat, 9, 13))


def test_an_unknown_fit_is_refused():
    with pytest.raises(ConfigError, match="fit must be one of crop, squash, pad, got 'fill'"):
        place_on_picture(torch.ones(2, 2), 3, 3, "fill")


def test_an_overlay_blends_the_picture_with_matplotlibs_colours():
    heat = torch.linspace(0, 1, 600).view(20, 30)
    colours = colormaps["inferno"](heat.numpy())[..., :3] * 255
    for opacity in (0, 0.3, 1):
        mixed = overlay(PICTURE, heat, opacity)
        assert (mixed.dtype, mixed.shape) == (np.uint8, PICTURE.shape)
        expected = (1 - opacity) * PICTURE + opacity * colours
        # Neighbours in the table of 256 colours differ by up to 5 levels.
        np.testing.assert_allclose(mixed, expected, atol=6)
    np.testing.assert_array_equal(overlay(PICTURE, heat, 0), PICTURE)
    np.testing.assert_array_equal(overlay(PICTURE, heat, 1), colour(heat))


def test_several_pictures_of_one_size_are_blended_at_once():
    pictures, heat = np.stack([PICTURE, PICTURE[::-1]]), torch.rand(2, 20, 30)
    np.testing.assert_array_equal(
        overlay(pictures, heat, 0.5)[1], overlay(PICTURE[::-1], heat[1], 0.5)
    )


def test_a_png_holds_the_exact_pixels():
    with Image.open(io.BytesIO(encode_png(PICTURE))) as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), PICTURE)
