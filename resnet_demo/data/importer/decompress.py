"""Decompressing a .gz, .xz or .bz2 in a background thread, as one file to read from.

Decompressors release the interpreter's lock, so two cores work: one unpacks, one decodes pictures.
"""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import Any, BinaryIO

# Larger blocks than gzip, lzma and bz2 use by themselves: after each block the thread waits for the
# interpreter's lock, and so does the thread beside it.
PACKED_BYTES = 2**17  # read at once
BLOCK_BYTES = 2**18  # unpacked at once, however strongly they are compressed
MAX_XZ_MEMORY = 2**28  # bytes; an .xz of the highest level asks for 65 MiB
MAX_WAITING_BLOCKS = 32


class _Gunzip:
    """One gzip member, with the interface of bz2's and lzma's decompressors."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # 16: header and checksum

    eof = property(lambda self: self._zlib.eof)
    unused_data = property(lambda self: self._zlib.unused_data)
    needs_input = property(lambda self: not self._zlib.unconsumed_tail)

    def decompress(self, packed: bytes, max_length: int) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + packed, max_length)


DECOMPRESSORS: dict[bytes, Callable[[], Any]] = {  # by the first bytes of the file
    b"\x1f\x8b": _Gunzip,
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": partial(lzma.LZMADecompressor, memlimit=MAX_XZ_MEMORY),
}


def decompress(file: BinaryIO) -> Iterator[bytes]:
    """Yield blocks of at most BLOCK_BYTES; a file that is not compressed is yielded unchanged.

    Raises EOFError, lzma.LZMAError, zlib.error or OSError for a torn file, after all blocks before
    the tear.
    """
    packed = file.read(PACKED_BYTES)
    decompressor = next(
        (DECOMPRESSORS[magic] for magic in DECOMPRESSORS if packed.startswith(magic)), None
    )
    while packed:
        if not decompressor:
            yield packed
            packed = file.read(PACKED_BYTES)
            continue
        stream = decompressor()
        yield from _decompress_stream(stream, packed, file)
        packed = stream.unused_data.lstrip(b"\0")  # another stream may follow, after zeros
        while not packed and (more := file.read(PACKED_BYTES)):
            packed = more.lstrip(b"\0")


def _decompress_stream(stream: Any, packed: bytes, file: BinaryIO) -> Iterator[bytes]:
    """Yield the blocks of one stream that begins with `packed`; it keeps its unused bytes."""
    while True:
        if block := stream.decompress(packed, BLOCK_BYTES):
            yield block
        if stream.eof:
            return
        packed = file.read(PACKED_BYTES) if stream.needs_input else b""
        if stream.needs_input and not packed:
            raise EOFError("the end of the stream is missing")


@contextmanager
def read_ahead(blocks: Iterable[bytes]) -> Iterator["ReadAhead"]:
    """Yield a file to read the blocks from; a thread produces them and ends with the `with`."""
    ahead = ReadAhead(blocks)
    try:
        yield ahead
    finally:
        ahead.stop()


class ReadAhead:
    """Blocks of bytes, none of them empty, as a file. A thread produces them ahead of the reader.

    At most MAX_WAITING_BLOCKS wait. An error of the producer is raised by `read`, after the bytes
    that came before it.
    """

    def __init__(self, blocks: Iterable[bytes]) -> None:
        # Errors travel in the queue: raised in the thread, nobody would see them.
        self._ready: SimpleQueue[bytes | BaseException] = SimpleQueue()
        self._free = Semaphore(MAX_WAITING_BLOCKS)
        self._stopped = False
        self._block = io.BytesIO()
        self._thread = Thread(target=self._produce, args=(blocks,), name="read ahead", daemon=True)
        self._thread.start()

    def read(self, size: int) -> bytes:
        """Return one to `size` bytes, b"" at the end."""
        while not (data := self._block.read(size)):
            block = self._ready.get()
            self._free.release()
            if isinstance(block, BaseException):
                self._ready.put(block)  # for the next call
                raise block
            if not block:
                self._ready.put(block)
                return b""
            self._block = io.BytesIO(block)
        return data

    def stop(self) -> None:
        """End the thread; it finishes its current block first."""
        self._stopped = True
        self._free.release()
        self._thread.join()  # the file under it is closed next

    def _produce(self, blocks: Iterable[bytes]) -> None:
        try:
            for block in blocks:
                self._ready.put(block)
                self._free.acquire()
                # After the wait for a place: `stop` frees one to wake this thread.
                if self._stopped:
                    return
            self._ready.put(b"")  # the end
        except BaseException as error:  # noqa: BLE001 - `read` raises it in the reader's thread
            self._ready.put(error)
