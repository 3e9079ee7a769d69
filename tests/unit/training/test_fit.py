"""The training loop on a tiny dataset: events, determinism, resume, non-finite losses, memory."""

import hashlib
import json
import math
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from resnet_demo.events import Epoch, Finished, Resumed, Started, Step, Stopped, to_dict
from resnet_demo.inference.predict import predict
from resnet_demo.learn.lessons import duel_arms
from resnet_demo.models.measure import count_model
from resnet_demo.models.saved import load_model
from resnet_demo.training import fit as fit_module
from resnet_demo.training.batches import Batches
from resnet_demo.training.checkpoint import load_last
from resnet_demo.training.fit import TrainingError, classification_loss, fit
from resnet_demo.training.initial import class_weights, initial_model
from resnet_demo.training.state import INIT_IMAGES, Training
from resnet_demo.training.validate import Validation


def test_events_are_the_start_every_step_every_epoch_and_the_end(datasets, tiny):
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
    counts = count_model(initial_model(tiny(), 3), tiny().image_size)
    assert (events[0].parameters, events[0].macs) == (counts.parameters, counts.macs)


def test_a_run_learns(datasets, tiny):
    epochs = [e for e in fit(tiny(epochs=6), datasets) if isinstance(e, Epoch)]
    assert epochs[-1].val_top1 > 0.9
    assert epochs[-1].train_loss < epochs[0].train_loss / 2


@pytest.mark.parametrize("knobs", [{"optimizer": "adamw", "peak_lr": 0.002}, {"batch_norm": False}])
def test_a_run_learns_with_adamw_and_without_batch_norm(datasets, tiny, knobs):
    epochs = [e for e in fit(tiny(epochs=4, **knobs), datasets) if isinstance(e, Epoch)]
    assert epochs[-1].train_loss < epochs[0].train_loss


def test_the_same_config_gives_the_same_run_bit_for_bit(datasets, tiny):
    torch.manual_seed(1)
    one = curve(fit(tiny(cutout=3), datasets))
    torch.manual_seed(2)  # the global generator has no influence
    assert curve(fit(tiny(cutout=3), datasets)) == one


def test_another_seed_gives_another_run(datasets, tiny):
    assert curve(fit(tiny(seed=1), datasets)) != curve(fit(tiny(seed=2), datasets))


def test_the_first_two_losses_are_those_computed_by_hand(datasets, tiny):
    plain = {"optimizer": "sgd", "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
    config = tiny(**plain, schedule="constant", label_smoothing=0.0)
    batches = Batches.load(config, datasets, torch.device("cpu"))
    model = initial_model(config, 3).to(memory_format=torch.channels_last).train()
    model.init_from_data(batches.first_images(INIT_IMAGES))
    x, labels = batches.train_batch(batches.plan(1), 0)
    first = F.cross_entropy(model(x), labels)
    first.backward()
    with torch.no_grad():
        for parameter in [each for each in model.parameters() if each.requires_grad]:
            parameter -= config.peak_lr * parameter.grad
    x, labels = batches.train_batch(batches.plan(1), 1)
    second = F.cross_entropy(model(x), labels)

    losses = [e.loss for e in fit(config, datasets) if isinstance(e, Step)]
    assert losses[:2] == pytest.approx([first.item(), second.item()], rel=1e-5)


def test_training_images_grow_to_their_full_size(datasets, tiny, monkeypatch):
    seen, step = [], fit_module.train_step

    def watched(training, x, *rest):
        seen.append(tuple(x.shape[2:]))
        return step(training, x, *rest)

    monkeypatch.setattr(fit_module, "train_step", watched)
    started, *_ = fit(tiny(image_size=16, grow_from=0.5, epochs=2), datasets)
    assert started.sides == [8, 11, 13, 16]
    assert seen == [(side, side) for side in [8] * 3 + [11] * 3 + [13] * 3 + [16] * 5]


def test_both_arms_of_a_duel_see_the_same_batches_and_start_from_the_same_weights(
    datasets, monkeypatch
):
    step, seen = fit_module.train_step, {}
    small = {"dataset": "colours", "image_size": 12, "batch_size": 45, "epochs": 2, "crop": 2}

    def watched(training, x, labels, *rest):
        batch = hashlib.sha256(x.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
        seen.setdefault(training.config.model, []).append(batch)
        return step(training, x, labels, *rest)

    monkeypatch.setattr(fit_module, "train_step", watched)
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


@pytest.mark.parametrize(
    ("stop_after", "precision", "ema_decay"),
    [
        *[(steps, "float32", 0.0) for steps in (1, 7, 10)],
        (10, "float32", 0.9),
        pytest.param(10, "bf16", 0.0, marks=pytest.mark.soak),  # minutes where there is no such
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    datasets, tiny, tmp_path, stop_after, precision, ema_decay
):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    config = tiny(optimizer="sgd", label_smoothing=0.1, precision=precision, ema_decay=ema_decay)
    uninterrupted = list(fit(config, datasets, whole))

    first = []
    for event in fit(config, datasets, parts, lambda: count_steps(first) >= stop_after):
        first.append(event)
    assert isinstance(first[-1], Stopped)
    rest = list(fit(config, datasets, parts))
    assert isinstance(rest[0], Resumed)
    assert rest[0].step == stop_after
    assert curve(first) + curve(rest) == curve(uninterrupted)
    assert_same_state(load_last(whole)[0], load_last(parts)[0])
    assert_same_weights(load_model(whole).model, load_model(parts).model)


def test_the_moving_average_is_validated_and_kept_and_changes_no_step(datasets, tiny, tmp_path):
    with_mean, without = tmp_path / "with", tmp_path / "without"
    for folder, decay in ((with_mean, 0.9), (without, 0.0)):
        folder.mkdir()
        config = tiny(epochs=1, ema_decay=decay, optimizer="sgd")
        *_, epoch, _ = fit(config, datasets, folder)
        if decay:
            validated = epoch.val_loss
    state, plain = load_last(with_mean)[0], load_last(without)[0]
    assert_same_state(state, plain)
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
    # seven steps, the end of the epoch, one validation batch, then a stop
    answers = iter([False] * 9 + [True])
    first = list(fit(config, datasets, parts, lambda: next(answers, True)))
    assert isinstance(first[-1], Stopped)
    assert curve(first) + curve(fit(config, datasets, parts)) == curve(uninterrupted)


def test_resuming_a_finished_run_trains_nothing(datasets, tiny, tmp_path):
    list(fit(tiny(), datasets, tmp_path))
    assert [type(e) for e in fit(tiny(), datasets, tmp_path)] == [Resumed, Finished]


def test_the_log_is_never_behind_the_checkpoint(datasets, tiny, tmp_path):
    logged = 0
    for event in fit(tiny(), datasets, tmp_path):
        found = load_last(tmp_path)
        assert (found[0]["step"] if found else 0) <= logged
        logged = event.step if isinstance(event, Epoch) else logged
    assert load_last(tmp_path)[0]["step"] == 21


@pytest.mark.parametrize(("epochs", "message"), [(1, "1 epoch done"), (2, "2 epochs done")])
def test_the_last_message_counts_the_epochs(epochs, message, datasets, tiny):
    *_, end = fit(tiny(epochs=epochs), datasets)
    assert end.message == message


def test_every_event_is_valid_json(datasets, tiny):
    for event in fit(tiny(epochs=1), datasets):
        line = json.loads(json.dumps(to_dict(event), allow_nan=False))
        assert line["event"] == event.kind
        assert {"time", "step", "epoch"} <= line.keys()


# --- losses and weights that are not finite


def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_learning_rate(datasets, tiny):
    with pytest.raises(TrainingError, match="peak_lr"):
        list(fit(tiny(optimizer="sgd", peak_lr=10.0, batch_norm=False), datasets))


@pytest.fixture
def spoiled(datasets, tiny, tmp_path, monkeypatch):
    """Return a function that spoils a run after step 31 and checks that it fails and resumes.

    An epoch has 27 steps, so the checkpoint before is of step 27; every fifth step is logged.
    Returns the events, and the step at which the run failed.
    """
    begin, begun, events = Training.begin, [], []

    def run(spoil, should_stop=lambda training: False):
        monkeypatch.setattr(fit_module, "is_logged", lambda step, per_epoch: step % 5 == 0)
        monkeypatch.setattr(Training, "begin", lambda *a: begun.append(begin(*a)) or begun[-1])

        def between_steps():
            if begun[-1].step == 31:
                spoil(begun[-1])
            return should_stop(begun[-1])

        config = tiny(batch_size=5, epochs=2)
        with pytest.raises(TrainingError, match=r"became \S+ by step \d+: try a lower peak_lr"):
            events.extend(fit(config, datasets, tmp_path, between_steps))
        state, warning = load_last(tmp_path)
        assert (state["step"], warning) == (27, "")
        tensors = [*state["model"].values(), state["tally"]["loss"]]
        assert all(tensor.isfinite().all() for tensor in tensors)
        assert load_model(tmp_path).metrics["epoch"] == 1
        monkeypatch.undo()
        rest = list(fit(config, datasets, tmp_path))
        assert (type(rest[0]), type(rest[-1])) == (Resumed, Finished)
        return events, begun[0].step

    return run


@pytest.mark.parametrize("value", [math.nan, -math.inf, 1e38])
def test_weights_that_are_not_finite_are_found_before_the_next_logged_step(spoiled, value):
    def weights(training):
        torch.nn.init.constant_(training.model.head.bias[:1], value)

    events, failed_at = spoiled(weights)
    assert events[-1].step == 30
    assert failed_at <= 35


def test_an_image_that_is_not_finite_is_found_before_the_next_logged_step(spoiled, monkeypatch):
    batch = Batches.train_batch

    def one_bad(*args):
        x, labels = batch(*args)
        x[0, 0, 0, 0] = math.nan  # one pixel
        monkeypatch.setattr(Batches, "train_batch", batch)
        return x, labels

    def image(training):
        monkeypatch.setattr(Batches, "train_batch", one_bad)

    events, failed_at = spoiled(image)
    assert events[-1].step == 30
    assert failed_at <= 35


def test_weights_that_are_not_finite_are_not_saved_although_the_loss_is_finite(
    spoiled, monkeypatch
):
    monkeypatch.setattr(
        fit_module.StepTimer, "save_is_due", lambda clock: clock.training.step == 32
    )

    def update(training):
        step = training.optimizer.step

        def too_far():
            step()
            torch.nn.init.constant_(training.model.head.bias, math.inf)

        training.optimizer.step = too_far

    assert spoiled(update)[1] == 32


def test_a_stop_does_not_save_weights_that_are_not_finite(spoiled):
    def weights(training):
        torch.nn.init.constant_(training.model.head.bias, math.nan)

    assert spoiled(weights, should_stop=lambda training: training.step >= 31)[1] == 31


# --- memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 12 bytes"),
        MemoryError(),
    ],
    ids=["device", "torch on the host", "host"],
)
def test_out_of_memory_names_the_batch_size_and_proposes_half(error, datasets, tiny, monkeypatch):
    def step(training, *_):
        if training.step == 3:
            raise error
        return torch.tensor(1.0), torch.tensor(0)

    monkeypatch.setattr(fit_module, "train_step", step)
    with pytest.raises(
        TrainingError, match=r"batch_size 20 at image_size 12; try batch_size 10$"
    ) as raised:
        list(fit(tiny(), datasets))
    assert raised.value.retry == {"batch_size": 10}


def test_out_of_memory_proposes_no_half_of_a_batch_of_one(datasets, tiny, monkeypatch):
    def step(*_):
        raise torch.OutOfMemoryError("out")

    monkeypatch.setattr(fit_module, "train_step", step)
    with pytest.raises(TrainingError, match="try a smaller network or image") as raised:
        list(fit(tiny(batch_size=1, batch_norm=False), datasets))
    assert raised.value.retry == {}


def test_other_errors_are_not_changed(datasets, tiny, monkeypatch):
    def step(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(fit_module, "train_step", step)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        list(fit(tiny(), datasets))


LIMITED = """
import resource, sys
from pathlib import Path
from resnet_demo.config import make_config
from resnet_demo.data.store import Datasets
from resnet_demo.training.fit import TrainingError, fit
import torch
torch.set_num_threads(1)
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 400_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
knobs = {"dataset": "colours", "model": "resnet18", "image_size": 192, "batch_size": 64}
try:
    list(fit(make_config(knobs), Datasets(Path(sys.argv[1]))))
except TrainingError as error:
    print(error, error.retry)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_real_memory_limit_gives_the_same_message(colours):
    output = subprocess.check_output([sys.executable, "-c", LIMITED, colours], text=True)
    assert output.startswith(
        "out of memory with batch_size 64 at image_size 192; try batch_size 32"
    )
    assert output.endswith("{'batch_size': 32}\n")


# --- helpers


def count_steps(seen):
    return sum(isinstance(event, Step) for event in seen)


def curve(events):
    """Return the step and epoch events as dicts, without times."""
    timed = {"time", "clock", "seconds", "images_per_s"}
    kept = [e for e in events if isinstance(e, Step | Epoch)]
    return [{f.name: getattr(e, f.name) for f in fields(e) if f.name not in timed} for e in kept]


def assert_same_state(one, other):
    """Check that two checkpoints have the same step, weights and optimizer state."""
    assert one["step"] == other["step"]
    for name, tensor in one["model"].items():
        assert torch.equal(tensor, other["model"][name]), name
    for number, values in one["optimizer"]["state"].items():
        for name, value in values.items():
            np.testing.assert_array_equal(value, other["optimizer"]["state"][number][name])


def assert_same_weights(one, other):
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


# --- fine-tuning, balanced classes, early stopping


def test_balanced_classes_count_alike_in_the_loss(datasets, tiny):
    training = Training.begin(tiny(class_weights="balanced"), datasets, None)
    assert training.class_weights.tolist() == pytest.approx([1, 1, 1])
    labels = torch.tensor([0] * 90 + [1] * 30 + [2] * 15)
    unequal = replace(training.batches, train_labels=labels)
    weights = class_weights(training.config, unequal)
    assert weights.tolist() == pytest.approx([0.5, 1.5, 3])
    assert weights[labels].mean() == pytest.approx(1)
    training.class_weights = weights
    logits, answers = torch.randn(135, 3), F.one_hot(labels).float()
    smoothed = 0.9 * answers + 0.1 / 3  # the default of label_smoothing is 0.1
    each = -(smoothed * weights * logits.log_softmax(1)).sum(1)
    assert classification_loss(training, logits, labels) == pytest.approx(
        each.mean().item(), rel=1e-5
    )
    absent = replace(training.batches, train_labels=torch.tensor([0, 0, 2]))
    assert class_weights(training.config, absent).tolist() == pytest.approx([0.75, 0, 1.5])


def test_frozen_batch_norm_keeps_its_statistics_and_a_rate_of_0_its_weights(datasets, tiny):
    config = tiny(freeze_batch_norm=True, backbone_lr=0.0, optimizer="adamw", peak_lr=0.01)
    before = Training.begin(config, datasets, None).model.state_dict()
    begun, begin = [], Training.begin
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "begin", lambda *a: begun.append(begin(*a)) or begun[-1])
        list(fit(config, datasets))
    for name, tensor in begun[0].model.state_dict().items():
        assert torch.equal(tensor, before[name]) != name.startswith("head."), name


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_only_the_head_keeps_the_whole_learning_rate(datasets, tiny, optimizer):
    config = tiny(backbone_lr=0.25, optimizer=optimizer)
    training = Training.begin(config, datasets, None)
    of_head = {id(p) for p in training.model.head.parameters()}
    whole = 0.5 if optimizer == "muon" else 1.0  # SGD's share beside Muon
    seen = 0
    for group in training.optimizer.param_groups:
        for parameter in group["params"]:
            seen += 1
            is_convolution = optimizer == "muon" and parameter.ndim == 4
            expected = 1.0 if is_convolution else whole
            assert group["share"] == (whole if id(parameter) in of_head else 0.25 * expected)
    assert seen == len(list(training.model.parameters()))


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_run_out_of_patience_stops_at_the_same_epoch_after_a_resume(
    datasets, tiny, tmp_path, monkeypatch, keep
):
    top1 = [0.3, 0.6, 0.5, 0.6, 0.55, 0.9]  # the second epoch is the best for three epochs
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    monkeypatch.setattr(
        fit_module,
        "validate",
        lambda t, stop: Validation(1.0, top1[t.epochs_done], None, torch.ones(15) > 0),
    )
    config = tiny(epochs=6, patience=3, keep=keep, batch_size=135)
    uninterrupted = list(fit(config, datasets, whole))
    end = uninterrupted[-1]
    assert isinstance(end, Finished)
    assert (end.epoch, end.best_epoch) == (6, 2 if keep == "best" else 5)
    assert end.message == "5 epochs done of 6: none better since epoch 2"
    first = []
    for event in fit(config, datasets, parts, lambda: len(count_epochs(first)) >= 4):
        first.append(event)
    assert isinstance(first[-1], Stopped)
    rest = list(fit(config, datasets, parts))
    assert curve(first) + curve(rest) == curve(uninterrupted)
    assert rest[-1].message == end.message
    assert kinds_of(fit(config, datasets, parts)) == [Resumed, Finished]
    *_, done = fit(replace(config, patience=4), datasets)
    assert done.message == "6 epochs done"


def count_epochs(events):
    return [event for event in events if isinstance(event, Epoch)]


def kinds_of(events):
    return [type(event) for event in events]
