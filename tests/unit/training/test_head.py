"""Training on embeddings: the head, its cross-validation, the cache, stop and fine-tuning."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DamagedError
from resnet_demo.events import Embedding, Epoch, Finished, Head, Resumed, Started, Step, Stopped
from resnet_demo.inference.classification import Missed, classify
from resnet_demo.inference.classifier import Classifier
from resnet_demo.inference.embeddings import FOLDER
from resnet_demo.inference.predict import predict
from resnet_demo.models.saved import load_model
from resnet_demo.paths import Paths
from resnet_demo.runs.store import Run
from resnet_demo.training import embed
from resnet_demo.training.batches import Batches
from resnet_demo.training.checkpoint import load_last
from resnet_demo.training.embed import Part
from resnet_demo.training.fit import fit
from resnet_demo.training.head import (
    WEIGHT_DECAYS,
    HeldOut,
    LinearHead,
    choose_weight_decay,
    set_head,
    standardization,
)
from resnet_demo.training.state import Training
from resnet_demo.training.validate import keeps_head
from tests.unit.training.test_fit import assert_same_weights, curve


@pytest.fixture
def own(colours, tmp_path):
    """Return the dataset below a root of the test's own, where no embeddings are kept yet."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "colours").symlink_to(colours / "colours")
    return Datasets(tmp_path / "data")


@pytest.fixture
def head(tiny):
    """Return a function that makes the config of a run that trains the head only.

    weight_decay: 0.0 has one chosen by held-out images, which takes most of the time.
    """

    def make(**settings):
        base = {"train_layers": "head", "epochs": 12, "keep": "last", "label_smoothing": 0.0}
        return tiny(**{**base, "weight_decay": 0.01, **settings})

    return make


def kinds(events):
    return [type(event) for event in events]


def test_events_are_progress_an_epoch_for_each_iteration_and_the_result(own, head, tmp_path):
    events = list(fit(head(weight_decay=0.0), own, tmp_path))
    assert kinds(events)[:2] == [Started, Embedding]
    assert kinds(events)[-14:] == [*[Epoch] * 12, Head, Finished]
    assert events[0].steps_per_epoch == 1
    progress = [event for event in events if isinstance(event, Embedding)]
    assert [(e.done, e.total) for e in progress if e.done == e.total] == [(135, 135), (15, 15)]
    epochs = [event for event in events if isinstance(event, Epoch)]
    assert [event.step for event in epochs] == [event.epoch for event in epochs]
    assert epochs[-1].val_top1 > 0.9
    assert epochs[-1].train_loss < epochs[0].train_loss


def test_the_kept_network_computes_what_was_validated(own, head, tmp_path):
    config = head(weight_decay=0.01)
    *_, last, result, end = fit(config, own, tmp_path)
    assert (result.val_loss, result.val_top1) == (last.val_loss, last.val_top1)
    assert end.best_val_top1 == last.val_top1
    saved, batches = load_model(tmp_path), Batches.load(config, own, torch.device("cpu"))
    logits = predict(saved.model, batches.preprocessing.prepare, batches.val_images)
    loss = F.cross_entropy(logits, batches.val_labels).item()
    assert last.val_loss == pytest.approx(loss, rel=1e-2)  # embeddings are kept in float16
    assert saved.metrics["head"]["weight_decay"] == 0.01
    assert saved.metrics["head"]["curve"] == result.curve
    assert saved.metrics["outside"]["n"] == 15
    untrained = Training.begin(config, own, None).model.state_dict()
    for name, tensor in saved.model.state_dict().items():
        assert torch.equal(tensor, untrained[name]) != name.startswith("head."), name


def test_a_picture_is_compared_with_the_training_images_of_a_head(own, head, tmp_path):
    list(fit(head(), own, tmp_path))
    saved = load_model(tmp_path)
    assert (len(saved.known), saved.metrics["neighbour"]["n"]) == (135, 15)
    images, _, positions = own.load_split(head(), "train")
    verdict = classify(saved, images[positions[0]]).ood
    assert (verdict.measure, verdict.is_ood) == ("distance", False)
    assert verdict.score == pytest.approx(0, abs=1e-3)  # it is one of them
    missed = Classifier.load(Run(tmp_path)).count_missed()
    left_out = saved.metrics["neighbour"]["left_out"]
    assert missed == Missed(left_out["missed"], 135, is_left_out=True)

    known = tmp_path / "known.safetensors"
    content = known.read_bytes()
    known.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DamagedError, match=r"known\.safetensors .* is damaged and is not used"):
        load_model(tmp_path)
    known.unlink()
    verdict = classify(load_model(tmp_path), images[positions[0]]).ood
    assert (verdict.measure, verdict.threshold) == ("energy", saved.metrics["outside"]["threshold"])


def test_l_bfgs_finds_the_minimum(own, head):
    training, part = Training.begin(head(), own, None), clusters(40)
    fitted = LinearHead(part, training, 0.1).iterate(50)
    fitted.loss()
    assert fitted.weight.grad.abs().max() < 1e-4
    assert fitted.bias.grad.abs().max() < 1e-4
    assert fitted.bias.sum().abs() < 1e-4


def clusters(images, width=6, apart=2.0):
    """Return so many rows around three centres, which are so far apart."""
    generator = torch.Generator().manual_seed(3)
    y = torch.arange(images) % 3
    x = torch.randn(images, width, generator=generator)
    x[torch.arange(images), y] += apart
    return Part(x, y)


def test_the_standardization_is_folded_into_the_layer():
    part, layer = clusters(30), torch.nn.Linear(6, 3)
    x = 50 * part.x + 7
    mean, scale = standardization(x)
    weight, bias = torch.randn(3, 6), torch.randn(3)
    set_head(layer, weight, bias, mean, scale)
    expected = F.linear((x - mean) / scale, weight, bias)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)


def test_a_column_that_hardly_varies_is_not_enlarged():
    x = torch.stack([torch.arange(8.0), torch.full((8,), 3.0)], 1)
    x[0, 1] += 1e-4
    _, scale = standardization(x)
    assert scale[0] / scale[1] < 2.5


# --- choice of the weight decay, cross-validation


def test_noise_gets_the_strongest_weight_decay_and_clear_classes_a_weak_one(own, head):
    config = head(folds=5, val_share=0.0, weight_decay=0.0)
    training = Training.begin(config, own, None)
    noise = replace(clusters(60, width=40), y=torch.randint(3, (60,)))
    assert HeldOut(noise, noise, 5, training).choose_weight_decay() == WEIGHT_DECAYS[0]
    clear = clusters(60, width=3, apart=12.0)
    assert HeldOut(clear, clear, 5, training).choose_weight_decay() == WEIGHT_DECAYS[-1]
    fixed = Training.begin(head(weight_decay=0.25), own, None)
    assert choose_weight_decay(HeldOut(clear, clear, 0, fixed), clear, clear) == 0.25


def test_cross_validation_predicts_every_image_by_a_head_that_has_not_seen_it(own, head, tmp_path):
    """Labels without meaning are learned by heart, and cannot be predicted."""
    config = head(folds=5, val_share=0.0, weight_decay=0.001, epochs=30)
    training = Training.begin(config, own, None)
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(3, (150,), generator=generator)
    part = Part(torch.randn(150, 400, generator=generator), labels)
    held_out = HeldOut(part, part, 5, training)
    heads = [each.iterate(30) for each in held_out.heads(0.001)]
    own_head = LinearHead(part, training, 0.001).iterate(30)
    assert (own_head.predict(part.x).argmax(1) == labels).float().mean() == 1
    assert (held_out.predict(heads).argmax(1) == labels).float().mean() < 0.5
    assert held_out.curve_point(0.5, 0.001)[::2] == [60, 150]

    *_, last, result, _ = fit(config, own, tmp_path)
    assert (result.folds, result.val_top1) == (5, last.val_top1)
    assert load_model(tmp_path).metrics["outside"]["n"] == 150


def test_the_views_of_an_image_are_never_parted(own, head):
    config = head(folds=3, val_share=0.0, views=4)
    training = Training.begin(config, own, None)
    images = clusters(30)
    rows = Part(images.x.repeat_interleave(4, 0), images.y.repeat_interleave(4))
    held_out = HeldOut(rows, rows, 3, training)
    assert torch.equal(held_out.labels, images.y)
    for train, held in held_out.parts:
        assert (len(train), len(held)) == (80, 10)
        assert not {row.tobytes() for row in train.x.numpy()} & {
            row.tobytes() for row in held.x.numpy()
        }


@pytest.mark.parametrize("classes", [2, 3])
def test_two_pictures_of_each_class_are_enough_to_train(own, head, classes):
    config = head(folds=2, val_share=0.0, weight_decay=0.0)
    training = Training.begin(config, own, None)
    part = clusters(2 * classes)
    held_out = HeldOut(part, part, 2, training)
    assert choose_weight_decay(held_out, part, part) in WEIGHT_DECAYS
    assert len(held_out.parts) == 2


# --- cache, stop


def embedded(events):
    """Return how many images a run embedded."""
    return sum(e.total for e in events if isinstance(e, Embedding) and e.done == e.total)


def test_a_second_run_on_the_same_images_embeds_none_and_is_the_same(own, head):
    first = list(fit(head(), own))
    assert embedded(first) == 150
    again = list(fit(head(), own))
    assert embedded(again) == 0
    assert curve(again) == curve(first)
    assert embedded(fit(head(val_share=0.3), own)) == 0  # another split of the same images
    assert embedded(fit(head(image_size=16), own)) == 150


def test_a_damaged_embedding_is_computed_again(own, head):
    first = list(fit(head(), own))
    [file] = (own.root / FOLDER).glob("*.bin")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    again = list(fit(head(), own))
    assert embedded(again) == 1
    assert curve(again) == curve(first)
    file.write_bytes(content[:100])
    assert embedded(fit(head(), own)) == 150


def test_a_disk_that_cannot_be_written_to_only_costs_time(own, head):
    (own.root / FOLDER).write_text("in the way")
    first = list(fit(head(), own))
    assert isinstance(first[-1], Finished)
    assert embedded(fit(head(), own)) == 150


def test_the_oldest_embeddings_are_removed(own, head, monkeypatch):
    for size in (12, 13):
        list(fit(head(image_size=size), own))
    before = {*(own.root / FOLDER).iterdir()}
    monkeypatch.setattr("resnet_demo.inference.embeddings.MAX_BYTES", 1)
    list(fit(head(image_size=14), own))
    [left] = (own.root / FOLDER).iterdir()
    assert left not in before
    assert embedded(fit(head(image_size=14), own)) == 0


@pytest.mark.parametrize("checks", [3, 8])
def test_a_stopped_run_goes_on_with_the_images_that_are_left(own, head, tmp_path, checks):
    """The first five checks are before batches of the embedding pass."""
    config = head(weight_decay=0.0)
    uninterrupted = list(fit(config, Datasets(own.root)))
    [file] = (own.root / FOLDER).glob("*.bin")
    file.unlink()
    answers = iter([False] * checks)
    first = list(fit(config, own, tmp_path, lambda: next(answers, True)))
    assert isinstance(first[-1], Stopped)
    assert "Resume goes on" in first[-1].message
    rest = list(fit(config, own, tmp_path))
    left = [event.total for event in rest if isinstance(event, Embedding)]
    assert left == ([39, 39, 15] if checks == 3 else [])
    assert curve(rest) == curve(uninterrupted)


def test_views_are_functions_of_seed_and_view(own, head):
    few = {"views": 3, "flip": True, "crop": 3}
    first = curve(fit(head(**few), own))
    assert embedded(fit(head(**few), own)) == 0
    assert curve(fit(head(**few), own)) == first
    assert first != curve(fit(head(), own))
    assert embedded(fit(head(**few | {"crop": 2}), own)) == 2 * 135  # the images are kept


def test_a_view_does_not_depend_on_the_images_beside_it(own, head):
    training = Training.begin(head(views=2, crop=3), own, None)
    images, _ = own.load("colours", "train")
    together, alone = (
        embed.augmented_view(training, torch.from_numpy(images[at]), at, len(images), 1)
        for at in (np.array([3, 90, 7]), np.array([90]))
    )
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(alone[0], torch.from_numpy(images[90]))


# --- then all layers


def test_fine_tuning_starts_with_a_fitted_head(own, tiny, tmp_path):
    config = tiny(train_layers="head-then-all", optimizer="adamw", peak_lr=1e-5, epochs=1)
    events = list(fit(config, own, tmp_path))
    [result] = [event for event in events if isinstance(event, Head)]
    assert kinds(events)[-9:] == [Head, *[Step] * 7, Epoch, Finished][-9:]
    assert events[-2].val_top1 >= result.val_top1 - 0.07
    assert result.val_top1 > 0.9


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (
            "x...",
            "x...",
            "fine-tuning was not better on the 4 validation images (3 right, 3 before",
        ),
        (
            "x...",
            "xx..",
            "fine-tuning was not better on the 4 validation images (2 right, 3 before",
        ),
        # Twice gained and never lost is chance in one of four cases.
        ("xx......", "........", "fine-tuning was not clearly better on the 8"),
        ("xxx.....", "........", "fine-tuning was clearly better on the 8"),
        ("xxxx....", ".......x", "fine-tuning was not clearly better on the 8"),
        ("xxxxx...", ".......x", "fine-tuning was clearly better on the 8"),
        ("", "....", "no images were held out to compare fine-tuning with the head"),
    ],
)
def test_fine_tuned_weights_are_kept_if_better_by_more_than_a_standard_error(
    tiny, before, after, verdict
):
    """A dot is a validation image that is classified correctly."""
    config = tiny(train_layers="head-then-all", keep="last-or-head")
    right = {text: torch.tensor([mark == "." for mark in text]).bool() for text in (before, after)}
    training = Training(config, *[None] * 7, head_right=right[before], epochs_done=2)
    assert keeps_head(training, right[after])  # until the last epoch
    assert training.verdict == ""
    training.epochs_done = 3
    is_kept = " was clearly " in verdict
    assert keeps_head(training, right[after]) == (not is_kept)
    assert training.verdict.startswith(verdict)
    whose = "its" if is_kept else "the head's"
    assert training.verdict.endswith(f"so {whose} weights are kept")
    training.head_right = None  # with another `keep`
    assert not keeps_head(training, right[after])


FINE_TUNING = {"train_layers": "head-then-all", "keep": "last-or-head", "optimizer": "adamw"}


def test_a_run_that_gains_nothing_keeps_the_network_with_the_fitted_head(own, tiny, tmp_path):
    config = tiny(**FINE_TUNING, peak_lr=1e-3, epochs=1, ema_decay=0.9)
    events = list(fit(config, own, tmp_path))
    [result] = [event for event in events if isinstance(event, Head)]
    end, saved = events[-1], load_model(tmp_path)
    assert (end.best_epoch, end.best_val_top1) == (0, result.val_top1)
    assert end.message.startswith("1 epoch done; fine-tuning was not ")
    assert end.message.endswith("so the head's weights are kept")
    assert (saved.metrics["epoch"], saved.metrics["val_loss"]) == (0, result.val_loss)
    before = Training.begin(config, own, None).model.state_dict()
    for name, tensor in saved.model.state_dict().items():
        assert torch.equal(tensor, before[name]) != name.startswith("head."), name
    batches = Batches.load(config, own, torch.device("cpu"))
    logits = predict(saved.model, batches.preprocessing.prepare, batches.val_images)
    top1 = (logits.argmax(1) == batches.val_labels).float().mean().item()
    assert top1 == pytest.approx(result.val_top1)


def test_a_run_that_gains_much_keeps_the_last_epoch(own, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("resnet_demo.training.head.WEIGHT_DECAYS", (1e6,))  # a head of nothing
    config = tiny(**FINE_TUNING, peak_lr=0.01, epochs=2)
    *_, last, end = fit(config, own, tmp_path)
    assert (end.best_epoch, end.best_val_top1) == (2, last.val_top1)
    assert "fine-tuning was clearly better on the 15 validation images" in end.message
    saved, trained = load_model(tmp_path), load_last(tmp_path)[0]
    assert saved.metrics["epoch"] == 2
    for name, tensor in saved.model.state_dict().items():
        assert torch.equal(tensor, trained["model"][name]), name
    *_, again = fit(config, own, tmp_path)
    assert (again.message, again.best_epoch) == (end.message, 2)  # also after a kill at the end


def test_a_head_without_held_out_images_is_kept(own, tiny, tmp_path):
    *_, end = fit(tiny(**FINE_TUNING, peak_lr=1e-3, epochs=1, val_share=0.0), own, tmp_path)
    assert end.best_epoch == 0
    assert "no images were held out" in end.message


def test_a_fitted_head_is_kept_also_beside_an_average_of_weights(own, head, tmp_path):
    *_, last, _, _ = fit(head(ema_decay=0.9), own, tmp_path)
    saved, batches = load_model(tmp_path), Batches.load(head(), own, torch.device("cpu"))
    logits = predict(saved.model, batches.preprocessing.prepare, batches.val_images)
    top1 = (logits.argmax(1) == batches.val_labels).float().mean().item()
    assert top1 == pytest.approx(last.val_top1)


@pytest.mark.parametrize("keep", ["best", "last-or-head"])
def test_fine_tuning_resumes_bit_for_bit(own, tiny, tmp_path, keep):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    config = tiny(
        train_layers="head-then-all",
        optimizer="adamw",
        peak_lr=1e-3,
        backbone_lr=0.1,
        freeze_batch_norm=True,
        class_weights="balanced",
        epochs=2,
        keep=keep,
    )
    uninterrupted = list(fit(config, own, whole))
    first = []
    for event in fit(config, own, parts, lambda: sum(isinstance(e, Step) for e in first) >= 9):
        first.append(event)
    assert isinstance(first[-1], Stopped)
    rest = list(fit(config, own, parts))
    assert kinds(rest)[:2] == [Resumed, Step]
    assert curve(first) + curve(rest) == curve(uninterrupted)
    assert_same_weights(load_model(whole).model, load_model(parts).model)
    assert rest[-1].message == uninterrupted[-1].message
    states = [load_last(folder)[0] for folder in (whole, parts)]
    assert [state["step"] for state in states] == [14, 14]
    for name in ("model", "head_right", "best"):
        torch.testing.assert_close(*(state[name] for state in states), rtol=0, atol=0)


def test_weights_of_a_run_that_is_gone_end_in_one_sentence(own, head, tmp_path):
    paths = Paths(tmp_path / "runs", own.root, tmp_path / "shipped")
    with pytest.raises(
        ConfigError, match=r"^weights must be random, imagenet, or the id .* 'gone'"
    ):
        list(fit(head(weights="gone"), own, paths=paths))
