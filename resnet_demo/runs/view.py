"""A run as a person sees it: the fold of its events, read on from where the last look ended."""

import time
from dataclasses import dataclass, field
from typing import Any

from resnet_demo.events import Ended, Epoch, Event, Started, Step, to_dict
from resnet_demo.runs.log import EventLog


@dataclass
class RunView:
    """What the log has said so far. `refresh` reads what is new."""

    log: EventLog
    offset: int = 0
    started: Started | None = None
    steps: list[Step] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    ended: Ended | None = None
    last: Event | None = None

    def refresh(self) -> bool:
        """Fold the new lines; True when there were any."""
        events, self.offset = self.log.read(self.offset)
        for event in events:
            self.fold(event)
        return bool(events)

    def fold(self, event: Event) -> None:
        """One event. After a resume, repeated steps replace the older ones."""
        self.last = event
        if isinstance(event, Started):  # a resume too
            self.started, self.ended = event, None
            self.steps = [step for step in self.steps if step.step <= event.step]
            self.epochs = [epoch for epoch in self.epochs if epoch.step <= event.step]
        elif isinstance(event, Step):
            self.steps.append(event)
        elif isinstance(event, Epoch):
            self.epochs = [*(e for e in self.epochs if e.epoch < event.epoch), event]
        elif isinstance(event, Ended):
            self.ended = event

    @property
    def step(self) -> int:
        """Updates done, as far as the log tells."""
        return max((e.step for e in (self.last, *self.steps[-1:]) if e), default=0)

    @property
    def total_steps(self) -> int:
        """Updates of the whole run; 0 before it started."""
        return self.started.epochs * self.started.steps_per_epoch if self.started else 0

    @property
    def best(self) -> Epoch | None:
        """The epoch whose weights were kept: the first of the highest validation top-1."""
        return max(self.epochs, key=lambda epoch: epoch.val_top1, default=None)

    def images_per_s(self) -> float | None:
        """Training rate: the median of recent readings; None before the first."""
        recent = sorted(step.images_per_s for step in self.steps[-9:])
        return recent[len(recent) // 2] if recent else None

    def worked(self) -> float:
        """Seconds of work of a run at rest: as its end told, else up to its last event."""
        if self.ended:
            return self.ended.seconds
        return self.seconds(self.last.time) if self.last else 0.0

    def seconds(self, at: float | None = None) -> float:
        """Seconds of work so far: epochs as they told, the current one by its events' times.

        at: Unix seconds to count up to, now if left out.
        """
        if self.ended:
            return self.ended.seconds
        if not self.started:
            return 0.0
        done, since = self.started.seconds, self.started.time
        if self.epochs and self.epochs[-1].time > since:
            done, since = sum(epoch.seconds for epoch in self.epochs), self.epochs[-1].time
        return done + max(0.0, (at or time.time()) - since)

    def seconds_left(self) -> float | None:
        """Expected seconds to the end at the present rate; None before there is one."""
        if not self.started or not self.steps or self.ended:
            return None
        if self.epochs:  # validation included
            per_step = self.epochs[-1].seconds / self.started.steps_per_epoch
        else:
            recent = self.steps[-10:]
            if recent[-1].step == recent[0].step:
                return None
            per_step = (recent[-1].time - recent[0].time) / (recent[-1].step - recent[0].step)
        return max(0.0, (self.total_steps - self.step) * per_step)

    def history(self) -> list[dict[str, Any]]:
        """Every epoch so far, as the log has it."""
        return [to_dict(epoch) for epoch in self.epochs]


def thinned(values: list[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most `most` of the (x, y) points: first, last, and each stretch's lowest and highest.

    A spike survives, which an every-nth would lose. `most` is at least 4.
    """
    if len(values) <= most:
        return values
    buckets = (most - 2) // 2
    inner = values[1:-1]
    kept = [values[0]]
    for bucket in range(buckets):
        stretch = inner[bucket * len(inner) // buckets : (bucket + 1) * len(inner) // buckets]
        extremes = {min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}
        kept += sorted(extremes)
    return [*kept, values[-1]]
