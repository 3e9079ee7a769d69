"""Where a network looked, on networks made by hand: what they look for is known."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from resnet_demo.data.pictures import FITS
from resnet_demo.errors import ConfigError
from resnet_demo.inference.class_maps import map_classes
from resnet_demo.models import build_model
from resnet_demo.models.layers import Network
from resnet_demo.models.saved import SavedModel

CLASSES = ("red", "green", "blue")
SIDE = 32


class Colours(Network):
    """The features are the three channels, 4 pixels a side less: class k is seen where k is."""

    def __init__(self):
        super().__init__()
        self.stem = nn.AvgPool2d(4)
        self.head = nn.Linear(3, 3)
        nn.init.eye_(self.head.weight)

    def features(self, x):
        """(B, 3, H, W) -> (B, 3, H/4, W/4)."""
        return self.stem(x)


def saved(model=None, side=SIDE):
    preprocessing = {"source_size": side, "image_size": side, "mean": [0.0] * 3, "std": [1.0] * 3}
    return SavedModel(
        model=(model or Colours()).eval(),
        network={},
        classes=CLASSES,
        preprocessing=preprocessing,
        metrics={},
        sha256="",
    )


def looked(saved, rgb, label, fit="crop"):
    """Of a single label."""
    (result,) = map_classes(saved, rgb, [label], fit)
    return result


def spots(height=96, width=192):
    """Black; red in the top left eighth of the middle square, green in its bottom right eighth."""
    rgb = np.zeros((height, width, 3), np.uint8)
    middle = width // 2 - height // 2
    part = height // 4
    rgb[:part, middle : middle + part, 0] = 255
    rgb[-part:, middle + height - part : middle + height, 1] = 255
    return rgb


@pytest.mark.parametrize("fit", FITS)
def test_the_heat_of_a_class_lies_on_its_own_spot(fit):
    rgb = spots()
    for channel, label in enumerate(("red", "green")):
        result = looked(saved(), rgb, label, fit)
        np.testing.assert_array_equal(result.picture, rgb)
        assert result.heat.shape == rgb.shape[:2]
        assert result.heat.max().item() == pytest.approx(1, abs=0.02)
        hot, spot = result.heat > 0.5, torch.from_numpy(rgb[..., channel] > 0)
        assert (hot & spot).sum() > 0.8 * hot.sum()  # not elsewhere
        assert (hot & spot).sum() > 0.5 * spot.sum()


def test_a_class_that_nothing_speaks_for_leaves_the_picture_cold():
    result = looked(saved(), spots(), "blue")
    assert result.heat.max() == 0
    assert result.coarse == [[0.0] * 8] * 8


def test_the_coarse_map_is_the_network_s_own_divided_by_its_largest_number():
    rgb = np.zeros((SIDE, SIDE, 3), np.uint8)
    rgb[:4, :4, 0], rgb[4:8, :4, 0] = 100, 50
    coarse = looked(saved(), rgb, "red").coarse
    assert (len(coarse), len(coarse[0])) == (8, 8)
    assert [row[0] for row in coarse] == pytest.approx([1, 0.5, 0, 0, 0, 0, 0, 0])
    assert sum(map(sum, coarse)) == pytest.approx(1.5)


@pytest.mark.parametrize(("height", "width", "kept"), [(1024, 700, (1024, 700)),
                                                       (1100, 2200, (512, 1024)),
                                                       (4000, 3, (1024, 1))])  # fmt: skip
def test_a_picture_over_1024_pixels_is_reduced_first_as_pil_does(height, width, kept):
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    result = looked(saved(), rgb, "red")
    size = kept[::-1]
    expected = Image.fromarray(rgb)
    if size != expected.size:
        expected = expected.resize(size, Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(result.picture, np.asarray(expected))
    assert tuple(result.heat.shape) == kept


@pytest.mark.parametrize("fit", FITS)
def test_several_labels_are_looked_for_at_once(fit):
    together = map_classes(saved(), spots(), ["green", "blue", "red"], fit)
    for label, result in zip(["green", "blue", "red"], together, strict=True):
        alone = looked(saved(), spots(), label, fit)
        assert result.coarse == alone.coarse
        torch.testing.assert_close(result.heat, alone.heat)
        np.testing.assert_array_equal(result.picture, alone.picture)


def test_a_network_with_a_last_map_of_one_pixel_looks_somewhere_too():
    torch.manual_seed(0)
    result = looked(saved(build_model("vgg16", 3)), spots(), "green")
    assert len(result.coarse) >= 3
    assert result.heat.isfinite().all()


@pytest.mark.parametrize("label", ["yellow", "", None, 0, ["red"]])
def test_a_label_that_is_no_class_is_refused(label):
    with pytest.raises(ConfigError, match=r"^label must be one of red, green, blue, got "):
        looked(saved(), spots(), label)


def test_another_fit_is_refused():
    with pytest.raises(ConfigError, match=r"^fit must be one of crop, squash, pad, got 'fill'$"):
        looked(saved(), spots(), "red", "fill")
