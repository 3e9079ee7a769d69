"""Confidence intervals: of an accuracy, and of a difference between paired runs. No torch here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

Z_95 = 1.959964  # 97.5 % quantile of the normal distribution
# 97.5 % quantiles of Student's t distribution with 1 to 9 degrees of freedom
T_95 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622)


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion, as fractions (Wilson 1927). n ≥ 1.

    Unlike the normal approximation, it stays within [0, 1] and has a width even if all or none of
    the n trials were correct.
    """
    share, z2 = correct / n, Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # Rounding can take a bound slightly out of the range.
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class Effect:
    """The mean difference over n pairs of runs, and its 95 % interval.

    low and high are None for a single pair, which has no measurable variance.
    """

    mean: float
    n: int
    low: float | None = None
    high: float | None = None

    @property
    def is_clear(self) -> bool:
        """Return whether the interval excludes zero."""
        return self.low is not None and (self.low > 0 or self.high < 0)


def paired_effect(differences: Sequence[float]) -> Effect:
    """Return the mean and the 95 % Student's t interval of 1 to 10 paired differences.

    A difference is the value with a change minus the value without it, at the same seed.
    """
    n, centre = len(differences), mean(differences)
    if n == 1:
        return Effect(centre, n)
    # n pairs have n - 1 degrees of freedom, whose quantile is at n - 2.
    half = T_95[n - 2] * stdev(differences) / math.sqrt(n)
    return Effect(centre, n, centre - half, centre + half)
