"""What a change does: runs in pairs of the same seed, with it and without it. No torch here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

# Student's t, two-sided 95 %, by degrees of freedom
T95 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622)


@dataclass(frozen=True)
class Effect:
    """The mean of differences over `n` pairs; low and high: its 95 % interval.

    Both None for a single pair, of which nobody knows how it would have gone with another seed.
    """

    mean: float
    n: int
    low: float | None = None
    high: float | None = None

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low is not None and (self.low > 0 or self.high < 0)


def effect(differences: Sequence[float]) -> Effect:
    """With the change minus without it, for each pair of one seed (Student's t interval).

    At least one, at most ten.
    """
    n, middle = len(differences), mean(differences)
    if n == 1:
        return Effect(middle, n)
    half = T95[n - 2] * stdev(differences) / math.sqrt(n)
    return Effect(middle, n, middle - half, middle + half)
