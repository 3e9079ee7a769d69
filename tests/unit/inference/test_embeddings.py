"""The frozen backbone in its fast form, and the cache of embeddings."""

import numpy as np
import pytest
import torch
from torch import nn

from resnet_demo.inference.embeddings import (
    Backbone,
    EmbeddingCache,
    backbone_digest,
    folded_network,
)
from resnet_demo.inference.neighbours import embed
from resnet_demo.models import build_model

NETWORKS = [
    ("resnet8", {}),
    ("resnet9", {}),
    ("resnet18", {"stem": "imagenet"}),
    ("resnet34-article", {}),  # its convolutions have biases
    ("resnet8", {"batch_norm": False}),
    ("efficientnet-lite0", {}),
]


def trained(name, **options):
    """Return a network whose BatchNorm layers have seen something."""
    torch.manual_seed(0)
    model = build_model(name, 4, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_the_folded_backbone_computes_the_same_embeddings(name, options):
    model, x = trained(name, **options), torch.randn(2, 3, 40, 40)
    before = backbone_digest(model)
    backbone = Backbone(model, "float32", 40)
    left = [module for module in backbone.model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(left) == (3 if name == "resnet9" else 0)  # after pooling, whose input differs
    assert backbone_digest(model) == before  # the network itself stays as it is
    expected = embed(model, x)
    difference = (backbone.embed(x).float() - expected).abs().max()
    assert difference < 2e-3 * expected.abs().max()  # the embeddings are float16


@pytest.mark.parametrize(("name", "options"), NETWORKS)
def test_the_folded_network_computes_the_same_logits(name, options):
    model, x = trained(name, **options), torch.randn(2, 3, 64, 64)
    cpu = torch.device("cpu")
    folded = folded_network(model, 64, cpu)
    with torch.inference_mode():
        torch.testing.assert_close(folded(x), model(x), rtol=1e-3, atol=1e-4)
    assert folded is not model
    assert folded_network(model, 32, cpu) is model  # too small to be worth a copy


def test_bf16_is_close():
    model, x = trained("efficientnet-lite0"), torch.randn(1, 3, 32, 32)
    cosine = nn.functional.cosine_similarity(
        Backbone(model, "bf16", 32).embed(x).float(), embed(model, x)
    )
    assert cosine > 0.99


def test_the_digest_is_of_all_weights_but_the_heads():
    model = trained("resnet8")
    digest = backbone_digest(model)
    nn.init.zeros_(model.head.weight)
    assert backbone_digest(model) == digest
    model.stem.conv.weight.data[0, 0, 0, 0] += 1
    assert backbone_digest(model) != digest


def test_rows_come_back_by_their_position(tmp_path):
    rows = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float16)
    cache = EmbeddingCache(tmp_path, {"weights": "a"}, 10, 5)
    assert not cache.read(np.arange(10))[1].any()
    cache.write(np.array([7, 2, 4]), rows[:3])
    cache.write(np.array([9, 0, 1]), rows[3:])
    found, known = EmbeddingCache(tmp_path, {"weights": "a"}, 10, 5).read(np.array([0, 3, 7, 2]))
    assert known.tolist() == [True, False, True, True]
    assert (found[known] == rows[[4, 0, 1]]).all()
    assert not EmbeddingCache(tmp_path, {"weights": "b"}, 10, 5).read(np.arange(10))[1].any()
    assert not EmbeddingCache(tmp_path, {"weights": "a"}, 11, 5).read(np.arange(10))[1].any()


def test_without_a_folder_nothing_is_kept(tmp_path):
    cache = EmbeddingCache(None, {}, 3, 2)
    cache.write(np.array([1]), np.ones((1, 2), np.float16))
    cache.tidy()
    assert not cache.read(np.arange(3))[1].any()
