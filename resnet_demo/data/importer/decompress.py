"""The bytes inside a .gz, .xz or .bz2, block by block.

In larger blocks than gzip, lzma and bz2 read by themselves: a thread that unpacks asks for the
interpreter's lock after each, and whoever works beside it waits.
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

PACKED = 2**17  # bytes read at once
BLOCK = 2**18  # bytes unpacked at once, whatever they were packed in
BLOCKS = 32  # at most so many wait to be used
MOST_MEMORY = 2**28  # bytes that an .xz may ask for; its highest level asks for 65 MiB


class _Gunzip:
    """One member of a .gz, read in the manner of bz2's and lzma's decompressors."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # 16: header and checksum

    eof = property(lambda self: self._zlib.eof)
    unused_data = property(lambda self: self._zlib.unused_data)
    needs_input = property(lambda self: not self._zlib.unconsumed_tail)

    def decompress(self, packed: bytes, most: int) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + packed, most)


UNPACKERS: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": _Gunzip,
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": partial(lzma.LZMADecompressor, memlimit=MOST_MEMORY),
}


def decompress(file: BinaryIO) -> Iterator[bytes]:
    """Blocks of at most BLOCK bytes; a file that is not packed is given as it is.

    Raises EOFError, lzma.LZMAError, zlib.error or OSError for what is torn, after all before it.
    """
    packed = file.read(PACKED)
    unpacker = next((UNPACKERS[magic] for magic in UNPACKERS if packed.startswith(magic)), None)
    while packed:
        if not unpacker:
            yield packed
            packed = file.read(PACKED)
            continue
        stream = unpacker()
        yield from _stream(stream, packed, file)
        packed = stream.unused_data.lstrip(b"\0")  # another may follow, zeros between them
        while not packed and (more := file.read(PACKED)):
            packed = more.lstrip(b"\0")


def _stream(stream: Any, packed: bytes, file: BinaryIO) -> Iterator[bytes]:
    """One stream, whose first bytes are `packed`; the stream keeps what it has not used."""
    while True:
        if block := stream.decompress(packed, BLOCK):
            yield block
        if stream.eof:
            return
        packed = file.read(PACKED) if stream.needs_input else b""
        if stream.needs_input and not packed:
            raise EOFError("the end of the stream is missing")


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
