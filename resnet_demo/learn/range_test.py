"""A learning rate found by trying: loss against a rate that rises (Smith 2017, section 3.3)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

SMOOTHING = 0.9  # share of the running mean that stays, a step
DIVERGED = 4.0  # times the lowest loss: what follows says nothing more
BELOW = 10  # the rate to train with is so many times smaller than the one of the lowest loss
FIRST = 10  # steps before a lowest loss counts: the mean has to settle


@dataclass(frozen=True)
class RangeTest:
    """points: (learning rate, smoothed loss in nats) up to where it diverged.

    lowest: the point of the lowest loss; None while there are too few. suggested: a rate, a tenth
    of that one's, to two digits.
    """

    points: list[tuple[float, float]]
    lowest: tuple[float, float] | None
    suggested: float | None
    diverged: bool


def analyze_range_test(steps: Sequence[tuple[float, float]]) -> RangeTest:
    """From (learning rate, loss) of each step, in order."""
    points: list[tuple[float, float]] = []
    running, lowest = 0.0, None
    for n, (rate, loss) in enumerate(steps, start=1):
        running = SMOOTHING * running + (1 - SMOOTHING) * loss
        smooth = running / (1 - SMOOTHING**n)
        points.append((rate, smooth))
        if n >= FIRST and (lowest is None or smooth < lowest[1]):
            lowest = points[-1]
        if lowest and smooth > DIVERGED * lowest[1]:
            return RangeTest(points, lowest, suggest_rate(lowest[0]), True)
    return RangeTest(points, lowest, lowest and suggest_rate(lowest[0]), False)


def suggest_rate(rate: float) -> float:
    """A tenth of it, to two digits."""
    value = rate / BELOW
    digits = 1 - math.floor(math.log10(value))
    return round(value, digits)
