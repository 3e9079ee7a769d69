"""Downloading a file into a `.part` file: resumed, watched while it comes, checked at the end.

The transfer is a coroutine, so that the watcher beside it can cancel any wait at once. httpx is
imported when there is something to download.
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from resnet_demo.errors import DemoError, StoppedError
from resnet_demo.file_locks import release_lock, try_lock
from resnet_demo.files import sha256_of

if TYPE_CHECKING:
    import httpx

STOPPED = "stopped; the downloaded part is kept, and the next download continues it"
WATCH_EVERY_S = 0.1
REPORT_EVERY_S = 0.35
RATE_WINDOW_S = 5.0
RETRIES = 5  # of one source; each continues where the connection broke
# Bytes received, bytes in all (0: unknown), bytes per second.
ByteProgress = Callable[[int, int, float], object]
DOWNLOADS = ".downloads"  # the folder of unfinished downloads, in the one that gets the files


@dataclass(frozen=True)
class RemoteFile:
    """One file on a server."""

    url: str
    name: str
    size: int | None  # bytes; None: as the server announces
    sha256: str  # 64 hex digits

    @property
    def part_name(self) -> str:
        """Return the name of its unfinished download.

        It is made of the checksum, so that another server's copy of the same bytes continues it.
        """
        return f"{self.sha256}.part"


# Not a DemoError: a person sees it only as part of the message about all sources.
class SourceError(Exception):
    """A source failed. The text says how, as a clause to follow the source's name."""


@dataclass(frozen=True, kw_only=True)
class DownloadProgress:
    """The progress of a download: done and total in `unit`, over all files of the source."""

    source: str  # its name, for a person
    message: str  # what is happening, one short sentence
    done: int = 0
    total: int = 0  # 0: not known
    unit: str = "bytes"  # or "batches", "pictures", "" where only the share has a meaning
    rate: float = 0.0  # units per second over the last few; 0: not known


class Throttle:
    """A report callback that forwards each start and end, and others every REPORT_EVERY_S."""

    def __init__(self, report: Callable[[DownloadProgress], object]) -> None:
        self.report, self.reported_at = report, 0.0

    def __call__(self, progress: DownloadProgress) -> None:
        # Never held back: the last report decides what stays on the page.
        at_an_end = progress.done in (0, progress.total)
        if at_an_end or monotonic() - self.reported_at >= REPORT_EVERY_S:
            self.reported_at = monotonic()
            self.report(progress)


@contextmanager
def lock_downloads(root: Path, what: str) -> Iterator[Path]:
    """Yield the folder of unfinished downloads to one process at a time; remove it if empty.

    what: is downloaded, for the message to another process. Raises DemoError.
    """
    folder = root / DOWNLOADS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _acquire_lock(folder / "lock", what)
    except OSError as error:
        raise DemoError(f"cannot write to {root}: {error.strerror}") from error
    try:
        yield folder
    finally:
        (folder / "lock").unlink(missing_ok=True)  # before it is released: see _acquire_lock
        release_lock(lock)
        if folder.exists() and not os.listdir(folder):
            folder.rmdir()


def _acquire_lock(path: Path, what: str) -> int:
    """Return a lock as an open descriptor. Raises DemoError if another process has it."""
    while True:
        lock = try_lock(path)
        if lock is None:
            raise DemoError(f"another process is downloading {what}")
        if path.exists() and path.stat().st_ino == os.fstat(lock).st_ino:
            return lock
        # The previous owner removed this file between our open and our lock: try the new one.
        release_lock(lock)


@dataclass(frozen=True, kw_only=True)
class DownloadTimeouts:
    """Time limits of a download; a source beyond them is given up."""

    connect_s: float = 10
    slow_s: float = 20  # after so long below the next rate, or without a byte
    slow_bytes_per_s: float = 200_000
    total_s: float = 3600  # for one file
    pause_s: float = 1  # before a retry


def download(
    remote: RemoteFile,
    part: Path,
    timeouts: DownloadTimeouts,
    report: ByteProgress,
    should_stop: Callable[[], bool],
) -> None:
    """Download a whole file to `part` and check it; bytes already there are not requested again.

    Raises SourceError, StoppedError, and OSError for a full disk. After any of them the received
    bytes stay for the next time, unless their checksum is wrong.
    """
    with asyncio.Runner(loop_factory=_EventLoop) as runner:
        runner.run(_watch(_Download(remote, part, timeouts), report, should_stop))


async def _watch(
    download: "_Download", report: ByteProgress, should_stop: Callable[[], bool]
) -> None:
    """Run a download, and every 0.1 s check whether it may continue."""
    transfer = asyncio.create_task(download.run())
    deadline = monotonic() + download.timeouts.total_s
    try:
        while not transfer.done():
            if should_stop():
                raise StoppedError(STOPPED)
            if monotonic() > deadline:
                raise SourceError(f"it took longer than {download.timeouts.total_s:g} s")
            download.rate.check(download.timeouts)
            report(download.received(), download.total, download.rate.bytes_per_s())
            await asyncio.wait({transfer}, timeout=WATCH_EVERY_S)
    finally:
        transfer.cancel()
        # Waited for: a cancelled task still closes its connection and its file.
        await asyncio.gather(transfer, return_exceptions=True)
    transfer.result()  # raises what the transfer raised
    report(download.received(), download.total, download.rate.bytes_per_s())


class _Download:
    """The transfer of one file."""

    def __init__(self, remote: RemoteFile, part: Path, timeouts: DownloadTimeouts) -> None:
        self.remote, self.part, self.timeouts = remote, part, timeouts
        self.rate, self.total, self.resumed = TransferRate(), remote.size or 0, False

    def received(self) -> int:
        """Return the number of bytes in the part file."""
        return self.part.stat().st_size if self.part.exists() else 0

    async def run(self) -> None:
        """Download the file and check it.

        If the checksum is wrong after a resume, the older bytes may be to blame: then once more
        from zero.
        """
        if self._is_complete():
            self.total = self.received()
            return
        await self._fetch()
        if not self._verify() and self.resumed:
            await self._fetch()
            self._verify()
        if not self.received():
            raise SourceError("it sent other bytes than expected: the checksum is wrong")

    def _is_complete(self) -> bool:
        """Return True if an earlier attempt downloaded the whole file and only unpacking failed."""
        received, size = self.received(), self.remote.size
        if size and received >= size:
            return self._verify()
        return received > 0 and not size and sha256_of(self.part) == self.remote.sha256

    def _verify(self) -> bool:
        """Return True if the checksum is right; else remove the file."""
        valid = sha256_of(self.part) == self.remote.sha256
        if not valid:
            self.part.unlink()
        return valid

    async def _fetch(self) -> None:
        """Receive all bytes, with retries while each connection brings some."""
        from resnet_demo.data import http_client

        waits = (self.timeouts.connect_s, self.timeouts.slow_s)
        async with http_client.new_client(*waits) as client:
            for retries_left in reversed(range(RETRIES + 1)):
                before = self.rate.received
                try:
                    return await self._request(client)
                except http_client.FAILURES as error:
                    brought_some = self.rate.received > before
                    # Without a single byte the server is down, not the connection: the next source
                    # is tried at once.
                    retry = brought_some and http_client.is_broken_connection(error)
                    if not retry or not retries_left:
                        raise SourceError(http_client.describe_failure(error, *waits)) from error
                self.rate.pause()
                await asyncio.sleep(self.timeouts.pause_s)

    async def _request(self, client: "httpx.AsyncClient") -> None:
        """Receive over one connection from where the file ends, or from zero if that fails."""
        from resnet_demo.data import http_client

        for start in dict.fromkeys((self.received(), 0)):  # one request if nothing is there
            async with http_client.open_response(client, self.remote.url, start) as response:
                accepted = http_client.accepted_range(response, self.remote.size, start)
                if accepted:
                    return await self._write(response, *accepted)

    async def _write(self, response: "httpx.Response", start: int, total: int) -> None:
        self.total, self.resumed = total, start > 0
        self.rate.start()
        body = response.aiter_raw()  # raw: the checksum is of the bytes as they are on the server
        # The first bytes come before the file is opened: a connection that breaks at once must not
        # truncate what was received earlier.
        data = await anext(body, b"")
        with open(self.part, "ab" if start else "wb") as file:
            while data:
                file.write(data)
                self.rate.received += len(data)
                data = await anext(body, b"")
            self.rate.pause()  # syncing is the disk's time, not the source's
            file.flush()
            # So that bytes that count as received are still there after a power cut.
            os.fsync(file.fileno())


class TransferRate:
    """The number of bytes received, and how fast they come."""

    def __init__(self) -> None:
        self.received = 0
        self.marks: deque[tuple[float, int]] = deque()  # (seconds, bytes), oldest first

    def start(self) -> None:
        """Start measuring: the next byte may come at any moment."""
        self.marks = deque([(monotonic(), self.received)])

    def pause(self) -> None:
        """Stop measuring until `start`."""
        self.marks.clear()

    def check(self, timeouts: DownloadTimeouts) -> None:
        """Note how much has come by now. Raises SourceError if it was too slow for `slow_s`."""
        if not self.marks:
            return
        now = monotonic()
        self.marks.append((now, self.received))
        while len(self.marks) > 1 and self.marks[1][0] <= now - timeouts.slow_s:
            self.marks.popleft()
        start, before = self.marks[0]
        expected = timeouts.slow_bytes_per_s * (now - start)
        if now - start >= timeouts.slow_s and self.received - before < expected:
            rate = f"{timeouts.slow_bytes_per_s / 1000:g} kB/s"
            raise SourceError(f"it was slower than {rate} for {timeouts.slow_s:g} s")

    def bytes_per_s(self) -> float:
        """Return the rate of the last five seconds; 0 if it is not known."""
        if not self.marks:
            return 0.0
        end, received = self.marks[-1]
        start, before = next(mark for mark in self.marks if mark[0] >= end - RATE_WINDOW_S)
        return (received - before) / (end - start) if end > start else 0.0


class _EventLoop(asyncio.SelectorEventLoop):
    """An event loop that looks up host names in daemon threads.

    asyncio waits for its own look-up threads at the end, and offline each may take half a minute.
    """

    async def getaddrinfo(self, *args: Any, **kwargs: Any) -> list:
        """Return what socket.getaddrinfo returns."""
        future = self.create_future()

        def finish(method: str, value: Any) -> None:
            if not future.done():
                getattr(future, method)(value)

        def look_up() -> None:
            try:
                outcome = ("set_result", socket.getaddrinfo(*args, **kwargs))
            except Exception as error:  # noqa: BLE001 - raised by the future
                outcome = ("set_exception", error)
            with suppress(RuntimeError):  # the loop is closed already
                self.call_soon_threadsafe(finish, *outcome)

        Thread(target=look_up, daemon=True).start()
        return await future
