import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from resnet_demo.inference.class_maps import cam, class_maps, grad_cam, last_large_stage
from resnet_demo.inference.heatmaps import enlarge, heatmap
from resnet_demo.models import build_model
from resnet_demo.models.layers import Network

NAN, INF = float("nan"), float("inf")
X = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([[0, 6], [3, 3], [5, 1]])


def network(name):
    torch.manual_seed(0)
    return build_model(name, 7).eval()


class Peak(Network):
    """A network of another kind of end: the largest pixel of each channel, not the mean."""

    stage_names = ("stem",)

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 7)

    def forward(self, x):
        """(B, 3, H, W) -> (B, 7)."""
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


def test_grad_cam_of_a_network_with_another_end():
    model = Peak()
    activation = model.stem(X)  # of 30 x 30 pixels, one of which has all of the gradient
    expected = cam(activation, model.head, CLASSES) / 900
    torch.testing.assert_close(grad_cam(model, X, CLASSES), expected)


def test_without_a_stage_the_last_readable_one_is_taken():
    model = network("vgg16")  # of 32 pixels its stages leave 16, 8, 4, 2 and 1
    torch.testing.assert_close(
        grad_cam(model, X, CLASSES), grad_cam(model, X, CLASSES, "stages.2"), rtol=0, atol=0
    )
    assert grad_cam(network("resnet20"), X, CLASSES).shape == (3, 2, 8, 8)
    small = {"first": torch.ones(1, 1, 2, 2), "last": torch.ones(1, 1, 1, 1)}
    assert last_large_stage(small) == "first"


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("without_gradients", [torch.inference_mode, torch.no_grad])
def test_grad_cam_works_where_gradients_are_off_and_leaves_nothing_behind(
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


@pytest.mark.parametrize("size", [(9, 9), (16, 24)])
def test_maps_are_enlarged_as_pil_does(size):
    maps = torch.rand(2, 3, 4, 8, generator=torch.Generator().manual_seed(0))
    result = enlarge(maps, *size)
    picture = Image.fromarray(maps[1, 2].numpy())
    expected = picture.resize(size[::-1], Image.Resampling.BILINEAR)
    assert result.shape == (2, 3, *size)
    torch.testing.assert_close(
        result[1, 2], torch.from_numpy(np.array(expected)), rtol=1e-4, atol=1e-5
    )


def test_heat_goes_from_0_to_1_and_drops_what_speaks_against():
    rows = [[-8.0, 2.0], [1.0, 4.0]], [[-1.0, -2.0], [0.0, -3.0]], [[0.0, 9.0], [18.0, 0.0]]
    maps = torch.tensor(rows)
    hot = heatmap(maps, 2)
    assert hot[0].tolist() == [[0, 0.5], [0.25, 1]]
    assert hot[1].tolist() == [[0, 0], [0, 0]]
    assert hot[2].tolist() == [[0, 0.5], [1, 0]]
    large = heatmap(maps, 7)
    expected = F.relu(enlarge(maps, 7, 7)[0])
    torch.testing.assert_close(large[0], expected / expected.max())
    assert large[0].max() == 1


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_what_is_no_number_is_cold(value):
    maps = torch.tensor([[value, 1.0], [2.0, 0.0]])
    assert heatmap(maps, 2).tolist() == [[0, 0.5], [1, 0]]
    assert heatmap(torch.full((1, 1, 3, 3), value), 5).count_nonzero() == 0


def test_a_network_that_computes_nan_has_cold_maps():
    model = network("resnet20")
    nn.init.constant_(model.head.weight, NAN)
    for maps in (cam(model.features(X), model.head, CLASSES), grad_cam(model, X, CLASSES)):
        assert heatmap(maps, 8).count_nonzero() == 0


@pytest.mark.parametrize("name", ["resnet9", "resnet20"])
def test_a_network_that_ends_in_a_mean_is_looked_at_by_its_class_maps(name):
    model = network(name).train()
    with torch.inference_mode():
        maps = class_maps(model, X, CLASSES)
    assert model.training
    features = model.eval().features(X)
    torch.testing.assert_close(maps, cam(features, model.head, CLASSES))


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_a_last_map_of_a_single_pixel_and_another_end_are_looked_at_by_grad_cam(context):
    torch.manual_seed(0)
    for model in (network("vgg16"), Peak().eval()):
        with context():
            maps = class_maps(model, X, CLASSES)
        assert min(maps.shape[2:]) >= 3
        torch.testing.assert_close(maps, grad_cam(model, X, CLASSES))
        assert all(parameter.grad is None for parameter in model.parameters())
