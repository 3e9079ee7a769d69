import hashlib
import json
import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import logsumexp

from resnet_demo.errors import DamagedError
from resnet_demo.events import Epoch, Finished, Resumed, Started, Step, Stopped, to_dict
from resnet_demo.inference.predict import predict
from resnet_demo.learn.lessons import duel_arms
from resnet_demo.models.saved import load_model
from resnet_demo.training import fit as module
from resnet_demo.training.batches import Batches
from resnet_demo.training.checkpoint import load_last
from resnet_demo.training.fit import TrainingError, fit
from resnet_demo.training.state import ADAPT_IMAGES, Training, initial_model
from resnet_demo.training.validate import validate


def test_a_run_tells_its_start_every_step_every_epoch_and_its_end(datasets, tiny):
    events = list(fit(tiny(), datasets))
    assert [type(event) for event in events] == [
        Started,
        *([Step] * 7 + [Epoch]) * 2,
        *[Step] * 7,  # 21 steps: the last is past FIRST_STEPS, and is logged all the same
        Epoch,
        Finished,
    ]
    assert [e.step for e in events if isinstance(e, Epoch)] == [7, 14, 21]
    assert [e.epoch for e in events if isinstance(e, Epoch)] == [1, 2, 3]
    assert events[0].steps_per_epoch == 7


def test_it_learns(datasets, tiny):
    epochs = [e for e in fit(tiny(epochs=6), datasets) if isinstance(e, Epoch)]
    assert epochs[-1].val_top1 > 0.9
    assert epochs[-1].train_loss < epochs[0].train_loss / 2


def test_the_same_config_gives_the_same_run_bit_for_bit(datasets, tiny):
    torch.manual_seed(1)
    one = curve(fit(tiny(cutout=3), datasets))
    torch.manual_seed(2)  # what was drawn before has no say
    assert curve(fit(tiny(cutout=3), datasets)) == one


def test_training_images_grow_from_step_to_step_and_end_in_their_full_size(
    datasets, tiny, monkeypatch
):
    seen, step = [], module.train_step

    def watched(training, x, *rest):
        seen.append(tuple(x.shape[2:]))
        return step(training, x, *rest)

    monkeypatch.setattr(module, "train_step", watched)
    started, *_ = fit(tiny(image_size=16, grow_from=0.5, epochs=2), datasets)
    assert started.sides == [8, 11, 13, 16]
    assert seen == [(side, side) for side in [8] * 3 + [11] * 3 + [13] * 3 + [16] * 5]


def test_both_arms_of_a_duel_see_the_same_batches_bit_for_bit_and_begin_alike(
    datasets, monkeypatch
):
    step, seen = module.train_step, {}
    small = {"dataset": "colours", "image_size": 12, "batch_size": 45, "epochs": 2, "crop": 2}

    def watched(training, x, labels, *rest):
        batch = hashlib.sha256(x.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
        seen.setdefault(training.config.model, []).append(batch)
        return step(training, x, labels, *rest)

    monkeypatch.setattr(module, "train_step", watched)
    arms = dict(duel_arms([8], 1, small))
    for config in arms.values():
        list(fit(config, datasets))
    assert seen["plain8"] == seen["resnet8"]
    assert len({*seen["plain8"]}) == 6  # three steps an epoch, no two alike
    plain, residual = (
        Training.begin(config, datasets, None).model.state_dict() for config in arms.values()
    )
    assert plain.keys() == residual.keys()
    assert all(torch.equal(plain[name], residual[name]) for name in plain)


def test_another_seed_gives_another_run(datasets, tiny):
    assert curve(fit(tiny(seed=1), datasets)) != curve(fit(tiny(seed=2), datasets))


@pytest.mark.parametrize(
    ("stop_after", "precision", "ema_decay"),
    [
        *[(steps, "float32", 0.0) for steps in (1, 7, 10)],
        (10, "float32", 0.9),
        pytest.param(10, "bf16", 0.0, marks=pytest.mark.soak),  # minutes where there is no such
    ],
)
def test_a_stopped_run_goes_on_as_if_it_had_never_stopped(
    datasets, tiny, tmp_path, stop_after, precision, ema_decay
):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    config = tiny(optimizer="sgd", label_smoothing=0.1, precision=precision, ema_decay=ema_decay)
    uninterrupted = list(fit(config, datasets, whole))

    first = []
    for event in fit(config, datasets, parts, lambda: steps(first) >= stop_after):
        first.append(event)
    assert isinstance(first[-1], Stopped)
    rest = list(fit(config, datasets, parts))
    assert isinstance(rest[0], Resumed)
    assert rest[0].step == stop_after
    assert curve(first) + curve(rest) == curve(uninterrupted)
    same_state(load_last(whole)[0], load_last(parts)[0])
    same_weights(load_model(whole).model, load_model(parts).model)


def test_a_running_mean_is_validated_and_kept_and_changes_no_step(datasets, tiny, tmp_path):
    with_mean, without = tmp_path / "with", tmp_path / "without"
    for folder, decay in ((with_mean, 0.9), (without, 0.0)):
        folder.mkdir()
        config = tiny(epochs=1, ema_decay=decay, optimizer="sgd")
        *_, epoch, _ = fit(config, datasets, folder)
        if decay:
            validated = epoch.val_loss
    state, plain = load_last(with_mean)[0], load_last(without)[0]
    same_state(state, plain)
    assert plain["averaged"] is None
    kept = load_model(with_mean).model
    for name, tensor in kept.state_dict().items():
        assert torch.equal(tensor, state["averaged"]["module." + name]), name
    assert not torch.equal(kept.head.weight, state["model"]["head.weight"])
    batches = Batches.load(config, datasets, torch.device("cpu"))
    logits = predict(kept, batches.preprocessing.prepare, batches.val_images)
    loss = F.cross_entropy(logits, batches.val_labels).item()
    assert validated == pytest.approx(loss, rel=1e-5)
    assert epoch.val_loss != pytest.approx(loss, rel=1e-5)


def test_a_stop_during_validation_in_training_mode_leaves_no_trace(datasets, tiny, tmp_path):
    config = tiny(validate_in_training_mode=True)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    uninterrupted = list(fit(config, datasets, whole))
    asked = iter([False] * 9 + [True])  # seven steps, the epoch's end, one validation batch, stop
    first = list(fit(config, datasets, parts, lambda: next(asked, True)))
    assert isinstance(first[-1], Stopped)
    assert curve(first) + curve(fit(config, datasets, parts)) == curve(uninterrupted)


def test_a_resumed_run_takes_the_number_of_threads_that_it_began_with(datasets, tiny, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        list(fit(tiny(epochs=1), datasets, tmp_path, lambda: True))
        torch.set_num_threads(1)
        resumed, *_ = fit(tiny(epochs=1), datasets, tmp_path)
        assert (type(resumed), resumed.threads, torch.get_num_threads()) == (Resumed, 2, 2)
    finally:
        torch.set_num_threads(before)


def test_a_checkpoint_of_a_run_that_was_told_something_else_is_refused(datasets, tiny, tmp_path):
    list(fit(tiny(), datasets, tmp_path, lambda: True))
    before = (tmp_path / "last.pt").read_bytes()
    rule = "does not belong to its checkpoint: peak_lr is 0.3, and 0.02 in the checkpoint"
    with pytest.raises(DamagedError, match=rule):
        list(fit(tiny(peak_lr=0.3), datasets, tmp_path))
    assert (tmp_path / "last.pt").read_bytes() == before


def test_a_checkpoint_of_a_version_that_learned_other_weights_is_refused(
    datasets, tiny, tmp_path, monkeypatch
):
    list(fit(tiny(), datasets, tmp_path, lambda: True))
    before = (tmp_path / "last.pt").read_bytes()

    def with_a_head_that_stays(config, num_classes):
        model = initial_model(config, num_classes)
        model.head.bias.requires_grad_(False)
        return model

    monkeypatch.setattr("resnet_demo.training.state.initial_model", with_a_head_that_stays)
    rule = f"another version of this program, which trained other weights of {tiny().model}"
    with pytest.raises(DamagedError, match=rule):
        list(fit(tiny(), datasets, tmp_path))
    assert (tmp_path / "last.pt").read_bytes() == before


def test_a_finished_run_resumed_has_nothing_left_to_do(datasets, tiny, tmp_path):
    list(fit(tiny(), datasets, tmp_path))
    assert [type(e) for e in fit(tiny(), datasets, tmp_path)] == [Resumed, Finished]


def test_the_log_is_never_behind_the_checkpoint(datasets, tiny, tmp_path):
    told = 0
    for event in fit(tiny(), datasets, tmp_path):
        found = load_last(tmp_path)
        assert (found[0]["step"] if found else 0) <= told
        told = event.step if isinstance(event, Epoch) else told
    assert load_last(tmp_path)[0]["step"] == 21


def test_the_best_weights_are_those_of_the_best_validation(datasets, tiny, tmp_path):
    epochs = [e for e in fit(tiny(), datasets, tmp_path) if isinstance(e, Epoch)]
    best = max(epochs, key=lambda e: e.val_top1)
    saved = load_model(tmp_path)
    assert saved.metrics["epoch"] == best.epoch
    assert saved.metrics["val_top1"] == best.val_top1
    assert saved.classes == ("blue", "green", "red")


def test_the_last_epoch_s_weights_are_kept_where_that_is_asked(datasets, tiny, tmp_path):
    config = tiny(keep="last")
    started, *events = fit(config, datasets, tmp_path)
    epochs, finished = [e for e in events if isinstance(e, Epoch)], events[-1]
    assert started.keep == "last"
    assert (finished.best_epoch, finished.best_val_top1) == (3, epochs[-1].val_top1)
    training = Training.begin(config, datasets, tmp_path)
    for worse in (replace(epochs[0], val_top1=0.9), replace(epochs[1], val_top1=0.4)):
        training.keep_weights(worse)
        assert load_model(tmp_path).metrics["epoch"] == worse.epoch


def test_the_energy_of_one_validation_image_in_twenty_is_over_the_threshold_kept(
    datasets, tiny, tmp_path
):
    config = tiny(val_share=0.4)
    list(fit(config, datasets, tmp_path))
    saved = load_model(tmp_path)
    batches = Batches.load(config, datasets, torch.device("cpu"))
    with torch.inference_mode():
        logits = saved.model(batches.preprocessing.prepare(batches.val_images)).double()
    expected = np.quantile(-logsumexp(logits, axis=1), 0.95, method="inverted_cdf")
    told = saved.metrics["outside"]
    assert told == {"threshold": pytest.approx(expected, abs=1e-4), "false_alarms": 0.05, "n": 60}
    assert saved.metrics.keys() == {"epoch", "val_top1", "val_loss", "outside"}


def test_answers_given_in_training_mode_set_no_threshold(datasets, tiny, tmp_path):
    list(fit(tiny(epochs=1, validate_in_training_mode=True), datasets, tmp_path))
    assert load_model(tmp_path).metrics.keys() == {"epoch", "val_top1", "val_loss"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_validation_of_a_network_that_computes_no_number_sets_no_threshold(datasets, tiny, value):
    training = Training.begin(tiny(), datasets, None)
    torch.nn.init.constant_(training.model.head.bias, value)
    validation = validate(training, lambda: False)
    assert not np.isfinite(validation.loss)
    assert validation.ood_threshold is None


def test_the_first_step_is_the_one_done_by_hand(datasets, tiny):
    plain = {"optimizer": "sgd", "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
    config = tiny(**plain, schedule="constant", label_smoothing=0.0)
    batches = Batches.load(config, datasets, torch.device("cpu"))
    model = initial_model(config, 3).to(memory_format=torch.channels_last).train()
    model.init_from_data(batches.first_images(ADAPT_IMAGES))
    x, labels = batches.train_batch(batches.plan(1), 0)
    first = F.cross_entropy(model(x), labels)
    first.backward()
    with torch.no_grad():
        for parameter in [each for each in model.parameters() if each.requires_grad]:
            parameter -= config.peak_lr * parameter.grad
    x, labels = batches.train_batch(batches.plan(1), 1)
    second = F.cross_entropy(model(x), labels)

    told = [e.loss for e in fit(config, datasets) if isinstance(e, Step)]
    assert told[:2] == pytest.approx([first.item(), second.item()], rel=1e-5)


def test_validation_in_training_mode_moves_the_running_statistics(datasets, tiny, tmp_path):
    right, fault = tmp_path / "right", tmp_path / "fault"
    for folder, as_article in ((right, False), (fault, True)):
        folder.mkdir()
        list(fit(tiny(epochs=1, validate_in_training_mode=as_article), datasets, folder))
    right, fault = (load_last(folder)[0]["model"] for folder in (right, fault))
    mean = next(name for name in right if name.endswith("running_mean"))
    assert torch.equal(right["head.weight"], fault["head.weight"])
    assert not torch.equal(right[mean], fault[mean])


def test_validation_images_are_never_trained_on(datasets, tiny):
    batches = Batches.load(tiny(val_share=0.2), datasets, torch.device("cpu"))
    train = {image.tobytes() for image in batches.train_images.numpy()}
    val = {image.tobytes() for image in batches.val_images.numpy()}
    assert (len(train), len(val)) == (120, 30)
    assert not train & val


def test_an_epoch_shows_every_training_image_once(datasets, tiny):
    config = tiny(flip=False, crop=0)
    batches = Batches.load(config, datasets, torch.device("cpu"))
    plan = batches.plan(3)
    assert sorted(plan.order.tolist()) == list(range(135))
    assert plan.order.tolist() != batches.plan(4).order.tolist()
    counts = [len(batches.train_batch(plan, i)[1]) for i in range(batches.steps_per_epoch)]
    assert counts == [20] * 6 + [15]


def test_a_last_batch_of_one_image_is_left_out(datasets, tiny):
    batches = Batches.load(tiny(batch_size=67), datasets, torch.device("cpu"))  # 135 = 2 x 67 + 1
    assert batches.steps_per_epoch == 2


@pytest.mark.parametrize(("epochs", "told"), [(1, "1 epoch done"), (2, "2 epochs done")])
def test_the_end_tells_how_many_epochs_there_were(epochs, told, datasets, tiny):
    *_, end = fit(tiny(epochs=epochs), datasets)
    assert end.message == told


def test_a_loss_that_is_no_number_ends_the_run_and_names_the_knob(datasets, tiny):
    with pytest.raises(TrainingError, match="peak_lr"):
        list(fit(tiny(model="resnet9", peak_lr=10.0, batch_norm=False), datasets))


@pytest.fixture
def poisoned(datasets, tiny, tmp_path, monkeypatch):
    """Trains with a loss told every fifth step, and poisons it after step 31; what it told.

    27 steps an epoch: the checkpoint before is of step 27.
    """
    begin, begun, told = Training.begin, [], []

    def run(poison, should_stop=lambda training: False):
        monkeypatch.setattr(module, "is_logged", lambda step, per_epoch: step % 5 == 0)
        monkeypatch.setattr(Training, "begin", lambda *a: begun.append(begin(*a)) or begun[-1])

        def between_steps():
            if begun[-1].step == 31:
                poison(begun[-1])
            return should_stop(begun[-1])

        config = tiny(model="resnet20", batch_size=5, epochs=2)
        events = fit(config, datasets, tmp_path, between_steps)
        with pytest.raises(TrainingError, match=r"became \S+ by step \d+: try a lower peak_lr"):
            told.extend(events)
        state, warning = load_last(tmp_path)
        assert (state["step"], warning) == (27, "")
        tensors = [*state["model"].values(), state["tally"]["loss"]]
        assert all(tensor.isfinite().all() for tensor in tensors)
        assert load_model(tmp_path).metrics["epoch"] == 1
        monkeypatch.undo()
        rest = list(fit(config, datasets, tmp_path))  # as if nothing had been
        assert (type(rest[0]), type(rest[-1])) == (Resumed, Finished)
        return told, begun[0].step

    return run


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e38])
def test_a_loss_that_is_no_number_is_found_before_the_next_point_of_the_curve(poisoned, value):
    def weights(training):
        torch.nn.init.constant_(training.model.head.bias[:1], value)

    told, stopped_at = poisoned(weights)
    assert told[-1].step == 30
    assert stopped_at <= 35


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_image_that_is_no_number_is_found_before_the_next_point_of_the_curve(
    poisoned, value, monkeypatch
):
    batch = Batches.train_batch

    def one_bad(*asked):
        x, labels = batch(*asked)
        x[0, 0, 0, 0] = value  # one pixel
        monkeypatch.setattr(Batches, "train_batch", batch)
        return x, labels

    def image(training):
        monkeypatch.setattr(Batches, "train_batch", one_bad)

    told, stopped_at = poisoned(image)
    assert told[-1].step == 30
    assert stopped_at <= 35


def test_weights_that_are_no_numbers_are_not_saved_though_the_loss_is_one(poisoned, monkeypatch):
    monkeypatch.setattr(module.StepTimer, "save_is_due", lambda clock: clock.training.step == 32)

    def update(training):
        step = training.optimizer.step

        def too_far():
            step()
            torch.nn.init.constant_(training.model.head.bias, math.inf)

        training.optimizer.step = too_far

    assert poisoned(update)[1] == 32


def test_a_stop_does_not_save_weights_that_are_no_numbers(poisoned):
    def weights(training):
        torch.nn.init.constant_(training.model.head.bias, math.nan)

    assert poisoned(weights, should_stop=lambda training: training.step >= 31)[1] == 31


def test_every_event_is_valid_json(datasets, tiny):
    for event in fit(tiny(epochs=1), datasets):
        line = json.loads(json.dumps(to_dict(event), allow_nan=False))
        assert line["event"] == event.kind
        assert {"time", "step", "epoch"} <= line.keys()


@pytest.mark.parametrize("knobs", [{"optimizer": "adamw", "peak_lr": 0.002}, {"batch_norm": False}])
def test_every_kind_of_run_learns(datasets, tiny, knobs):
    epochs = [e for e in fit(tiny(epochs=4, **knobs), datasets) if isinstance(e, Epoch)]
    assert epochs[-1].train_loss < epochs[0].train_loss


def steps(seen):
    return sum(isinstance(event, Step) for event in seen)


def curve(events):
    """All that a run tells, but for the times."""
    timed = {"time", "clock", "seconds", "images_per_s"}
    kept = [e for e in events if isinstance(e, Step | Epoch)]
    return [{f.name: getattr(e, f.name) for f in fields(e) if f.name not in timed} for e in kept]


def same_state(one, other):
    assert one["step"] == other["step"]
    for name, tensor in one["model"].items():
        assert torch.equal(tensor, other["model"][name]), name
    for number, values in one["optimizer"]["state"].items():
        for name, value in values.items():
            np.testing.assert_array_equal(value, other["optimizer"]["state"][number][name])


def same_weights(one, other):
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
