"""Files that cost a decoder much by the number of their parts are refused before it sees them."""

import io
import re
import struct
from zlib import compress, crc32

import numpy as np
import pytest
from PIL import Image

from resnet_demo.data import picture_structure
from resnet_demo.data.picture_structure import MAX_SCANS, START_OF_SCAN, check_jpeg
from resnet_demo.data.pictures import decode_picture
from resnet_demo.errors import DamagedError


def jpeg(**options) -> bytes:
    noise = np.random.RandomState(3).randint(0, 256, (40, 40, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG", **options)
    return file.getvalue()


def with_scans(count: int) -> bytes:
    """Return a progressive JPEG whose last scan is repeated, without data, that many times."""
    data = jpeg(progressive=True)
    last = data.rindex(START_OF_SCAN)
    header = data[last : last + 2 + int.from_bytes(data[last + 2 : last + 4], "big")]
    return data[:-2] + count * header + data[-2:]


def chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">L", len(data)) + name + data + struct.pack(">L", crc32(name + data))


def png(before: bytes = b"", after: bytes = b"", rest: bytes = b"") -> bytes:
    header = struct.pack(">LLBBBBB", 2, 1, 8, 2, 0, 0, 0)
    pixels = compress(b"\0" + bytes([1, 2, 3, 4, 5, 6]))
    parts = (chunk(b"IHDR", header), before, chunk(b"IDAT", pixels), after, chunk(b"IEND"), rest)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def decode(data: bytes) -> np.ndarray:
    return decode_picture(io.BytesIO(data), name="a")


def test_scans_are_counted():
    assert check_jpeg(io.BytesIO(jpeg()), "a") == 1
    assert check_jpeg(io.BytesIO(jpeg(progressive=True)), "a") == 10


def test_a_jpeg_of_too_many_scans_is_refused():
    assert decode(with_scans(MAX_SCANS - 10)).shape == (40, 40, 3)
    rule = f"'a' has {MAX_SCANS + 1} scans, the most is {MAX_SCANS}: save the picture again"
    with pytest.raises(DamagedError, match=rule):
        decode(with_scans(MAX_SCANS - 9))


@pytest.mark.parametrize("filler", [b"\xff\xff", b"\xff\xfe\0\4ab", b"\xff\x01", b"\xff\xd0"])
def test_scans_are_found_behind_padding_comments_and_markers_without_length(filler: bytes):
    data = with_scans(MAX_SCANS)
    end = data.rindex(START_OF_SCAN)
    with pytest.raises(DamagedError, match=f"has {MAX_SCANS + 10} scans"):
        decode(data[:end] + filler + data[end:])


def test_thumbnails_in_metadata_and_a_film_after_the_end_are_not_counted():
    data, noise = jpeg(), START_OF_SCAN * (2 * MAX_SCANS)
    segment = b"\xff\xe1" + struct.pack(">H", len(noise) + 2) + noise
    np.testing.assert_array_equal(decode(data[:2] + segment + data[2:] + noise), decode(data))


def test_a_jpeg_of_too_many_segments_or_too_much_junk_is_refused(monkeypatch):
    monkeypatch.setattr(picture_structure, "MAX_SEGMENTS", 30)
    monkeypatch.setattr(picture_structure, "MAX_JUNK_BYTES", 100)
    data = jpeg()
    assert decode(data[:2] + b"\xff\xfe\0\2" * 20 + b"x" * 100 + data[2:]).shape == (40, 40, 3)
    with pytest.raises(DamagedError, match="'a' has more than 30 segments, the most is 30"):
        decode(data[:2] + b"\xff\xfe\0\2" * 30 + data[2:])
    for junk in (b"\0", b"\xff", b"\xff\xd0"):
        with pytest.raises(DamagedError, match="'a' is cut short or damaged"):
            decode(data[:20] + 101 * junk + data[20:])  # behind the first segment


@pytest.mark.parametrize(
    ("parts", "rule"),
    [
        ({"after": 40 * chunk(b"IDAT")}, "'a' has more than 40 chunks of pixels, the most is 40"),
        ({"rest": 41 * chunk(b"fdAT")}, None),  # after the end: PIL does not read them
        ({"before": 21 * chunk(b"tEXt", b"a\0b")}, "chunks beside its pixels, the most is 20"),
        ({"after": 21 * chunk(b"zzZz")}, "chunks beside its pixels, the most is 20"),
        ({"before": 15 * chunk(b"tEXt", b"a\0b"), "after": 30 * chunk(b"IDAT")}, None),
    ],
)
def test_a_png_of_too_many_chunks_is_refused(parts: dict, rule: str | None, monkeypatch):
    monkeypatch.setattr(picture_structure, "MAX_DATA_CHUNKS", 40)
    monkeypatch.setattr(picture_structure, "MAX_OTHER_CHUNKS", 20)
    if rule is None:
        assert decode(png(**parts)).tolist() == [[[1, 2, 3], [4, 5, 6]]]
        return
    with pytest.raises(DamagedError, match=re.escape(rule)):
        decode(png(**parts))


def tags(count: int, size: int, kind: int = 7) -> bytes:
    """Return metadata of `size` bytes, all of which each of its tags has as its value."""
    entries = (struct.pack("<HHII", 256 + n, kind, size - 8, 8) for n in range(count))
    table = b"II*\0" + struct.pack("<IH", 8, count) + b"".join(entries) + bytes(4)
    return table + bytes(size - len(table))


def with_metadata(metadata: bytes) -> bytes:
    """Return a JPEG with this EXIF metadata, in as many segments as it takes."""
    pieces = (b"Exif\0\0" + metadata[at : at + 65_000] for at in range(0, len(metadata), 65_000))
    segments = (b"\xff\xe1" + struct.pack(">H", len(piece) + 2) + piece for piece in pieces)
    data = jpeg()
    return data[:2] + b"".join(segments) + data[2:]


@pytest.mark.parametrize(
    "data",
    [with_metadata(tags(40, 60_000)), with_metadata(tags(6, 300_000)), tags(40, 60_000)],
    ids=["JPEG", "JPEG of several segments", "TIFF"],
)
def test_metadata_whose_tags_share_their_bytes_is_refused(data: bytes):
    rule = "the metadata of 'a' is damaged: save the picture again in an image editor"
    with pytest.raises(DamagedError, match=rule):
        decode(data)


def test_usual_and_broken_metadata_is_no_reason_to_refuse_a_picture():
    pixels = decode(jpeg())
    turned = tags(0, 30)[:8] + struct.pack("<HHHII", 1, 0x112, 3, 1, 6) + bytes(4)
    np.testing.assert_array_equal(decode(with_metadata(turned)), np.rot90(pixels, -1))
    np.testing.assert_array_equal(decode(with_metadata(tags(40, 60_000, kind=5))), pixels)
    for broken in (b"", b"II", b"II*\0\xff\xff\xff\xff", tags(3, 60)[:20]):
        np.testing.assert_array_equal(decode(with_metadata(broken)), pixels)


@pytest.mark.parametrize("kind", [b"eXIf", b"zTXt"])
def test_metadata_of_a_png_whose_tags_share_their_bytes_is_not_read(kind: bytes, monkeypatch):
    def part(metadata: bytes) -> bytes:
        text = f"\nexif\n{len(metadata)}\n{metadata.hex()}".encode()
        stored = b"Raw profile type exif\0\0" + compress(text)
        return chunk(kind, metadata if kind == b"eXIf" else stored)

    turned = b"II*\0" + struct.pack("<IHHHII", 8, 1, 0x112, 3, 1, 3) + bytes(4)
    assert decode(png(before=part(turned))).tolist() == [[[4, 5, 6], [1, 2, 3]]]
    monkeypatch.setattr(Image.Exif, "load", lambda *_: pytest.fail("read"))
    assert decode(png(before=part(tags(40, 60_000)))).tolist() == [[[1, 2, 3], [4, 5, 6]]]
