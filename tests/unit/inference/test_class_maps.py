"""Class maps of networks whose evidence is known, by CAM and Grad-CAM."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from resnet_demo.data.pictures import FITS
from resnet_demo.errors import ConfigError
from resnet_demo.inference.class_maps import (
    cam,
    class_maps,
    grad_cam,
    last_large_stage,
    map_classes,
)
from resnet_demo.inference.heatmaps import heatmap
from resnet_demo.models import build_model
from resnet_demo.models.layers import Network
from resnet_demo.models.saved import SavedModel

NAN = float("nan")
X = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([[0, 6], [3, 3], [5, 1]])


def network(name):
    torch.manual_seed(0)
    return build_model(name, 7).eval()


class Peak(Network):
    """Network that ends in the maximum of each channel, not in the mean."""

    stage_names = ("stem",)

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 7)

    def forward(self, x):
        return self.head(self.stem(x).amax((2, 3)))


@pytest.mark.parametrize("name", ["resnet9", "resnet20", "vgg16"])
def test_the_mean_of_a_map_plus_the_bias_is_the_logit(name):
    model = network(name)
    maps = cam(model.features(X), model.head, CLASSES)
    logits = maps.mean((2, 3)) + model.head.bias[CLASSES]
    torch.testing.assert_close(logits, model(X).gather(1, CLASSES))
    assert not maps.requires_grad


def test_a_map_of_one_image_does_not_depend_on_the_others():
    model = network("resnet20")
    alone = cam(model.features(X[1:2]), model.head, CLASSES[1:2])
    together = cam(model.features(X), model.head, CLASSES)
    torch.testing.assert_close(alone[0], together[1])


@pytest.mark.parametrize(("name", "stage"), [("resnet20", "stages.2"), ("vgg16", "stages.4")])
def test_after_the_last_stage_grad_cam_is_the_class_map_over_its_pixels(name, stage):
    model = network(name)
    features = model.features(X)
    expected = cam(features, model.head, CLASSES) / features[0, 0].numel()
    maps = grad_cam(model, X, CLASSES, stage)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-7)


def test_after_an_earlier_stage_channels_count_by_their_mean_gradient():
    model = network("resnet20")

    def logit(activation):
        return model.head(model.stages[1:](activation).mean((2, 3)))[0, 6]

    activation = model.stages[0](model.stem(X[:1])).detach()
    weights = torch.func.grad(logit)(activation).mean((2, 3))[0]
    expected = sum(weight * plane for weight, plane in zip(weights, activation[0], strict=True))
    torch.testing.assert_close(grad_cam(model, X, CLASSES, "stages.0")[0, 1], expected)


def test_grad_cam_works_on_a_network_that_does_not_end_in_a_mean():
    model = Peak()
    activation = model.stem(X)  # (…, 30, 30); one pixel has all of the gradient
    expected = cam(activation, model.head, CLASSES) / 900
    torch.testing.assert_close(grad_cam(model, X, CLASSES), expected)


def test_without_a_stage_the_last_one_with_a_large_map_is_used():
    model = network("vgg16")  # 32 pixels become 16, 8, 4, 2 and 1 after its stages
    torch.testing.assert_close(
        grad_cam(model, X, CLASSES), grad_cam(model, X, CLASSES, "stages.2"), rtol=0, atol=0
    )
    assert grad_cam(network("resnet20"), X, CLASSES).shape == (3, 2, 8, 8)
    small = {"first": torch.ones(1, 1, 2, 2), "last": torch.ones(1, 1, 1, 1)}
    assert last_large_stage(small) == "first"


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("without_gradients", [torch.inference_mode, torch.no_grad])
def test_grad_cam_works_without_gradients_around_it_and_leaves_none_behind(
    frozen, without_gradients
):
    model = network("resnet20")
    expected = grad_cam(model, X, CLASSES)
    model.train().requires_grad_(not frozen)
    with without_gradients():
        maps = grad_cam(model, X * 1, CLASSES * 1)
    torch.testing.assert_close(maps, expected)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not maps.requires_grad


def test_a_network_that_computes_nan_has_no_heat():
    model = network("resnet20")
    nn.init.constant_(model.head.weight, NAN)
    for maps in (cam(model.features(X), model.head, CLASSES), grad_cam(model, X, CLASSES)):
        assert heatmap(maps, 8).count_nonzero() == 0


@pytest.mark.parametrize("name", ["resnet9", "resnet20"])
def test_a_network_that_ends_in_a_mean_is_mapped_by_cam(name):
    model = network(name).train()
    with torch.inference_mode():
        maps = class_maps(model, X, CLASSES)
    assert model.training
    features = model.eval().features(X)
    torch.testing.assert_close(maps, cam(features, model.head, CLASSES))


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_other_networks_and_maps_of_one_pixel_use_grad_cam(context):
    torch.manual_seed(0)
    for model in (network("vgg16"), Peak().eval()):
        with context():
            maps = class_maps(model, X, CLASSES)
        assert min(maps.shape[2:]) >= 3
        torch.testing.assert_close(maps, grad_cam(model, X, CLASSES))
        assert all(parameter.grad is None for parameter in model.parameters())


# --- ClassMap

LABELS = ("red", "green", "blue")
SIDE = 32


class Colours(Network):
    """Network whose features are the three colour channels, so class k is where colour k is."""

    def __init__(self):
        super().__init__()
        self.stem = nn.AvgPool2d(4)
        self.head = nn.Linear(3, 3)
        nn.init.eye_(self.head.weight)

    def features(self, x):
        return self.stem(x)


def saved_model(model=None, side=SIDE):
    preprocessing = {"source_size": side, "image_size": side, "mean": [0.0] * 3, "std": [1.0] * 3}
    return SavedModel(
        model=(model or Colours()).eval(),
        network={},
        classes=LABELS,
        preprocessing=preprocessing,
        metrics={},
        sha256="",
    )


def map_class(saved, rgb, label, fit="crop"):
    """Return the map of a single label."""
    (result,) = map_classes(saved, rgb, [label], fit)
    return result


def two_spots(height=96, width=192):
    """Return black with a red spot top left in the middle square, a green one bottom right."""
    rgb = np.zeros((height, width, 3), np.uint8)
    middle = width // 2 - height // 2
    part = height // 4
    rgb[:part, middle : middle + part, 0] = 255
    rgb[-part:, middle + height - part : middle + height, 1] = 255
    return rgb


@pytest.mark.parametrize("fit", FITS)
def test_the_heat_of_a_class_is_on_its_own_spot(fit):
    rgb = two_spots()
    for channel, label in enumerate(("red", "green")):
        result = map_class(saved_model(), rgb, label, fit)
        np.testing.assert_array_equal(result.picture, rgb)
        assert result.heat.shape == rgb.shape[:2]
        assert result.heat.max().item() == pytest.approx(1, abs=0.02)
        hot, spot = result.heat > 0.5, torch.from_numpy(rgb[..., channel] > 0)
        assert (hot & spot).sum() > 0.8 * hot.sum()  # not elsewhere
        assert (hot & spot).sum() > 0.5 * spot.sum()


def test_a_class_without_evidence_has_no_heat():
    result = map_class(saved_model(), two_spots(), "blue")
    assert result.heat.max() == 0
    assert result.coarse == [[0.0] * 8] * 8


def test_the_coarse_map_is_the_networks_own_divided_by_its_maximum():
    rgb = np.zeros((SIDE, SIDE, 3), np.uint8)
    rgb[:4, :4, 0], rgb[4:8, :4, 0] = 100, 50
    coarse = map_class(saved_model(), rgb, "red").coarse
    assert (len(coarse), len(coarse[0])) == (8, 8)
    assert [row[0] for row in coarse] == pytest.approx([1, 0.5, 0, 0, 0, 0, 0, 0])
    assert sum(map(sum, coarse)) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("height", "width", "reduced"),
    [(1024, 700, (1024, 700)), (1100, 2200, (512, 1024)), (4000, 3, (1024, 1))],
)
def test_a_picture_over_1024_pixels_is_reduced_as_by_pil(height, width, reduced):
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    result = map_class(saved_model(), rgb, "red")
    size = reduced[::-1]
    expected = Image.fromarray(rgb)
    if size != expected.size:
        expected = expected.resize(size, Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(result.picture, np.asarray(expected))
    assert tuple(result.heat.shape) == reduced


@pytest.mark.parametrize("fit", FITS)
def test_several_labels_have_the_maps_that_each_has_alone(fit):
    together = map_classes(saved_model(), two_spots(), ["green", "blue", "red"], fit)
    for label, result in zip(["green", "blue", "red"], together, strict=True):
        alone = map_class(saved_model(), two_spots(), label, fit)
        assert result.coarse == alone.coarse
        torch.testing.assert_close(result.heat, alone.heat)
        np.testing.assert_array_equal(result.picture, alone.picture)


def test_a_network_with_a_last_map_of_one_pixel_has_maps_too():
    torch.manual_seed(0)
    result = map_class(saved_model(build_model("vgg16", 3)), two_spots(), "green")
    assert len(result.coarse) >= 3
    assert result.heat.isfinite().all()


@pytest.mark.parametrize("label", ["yellow", "", None, 0, ["red"]])
def test_an_unknown_label_is_refused(label):
    with pytest.raises(ConfigError, match=r"^label must be one of red, green, blue, got "):
        map_class(saved_model(), two_spots(), label)


def test_an_unknown_fit_is_refused():
    with pytest.raises(ConfigError, match=r"^fit must be one of crop, squash, pad, got 'fill'$"):
        map_class(saved_model(), two_spots(), "red", "fill")
