"""Network surgery: the changed networks, and their scores."""

from dataclasses import replace
from threading import Thread

import pytest
import torch
from torch import nn

from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, NotFoundError
from resnet_demo.evaluation.intervals import wilson_interval
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.predict import predict
from resnet_demo.learn.surgery import SurgeryEvaluator, apply_surgery, block_names, removable_blocks
from resnet_demo.models.layers import LayerOptions
from resnet_demo.models.resnet import BasicBlock, ResNet
from resnet_demo.models.zoo import build_model
from resnet_demo.paths import Paths


@pytest.fixture
def images():
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def trained(model):
    """Give the network running statistics other than zeros and ones, as if it was trained."""
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(8, 3, 16, 16))
    return model.eval()


@pytest.mark.parametrize("name", ["resnet20", "plain20", "resnet18", "resnet50", "resnet9"])
def test_at_strength_one_nothing_changes(name, images):
    model = trained(build_model(name))
    torch.testing.assert_close(apply_surgery(model)(images), model(images))
    torch.testing.assert_close(apply_surgery(model, 1.0, ())(images), model(images))


@pytest.mark.parametrize("shortcut", ["padding", "projection", "none"])
def test_a_dropped_block_gives_the_network_built_without_it(shortcut, images):
    # The second block of a stage keeps the shape, and its input is not negative.
    layers = LayerOptions(shortcut=shortcut)
    whole = trained(ResNet(BasicBlock, (2, 3), (8, 16), 10, "small", layers))
    less = ResNet(BasicBlock, (2, 2), (8, 16), 10, "small", layers).eval()
    weights = whole.state_dict()
    moved = {  # block 1 of stage 1 is not there, block 2 takes its place
        name.replace("stages.1.2.", "stages.1.1."): value
        for name, value in weights.items()
        if not name.startswith("stages.1.1.")
    }
    less.load_state_dict(moved)
    torch.testing.assert_close(apply_surgery(whole, dropped=["stages.1.1"])(images), less(images))


def test_a_dropped_block_that_changes_the_shape_leaves_its_shortcut(images):
    model = trained(build_model("resnet20"))
    changed = apply_surgery(model, dropped=["stages.1.0"])
    entry = model.stages[0](model.stem(images))
    torch.testing.assert_close(
        changed.stages[1][0](entry), model.stages[1][0].shortcut(entry).relu()
    )


def test_strength_scales_only_the_branch(images):
    model = trained(build_model("resnet20"))
    x = torch.rand(2, 16, 8, 8)
    block, half = model.stages[0][1], apply_surgery(model, 0.5).stages[0][1]
    torch.testing.assert_close(half(x), (0.5 * block.branch(x) + x).relu())
    plain = trained(build_model("plain20"))
    block, half = plain.stages[0][1], apply_surgery(plain, 0.5).stages[0][1]
    torch.testing.assert_close(half(x), (0.5 * block.branch(x)).relu())
    nine = trained(build_model("resnet9"))
    block, half = nine.stage1[1], apply_surgery(nine, 0.5).stage1[1]
    y = torch.randn(2, 64, 4, 4)
    torch.testing.assert_close(half(y), y + 0.5 * block.branch(y))


def test_surgery_does_not_change_the_network(images):
    model = trained(build_model("resnet20"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = model(images)
    apply_surgery(model, 0.3, ["stages.0.1"])(images)
    torch.testing.assert_close(model(images), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(isinstance(module, nn.Identity) for module in model.stages[0])


def test_removable_blocks_keep_the_shapes():
    residual, plain = build_model("resnet20"), build_model("plain20")
    assert len(block_names(residual)) == len(block_names(plain)) == 9
    assert removable_blocks(residual) == block_names(residual)
    assert set(block_names(plain)) - set(removable_blocks(plain)) == {"stages.1.0", "stages.2.0"}
    assert removable_blocks(build_model("vgg16")) == []
    assert removable_blocks(build_model("resnet9")) == [
        "stage1.1",
        "stage2.1",
        "stage3.1",
        "stage3.2",
    ]


@pytest.mark.parametrize("name", ["stages.1.0", "stem", "nothing", ""])
def test_a_block_that_cannot_be_removed_is_refused(name):
    with pytest.raises(ConfigError, match="dropped must be blocks that can be left out"):
        apply_surgery(build_model("plain20"), dropped=[name])


@pytest.fixture(scope="module")
def evaluator(finished, colours):
    return SurgeryEvaluator.of(Classifier.load(finished), Datasets(colours))


def test_without_surgery_the_score_is_the_network_s_top1(evaluator):
    model, prepare = evaluator.classifier.saved.model, evaluator.classifier.preprocessing.prepare
    correct = int((predict(model, prepare, evaluator.images).argmax(1) == evaluator.labels).sum())
    result = evaluator.score()
    assert (result.top1, result.n) == (correct / 30, 30)  # all test images
    assert result.interval == wilson_interval(correct, 30)


def test_a_score_is_that_of_the_changed_network(evaluator):
    model = evaluator.classifier.saved.model
    result = evaluator.score(0.0, ["stages.0.1"])
    assert result.top1 == evaluator.score(0.0).top1  # strength 0 drops every branch already
    scores = dict(evaluator.scores_without_each_block())
    assert list(scores) == evaluator.blocks
    assert len(scores) == 9
    assert scores["stages.0.1"] == evaluator.score(dropped=["stages.0.1"])
    assert evaluator.classifier.saved.model is model


@pytest.mark.parametrize("strength", [-0.1, 2.1, float("nan"), None, "1", True])
def test_an_invalid_strength_is_refused(evaluator, strength):
    with pytest.raises(ConfigError, match="strength must be a number from 0 to 2, got"):
        evaluator.score(strength)


def test_a_network_without_blocks_is_refused(evaluator, colours):
    classifier = evaluator.classifier
    saved = classifier.saved
    bare = replace(saved, model=build_model("vgg16", 3))
    with pytest.raises(ConfigError, match="has no blocks to operate on"):
        SurgeryEvaluator.of(Classifier(classifier.run, bare), Datasets(colours))


def test_without_the_images_it_is_refused(evaluator, tmp_path):
    empty = Paths(tmp_path / "runs", tmp_path / "data")
    with pytest.raises(NotFoundError):
        SurgeryEvaluator.of(evaluator.classifier, Datasets(empty.data))


def test_the_sample_of_images_is_fixed(evaluator, colours):
    again = SurgeryEvaluator.of(evaluator.classifier, Datasets(colours))
    assert torch.equal(again.images, evaluator.images)


def test_hooks_on_the_shared_network_never_reach_an_operation(evaluator):
    # Class maps register hooks on the network while they hold its lock.
    classifier, calls = evaluator.classifier, []
    scoring = Thread(target=evaluator.score)
    with classifier.lock:
        hook = classifier.saved.model.register_forward_hook(lambda *_: calls.append(1))
        scoring.start()
        scoring.join(0.5)  # without the lock, the score of 30 small images is done by now
        hook.remove()
    scoring.join()
    assert calls == []


def test_the_network_is_measured_under_its_lock(evaluator, colours):
    classifier = evaluator.classifier
    loading = Thread(target=SurgeryEvaluator.of, args=(classifier, Datasets(colours)))
    with classifier.lock:
        loading.start()
        loading.join(0.5)
        assert loading.is_alive()
    loading.join()
