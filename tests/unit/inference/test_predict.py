"""Predictions over the images of a split, and the model's mode meanwhile."""

import pytest
import torch
from torch import nn

from resnet_demo.errors import StoppedError
from resnet_demo.inference.predict import Embedder, model_mode, predict
from resnet_demo.models.zoo import build_model

IMAGES = torch.randint(
    0, 256, (13, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def prepare(images):
    return images.permute(0, 3, 1, 2).float() / 255


@pytest.fixture
def model():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 7)
    return nn.Sequential(*layers).eval()


def test_predictions_do_not_depend_on_the_batches(model):
    expected = model(prepare(IMAGES)).detach()
    for batch_size in (1, 4, 6, 13, 500):  # 4 and 6 leave one image over
        torch.testing.assert_close(predict(model, prepare, IMAGES, batch_size), expected)


def test_predictions_are_float32_whatever_the_network_computes_in(model):
    logits = predict(model.bfloat16(), lambda images: prepare(images).bfloat16(), IMAGES)
    assert (logits.dtype, logits.shape) == (torch.float32, (13, 7))


def test_predicting_uses_evaluation_mode_and_changes_nothing(model):
    expected = predict(model, prepare, IMAGES)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    torch.testing.assert_close(predict(model, prepare, IMAGES), expected)
    assert model.training
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_training_mode_normalizes_by_the_batch_and_moves_the_running_statistics(model):
    before = model[1].running_mean.clone()
    in_order = predict(model, prepare, IMAGES, 6, training_mode=True)
    shuffled = predict(model, prepare, IMAGES.flip(0), 6, training_mode=True).flip(0)
    assert not torch.allclose(in_order, shuffled)  # the article's score depends on the order
    assert not torch.allclose(model[1].running_mean, before)
    assert not model.training


def test_training_mode_never_gets_a_single_pixel_of_a_single_image():
    layers = nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 7)
    logits = predict(nn.Sequential(*layers), prepare, IMAGES, 4, training_mode=True)
    assert logits.shape == (13, 7)


def test_progress_is_reported_after_each_batch(model):
    progress = []
    predict(model, prepare, IMAGES, 5, on_batch=lambda *done: progress.append(done))
    assert progress == [(5, 13), (10, 13), (13, 13)]


def test_stopping_ends_it_and_restores_the_mode(model):
    def stop(done, total):
        raise StoppedError("stopped")

    model.train()
    with pytest.raises(StoppedError):
        predict(model, prepare, IMAGES, 5, on_batch=stop)
    assert model.training


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("before", [True, False])
def test_the_models_mode_is_restored_also_after_an_error(model, training, before):
    model.train(before)
    with model_mode(model, training):
        assert model.training == training
    assert model.training == before
    with pytest.raises(RuntimeError), model_mode(model, training):
        model(torch.zeros(1, 5, 8, 8))  # five channels instead of three
    assert model.training == before


def test_a_wrapper_around_a_network_leaves_every_layer_in_its_mode():
    network = build_model("resnet8").eval()
    expected = network.embed(prepare(IMAGES)).detach()
    network.head.train()
    torch.testing.assert_close(predict(Embedder(network), prepare, IMAGES), expected)
    assert [name for name, layer in network.named_modules() if layer.training] == ["head"]
