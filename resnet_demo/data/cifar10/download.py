"""One file over HTTP into a `.part` file: watched while it comes, checked before it is used.

The writer is a coroutine, so that a watcher beside it can end any wait at once. httpx is imported
when there is something to download.
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from resnet_demo.data.cifar10.sources import RemoteFile, SourceError
from resnet_demo.errors import StoppedError
from resnet_demo.files import sha256_of

if TYPE_CHECKING:
    import httpx

WATCH_EVERY_S = 0.1
RATE_OVER_S = 5.0
RETRIES = 5  # of one source, each of them going on where the connection broke
ByteProgress = Callable[
    [int, int, float], object
]  # bytes here, bytes in all (0: unknown), bytes a second


@dataclass(frozen=True, kw_only=True)
class DownloadTimeouts:
    """How long a source is waited for."""

    connect_s: float = 10
    slow_s: float = 20  # so long slower than the next, or silent, and it is given up
    slow_bytes_per_s: float = 200_000
    total_s: float = 3600  # for one file
    pause_s: float = 1  # before a broken connection is made anew


def download(
    remote: RemoteFile,
    part: Path,
    patience: DownloadTimeouts,
    tell: ByteProgress,
    should_stop: Callable[[], bool],
) -> None:
    """Bring a whole file to `part` and check it; bytes that are there are not asked for again.

    Raises SourceError, StoppedError, and OSError for a disk that takes no more. After any of
    them what came stays for the next time, unless its checksum is wrong.
    """
    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.run(_watched(_Download(remote, part, patience), tell, should_stop))


async def _watched(
    download: "_Download", tell: ByteProgress, should_stop: Callable[[], bool]
) -> None:
    """Let it run, looking every moment whether it may go on."""
    writer = asyncio.create_task(download.run())
    until = monotonic() + download.patience.total_s
    try:
        while not writer.done():
            if should_stop():
                raise StoppedError("stopped; what has come is kept for the next time")
            if monotonic() > until:
                raise SourceError(f"it took longer than {download.patience.total_s:g} s")
            download.pace.judge(download.patience)
            tell(download.have(), download.total, download.pace.rate())
            await asyncio.wait({writer}, timeout=WATCH_EVERY_S)
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
    writer.result()
    tell(download.have(), download.total, download.pace.rate())


class _Download:
    """One file on its way."""

    def __init__(self, remote: RemoteFile, part: Path, patience: DownloadTimeouts) -> None:
        self.remote, self.part, self.patience = remote, part, patience
        self.pace, self.total, self.resumed = TransferRate(), remote.size or 0, False

    def have(self) -> int:
        """Bytes in the part file."""
        return self.part.stat().st_size if self.part.exists() else 0

    async def run(self) -> None:
        """Bring it and check it; once more from zero where older bytes may be to blame."""
        if self._is_here():
            self.total = self.have()
            return
        await self._bring()
        if not self._is_right() and self.resumed:
            await self._bring()
            self._is_right()
        if not self.have():
            raise SourceError("it sent other bytes than expected: the checksum is wrong")

    def _is_here(self) -> bool:
        """Whether all came before, and only the unpacking did not."""
        have, size = self.have(), self.remote.size
        if size and have >= size:
            return self._is_right()
        return have > 0 and not size and sha256_of(self.part) == self.remote.sha256

    def _is_right(self) -> bool:
        """The checksum of what is complete; wrong bytes are removed."""
        right = sha256_of(self.part) == self.remote.sha256
        if not right:
            self.part.unlink()
        return right

    async def _bring(self) -> None:
        """All bytes, over as many connections as it takes while each brings some."""
        from resnet_demo.data.cifar10 import http_client

        patience = (self.patience.connect_s, self.patience.slow_s)
        async with http_client.new_client(*patience) as client:
            for retries_left in reversed(range(RETRIES + 1)):
                before = self.pace.came
                try:
                    return await self._ask(client)
                except http_client.FAILURES as error:
                    hopeless = self.pace.came == before or not http_client.is_broken_connection(
                        error
                    )
                    if hopeless or not retries_left:
                        raise SourceError(http_client.describe_failure(error, *patience)) from error
                self.pace.pause()
                await asyncio.sleep(self.patience.pause_s)

    async def _ask(self, client: "httpx.AsyncClient") -> None:
        """One connection: go on where the file ends, or from zero where that is not understood."""
        from resnet_demo.data.cifar10 import http_client

        for asked in dict.fromkeys((self.have(), 0)):
            async with http_client.open_response(client, self.remote.url, asked) as response:
                place = http_client.accepted_range(response, self.remote.size, asked)
                if place:
                    return await self._write(response, *place)

    async def _write(self, response: "httpx.Response", start: int, total: int) -> None:
        self.total, self.resumed = total, start > 0
        self.pace.begin()
        body = response.aiter_raw()
        data = await anext(body, b"")  # older bytes are not given up for a mere promise
        with open(self.part, "ab" if start else "wb") as file:
            while data:
                file.write(data)
                self.pace.came += len(data)
                data = await anext(body, b"")
            self.pace.pause()  # what follows is the disk's time
            file.flush()
            os.fsync(file.fileno())


class TransferRate:
    """How many bytes came, and how fast they come."""

    def __init__(self) -> None:
        self.came = 0
        self.marks: deque[tuple[float, int]] = deque()  # (seconds, bytes), oldest first

    def begin(self) -> None:
        """The next byte may come any moment."""
        self.marks = deque([(monotonic(), self.came)])

    def pause(self) -> None:
        """Nothing is expected for a while."""
        self.marks.clear()

    def judge(self, patience: DownloadTimeouts) -> None:
        """Called every moment. Raises SourceError for a source that has been slow long enough."""
        if not self.marks:
            return
        now = monotonic()
        self.marks.append((now, self.came))
        while len(self.marks) > 1 and self.marks[1][0] <= now - patience.slow_s:
            self.marks.popleft()
        first, before = self.marks[0]
        least = patience.slow_bytes_per_s * (now - first)
        if now - first >= patience.slow_s and self.came - before < least:
            kilobytes = f"{patience.slow_bytes_per_s / 1000:g} kB/s"
            raise SourceError(f"it was slower than {kilobytes} for {patience.slow_s:g} s")

    def rate(self) -> float:
        """Bytes a second over the last few; 0 where nothing is known."""
        if not self.marks:
            return 0.0
        end, came = self.marks[-1]
        first, before = next(mark for mark in self.marks if mark[0] >= end - RATE_OVER_S)
        return (came - before) / (end - first) if end > first else 0.0


class _Loop(asyncio.SelectorEventLoop):
    """Looks names up in threads that nobody waits for: offline, each may take half a minute."""

    async def getaddrinfo(self, *arguments: Any, **named: Any) -> list:
        """As socket.getaddrinfo."""
        found = self.create_future()

        def finish(name: str, value: Any) -> None:
            if not found.done():
                getattr(found, name)(value)

        def look_up() -> None:
            try:
                outcome = ("set_result", socket.getaddrinfo(*arguments, **named))
            except Exception as error:  # noqa: BLE001 - it goes to whoever asked
                outcome = ("set_exception", error)
            with suppress(RuntimeError):  # the loop is closed: nobody asks any more
                self.call_soon_threadsafe(finish, *outcome)

        Thread(target=look_up, daemon=True).start()
        return await found
