import pytest
import torch

from resnet_demo.inference.feature_maps import record_outputs
from resnet_demo.inference.predict import model_mode
from resnet_demo.models import build_model


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_model("resnet20").eval()


def hooks(model):
    return [module for module in model.modules() if module._forward_hooks]


def test_what_a_stage_puts_out_is_kept(model):
    x = torch.randn(2, 3, 8, 8)
    with torch.inference_mode(), record_outputs(model, ["stem", "stages.2"]) as outputs:
        logits = model(x)
    assert list(outputs) == ["stem", "stages.2"]
    torch.testing.assert_close(outputs["stem"], model.stem(x))
    torch.testing.assert_close(model.head(outputs["stages.2"].mean((2, 3))), logits)


def test_no_hook_stays_whatever_happens(model):
    with record_outputs(model, model.stage_names):
        assert len(hooks(model)) == 4
    assert hooks(model) == []
    with pytest.raises(RuntimeError), record_outputs(model, model.stage_names):
        model(torch.zeros(1, 5, 8, 8))  # of five channels
    assert hooks(model) == []


def test_a_name_that_is_not_there_is_refused_before_anything_is_hooked(model):
    with pytest.raises(AttributeError, match="prep"), record_outputs(model, ["stem", "prep"]):
        pass
    assert hooks(model) == []


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_back_afterwards(model, training):
    model.train(training)
    with model_mode(model):
        assert not model.training
    assert model.training == training
    with pytest.raises(RuntimeError), model_mode(model):
        model(torch.zeros(1, 5, 8, 8))
    assert model.training == training
