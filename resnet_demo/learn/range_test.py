"""Learning-rate range test: the loss while the rate rises (Smith 2017, section 3.3).

Smith 2017, "Cyclical Learning Rates for Training Neural Networks".
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

SMOOTHING = 0.9  # decay per step of the exponential moving average
DIVERGED = 4.0  # times the lowest loss; points after that are meaningless
SUGGESTION_DIVISOR = 10  # the suggested rate is the rate of the lowest loss divided by this
WARM_UP_STEPS = 10  # before the lowest loss counts, because the average has to settle


@dataclass(frozen=True)
class RangeTest:
    """points: (learning rate, smoothed loss in nats), up to where the loss diverged.

    lowest: the point of the lowest loss, None with too few steps. suggested: a tenth of its rate,
    to two digits.
    """

    points: list[tuple[float, float]]
    lowest: tuple[float, float] | None
    suggested: float | None
    diverged: bool


def analyze_range_test(steps: Sequence[tuple[float, float]]) -> RangeTest:
    """Analyze the (learning rate, loss) of each step, in order."""
    points: list[tuple[float, float]] = []
    average, lowest = 0.0, None
    for n, (rate, loss) in enumerate(steps, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smooth = average / (1 - SMOOTHING**n)  # corrects the bias of starting at 0
        points.append((rate, smooth))
        if n >= WARM_UP_STEPS and (lowest is None or smooth < lowest[1]):
            lowest = points[-1]
        if lowest and smooth > DIVERGED * lowest[1]:
            return RangeTest(points, lowest, suggest_rate(lowest[0]), True)
    return RangeTest(points, lowest, lowest and suggest_rate(lowest[0]), False)


def suggest_rate(rate: float) -> float:
    """Return a tenth of the rate, to two digits."""
    value = rate / SUGGESTION_DIVISOR
    digits = 1 - math.floor(math.log10(value))
    return round(value, digits)
