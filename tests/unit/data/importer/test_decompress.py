"""Decompressing in a background thread."""

import bz2
import gzip
import io
import lzma
import os
import threading
import time
import zlib
from collections.abc import Iterator

import pytest

from resnet_demo.data.importer.decompress import (
    BLOCK_BYTES,
    MAX_WAITING_BLOCKS,
    decompress,
    read_ahead,
)

PACKERS = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}
TEXT = os.urandom(300_000) + bytes(2_000_000)


def reader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "read ahead"]


@pytest.mark.parametrize("kind", PACKERS)
def test_a_compressed_file_yields_its_bytes_in_bounded_blocks(kind: str):
    blocks = list(decompress(io.BytesIO(PACKERS[kind](TEXT))))
    assert b"".join(blocks) == TEXT
    assert max(map(len, blocks)) <= BLOCK_BYTES


@pytest.mark.parametrize("kind", PACKERS)
def test_concatenated_streams_are_one_file(kind: str):
    pack = PACKERS[kind]
    data = pack(b"one") + pack(b"") + pack(TEXT) + bytes(200_000) + pack(b"two") + bytes(8)
    assert b"".join(decompress(io.BytesIO(data))) == b"one" + TEXT + b"two"


def test_an_uncompressed_file_is_yielded_unchanged():
    assert b"".join(decompress(io.BytesIO(TEXT))) == TEXT
    assert list(decompress(io.BytesIO(b""))) == []


@pytest.mark.parametrize("kind", PACKERS)
def test_a_torn_file_yields_its_first_bytes_and_then_raises(kind: str):
    data, received = PACKERS[kind](TEXT), []
    with pytest.raises(EOFError):
        received.extend(decompress(io.BytesIO(data[: len(data) // 2])))
    assert len(b"".join(received)) < len(TEXT)
    assert TEXT.startswith(b"".join(received))


@pytest.mark.parametrize("kind", PACKERS)
def test_junk_after_a_compressed_file_is_an_error(kind: str):
    with pytest.raises((lzma.LZMAError, OSError, zlib.error)):
        list(decompress(io.BytesIO(PACKERS[kind](b"text") + b"junk that is no stream")))


def test_an_xz_that_needs_gigabytes_of_memory_is_refused():
    data = bytearray(lzma.compress(b"x"))
    assert data[12:16] == b"\x02\x00\x21\x01"  # a block's header; its size of dictionary follows
    for size, memory in ((30, "128 MiB"), (38, "2 GiB")):
        data[16] = size
        data[20:24] = zlib.crc32(data[12:20]).to_bytes(4, "little")
        if memory == "128 MiB":
            assert b"".join(decompress(io.BytesIO(data))) == b"x"
            continue
        with pytest.raises(lzma.LZMAError, match=r"[Mm]emory"):
            list(decompress(io.BytesIO(data)))


def test_blocks_are_read_as_one_file_whose_end_is_final():
    blocks = [b"abc", b"d", b"efghij"]
    with read_ahead(blocks) as file:
        assert file.read(2) == b"ab"
        received = b"ab" + b"".join(iter(lambda: file.read(4), b""))
        assert received == b"abcdefghij"
        assert file.read(1) == file.read(1) == b""
    assert not reader_threads()


def test_an_error_is_raised_after_the_bytes_before_it_and_again_on_the_next_read():
    def torn() -> Iterator[bytes]:
        yield b"good"
        raise EOFError("torn")

    with read_ahead(torn()) as file:
        assert file.read(10) == b"good"
        for _ in range(2):
            with pytest.raises(EOFError, match="torn"):
                file.read(10)
    assert not reader_threads()


def test_a_bounded_number_of_blocks_is_produced_ahead():
    produced = []

    def endless() -> Iterator[bytes]:
        while True:
            produced.append(1)
            yield b"x"

    with read_ahead(endless()):
        deadline = time.monotonic() + 5
        while len(produced) <= MAX_WAITING_BLOCKS and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)
        assert len(produced) == MAX_WAITING_BLOCKS + 1
    assert not reader_threads()
    assert len(produced) == MAX_WAITING_BLOCKS + 1
