"""The state of a run, folded from its event log; a refresh reads only the new lines.

Memory is bounded: the steps of a long run are kept thinned.
"""

import time
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from statistics import fmean, median_high
from typing import Any

from resnet_demo.data.image_sizes import image_size_at, relative_cost
from resnet_demo.events import Embedding, Ended, Epoch, Event, Head, Started, Step, to_dict
from resnet_demo.runs.log import EventLog

MAX_STEPS = 4096  # the page draws a few hundred of them
RECENT = 64  # last steps that are never thinned: rates and the page's log need them


@dataclass
class RunView:
    """The state of a run as far as `refresh` has read its log.

    ended: None while the run goes on. last_timed: the last event that has the run's working time.
    embedding: the latest progress of the embedding pass. head: the result of fitting a head.
    """

    log: EventLog
    offset: int = 0
    started: Started | None = None
    steps: list[Step] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    ended: Ended | None = None
    last: Event | None = None
    last_timed: Event | None = None
    embedding: Embedding | None = None
    head: Head | None = None

    def refresh(self) -> bool:
        """Fold the new lines of the log, a chunk at a time; return whether there were any."""
        before = self.offset
        for events, offset in self.log.read_chunks(before):
            self.offset = offset
            for event in events:
                self.fold(event)
        return self.offset != before

    def fold(self, event: Event) -> None:
        """Apply one event. After a resume, repeated steps replace the older ones."""
        self.last = event
        if isinstance(event, Started):  # a resume too
            self.started, self.ended, self.last_timed = event, None, event
            # Steps after the checkpoint were logged but not saved: they come again.
            self.steps = [step for step in self.steps if step.step <= event.step]
            self.epochs = [epoch for epoch in self.epochs if epoch.step <= event.step]
        elif isinstance(event, Step):
            self.steps.append(event)
            if len(self.steps) > MAX_STEPS:
                # Halved when it is full, so that a step costs the same on average, however long the
                # run.
                self.steps = compact_steps(self.steps)
        elif isinstance(event, Epoch):
            # A kill after the event and before the save: the epoch is validated again on resume.
            while self.epochs and self.epochs[-1].epoch >= event.epoch:
                self.epochs.pop()
            self.epochs.append(event)
            self.last_timed = event
        elif isinstance(event, Embedding):
            self.embedding = event
        elif isinstance(event, Head):
            self.head = event
        elif isinstance(event, Ended):
            self.ended = event

    @property
    def step(self) -> int:
        """Return the number of updates done, as logged."""
        # The last event may be one without a step of its own.
        return max((e.step for e in (self.last, *self.steps[-1:]) if e), default=0)

    @property
    def total_steps(self) -> int:
        """Return the number of updates of the whole run; 0 before it started."""
        return self.started.epochs * self.started.steps_per_epoch if self.started else 0

    @property
    def best(self) -> Epoch | None:
        """Return the epoch whose weights were kept, as the config's `keep` says.

        It is the last epoch, or the first one of the highest validation top-1. With `last-or-head`
        it is the fitted head, as epoch 0, unless the end of the run names another one.
        """
        keep = self.started.keep if self.started else "best"
        if keep == "best":
            return max(self.epochs, key=lambda epoch: epoch.val_top1, default=None)
        if keep == "last-or-head" and self.head and not (self.ended and self.ended.best_epoch):
            return self.head.as_epoch()
        return self.epochs[-1] if self.epochs else None

    @property
    def image_size(self) -> int | None:
        """Return the current side of the training images in pixels; None if not logged."""
        if not self.started or not self.started.sides or not self.total_steps:
            return None
        return image_size_at(self.started.sides, self.step, self.total_steps)

    def images_per_s(self) -> float | None:
        """Return the median rate of recent steps, or of the embedding pass; None before them."""
        # The median of nine: one slow step, as while a checkpoint is saved, does not show.
        rates = [step.images_per_s for step in self.steps[-9:]]
        if not rates and self.embedding:
            return self.embedding.images_per_s
        return median_high(rates) if rates else None

    def total_seconds(self) -> float:
        """Return the working seconds of a run without a worker: up to its last event."""
        return self.seconds_so_far(self.last) if self.last else 0.0

    def seconds_so_far(self, until: Event | None = None) -> float:
        """Return the working seconds up to an event, by default up to now.

        Whole epochs count as logged, the current one by the steady clock.
        """
        if self.ended:
            return self.ended.seconds
        if not self.started or not self.last_timed:
            return 0.0
        if isinstance(self.last_timed, Epoch):
            done = sum(epoch.seconds for epoch in self.epochs)
        else:
            done = self.started.seconds
        return done + seconds_between(self.last_timed, until)

    def step_durations(self) -> list[float]:
        """Return the seconds between recent steps since the run was started or resumed."""
        return [seconds_between(step, after) for step, after in pairwise(self.recent_steps())]

    def recent_steps(self) -> list[Step]:
        """Return the last steps, ten at most, since the run was started or resumed."""
        since = self.started.step if self.started else 0
        return [step for step in self.steps[-10:] if step.step > since]

    def seconds_left(self) -> float | None:
        """Return the expected seconds to the end at the present rate; None if not known yet."""
        if not self.started or not self.steps or self.ended:
            return None
        if self.epochs:  # an epoch's time includes its validation
            last = self.epochs[-1]
            cost = self.relative_cost(last.step - self.started.steps_per_epoch, last.step)
            seconds = last.seconds
        else:
            # Only of this session: the time between a stop and a resume is no work.
            recent = self.recent_steps()
            if len(recent) < 2 or recent[-1].step == recent[0].step:
                return None
            cost = self.relative_cost(recent[0].step, recent[-1].step)
            seconds = seconds_between(recent[0], recent[-1])
        if cost <= 0:  # the log contradicts itself
            return None
        # By cost, not by steps: later steps on larger images take longer.
        return max(0.0, seconds * self.relative_cost(self.step, self.total_steps) / cost)

    def relative_cost(self, since: int, until: int) -> float:
        """Return the cost of the steps between these two, in steps on full-sized images."""
        # Logs of older versions have no sides.
        sides, total = self.started.sides or [1], self.total_steps
        return relative_cost(sides, until, total) - relative_cost(sides, since, total)

    def history(self) -> list[dict[str, Any]]:
        """Return every epoch so far as the log has it."""
        return [to_dict(epoch) for epoch in self.epochs]


def seconds_between(since: Event, until: Event | None = None) -> float:
    """Return the seconds from an event to a later one of the same session, or to now; 0 or more.

    The steady clock is used where both have it: the wall clock may be set meanwhile.
    """
    if until is None:
        clock, wall = time.monotonic(), time.time()
    else:
        clock, wall = until.clock, until.time
    has_clock = since.clock and clock  # logs of older versions have none
    return max(0.0, clock - since.clock if has_clock else wall - since.time)


def compact_steps(steps: list[Step]) -> list[Step]:
    """Return at most about half of MAX_STEPS: of each bin the steps of lowest and highest loss.

    Their top-1 becomes the mean of the bin, since no single batch matters for it. The first step
    and the recent ones stay.
    """
    first, *older = steps[:-RECENT]
    # Bins have widths of powers of two, so a later bin is made of two whole earlier ones, and its
    # extremes are those of all steps ever seen.
    width = 1
    while width < 4 * steps[-1].step / MAX_STEPS:
        width *= 2
    kept = [first]
    for _, group in groupby(older, lambda step: step.step // width):
        bin_steps = list(group)
        top1 = fmean(step.top1 for step in bin_steps)
        lowest = min(bin_steps, key=lambda step: step.loss)
        highest = max(bin_steps, key=lambda step: step.loss)
        ends = sorted({lowest, highest}, key=lambda step: step.step)
        kept += [replace(step, top1=top1) for step in ends]
    return kept + steps[-RECENT:]


def thin_points(points: list[tuple[float, float]], limit: int) -> list[tuple[float, float]]:
    """Return at most `limit` (at least 4) of the (x, y) points of a curve.

    The first and last stay, and the lowest and highest of each bin: a spike survives, which
    taking every n-th point would lose.
    """
    if len(points) <= limit:
        return points
    bins = (limit - 2) // 2
    inner = points[1:-1]
    kept = [points[0]]
    for number in range(bins):
        bin_points = inner[number * len(inner) // bins : (number + 1) * len(inner) // bins]
        lowest = min(bin_points, key=lambda point: point[1])
        highest = max(bin_points, key=lambda point: point[1])
        # A set: in a bin of one point both are the same.
        kept += sorted({lowest, highest})
    return [*kept, points[-1]]
