"""A run as a person sees it: the fold of its events, read on from where the last look ended.

It has a size that no run can exceed: of a long one, the steps are kept thinned.
"""

import time
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from statistics import fmean
from typing import Any

from resnet_demo.data.image_sizes import image_size_at, relative_cost
from resnet_demo.events import Ended, Epoch, Event, Started, Step, to_dict
from resnet_demo.runs.log import CHUNK, EventLog

MAX_STEPS = 4096  # of which the page draws a few hundred
RECENT = 64  # of them, the last ones, are never thinned: rates and the log are made of them


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
    timed: Event | None = None  # the last one that told how long the run has worked

    def refresh(self) -> bool:
        """Fold the new lines; True when there were any. Reads a little at a time."""
        before, end = self.offset, -1
        while self.offset != end:
            end = self.offset
            events, self.offset = self.log.read(end, CHUNK)
            for event in events:
                self.fold(event)
        return self.offset != before

    def fold(self, event: Event) -> None:
        """One event. After a resume, repeated steps replace the older ones."""
        self.last = event
        if isinstance(event, Started):  # a resume too
            self.started, self.ended, self.timed = event, None, event
            self.steps = [step for step in self.steps if step.step <= event.step]
            self.epochs = [epoch for epoch in self.epochs if epoch.step <= event.step]
        elif isinstance(event, Step):
            self.steps.append(event)
            if len(self.steps) > MAX_STEPS:
                self.steps = compact_steps(self.steps)
        elif isinstance(event, Epoch):
            while self.epochs and self.epochs[-1].epoch >= event.epoch:
                self.epochs.pop()
            self.epochs.append(event)
            self.timed = event
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
        """The epoch whose weights were kept.

        The first of the highest validation top-1, or the last: the beginning tells, by `keep`.
        """
        if self.started and self.started.keep == "last":
            return self.epochs[-1] if self.epochs else None
        return max(self.epochs, key=lambda epoch: epoch.val_top1, default=None)

    @property
    def image_size(self) -> int | None:
        """Pixels, the side of the training images by now; None where the log does not tell."""
        if not self.started or not self.started.sides or not self.total_steps:
            return None
        return image_size_at(self.started.sides, self.step, self.total_steps)

    def images_per_s(self) -> float | None:
        """Training rate: the median of recent readings; None before the first."""
        recent = sorted(step.images_per_s for step in self.steps[-9:])
        return recent[len(recent) // 2] if recent else None

    def total_seconds(self) -> float:
        """Seconds of work of a run at rest: as its end told, else up to its last event."""
        return self.seconds_so_far(self.last) if self.last else 0.0

    def seconds_so_far(self, until: Event | None = None) -> float:
        """Seconds of work so far: epochs as they told, the current one by the steady clock.

        until: the event to count up to, now if left out.
        """
        if self.ended:
            return self.ended.seconds
        if not self.started or not self.timed:
            return 0.0
        of_epochs = isinstance(self.timed, Epoch)
        done = sum(e.seconds for e in self.epochs) if of_epochs else self.started.seconds
        return done + seconds_between(self.timed, until)

    def step_durations(self) -> list[float]:
        """Seconds between recent steps of this stretch, from each to the next."""
        return [seconds_between(one, other) for one, other in pairwise(self.recent_steps())]

    def recent_steps(self) -> list[Step]:
        """The last steps since the run was started or resumed: ten at most."""
        since = self.started.step if self.started else 0
        return [step for step in self.steps[-10:] if step.step > since]

    def seconds_left(self) -> float | None:
        """Expected seconds to the end at the present rate; None before there is one."""
        if not self.started or not self.steps or self.ended:
            return None
        if self.epochs:  # validation included
            last = self.epochs[-1]
            work = self.relative_cost(last.step - self.started.steps_per_epoch, last.step)
            seconds = last.seconds
        else:
            recent = self.recent_steps()
            if len(recent) < 2 or recent[-1].step == recent[0].step:
                return None
            work = self.relative_cost(recent[0].step, recent[-1].step)
            seconds = seconds_between(recent[0], recent[-1])
        if work <= 0:  # a log that makes no sense
            return None
        return max(0.0, seconds * self.relative_cost(self.step, self.total_steps) / work)

    def relative_cost(self, since: int, until: int) -> float:
        """What the steps between these two cost, in steps on full-sized images."""
        sides, total = self.started.sides or [1], self.total_steps
        return relative_cost(sides, until, total) - relative_cost(sides, since, total)

    def history(self) -> list[dict[str, Any]]:
        """Every epoch so far, as the log has it."""
        return [to_dict(epoch) for epoch in self.epochs]


def seconds_between(since: Event, until: Event | None = None) -> float:
    """Seconds from an event to a later one of the same stretch, or to now; never negative.

    By the clock that only goes forward. A log of before it was told has the times alone.
    """
    if until is None:
        clock, at = time.monotonic(), time.time()
    else:
        clock, at = until.clock, until.time
    told = since.clock and clock
    return max(0.0, clock - since.clock if told else at - since.time)


def compact_steps(steps: list[Step]) -> list[Step]:
    """At most about half of MOST_STEPS: of each stretch the steps of lowest and of highest loss.

    They are as they were, but for top-1, which is the stretch's mean: for it, no single batch
    matters. First and last ones stay. Stretches are as wide as powers of two, so that one is made
    of two whole ones when this is done again, and the extremes are those of all steps ever seen.
    """
    first, *older = steps[:-RECENT]
    width = 1
    while width < 4 * steps[-1].step / MAX_STEPS:
        width *= 2
    kept = [first]
    for _, stretch in groupby(older, lambda step: step.step // width):
        inside = list(stretch)
        top1 = fmean(step.top1 for step in inside)
        ends = {min(inside, key=lambda step: step.loss), max(inside, key=lambda step: step.loss)}
        kept += [replace(step, top1=top1) for step in sorted(ends, key=lambda step: step.step)]
    return kept + steps[-RECENT:]


def thin_points(values: list[tuple[float, float]], most: int) -> list[tuple[float, float]]:
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
