"""ResNet-9 and its whitening stem."""

import pytest
import torch
from torch import nn

from resnet_demo.models import build_model
from resnet_demo.models.resnet9 import EXTRA_VARIANCE, STEM_BIAS, Residual, patches

RANDOM = torch.Generator().manual_seed(0)
SMOOTH = nn.functional.avg_pool2d(torch.randn(60, 3, 34, 34, generator=RANDOM), 3, 1) * 3


@pytest.fixture
def whitened():
    torch.manual_seed(0)
    model = build_model("resnet9")
    model.init_from_data(SMOOTH)
    return model


@pytest.mark.parametrize(
    ("name", "layers", "residual"),
    [("resnet9", 9, [1, 1, 2]), ("resnet9-wide", 9, [1, 1, 2]), ("resnet11", 11, [2, 2, 2])],
)
def test_the_number_of_layers_is_in_the_name(name, layers, residual):
    model = build_model(name)
    weighted = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    stages = (model.stage1, model.stage2, model.stage3)
    assert len(weighted) == layers
    assert [sum(isinstance(m, Residual) for m in stage) for stage in stages] == residual


def test_a_residual_convolution_of_zeros_is_the_identity(whitened):
    block = whitened.stage3[1]
    nn.init.zeros_(block.branch.bn.weight)
    x = torch.randn(2, 224, 3, 3)
    torch.testing.assert_close(block(x), x)


def test_patches_are_the_two_by_two_windows_channel_by_channel():
    images = torch.arange(2 * 3 * 3 * 4).float().view(2, 3, 3, 4)
    rows = patches(images)
    assert rows.shape == (2 * 2 * 3, 12)
    first = images[0, :, :2, :2]  # the window in the upper left corner
    assert torch.equal(rows[0], first.flatten())
    torch.testing.assert_close(rows, nn.functional.unfold(images, 2).mT.reshape(-1, 12))


def test_the_stem_outputs_are_uncorrelated_and_of_equal_variance(whitened):
    before = patches(SMOOTH)
    after = nn.functional.conv2d(SMOOTH, whitened.stem.weight)[:, :12].permute(0, 2, 3, 1)
    after = after.reshape(-1, 12)
    variances = torch.linalg.eigvalsh(before.T @ before / len(before))
    assert variances.max() / variances.min() > 5  # the patches are not white to begin with
    moments = after.T @ after / len(after)
    torch.testing.assert_close(
        moments, torch.diag(variances / (variances + EXTRA_VARIANCE)), atol=1e-4, rtol=1e-3
    )


def test_every_direction_has_its_opposite(whitened):
    first, second = whitened.stem.weight.chunk(2)
    assert torch.equal(first, -second)


def test_whitening_does_not_depend_on_the_chunk_size(whitened, monkeypatch):
    weight = whitened.stem.weight.clone()
    monkeypatch.setattr("resnet_demo.models.resnet9.CHUNK", 7)
    whitened.init_from_data(SMOOTH)
    signs = torch.sign((whitened.stem.weight * weight).sum((1, 2, 3), keepdim=True))
    torch.testing.assert_close(whitened.stem.weight * signs, weight)


def test_without_batch_norm_the_stem_has_no_biases():
    model = build_model("resnet9", batch_norm=False)
    model.init_from_data(SMOOTH)
    assert not model.stem.bias.any()


def test_training_changes_no_stem_weight_and_needs_no_gradient_of_its_map(whitened):
    before = {name: tensor.clone() for name, tensor in whitened.stem.state_dict().items()}
    assert torch.equal(before["bias"], torch.full((24,), STEM_BIAS))
    seen = []
    whitened.stem.register_forward_hook(lambda _, __, y: seen.append(y))
    learned = [p for p in whitened.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=0.1)
    whitened(SMOOTH[:8]).square().sum().backward()
    optimizer.step()
    assert not seen[0].requires_grad
    assert len(learned) == len(list(whitened.parameters())) - 2
    torch.testing.assert_close(whitened.stem.state_dict(), before, rtol=0, atol=0)
