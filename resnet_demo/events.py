"""What a run says while it runs: small frozen events, one JSON line each.

A reader passes over kinds it does not know, so that new ones may be added. No torch here.
"""

import json
import time
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import Any, ClassVar

from resnet_demo.json_files import build, parse_json


@dataclass(frozen=True, kw_only=True)
class Event:
    """Common to all: Unix seconds, updates done so far, epoch (1-based; 0 before any).

    clock: seconds since the machine started, which only go forward: durations are made of it, the
    time may be set meanwhile. 0 where the log does not tell.
    """

    kind: ClassVar[str]
    step: int
    epoch: int
    time: float = field(default_factory=time.time)
    clock: float = field(default_factory=monotonic, compare=False)


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """The network is built and the data is on the device; macs are multiply-adds an image."""

    kind = "started"
    device: str
    precision: str
    threads: int
    parameters: int
    macs: int
    steps_per_epoch: int
    epochs: int
    version: str
    seconds: float = 0.0  # of work before, where it was resumed
    sides: list = field(default_factory=list)  # pixels, of the training images in turn
    keep: str = "best"  # which epoch's weights, as TrainConfig's

    def __post_init__(self) -> None:
        if self.keep not in ("best", "last"):
            raise ValueError("keep must be best or last")
        if not all(type(side) is int and 0 < side < 2**16 for side in self.sides):
            raise ValueError("sides must be whole numbers of pixels")


@dataclass(frozen=True, kw_only=True)
class Resumed(Started):
    """As Started, from a checkpoint: what was logged after `step` is about to be repeated."""

    kind = "resumed"
    message: str = ""  # a warning: what was damaged, and what was used in its place


@dataclass(frozen=True, kw_only=True)
class Compiled(Event):
    """The network is compiled, which took so many seconds; the first step follows."""

    kind = "compiled"
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Probing(Event):
    """Which layers each later `probe` tells of, by name, in the order of the network."""

    kind = "probing"
    layers: list


@dataclass(frozen=True, kw_only=True)
class Probe(Event):
    """One step seen from inside: a number a layer, None where it was no number or too large.

    gradients: length of the gradient of the layer's weights. activations: root mean square of what
    the layer put out, before its normalization.
    """

    kind = "probe"
    gradients: list
    activations: list


@dataclass(frozen=True, kw_only=True)
class Step(Event):
    """One minibatch: loss in nats, top-1, its learning rate; images a second since the last."""

    kind = "step"
    loss: float
    top1: float
    lr: float
    images_per_s: float


@dataclass(frozen=True, kw_only=True)
class Epoch(Event):
    """Means over the epoch's training batches as they were seen, and over the validation split."""

    kind = "epoch"
    train_loss: float
    train_top1: float
    val_loss: float
    val_top1: float
    lr: float
    seconds: float
    images_per_s: float


@dataclass(frozen=True, kw_only=True)
class Ended(Event):
    """The last event of a stretch; best_epoch is None before the first validation.

    It is the epoch whose weights were kept: the best by validation, or the last where the config
    keeps that.
    """

    best_epoch: int | None
    best_val_top1: float | None
    seconds: float
    message: str


@dataclass(frozen=True, kw_only=True)
class Finished(Ended):
    """All epochs are done."""

    kind = "finished"


@dataclass(frozen=True, kw_only=True)
class Stopped(Ended):
    """A person stopped it; resumable."""

    kind = "stopped"


@dataclass(frozen=True, kw_only=True)
class Failed(Ended):
    """It could not go on; message says why. retry: knobs with which it might."""

    kind = "failed"
    retry: dict = field(default_factory=dict)


KINDS: dict[str, type[Event]] = {
    kind.kind: kind
    for kind in (
        *(Started, Resumed, Compiled, Probing, Probe, Step, Epoch),
        *(Finished, Stopped, Failed),
    )
}


def to_dict(event: Event) -> dict[str, Any]:
    """What a line of the log holds."""
    return {"event": event.kind, **asdict(event)}


def to_line(event: Event) -> str:
    """One line of JSON. Raises ValueError for NaN and infinity, which JSON has not."""
    return json.dumps(to_dict(event), allow_nan=False) + "\n"


def from_line(line: str) -> Event | None:
    """The event of a line; None for a torn or damaged line or a kind this version does not know."""
    try:
        values = parse_json(line)
        return build(KINDS[values["event"]], {"clock": 0.0, **values})
    except (ValueError, TypeError, KeyError):
        return None
