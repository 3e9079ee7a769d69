"""The training loop: a generator of events. Who wants a picture, a log or a stop sits outside.

    for event in fit(config, datasets):
        print(event)

Everything random is a function of seed, epoch and step, so that a run resumed from `last.pt` goes
on bit for bit as if it had never stopped (same machine, same number of threads).

Several ranks each run this loop, in step with each other; `training.world` is where they meet.
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
from resnet_demo.training.distributed import World
from resnet_demo.training.optimizers import learning_rate, set_learning_rate
from resnet_demo.training.probes import StepProbe, is_probed, probed_layers
from resnet_demo.training.state import Training
from resnet_demo.training.validate import validate

FIRST_STEPS = 20  # each is logged, so that a slow machine shows a curve at once
POINTS_PER_EPOCH = 40
SAVE_EVERY_S = 60.0  # a kill costs at most this much work, and a step
CPU_OUT_OF_MEMORY = "DefaultCPUAllocator"  # how PyTorch's own error on a CPU names what failed


class TrainingError(DemoError):
    """The run cannot go on; the sentence says which knob to try, and `retry` with what."""

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
) -> Iterator[Event]:
    """Train, and tell. With a folder, checkpoints are kept there and an earlier one is resumed.

    Each event is handed out before the checkpoint that follows it is saved, so that a log written
    by the caller is never behind the checkpoint. Raises TrainingError, ConfigError, DamagedError.

    world: of several ranks, which all tell the same; only the first is given a folder, and a stop
    asked of one stops all. None: alone. save_every_s: seconds between checkpoints within an epoch.
    """
    with explain_out_of_memory(config):
        training = Training.begin(config, datasets, folder, world)
        yield from told(training, should_stop, save_every_s)


def told(
    training: Training, should_stop: Callable[[], bool], save_every_s: float
) -> Iterator[Event]:
    """All events of a run that begins or goes on."""
    config = training.config
    yield training.start_event()
    if config.compile:
        from resnet_demo.training.compiled import warm_up  # its imports take seconds

        yield warm_up(training)
    if config.probe_every:
        yield Probing(**training.position(), layers=list(probed_layers(training.model)))
    while training.epochs_done < config.epochs:
        yield from train_epoch(training, should_stop, save_every_s)
        stopped = training.world.any(should_stop())
        validated = None if stopped else validate_epoch(training, should_stop)
        if validated is None:
            save(training)
            yield Stopped(**training.position(), **training.end_fields("Resume goes on from here"))
            return
        summary, outside = validated
        yield summary
        training.keep_weights(summary, outside)
        save(training)
    epochs = "1 epoch" if config.epochs == 1 else f"{config.epochs} epochs"
    yield Finished(**training.position(), **training.end_fields(f"{epochs} done"))


def train_epoch(
    training: Training, should_stop: Callable[[], bool], save_every_s: float = SAVE_EVERY_S
) -> Iterator[Step | Probe]:
    """What is left of the current epoch, an event every few steps; ends early on a stop."""
    config, batches, world = training.config, training.batches, training.world
    epoch, per_epoch = training.epoch, batches.steps_per_epoch
    plan = batches.plan(epoch)
    training.model.train()
    clock = StepTimer(training, save_every_s)
    for index in range(training.step - (epoch - 1) * per_epoch, per_epoch):
        if world.any_at_step(should_stop, training.step):
            break
        lr = learning_rate(config, training.step, per_epoch)
        set_learning_rate(training.optimizer, lr)
        x, labels = batches.train_batch(plan, index)
        images = len(batches.positions(index))  # of all ranks; labels are this one's
        is_seen = is_probed(training.step + 1, config.probe_every)
        look = StepProbe(training.model) if is_seen else None
        loss, correct = train_step(training, x, labels, len(labels) / images, look)
        training.step += 1
        training.tally.add(loss, correct, images)
        clock.images += images
        if look:
            yield look.event(training)
        if config.collect_garbage:
            collect_garbage()
        if is_logged(training.step, per_epoch):
            loss, correct = world.sum(loss, correct)
            yield Step(
                **training.position(),
                loss=finite_loss(loss, training.step, config),
                top1=correct.item() / images,
                lr=lr,
                images_per_s=clock.rate(),
            )
        if world.any_at_step(clock.save_is_due, training.step):
            finite_loss(training.tally.over_ranks(world).loss, training.step, config)
            save(training)
    clock.rate()


def train_step(
    training: Training, x: Tensor, labels: Tensor, share: float = 1.0, look: StepProbe | None = None
) -> tuple[Tensor, Tensor]:
    """One update. x: (B, 3, S, S) normalized; labels: (B,) int64.

    Returns the loss in nats and the number of right answers, both 0-d and still on the device:
    the caller decides when to wait for them. share: of the step's images, how large a part these
    are; the loss is then what they add to the step's own. look: is shown the step from inside.
    """
    model, optimizer = training.step_model, training.optimizer
    with training.autocast(), look.forward_pass() if look else nullcontext():
        logits = model(x)
    logits = logits.float()
    loss = F.cross_entropy(logits, labels, label_smoothing=training.config.label_smoothing)
    optimizer.zero_grad(set_to_none=True)
    # gradients become the mean over the ranks: a share that is larger than others counts for more
    weight = share * training.world.size
    (loss if weight == 1 else loss * weight).backward()
    if look:
        look.gradients()
    optimizer.step()
    if training.averaged is not None:
        training.averaged.update_parameters(training.model)
    return loss.detach() * share, (logits.detach().argmax(1) == labels).sum()


def validate_epoch(
    training: Training, should_stop: Callable[[], bool]
) -> tuple[Epoch, dict[str, Any] | None] | None:
    """The epoch's summary, and `Validation.outside`.

    None when stopped half-way, the network then as it was before.
    """
    began = time.monotonic()
    tally = training.tally.over_ranks(training.world)
    train_loss, train_top1, seen = tally.means()
    finite_loss(train_loss, training.step, training.config)
    if training.config.report_last_batch:
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
    )
    training.close_epoch()
    return summary, validation.outside


def collect_garbage() -> None:
    """What the article does after every step, in the hope of memory. It is there to be measured."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def explain_out_of_memory(config: TrainConfig) -> Iterator[None]:
    """Memory that runs out within becomes a TrainingError that names the batch and half of it."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not (
            isinstance(error, torch.OutOfMemoryError | MemoryError)
            or CPU_OUT_OF_MEMORY in str(error)
        ):
            raise
        size, half = config.batch_size, config.batch_size // 2
        what = f"out of memory with batch_size {size} at image_size {config.image_size}: nothing "
        if half == 0:
            raise TrainingError(f"{what}was changed; try a smaller network or image") from error
        retry = {"batch_size": half}
        raise TrainingError(f"{what}was changed; half, {half}, needs less", retry) from error


def is_logged(step: int, steps_per_epoch: int) -> bool:
    """Fixed step numbers, so that the curve of a resumed run equals an uninterrupted one's."""
    every = max(1, min(steps_per_epoch // POINTS_PER_EPOCH, 50))
    return step <= FIRST_STEPS or step % every == 0


def save(training: Training) -> None:
    """Keep where the run is, unless its weights are no numbers. Raises TrainingError.

    A loss is of the weights before its step: it may be a number still.
    """
    if not all(bool(weight.isfinite().all()) for weight in training.model.parameters()):
        finite_loss(math.nan, training.step, training.config)
    training.save()


def finite_loss(loss: Tensor | float, step: int, config: TrainConfig) -> float:
    """The loss as a number: this is where the device is waited for. Raises TrainingError."""
    value = float(loss)
    if not math.isfinite(value):
        raise TrainingError(
            f"the loss became {value} by step {step}: try a lower peak_lr than {config.peak_lr:g}"
        )
    return value


class StepTimer:
    """Images a second since the last reading, and when the next checkpoint is due; monotonic."""

    def __init__(self, training: Training, save_every_s: float) -> None:
        self.training, self.save_every_s, self.images = training, save_every_s, 0
        self.read = self.saved = time.monotonic()

    def rate(self) -> float:
        """Images a second since the last call; their seconds go to the run's account."""
        now = time.monotonic()
        seconds, self.read = max(now - self.read, 1e-9), now
        images, self.images = self.images, 0
        self.training.seconds += seconds
        self.training.tally.seconds += seconds
        return images / seconds

    def save_is_due(self) -> bool:
        """True once every `save_every_s`."""
        now = time.monotonic()
        if now - self.saved < self.save_every_s:
            return False
        self.saved = now
        return True
