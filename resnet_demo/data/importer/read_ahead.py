"""Making blocks of bytes ahead: a thread unpacks the next ones while the last are worked on.

Decompressors let go of the interpreter's lock, so that two cores are busy instead of one.
"""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Semaphore, Thread

BLOCKS = 32  # at most so many wait to be used


@contextmanager
def read_ahead(blocks: Iterable[bytes]) -> Iterator["ReadAhead"]:
    """The blocks, made by a thread, to be read as one file; the thread ends with the `with`."""
    ahead = ReadAhead(blocks)
    try:
        yield ahead
    finally:
        ahead.stop()


class ReadAhead:
    """Blocks of bytes, none of them empty, as a file. Made up to BLOCKS ahead of who reads them.

    What making them raises is raised by `read`, after the bytes that came before it.
    """

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._made: SimpleQueue[bytes | BaseException] = SimpleQueue()
        self._room = Semaphore(BLOCKS)
        self._stopped = False
        self._block = io.BytesIO()
        self._thread = Thread(target=self._make, args=(blocks,), name="read ahead", daemon=True)
        self._thread.start()

    def read(self, size: int) -> bytes:
        """From one to `size` bytes, b"" at the end."""
        while not (data := self._block.read(size)):
            made = self._made.get()
            self._room.release()
            if isinstance(made, BaseException):
                self._made.put(made)  # again, for whoever asks again
                raise made
            if not made:
                self._made.put(made)
                return b""
            self._block = io.BytesIO(made)
        return data

    def stop(self) -> None:
        """End the thread: it finishes the block it is at, and no more."""
        self._stopped = True
        self._room.release()
        self._thread.join()

    def _make(self, blocks: Iterable[bytes]) -> None:
        try:
            for block in blocks:
                self._made.put(block)
                self._room.acquire()
                if self._stopped:
                    return
            self._made.put(b"")
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._made.put(error)
