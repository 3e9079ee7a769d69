"""How often somebody may do something: so many times within so many seconds, in memory."""

import threading
import time
from collections import deque
from collections.abc import Callable

MOST_NAMES = 10_000  # remembered at once; beyond, those forgotten first were quiet for longest


class Throttle:
    """`most` times within the last `seconds`, for each name. Safe to ask from any thread."""

    def __init__(
        self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.most, self.seconds, self.clock = most, seconds, clock
        self.noted: dict[str, deque[float]] = {}
        self.lock = threading.Lock()

    def wait(self, name: str, times: int = 1) -> float:
        """Seconds until the name may do it that many times more; 0 where it may now."""
        with self.lock:
            past = self._past(name)
            over = len(past) + min(times, self.most) - self.most
            return past[over - 1] + self.seconds - self.clock() if over > 0 else 0.0

    def note(self, name: str, times: int = 1) -> None:
        """It was done."""
        with self.lock:
            past = self._past(name)
            past.extend([self.clock()] * times)
            self.noted.pop(name, None)
            self.noted[name] = past  # the latest stands last
            while len(self.noted) > MOST_NAMES:
                self.noted.pop(next(iter(self.noted)))

    def _past(self, name: str) -> deque[float]:
        past = self.noted.get(name) or deque(maxlen=self.most)
        while past and past[0] <= self.clock() - self.seconds:
            past.popleft()
        return past
