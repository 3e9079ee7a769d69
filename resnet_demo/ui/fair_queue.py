"""Turns for short work: those who wait are served in a ring of visitors, not of requests."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from resnet_demo.tasks.limits import LimitError

MOST_WAITING = 200  # requests, of everybody together


class Fair:
    """So many at once, for one event loop. Who sends fifty requests delays another by one turn."""

    def __init__(self, at_once: int | None = None, most: int = MOST_WAITING) -> None:
        self.free = at_once or min(4, max(2, os.cpu_count() or 1))
        self.most = most
        self.lines: dict[str, deque[asyncio.Future[None]]] = {}  # whose turn is next stands first

    @asynccontextmanager
    async def turn(self, name: str, fresh: bool = True) -> AsyncIterator[None]:
        """Within, it is the turn of one of this visitor's requests.

        fresh: it has not had one yet. Only such are refused. Raises LimitError.
        """
        if self.free:
            self.free -= 1
        else:
            await self._wait(name, fresh)
        try:
            yield
        finally:
            self._pass_on()

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return sum(map(len, self.lines.values()))

    async def _wait(self, name: str, fresh: bool) -> None:
        if fresh and self.waiting >= self.most:
            raise LimitError(f"{self.waiting} requests wait here already: try again in a moment")
        place = asyncio.get_running_loop().create_future()
        self.lines.setdefault(name, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():  # its turn had come at that very moment
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        """To the next visitor in the ring, whose other requests then stand last."""
        while self.lines:
            name = next(iter(self.lines))
            line = self.lines.pop(name)
            place = line.popleft()
            if line:
                self.lines[name] = line
            if not place.done():  # who has gone is passed over
                place.set_result(None)
                return
        self.free += 1
