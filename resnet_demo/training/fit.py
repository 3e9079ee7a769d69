"""The training loop. `fit` yields the events of a run; `train_step` is one update.

    for event in fit(config, datasets):
        print(event)

Logging, plotting and stopping are the caller's job. A run that resumes from `last.pt` continues bit
for bit as if it had never stopped (same machine, same number of threads). Several ranks each run
this loop in step; they exchange data only through `World`.
"""

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet_demo.config import TrainConfig
from resnet_demo.data.store import Datasets
from resnet_demo.errors import DemoError, StoppedError
from resnet_demo.events import Epoch, Event, Finished, Probe, Probing, Step, Stopped
from resnet_demo.paths import Paths
from resnet_demo.training.distributed import World
from resnet_demo.training.embed import keep_known_images
from resnet_demo.training.head import fit_head
from resnet_demo.training.optimizers import learning_rate, set_learning_rate
from resnet_demo.training.probes import StepProbe, is_probed, probed_layers
from resnet_demo.training.state import Training
from resnet_demo.training.validate import Validation, keeps_head, validate

FIRST_STEPS = 20  # each is logged, so that a slow machine shows a curve at once
POINTS_PER_EPOCH = 40
SAVE_EVERY_S = 60.0  # a kill costs at most this much work, and a step
CPU_OUT_OF_MEMORY = "DefaultCPUAllocator"  # part of PyTorch's message; on a CPU it has no class


class TrainingError(DemoError):
    """The run cannot continue. The message names the field to change; `retry` holds new values."""

    def __init__(self, message: str, retry: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.retry = retry or {}


def fit(
    config: TrainConfig,
    datasets: Datasets,
    folder: Path | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    world: World | None = None,
    save_every_s: float = SAVE_EVERY_S,
    paths: Paths | None = None,
) -> Iterator[Event]:
    """Train a network and yield the events of the run.

    folder: keeps the checkpoints; if it has one, the run resumes from it. should_stop: called
    before each step; a stopped run saves a checkpoint first. world: the ranks of a run on several
    devices. All of them yield the same events, a stop on one stops all, and only the first one is
    given a folder. save_every_s: seconds between checkpoints within an epoch. paths: where initial
    weights are; by default those of the environment.

    Raises TrainingError, ConfigError, DamagedError, DiskFullError.
    """
    with explain_out_of_memory(config):
        training = Training.begin(config, datasets, folder, world, paths)
        yield training.start_event()
        if config.train_layers != "all" and not training.resumed:
            try:
                yield from fit_head(training, datasets, should_stop)
            except StoppedError as stop:
                message = f"{stop}; Resume goes on with the images that are left"
                yield Stopped(**training.position(), **training.end_fields(message))
                return
            if config.train_layers == "head":
                yield Finished(**training.position(), **training.end_fields(end_message(training)))
                return
        if config.compile:
            from resnet_demo.training.compiled import warm_up  # its imports take seconds

            yield warm_up(training)
        if config.probe_every:
            yield Probing(**training.position(), layers=list(probed_layers(training.model)))
        while training.epochs_done < config.epochs and not training.is_out_of_patience():
            yield from train_epoch(training, should_stop, save_every_s)
            validated = validate_epoch(training, should_stop)
            if validated is None:
                save(training)
                message = f"Resume continues from step {training.step}"
                yield Stopped(**training.position(), **training.end_fields(message))
                return
            summary, validation = validated
            # Events are yielded before the save: the caller's log is then never behind the
            # checkpoint, and a kill between the two repeats work instead of losing a line.
            yield summary
            if not keeps_head(training, validation.right):
                training.keep_weights(summary, validation.ood_threshold)
            save(training)
        if training.initial is not None and training.folder:
            # Not from scratch: there, the energy flags more photographs (docs/experiments.md).
            keep_known_images(training, datasets)
        yield Finished(**training.position(), **training.end_fields(end_message(training)))


def end_message(training: Training) -> str:
    """Return how many epochs a finished run has, why if these are not all, and its verdict."""
    done, config = training.epochs_done, training.config
    message = "1 epoch done" if done == 1 else f"{done} epochs done"
    if done < config.epochs:
        message += f" of {config.epochs}: none better since epoch {training.highest['epoch']}"
    return f"{message}; {training.verdict}" if training.verdict else message


def train_epoch(
    training: Training, should_stop: Callable[[], bool], save_every_s: float = SAVE_EVERY_S
) -> Iterator[Step | Probe]:
    """Train the rest of the current epoch; yield an event every few steps. A stop ends it early."""
    config, batches, world = training.config, training.batches, training.world
    steps_per_epoch = batches.steps_per_epoch
    plan = batches.plan(training.epoch)
    training.set_training_mode()
    timer = StepTimer(training, save_every_s)
    first = training.step - (training.epoch - 1) * steps_per_epoch  # above 0 after a resume
    for index in range(first, steps_per_epoch):
        if world.any_at_step(should_stop, training.step):
            break
        # Learning rate, order and augmentation are functions of the step, not of the steps before
        # it: a resumed run computes what an uninterrupted one does, and no random state is saved.
        lr = learning_rate(config, training.step, steps_per_epoch)
        set_learning_rate(training.optimizer, lr)
        x, labels = batches.train_batch(plan, index)
        images = len(batches.positions(index))  # of all ranks; `labels` are this rank's
        has_probe = is_probed(training.step + 1, config.probe_every)
        probe = StepProbe(training.model) if has_probe else None
        loss, correct = train_step(training, x, labels, len(labels) / images, probe)
        training.step += 1
        # Sums stay on the device. Reading the loss would make the CPU wait for the step to end,
        # and the device would then wait for the CPU to prepare the next one.
        training.tally.add(loss, correct, images)
        timer.images += images
        if probe:
            yield probe.event(training)
        if config.collect_garbage:
            collect_garbage()
        if is_logged(training.step, steps_per_epoch):
            loss, correct = world.sum(loss, correct)
            yield Step(
                **training.position(),
                loss=finite_loss(loss, training.step, config),
                top1=correct.item() / images,
                lr=lr,
                # After `finite_loss`, which waits for the device: only finished steps count.
                images_per_s=timer.lap(),
            )
        if world.any_at_step(timer.save_is_due, training.step):
            finite_loss(training.tally.over_ranks(world).loss, training.step, config)
            save(training)
    timer.lap()  # counts the seconds since the last logged step


def train_step(
    training: Training,
    x: Tensor,
    labels: Tensor,
    share: float = 1.0,
    probe: StepProbe | None = None,
) -> tuple[Tensor, Tensor]:
    """Run one update; return the loss in nats and the number of correct answers.

    x: (B, 3, S, S), normalized. labels: (B,) int64. Both results are 0-d and on the device: the
    caller decides when to synchronize. share: these images' part of the step's batch over all
    ranks; the loss is multiplied by it, so that the ranks' losses add up to the batch's.
    probe: measures the step.
    """
    model, optimizer = training.step_model, training.optimizer
    with training.autocast(), probe.forward_hooks() if probe else nullcontext():
        logits = model(x)  # (B, num_classes)
    # The softmax needs more than the 8 significant bits of bf16.
    logits = logits.float()
    loss = classification_loss(training, logits, labels)
    optimizer.zero_grad(set_to_none=True)
    # DistributedDataParallel takes the plain mean of the ranks' gradients. Weighted by its share, a
    # rank with one image more counts for more, and the mean is that of the batch.
    weight = share * training.world.size
    (loss if weight == 1 else loss * weight).backward()
    if probe:
        probe.record_gradients()
    optimizer.step()
    if training.averaged is not None:
        training.averaged.update_parameters(training.model)
    return loss.detach() * share, (logits.detach().argmax(1) == labels).sum()


def classification_loss(training: Training, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean loss of a batch in nats, 0-d, with the config's weights of the classes."""
    smoothing, weights = training.config.label_smoothing, training.class_weights
    if weights is None:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    # PyTorch's mean divides by the batch's sum of weights: a batch of rare classes would count for
    # no more than any other.
    total = F.cross_entropy(logits, labels, weights, reduction="sum", label_smoothing=smoothing)
    return total / len(labels)


def validate_epoch(
    training: Training, should_stop: Callable[[], bool]
) -> tuple[Epoch, Validation] | None:
    """Validate and close the epoch; return its summary and the whole result.

    Returns None if a stop was requested, also half-way; the network is then as it was before.
    """
    if training.world.any(should_stop()):
        return None
    began = time.monotonic()
    tally = training.tally.over_ranks(training.world)
    train_loss, train_top1, seen = tally.means()
    # Before validation: a diverged network is not worth the wait.
    finite_loss(train_loss, training.step, training.config)
    if training.config.report_last_batch:  # the tutorial's fault
        train_loss = tally.last.item()
    try:
        validation = validate(training, should_stop)
    except StoppedError:
        return None
    training.seconds += time.monotonic() - began
    summary = Epoch(
        **training.position(),
        train_loss=train_loss,
        train_top1=train_top1,
        val_loss=finite_loss(validation.loss, training.step, training.config),
        val_top1=validation.top1,
        lr=learning_rate(training.config, training.step - 1, training.batches.steps_per_epoch),
        seconds=training.seconds - training.epoch_began,
        images_per_s=seen / max(training.tally.seconds, 1e-9),
        val_images=len(training.batches.val_labels),
    )
    training.close_epoch(summary)
    return summary, validation


def save(training: Training) -> None:
    """Save a checkpoint, unless a weight is not finite. Raises TrainingError, DiskFullError."""
    # A finite loss is not enough: it belongs to the weights before its step.
    if not all(bool(weight.isfinite().all()) for weight in training.model.parameters()):
        finite_loss(math.nan, training.step, training.config)
    training.save()


def finite_loss(loss: Tensor | float, step: int, config: TrainConfig) -> float:
    """Return the loss as a number, which waits for the device. Raises TrainingError."""
    value = float(loss)
    if not math.isfinite(value):
        raise TrainingError(
            f"the loss became {value} by step {step}: try a lower peak_lr than {config.peak_lr:g}"
        )
    return value


def is_logged(step: int, steps_per_epoch: int) -> bool:
    """Return whether a step has an event: at fixed numbers, so that a resumed run has the same."""
    # At most 50 steps apart: on a long epoch the curve must still move.
    every = max(1, min(steps_per_epoch // POINTS_PER_EPOCH, 50))
    return step <= FIRST_STEPS or step % every == 0


def collect_garbage() -> None:
    """Free memory after a step, as the tutorial does. It only costs time, which can be measured."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def explain_out_of_memory(config: TrainConfig) -> Iterator[None]:
    """Raise a TrainingError that names the batch size, and half of it, if memory runs out."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        is_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not (is_memory or CPU_OUT_OF_MEMORY in str(error)):
            raise
        size, half = config.batch_size, config.batch_size // 2
        message = f"out of memory with batch_size {size} at image_size {config.image_size}"
        if half == 0:
            raise TrainingError(f"{message}; try a smaller network or image") from error
        raise TrainingError(f"{message}; try batch_size {half}", {"batch_size": half}) from error


class StepTimer:
    """Measures the training speed, and when the next checkpoint within the epoch is due."""

    def __init__(self, training: Training, save_every_s: float) -> None:
        self.training, self.save_every_s, self.images = training, save_every_s, 0
        self.lap_began = self.saved = time.monotonic()

    def lap(self) -> float:
        """Return images per second since the last lap, and add its seconds to the run's."""
        now = time.monotonic()
        seconds, self.lap_began = max(now - self.lap_began, 1e-9), now
        images, self.images = self.images, 0
        self.training.seconds += seconds
        self.training.tally.seconds += seconds
        return images / seconds

    def save_is_due(self) -> bool:
        """Return True once every `save_every_s`."""
        now = time.monotonic()
        if now - self.saved < self.save_every_s:
            return False
        self.saved = now
        return True
