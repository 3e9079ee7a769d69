import pytest
import torch

from resnet_demo.analysis.inside import strongest_maps
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
