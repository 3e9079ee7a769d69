"""A queue for slow requests that serves visitors in turn, not requests in order of arrival."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from resnet_demo.tasks.limits import LimitError

MAX_WAITING = 200  # requests of all visitors together


class FairQueue:
    """A limit on concurrent requests, for one event loop, with round-robin over the visitors.

    A visitor who sends fifty requests delays another visitor by one request only.
    """

    def __init__(self, slots: int | None = None, max_waiting: int = MAX_WAITING) -> None:
        self.free = slots or min(4, max(2, os.cpu_count() or 1))
        self.max_waiting = max_waiting
        # Visitor -> their waiting requests. The visitor to serve next comes first.
        self.lines: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def slot(self, visitor: str, is_first: bool = True) -> AsyncIterator[None]:
        """Hold one of the slots for a request of this visitor.

        is_first: the request has not had a slot before. Only such requests are refused.
        Raises LimitError.
        """
        # No lock: everything here runs on one event loop, and only `await` can switch tasks.
        if self.free:
            self.free -= 1
        else:
            await self._wait(visitor, is_first)
        try:
            yield
        finally:
            self._release()

    @property
    def waiting(self) -> int:
        """Return the number of waiting requests."""
        return sum(map(len, self.lines.values()))

    async def _wait(self, visitor: str, is_first: bool) -> None:
        """Wait for a slot. Raises LimitError where too many requests wait."""
        if is_first and self.waiting >= self.max_waiting:
            raise LimitError(f"{self.waiting} requests are waiting: try again in a moment")
        place = asyncio.get_running_loop().create_future()
        self.lines.setdefault(visitor, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():  # the slot was granted just before the cancellation
                self._release()
            raise

    def _release(self) -> None:
        """Give the slot to the next visitor's oldest request, and move that visitor to the end."""
        while self.lines:
            visitor = next(iter(self.lines))
            line = self.lines.pop(visitor)
            place = line.popleft()
            if line:
                self.lines[visitor] = line
            if not place.done():  # a cancelled request is skipped
                # `free` stays 0, so that a new request cannot overtake the one that waited.
                place.set_result(None)
                return
        self.free += 1
