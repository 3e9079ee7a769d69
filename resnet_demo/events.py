"""Events of a run: small frozen objects, one JSON line each.

Readers skip unknown kinds, so new ones may be added. No torch here.
"""

import json
import time
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import Any, ClassVar

from resnet_demo.json_files import build, parse_json

MAX_COUNT = 10**12  # steps of a run
MAX_TIME = 253_402_300_800.0  # Unix seconds at the end of the year 9999


@dataclass(frozen=True, kw_only=True)
class Event:
    """The fields of all events.

    step: updates done so far. epoch: 1-based, 0 before the first. time: Unix seconds. clock:
    seconds of the steady clock, for durations, since the wall clock may be set; 0 in old logs.
    """

    kind: ClassVar[str]
    step: int
    epoch: int
    time: float = field(default_factory=time.time)
    # Not compared: it depends on when the machine was started.
    clock: float = field(default_factory=monotonic, compare=False)


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """The network is built and the data is on the device.

    macs: multiply-adds per image. seconds: working time before a resume. sides: sizes of the
    training images in pixels, in turn. keep: as in TrainConfig.
    """

    kind = "started"
    device: str
    precision: str
    threads: int
    parameters: int
    macs: int
    steps_per_epoch: int
    epochs: int
    version: str
    seconds: float = 0.0
    sides: list = field(default_factory=list)
    keep: str = "best"

    def __post_init__(self) -> None:
        if self.keep not in ("best", "last", "last-or-head"):
            raise ValueError("keep must be best, last or last-or-head")
        # A log may come from elsewhere: a line with senseless sizes counts as damaged
        # (`from_line`).
        if not all(type(side) is int and 0 < side < 2**16 for side in self.sides):
            raise ValueError("sides must be whole numbers of pixels")


@dataclass(frozen=True, kw_only=True)
class Resumed(Started):
    """The run continues from a checkpoint; events logged after `step` will be repeated.

    message: a warning that names what was damaged and what replaced it.
    """

    kind = "resumed"
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Compiled(Event):
    """The network is compiled; the first step follows. seconds: duration of the compilation."""

    kind = "compiled"
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Probing(Event):
    """Names of the layers that every later `probe` measures, in network order."""

    kind = "probing"
    layers: list


@dataclass(frozen=True, kw_only=True)
class Probe(Event):
    """Measurements of one step, one number per layer; None if it was not finite.

    gradients: norm of the gradient of the layer's weights. activations: root mean square of the
    layer's output before normalization.
    """

    kind = "probe"
    gradients: list
    activations: list


@dataclass(frozen=True, kw_only=True)
class Embedding(Event):
    """Progress of the pass of the frozen layers over the images, before a head is fitted.

    done, total: images; embeddings that were kept from an earlier run are not among them.
    """

    kind = "embedding"
    done: int
    total: int
    images_per_s: float


@dataclass(frozen=True, kw_only=True)
class Head(Event):
    """A head is fitted to embeddings.

    weight_decay: the one that was used. val_loss, val_top1: of the validation images, or of all
    training images by cross-validation in so many folds. curve: for each share of the training
    images a list of the number trained on, the number of right answers and of answers, for
    `runs.text.learning_curve_text`. train_loss, train_top1: 0 in older logs.
    """

    kind = "head"
    weight_decay: float
    folds: int
    val_loss: float
    val_top1: float
    curve: list[list[int]]
    seconds: float
    train_loss: float = 0.0
    train_top1: float = 0.0

    def as_epoch(self) -> "Epoch":
        """Return the result as epoch 0 of a run that then trains all layers."""
        return Epoch(
            step=0,
            epoch=0,
            time=self.time,
            clock=self.clock,
            train_loss=self.train_loss,
            train_top1=self.train_top1,
            val_loss=self.val_loss,
            val_top1=self.val_top1,
            lr=1.0,
            seconds=self.seconds,
            images_per_s=0.0,
            val_images=self.curve[-1][2] if self.curve else 0,
        )


@dataclass(frozen=True, kw_only=True)
class Step(Event):
    """One update: loss in nats, top-1 as a fraction, learning rate, images per second."""

    kind = "step"
    loss: float
    top1: float
    lr: float
    images_per_s: float


@dataclass(frozen=True, kw_only=True)
class Epoch(Event):
    """The end of an epoch: means over its training batches and over the validation split.

    val_images: of the validation split; 0 in older logs.
    """

    kind = "epoch"
    train_loss: float
    train_top1: float
    val_loss: float
    val_top1: float
    lr: float
    seconds: float
    images_per_s: float
    val_images: int = 0


@dataclass(frozen=True, kw_only=True)
class Ended(Event):
    """The last event of a session.

    best_epoch: the epoch whose weights were kept (TrainConfig.keep), 0 for the head that was fitted
    before all layers were trained; None before any validation.
    val_images: as in Epoch.
    """

    best_epoch: int | None
    best_val_top1: float | None
    seconds: float
    message: str
    val_images: int = 0


@dataclass(frozen=True, kw_only=True)
class Finished(Ended):
    """All epochs are done."""

    kind = "finished"


@dataclass(frozen=True, kw_only=True)
class Stopped(Ended):
    """The user stopped the run; it can be resumed."""

    kind = "stopped"


@dataclass(frozen=True, kw_only=True)
class Failed(Ended):
    """The run could not continue. message: the reason. retry: settings that may work."""

    kind = "failed"
    retry: dict = field(default_factory=dict)


KINDS: dict[str, type[Event]] = {
    kind.kind: kind
    # By hand, not by __subclasses__: a class of its own, such as Ended, is no line of the log.
    for kind in (
        Started,
        Resumed,
        Compiled,
        Probing,
        Probe,
        Embedding,
        Head,
        Step,
        Epoch,
        Finished,
        Stopped,
        Failed,
    )
}


def to_dict(event: Event) -> dict[str, Any]:
    """Return the content of a line of the log."""
    return {"event": event.kind, **asdict(event)}


def to_line(event: Event) -> str:
    """Return one line of JSON. Raises ValueError for NaN and infinity."""
    # NaN is not JSON: readers other than Python's would refuse the line.
    return json.dumps(to_dict(event), allow_nan=False) + "\n"


def from_line(line: str) -> Event | None:
    """Return the event of a line; None for a damaged line or an unknown kind."""
    try:
        values = parse_json(line)
        # Older logs have no clock; 0 makes readers use the wall clock.
        event = build(KINDS[values["event"]], {"clock": 0.0, **values})
        return event if is_possible(event) else None
    except (ValueError, TypeError, KeyError):
        return None


def is_possible(event: Event) -> bool:
    """Return whether an event's counts and times can be those of a run.

    Later steps rely on them: no clock shows the year 10^290, and no list has -1 entries.
    """
    counts = (event.step, event.epoch)
    # A clock may be set to any date, also before 1970: only absurd times are nonsense.
    return all(0 <= count < MAX_COUNT for count in counts) and abs(event.time) < MAX_TIME
