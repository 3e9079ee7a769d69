"""Parameters and multiply-adds by name."""

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from resnet_demo.architectures import CIFAR_DEPTHS, MODELS, STEM_CHOICE_MODELS, STEMS
from resnet_demo.errors import ConfigError
from resnet_demo.models import build_model, measure
from resnet_demo.models.counts import Counts, load_table, model_counts, row_key
from resnet_demo.models.measure import count_model

VARIANTS = [
    (name, stem, batch_norm)
    for name, stem, batch_norm in product(MODELS, STEMS, (True, False))
    if stem == "small" or name in STEM_CHOICE_MODELS
]
# The same code with another number of blocks: their counts lie on a line.
OTHER_DEPTHS = {f"{kind}{depth}" for kind in ("resnet", "plain") for depth in CIFAR_DEPTHS[1:-1]}


def torch_counts(model, image_size):
    """Return the counts by PyTorch; a multiply-add is two floating point operations."""
    outputs = []
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda _, __, y: outputs.append(y.numel()))
    with FlopCounterMode(display=False) as flops:
        model(torch.empty(1, 3, image_size, image_size, device="meta"))
    parameters = sum(parameter.numel() for _, parameter in model.named_parameters())
    return Counts(parameters, flops.get_total_flops() // 2, sum(outputs))


@pytest.mark.parametrize(
    ("name", "stem", "batch_norm"), [each for each in VARIANTS if each[0] not in OTHER_DEPTHS]
)
def test_the_table_agrees_with_pytorchs_counter(name, stem, batch_norm):
    with torch.device("meta"):
        model = build_model(name, 7, stem=stem, batch_norm=batch_norm).eval()
    image_size = 45 if batch_norm else 32  # odd sizes round in every stage
    counts = model_counts(name, 7, image_size, stem, batch_norm)
    assert counts == torch_counts(model, image_size)


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(STEM_CHOICE_MODELS)))
def test_the_stem_option_does_not_change_networks_with_a_fixed_stem(name):
    assert model_counts(name, stem="imagenet") == model_counts(name)


@pytest.mark.parametrize("name", ["resnet9", "resnet20", "resnet50", "resnet34-article", "vgg16"])
@pytest.mark.parametrize("image_size", [33, 63, 96])
def test_measured_and_stored_counts_agree(name, image_size):
    measured = count_model(build_model(name, 100), image_size)
    assert measured == model_counts(name, 100, image_size)


def test_counting_does_not_change_the_network():
    model = build_model("resnet20").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count_model(model, 32)
    assert model.training
    torch.testing.assert_close(model.state_dict(), before)


def test_the_stored_table_is_current(monkeypatch):
    assert load_table().keys() == {row_key(*each) for each in VARIANTS}
    names = ("resnet9", "resnet8", "plain20", "resnet18", "vgg16", "efficientnet-lite0")
    monkeypatch.setattr(measure, "MODELS", names)
    rows = dict(measure.table_rows())
    assert len(rows) == 14
    assert rows == {key: load_table()[key] for key in rows}


@pytest.mark.parametrize("kind", ["resnet", "plain"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_counts_grow_by_the_same_number_with_each_block(kind, batch_norm):
    def counts(depth):
        found = model_counts(f"{kind}{depth}", 10, 45, batch_norm=batch_norm)
        return np.array([found.parameters, found.macs, found.outputs])

    first, *_, last = CIFAR_DEPTHS
    for depth in CIFAR_DEPTHS:
        grown = (counts(last) - counts(first)) * (depth - first) // (last - first)
        assert (counts(depth) == counts(first) + grown).all(), depth


def test_published_multiply_adds():
    assert model_counts("resnet50", 1000, 224, "imagenet").macs == 4_089_184_256  # "4.1 GMACs"
    resnet34 = model_counts("resnet34", 1000, 224, "imagenet")
    assert round(resnet34.macs / 1e9, 1) == 3.7  # 3.6 in table 1 of He et al.


@pytest.mark.parametrize("arguments", [{"name": "resnet19"}, {"name": "vgg16", "stem": "large"}])
def test_unknown_names_are_refused(arguments):
    with pytest.raises(ConfigError, match="must be one of"):
        model_counts(**arguments)


def test_counts_and_descriptions_do_not_import_torch():
    program = (
        "import sys, resnet_demo.models.counts as c, resnet_demo.models.description;"
        "c.model_counts('resnet9'); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
