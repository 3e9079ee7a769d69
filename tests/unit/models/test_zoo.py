"""All networks by name."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resnet_demo.architectures import (
    CIFAR_DEPTHS,
    MODELS,
    RESNET9_MODELS,
    STEMS,
)
from resnet_demo.errors import ConfigError
from resnet_demo.models import build_model
from resnet_demo.models.measure import count_parameters
from resnet_demo.models.zoo import BUILDERS

# One depth stands for all of its kind, which differ in the number of blocks only.
KINDS = [
    name
    for name in MODELS
    if name not in {f"{kind}{depth}" for kind in ("resnet", "plain") for depth in CIFAR_DEPTHS[1:]}
]
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def of_kind(model, kind):
    return [module for module in model.modules() if isinstance(module, kind)]


def test_every_known_name_has_a_builder():
    assert BUILDERS.keys() == set(MODELS)


@pytest.mark.parametrize("name", KINDS)
def test_every_network_trains_a_step(name):
    torch.manual_seed(0)
    model = build_model(name, num_classes=7)
    before = model.head.weight.clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    logits = model(IMAGES)
    F.cross_entropy(logits, torch.tensor([0, 6])).backward()
    optimizer.step()
    assert logits.shape == (2, 7)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert all(parameter.grad.isfinite().all() for parameter in learned)
    assert not torch.equal(model.head.weight, before)


@pytest.mark.parametrize("name", KINDS)
def test_logits_are_the_head_of_the_mean_of_the_features(name):
    torch.manual_seed(0)
    model = build_model(name).train()  # batch statistics: the running ones are still empty
    features = model.features(IMAGES)
    assert features.shape[:2] == (2, model.head.in_features)
    maps = torch.einsum("bchw,kc->bkhw", features, model.head.weight)
    torch.testing.assert_close(model(IMAGES), maps.mean((2, 3)) + model.head.bias)


@pytest.mark.parametrize("order", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("name", ["resnet9", "resnet18", "resnet20"])
def test_the_gradient_of_the_features_has_their_memory_format(name, order, monkeypatch):
    model = build_model(name).to(memory_format=order)
    features, seen = model.features, []

    def features_with_hook(x):
        maps = features(x)
        maps.register_hook(lambda gradient: seen.append((maps, gradient)))
        return maps

    monkeypatch.setattr(model, "features", features_with_hook)
    x = IMAGES.contiguous(memory_format=order)
    F.cross_entropy(model(x), torch.tensor([0, 6])).backward()
    ((maps, gradient),) = seen
    assert min(maps.shape[2:]) > 1
    assert maps.is_contiguous(memory_format=order)
    assert gradient.is_contiguous(memory_format=order)


@pytest.mark.parametrize("name", KINDS)
def test_without_batch_norm_every_convolution_has_a_bias_instead(name):
    model = build_model(name, batch_norm=False)
    assert not of_kind(model, nn.BatchNorm2d)
    assert all(conv.bias is not None for conv in of_kind(model, nn.Conv2d))
    assert model(IMAGES).shape == (2, 10)


@pytest.mark.parametrize("name", KINDS)
def test_before_batch_norm_only_the_article_has_a_bias(name):
    model = build_model(name)
    convolutions = of_kind(model, nn.Conv2d)
    if name in RESNET9_MODELS:
        stem = convolutions.pop(0)  # whitens, and needs no BatchNorm
        assert stem.bias is not None
    assert len(of_kind(model, nn.BatchNorm2d)) == len(convolutions)
    biased = {conv.bias is not None for conv in convolutions}
    assert biased == {name == "resnet34-article"}


@pytest.mark.parametrize("name", ["resnet18", "resnet20", "vgg16"])
def test_first_weights_are_normal_with_he_s_deviation(name):
    torch.manual_seed(0)
    conv = of_kind(build_model(name), nn.Conv2d)[-1]
    fan_out = conv.out_channels * 9
    torch.testing.assert_close(conv.weight.std().item(), (2 / fan_out) ** 0.5, rtol=0.02, atol=0)


def test_initial_weights_of_the_article_are_pytorchs_defaults():
    torch.manual_seed(0)
    conv = of_kind(build_model("resnet34-article"), nn.Conv2d)[-1]
    bound = (conv.in_channels * 9) ** -0.5  # uniform, 1 / sqrt(fan-in)
    assert conv.weight.abs().max() <= bound
    torch.testing.assert_close(conv.weight.std().item(), bound / 3**0.5, rtol=0.01, atol=0)


def test_the_article_has_21298314_parameters():
    assert count_parameters(build_model("resnet34-article")) == 21_298_314


@pytest.mark.parametrize("size", [224, 200])
def test_the_articles_last_map_is_7x7(size):
    with torch.device("meta"):
        features = build_model("resnet34-article").features(torch.empty(1, 3, size, size))
    assert features.shape == (1, 512, 7, 7)


@pytest.mark.parametrize(
    ("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)]
)
def test_cifar_resnets_have_the_sizes_of_table_6(depth, millions):
    counted = count_parameters(build_model(f"resnet{depth}")) / 1e6
    assert round(counted, 1 if depth == 110 else 2) == millions


@pytest.mark.parametrize("depth", CIFAR_DEPTHS)
def test_depth_counts_the_layers_with_weights(depth):
    model = build_model(f"resnet{depth}")
    assert len(of_kind(model, nn.Conv2d)) + len(of_kind(model, nn.Linear)) == depth


@pytest.mark.parametrize("depth", CIFAR_DEPTHS)
def test_plain_and_residual_networks_have_the_same_parameters(depth):
    def shapes(name):
        return {key: value.shape for key, value in build_model(name).state_dict().items()}

    assert shapes(f"plain{depth}") == shapes(f"resnet{depth}")


def test_plain_and_residual_networks_compute_different_logits():
    torch.manual_seed(0)
    residual, plain = build_model("resnet20").eval(), build_model("plain20").eval()
    plain.load_state_dict(residual.state_dict())
    assert not torch.allclose(residual(IMAGES), plain(IMAGES))


def test_vgg16_has_thirteen_convolutions_and_five_pools():
    model = build_model("vgg16")
    assert len(of_kind(model, nn.Conv2d)) == 13
    assert len(of_kind(model, nn.MaxPool2d)) == 5
    assert model.features(IMAGES).shape == (2, 512, 1, 1)


@pytest.mark.parametrize(("stem", "side"), [("small", 4), ("imagenet", 1)])
def test_the_stem_decides_the_size_of_the_last_map(stem, side):
    assert build_model("resnet18", stem=stem).features(IMAGES).shape == (2, 512, side, side)


@pytest.mark.parametrize("stem", STEMS)
def test_networks_with_a_fixed_stem_ignore_the_option(stem):
    assert build_model("resnet9", stem=stem).features(IMAGES).shape[-1] == 3


@pytest.mark.parametrize("name", ["resnet19", "", None, ["resnet20"]])
def test_an_unknown_network_is_refused(name):
    with pytest.raises(ConfigError, match=r"^model must be one of resnet9, .*, got ") as refused:
        build_model(name)
    assert refused.value.field == "model"


def test_an_unknown_stem_is_refused():
    with pytest.raises(ConfigError, match="stem must be one of small, imagenet, got 'large'"):
        build_model("resnet18", stem="large")


def test_the_package_offers_nothing_else():
    with pytest.raises(ImportError, match="build_network"):
        from resnet_demo.models import build_network  # noqa: F401


STAGE_CASES = [(name, STEMS[0]) for name in KINDS] + [("resnet18", stem) for stem in STEMS[1:]]


def stage_outputs(model, x):
    """Return the outputs of the stages as (name, output) in order, and the features."""
    seen = []
    for name in model.stage_names:
        model.get_submodule(name).register_forward_hook(
            lambda _, __, y, name=name: seen.append((name, y))
        )
    return seen, model.features(x)


@pytest.mark.parametrize(("name", "stem"), STAGE_CASES)
def test_the_stages_run_in_order_from_the_stem_to_the_features(name, stem):
    with torch.device("meta"):
        model, x = build_model(name, stem=stem), torch.empty(1, 3, 64, 64)
    seen, features = stage_outputs(model, x)
    assert tuple(name for name, _ in seen) == model.stage_names
    assert len(seen) >= 4
    assert seen[-1][1] is features
    sides = [y.shape[-1] for _, y in seen]
    assert sides == sorted(sides, reverse=True)
    assert len(set(sides)) >= 3  # most stages have a size of their own


def test_stage_names_are_not_in_the_state():
    with torch.device("meta"):
        model = build_model("resnet20")
    assert not any("stage_names" in name for name in model.state_dict())
