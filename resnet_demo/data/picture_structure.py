"""Counting the parts of a JPEG or PNG file, before anything decodes it. No torch here.

A few bytes can cost a decoder much: each scan of a JPEG visits every pixel again, and PIL handles
every segment and chunk in Python. Files with absurd counts are refused, and so is metadata whose
tags share their bytes: PIL makes a copy for each tag.
"""

import io
import re
import struct
from typing import BinaryIO

from resnet_demo.errors import DamagedError

# A progressive JPEG has about ten scans. At 24 million pixels fifty take about two seconds.
MAX_SCANS = 50
MAX_SEGMENTS = 1000  # before the first scan; a long colour profile takes 255
MAX_JUNK_BYTES = 65_536  # between segments, which PIL skips byte by byte
MAX_DATA_CHUNKS = 20_000  # of pixels; 160 MB where each has libpng's usual 8 kB
MAX_OTHER_CHUNKS = 500  # of texts, colour profiles and such, which PIL unpacks one by one
MAX_SHARED_BYTES = 10**6  # of metadata, by which its tags may exceed the file that they are in
CHUNK_BYTES = 12  # of a chunk without content
TAG_BYTES = 12  # of an entry in the table of tags of a TIFF file, or of EXIF metadata
# Of one value, by the number of its type.
VALUE_BYTES = dict(
    zip(range(1, 19), (1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8), strict=True)
)
EXIF_SEGMENT, EXIF = b"\xff\xe1", b"Exif\0\0"
DATA_CHUNKS = (b"IDAT", b"fdAT", b"fcTL")  # the last two: of an animation
START_OF_SCAN = b"\xff\xda"
# A marker that begins a segment or ends the file. In pixel data, FF is followed by 00 or D0 to D7;
# several FF in a row are padding.
MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")


def check_jpeg(file: BinaryIO, name: str) -> int:
    """Return the number of scans of a JPEG.

    name: of the file, in messages. Raises DamagedError for too many scans or segments, or damaged
    tags.
    """
    data = _read_all(file)
    first, tags = _check_segments(data, name)
    check_tags(io.BytesIO(tags), name)
    # Fast for the many small pictures of an import: each scan has these bytes, and so may metadata.
    scans = data.count(START_OF_SCAN, first)
    if scans > MAX_SCANS:
        scans = _count_scans(data, first)
        _check_count(name, "scans", scans, MAX_SCANS)
    return scans


def jpeg_header_bytes(file: BinaryIO, name: str) -> int:
    """Return the bytes of a JPEG before its pixels. Raises DamagedError for too many segments."""
    return _check_segments(_read_all(file), name)[0]


def check_tags(file: BinaryIO, name: str) -> None:
    """Raise DamagedError for a TIFF file, or EXIF metadata, whose tags are far larger than itself.

    name: of the file, in messages.
    """
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(8)
    order = "<" if head.startswith(b"II") else ">"
    if len(head) == 8:
        file.seek(struct.unpack(f"{order}I", head[4:])[0])
        count = file.read(2)
        table = (
            file.read(TAG_BYTES * struct.unpack(f"{order}H", count)[0]) if len(count) == 2 else b""
        )
        entries = struct.iter_unpack(f"{order}HHI4x", table[: len(table) // TAG_BYTES * TAG_BYTES])
        sizes = (VALUE_BYTES.get(kind, 0) * values for _, kind, values in entries)
        # PIL reads no tag that is larger than the file.
        if sum(each for each in sizes if each <= size) > size + MAX_SHARED_BYTES:
            raise DamagedError(
                f"the metadata of {name} is damaged: save the picture again in an image editor"
            )
    file.seek(0)


def check_png(file: BinaryIO, name: str) -> None:
    """Raise DamagedError for a PNG of too many chunks. name: of the file, in messages."""
    size = file.seek(0, 2)
    # A file that is too short to hold too many chunks need not be read.
    if size > CHUNK_BYTES * min(MAX_DATA_CHUNKS, MAX_OTHER_CHUNKS):
        _count_chunks(file, name)
    file.seek(0)


def _read_all(file: BinaryIO) -> bytes:
    file.seek(0)
    data = file.read()
    file.seek(0)
    return data


def _check_segments(data: bytes, name: str) -> tuple[int, bytes]:
    """Return where the first scan begins, and the EXIF metadata before it.

    Raises DamagedError for too many segments.
    """
    position, segments, junk, tags = 2, 0, 0, []
    while (found := MARKER.search(data, position)) and found[0] != START_OF_SCAN:
        segments, junk = segments + 1, junk + found.start() - position
        if segments > MAX_SEGMENTS:
            _check_count(name, "segments", segments, MAX_SEGMENTS)
        content, position = found.end() + 2, _segment_end(data, found.end())
        if found[0] == EXIF_SEGMENT and data.startswith(EXIF, content):
            tags.append(data[content + len(EXIF) : position])
    end = found.start() if found else len(data)
    if junk + end - position > MAX_JUNK_BYTES:
        raise DamagedError(f"{name} is cut short or damaged")
    return end, b"".join(tags)  # PIL joins them too


def _count_scans(data: bytes, position: int) -> int:
    """Return the number of scans from this position on, without those of embedded thumbnails."""
    scans = 0
    while (found := MARKER.search(data, position)) and found[0] != b"\xff\xd9":
        scans += found[0] == START_OF_SCAN
        position = _segment_end(data, found.end())
    return scans


def _segment_end(data: bytes, start: int) -> int:
    """Return the end of a segment, whose length stands after its marker."""
    return start + max(2, int.from_bytes(data[start : start + 2], "big"))


def _count_chunks(file: BinaryIO, name: str) -> None:
    """Raise DamagedError for a PNG of too many chunks."""
    pixels = others = 0
    file.seek(8)
    while len(header := file.read(8)) == 8 and header[4:] != b"IEND":
        if header[4:] in DATA_CHUNKS:
            pixels += 1
        else:
            others += 1
        if pixels > MAX_DATA_CHUNKS or others > MAX_OTHER_CHUNKS:
            _check_count(name, "chunks of pixels", pixels, MAX_DATA_CHUNKS)
            _check_count(name, "chunks beside its pixels", others, MAX_OTHER_CHUNKS)
        file.seek(int.from_bytes(header[:4], "big") + 4, 1)  # 4: the checksum


def _check_count(name: str, parts: str, count: int, limit: int) -> None:
    if count > limit:
        got = f"more than {limit:,}" if parts != "scans" else f"{count:,}"
        raise DamagedError(
            f"{name} has {got} {parts}, the most is {limit:,}: save the picture again in an image "
            "editor"
        )
