"""Loops measured in turns within one run, so that a drift of the machine meets them all alike.

No torch here: the clock, and how to wait for the device, are passed in.
"""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

Clock = Callable[[], float]
# A loop trains until it is told not to go on, asked after each step with the images it has trained
# on in this call; it returns their number.
Loop = Callable[[Callable[[int], bool]], int]
Rates = dict[str, list[float]]


class Stopwatch:
    """Times one call of a loop, without its first step: that one starts workers and fills caches.

    wait: returns when the device has done all it was given.
    """

    def __init__(self, seconds: float, clock: Clock, wait: Callable[[], None]) -> None:
        self.seconds, self.clock, self.wait = seconds, clock, wait
        self.first: int | None = None  # images of the first step
        self.began = 0.0

    def goes_on(self, images: int) -> bool:
        """Whether there is time for another step; there is for one, however long it takes."""
        if self.first is not None:
            return self.clock() - self.began < self.seconds
        self.wait()
        self.first, self.began = images, self.clock()
        return True

    def rate(self, loop: Loop) -> float:
        """Images a second."""
        images = loop(self.goes_on)
        self.wait()
        return (images - self.first) / max(self.clock() - self.began, 1e-9)


def measure_interleaved(
    loops: Mapping[str, Loop],
    rounds: int,
    seconds: float,
    clock: Clock = time.monotonic,
    wait: Callable[[], None] = lambda: None,
) -> Rates:
    """Images a second of each loop in each round, after a round that warms up and does not count.

    A round gives every loop `seconds`, one after the other.
    """
    rates: Rates = {name: [] for name in loops}
    for _ in range(rounds + 1):
        for name, loop in loops.items():
            rates[name].append(Stopwatch(seconds, clock, wait).rate(loop))
    return {name: counted[1:] for name, counted in rates.items()}


def compare_rates(own: list[float], against: Rates) -> dict[str, Any]:
    """Medians over the rounds, ratios own/other within each round, and the spread of both.

    Ratios are taken round by round: what slows the machine down for a while slows both.
    """
    ratios = {
        name: [mine / theirs for mine, theirs in zip(own, rates, strict=True)]
        for name, rates in against.items()
    }
    return {
        "images_per_s": median(own),
        "against": {name: median(rates) for name, rates in against.items()},
        "ratio": {name: median(of_rounds) for name, of_rounds in ratios.items()},
        "spread": {
            "images_per_s": spread(own),
            "against": {name: spread(rates) for name, rates in against.items()},
            "ratio": {name: spread(of_rounds) for name, of_rounds in ratios.items()},
        },
    }


def spread(values: list[float]) -> list[float]:
    """[least, most]."""
    return [min(values), max(values)]
