"""Interleaved measurement: loops run in turns, so that a slow phase of the machine affects all.

No torch here: the clock and the function that synchronizes the device are passed in.
"""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

Clock = Callable[[], float]
# Calls its argument after each step with the number of images trained on in this call, and returns
# that number once it gets False.
Loop = Callable[[Callable[[int], bool]], int]
Rates = dict[str, list[float]]


class Stopwatch:
    """Times one call of a loop without its first step, which starts workers and fills caches.

    wait: returns when the device has finished its work.
    """

    def __init__(self, seconds: float, clock: Clock, wait: Callable[[], None]) -> None:
        self.seconds, self.clock, self.wait = seconds, clock, wait
        self.first: int | None = None  # images of the first step
        self.began = 0.0

    def should_continue(self, images: int) -> bool:
        """Return whether time is left. At least one step is timed, however long it takes."""
        if self.first is not None:
            return self.clock() - self.began < self.seconds
        self.wait()
        self.first, self.began = images, self.clock()
        return True

    def rate(self, loop: Loop) -> float:
        """Run the loop and return images per second."""
        images = loop(self.should_continue)
        self.wait()
        return (images - self.first) / max(self.clock() - self.began, 1e-9)


def measure_interleaved(
    loops: Mapping[str, Loop],
    rounds: int,
    seconds: float,
    clock: Clock = time.monotonic,
    wait: Callable[[], None] = lambda: None,
) -> Rates:
    """Return images per second of each loop in each round.

    A round runs every loop for `seconds`, one after the other. One more round, the first, is for
    warm-up and not returned.
    """
    rates: Rates = {name: [] for name in loops}
    for _ in range(rounds + 1):
        for name, loop in loops.items():
            rates[name].append(Stopwatch(seconds, clock, wait).rate(loop))
    return {name: of_rounds[1:] for name, of_rounds in rates.items()}


def compare_rates(own: list[float], against: Rates) -> dict[str, Any]:
    """Return medians over the rounds, the ratios own/other, and the spread of both."""
    # Ratios within a round: a slow phase of the machine slows both loops.
    ratios = {
        name: [ours / theirs for ours, theirs in zip(own, rates, strict=True)]
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
    """Return [minimum, maximum]."""
    return [min(values), max(values)]
