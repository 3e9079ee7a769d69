import numpy as np
import pytest
import torch
from matplotlib import colormaps

from resnet_demo.data.pictures import fit_to_square
from resnet_demo.errors import ConfigError
from resnet_demo.inference.heatmaps import enlarge, overlay, place_on_picture

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def dot(row, column, height=90, width=120):
    """A white spot on black."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[row - 3 : row + 3, column - 3 : column + 3] = 255
    return rgb


def middle(plane):
    """Row and column of the centre of mass."""
    rows, columns = torch.arange(plane.shape[0]) + 0.5, torch.arange(plane.shape[1]) + 0.5
    total = plane.sum()
    return (plane.sum(1) @ rows / total).item(), (plane.sum(0) @ columns / total).item()


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("side", [16, 31])
def test_heat_lies_where_the_square_was_cut_from(fit, upright, side):
    rgb = dot(20, 80)
    rgb = rgb.transpose(1, 0, 2) if upright else rgb
    seen = torch.from_numpy(fit_to_square(rgb, side, fit))[..., 0].float()
    result = place_on_picture(seen, *rgb.shape[:2], fit)
    assert result.shape == rgb.shape[:2]
    assert middle(result) == pytest.approx((80, 20) if upright else (20, 80), abs=2)


def test_what_a_crop_left_out_is_cold():
    result = place_on_picture(torch.ones(4, 4), 10, 31, "crop")
    torch.testing.assert_close(result[:, 10:20], torch.ones(10, 10))
    assert result[:, :10].max() == result[:, 20:].max() == 0


def test_what_padding_added_is_cut_off():
    square = torch.zeros(4, 8, 8)
    square[:, 2:6] = 0.5  # the picture fills four rows of eight
    result = place_on_picture(square, 20, 40, "pad")
    torch.testing.assert_close(result, torch.full((4, 20, 40), 0.5))


def test_a_squashed_heat_is_stretched_again():
    heat = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(place_on_picture(heat, 9, 13, "squash"), enlarge(heat, 9, 13))


def test_another_fit_is_refused():
    with pytest.raises(ConfigError, match="fit must be one of crop, squash, pad, got 'fill'"):
        place_on_picture(torch.ones(2, 2), 3, 3, "fill")


def test_an_overlay_is_a_mix_of_the_picture_and_matplotlib_s_colours():
    heat = torch.linspace(0, 1, 600).view(20, 30)
    colours = colormaps["inferno"](heat.numpy())[..., :3] * 255
    for opacity in (0, 0.3, 1):
        mixed = overlay(PICTURE, heat, opacity)
        assert (mixed.dtype, mixed.shape) == (np.uint8, PICTURE.shape)
        expected = (1 - opacity) * PICTURE + opacity * colours
        # two neighbours of the table's 256 colours differ by up to 5 levels
        np.testing.assert_allclose(mixed, expected, atol=6)
    np.testing.assert_array_equal(overlay(PICTURE, heat, 0), PICTURE)


def test_many_pictures_of_one_size_are_done_at_once():
    pictures, heat = np.stack([PICTURE, PICTURE[::-1]]), torch.rand(2, 20, 30)
    np.testing.assert_array_equal(
        overlay(pictures, heat, 0.5)[1], overlay(PICTURE[::-1], heat[1], 0.5)
    )
