import pytest
import torch
from torch import nn

from resnet_demo.errors import ConfigError
from resnet_demo.learn.surgery import block_names, operated, removable
from resnet_demo.models.blocks import BasicBlock
from resnet_demo.models.layers import Layers
from resnet_demo.models.resnet import ResNet
from resnet_demo.models.zoo import build_model


@pytest.fixture
def images():
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def trained(model):
    """As if trained: running statistics that are no zeros and ones."""
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(8, 3, 16, 16))
    return model.eval()


@pytest.mark.parametrize("name", ["resnet20", "plain20", "resnet18", "resnet50", "resnet9"])
def test_at_full_strength_nothing_changes(name, images):
    model = trained(build_model(name))
    torch.testing.assert_close(operated(model)(images), model(images))
    torch.testing.assert_close(operated(model, 1.0, ())(images), model(images))


@pytest.mark.parametrize("shortcut", ["padding", "projection", "none"])
def test_without_a_block_it_is_a_network_built_without_that_block(shortcut, images):
    """The block behind the first of its stage keeps the shape, and what enters is not negative."""
    layers = Layers(shortcut=shortcut)
    whole = trained(ResNet(BasicBlock, (2, 3), (8, 16), 10, "small", layers))
    less = ResNet(BasicBlock, (2, 2), (8, 16), 10, "small", layers).eval()
    weights = whole.state_dict()
    moved = {  # block 1 of stage 1 is not there, block 2 takes its place
        name.replace("stages.1.2.", "stages.1.1."): value
        for name, value in weights.items()
        if not name.startswith("stages.1.1.")
    }
    less.load_state_dict(moved)
    torch.testing.assert_close(operated(whole, dropped=["stages.1.1"])(images), less(images))


def test_a_block_that_changes_the_shape_leaves_its_shortcut(images):
    model = trained(build_model("resnet20"))
    cut = operated(model, dropped=["stages.1.0"])
    entry = model.stages[0](model.stem(images))
    torch.testing.assert_close(cut.stages[1][0](entry), model.stages[1][0].shortcut(entry).relu())


def test_strength_scales_the_branch_and_nothing_else(images):
    model = trained(build_model("resnet20"))
    x = torch.rand(2, 16, 8, 8)
    block, half = model.stages[0][1], operated(model, 0.5).stages[0][1]
    torch.testing.assert_close(half(x), (0.5 * block.branch(x) + x).relu())
    plain = trained(build_model("plain20"))
    block, half = plain.stages[0][1], operated(plain, 0.5).stages[0][1]
    torch.testing.assert_close(half(x), (0.5 * block.branch(x)).relu())
    nine = trained(build_model("resnet9"))
    block, half = nine.stage1[1], operated(nine, 0.5).stage1[1]
    y = torch.randn(2, 64, 4, 4)
    torch.testing.assert_close(half(y), y + 0.5 * block.branch(y))


def test_the_patient_is_left_as_it_was(images):
    model = trained(build_model("resnet20"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    said = model(images)
    operated(model, 0.3, ["stages.0.1"])(images)
    torch.testing.assert_close(model(images), said)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(isinstance(module, nn.Identity) for module in model.stages[0])


def test_which_blocks_can_go():
    residual, plain = build_model("resnet20"), build_model("plain20")
    assert len(block_names(residual)) == len(block_names(plain)) == 9
    assert removable(residual) == block_names(residual)
    assert set(block_names(plain)) - set(removable(plain)) == {"stages.1.0", "stages.2.0"}
    assert removable(build_model("vgg16")) == []
    assert removable(build_model("resnet9")) == ["stage1.1", "stage2.1", "stage3.1", "stage3.2"]


@pytest.mark.parametrize("name", ["stages.1.0", "stem", "nothing", ""])
def test_what_cannot_go_is_refused(name):
    with pytest.raises(ConfigError, match="dropped must be blocks that can be left out"):
        operated(build_model("plain20"), dropped=[name])
