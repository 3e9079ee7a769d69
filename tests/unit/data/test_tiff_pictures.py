"""TIFF pictures of many kinds, written byte by byte here: read rightly, or refused truly."""

import io
import struct
from zlib import compress

import numpy as np
import pytest
from PIL import Image

from resnet_demo.data.pictures import decode_picture
from resnet_demo.errors import DamagedError

RNG = np.random.default_rng(5)
GREY = RNG.integers(0, 256, (16, 32), np.uint16)
COLOUR = np.array(Image.fromarray(RNG.integers(0, 256, (2, 4, 3), np.uint8)).resize((32, 16)))
DEFLATE, RAW = 8, 1
SIZES = {3: 2, 4: 4, 11: 4}  # of a value of a tag's type: SHORT, LONG, FLOAT
SIGNED, FRACTIONS = (3, 2), (3, 3)  # of tag 339


def tiff(order: str, kind: int, bits: int, *parts: np.ndarray, pack: int = RAW, **tags) -> bytes:
    """Return a TIFF of 32 × 16 pixels. kind: the photometric tag. parts: strips or planes."""
    data = [np.ascontiguousarray(part).tobytes() for part in parts]
    data = [compress(part) for part in data] if pack == DEFLATE else data
    samples = {1: 1, 0: 1, 2: 3, 5: 4, 6: 3}[kind]
    entries = {258: (3, *[bits] * samples), 259: (3, pack), 262: (3, kind), 277: (3, samples)}
    entries |= {256: (4, 32), 257: (4, 16), 278: (4, 16), 279: (4, *map(len, data))}
    entries |= {int(tag[1:]): value for tag, value in tags.items()}
    entries[273] = (4, *[0] * len(data))
    after = 8 + 2 + 12 * len(entries) + 4
    longs = sum(
        size for kind, *values in entries.values() if (size := SIZES[kind] * len(values)) > 4
    )
    starts = np.cumsum([after + longs, *map(len, data)])[:-1]
    entries[273] = (4, *starts.tolist())
    table, extra = struct.pack(f"{order}H", len(entries)), b""
    for tag, (kind, *values) in sorted(entries.items()):
        packed = struct.pack(order + {3: "H", 4: "I", 11: "f"}[kind] * len(values), *values)
        table += struct.pack(f"{order}HHI", tag, kind, len(values))
        long = len(packed) > 4
        table += struct.pack(f"{order}I", after + len(extra)) if long else packed.ljust(4, b"\0")
        extra += packed if long else b""
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return start + table + bytes(4) + extra + b"".join(data)


def levels(data: bytes) -> np.ndarray:
    """Return the grey levels of a picture, (16, 32)."""
    pixels = decode_picture(io.BytesIO(data), name="a.tif")
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


@pytest.mark.parametrize("pack", [RAW, DEFLATE])
@pytest.mark.parametrize("order", "<>")
def test_deep_grey_of_either_byte_order_is_that_of_numpy(order: str, pack: int):
    for bits, (kind, scale) in {
        16: ("u2", 257),
        32: ("u4", 257),
        -32: ("i4", 257),
        -16: ("i2", 128),  # the largest value of these is 32767
    }.items():
        values = GREY * scale + GREY % 3
        values[0, 0] = 65535 if scale == 257 else 32767
        tags = {"_339": SIGNED} if bits < 0 else {}
        data = tiff(order, 1, abs(bits), values.astype(order + kind), pack=pack, **tags)
        white = 65535 if scale == 257 else 32767
        np.testing.assert_array_equal(levels(data), np.rint(values * 255.0 / white))
    fractions = (GREY / 255).astype(order + "f4")
    data = tiff(order, 1, 32, fractions, pack=pack, _339=FRACTIONS)
    np.testing.assert_array_equal(levels(data), GREY)
    low, high = GREY[:, ::2] * 16, GREY[:, 1::2] * 16  # two values of 12 bits in three bytes
    three = np.stack([low >> 4, ((low & 15) << 4) | (high >> 8), high & 255], -1).astype(np.uint8)
    expected = np.rint(GREY * 16 * 255.0 / 4095)
    np.testing.assert_array_equal(levels(tiff(order, 1, 12, three, pack=pack)), expected)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("pack", [RAW, DEFLATE])
def test_where_white_is_zero_the_levels_are_inverted(order: str, pack: int):
    values = (65535 - GREY * 257).astype(order + "u2")
    np.testing.assert_array_equal(levels(tiff(order, 0, 16, values, pack=pack)), GREY)
    fractions = (1 - GREY / 255).astype(order + "f4")
    data = tiff(order, 0, 32, fractions, pack=pack, _339=FRACTIONS)
    np.testing.assert_array_equal(levels(data), GREY)
    data = tiff(order, 0, 8, (255 - GREY).astype(np.uint8), pack=pack)
    np.testing.assert_array_equal(levels(data), GREY)


@pytest.mark.parametrize("tag", ["_281", "_341"])
def test_the_declared_largest_value_is_white(tag: str):
    for largest in (1023, 4095, 16383, 65535):
        data = tiff("<", 1, 16, GREY.astype("<u2"), **{tag: (3, largest)})
        np.testing.assert_array_equal(levels(data), np.rint(GREY * 255.0 / largest))
    data = tiff("<", 1, 32, GREY.astype("<f4"), _339=FRACTIONS, _341=(11, 255.0))
    np.testing.assert_array_equal(levels(data), GREY)


def test_uncompressed_luma_and_colour_differences_are_read():
    image = Image.fromarray(COLOUR).convert("YCbCr")
    expected = np.array(image.convert("RGB"))
    file = io.BytesIO()
    image.save(file, "TIFF")
    file.seek(0)
    np.testing.assert_array_equal(decode_picture(file), expected)
    data = tiff(">", 6, 8, np.array(image), _530=(3, 1, 1))
    np.testing.assert_array_equal(decode_picture(io.BytesIO(data)), expected)


def test_separate_planes_and_cmyk_are_read():
    planes = [COLOUR[..., channel] for channel in range(3)]
    for data in (
        tiff("<", 2, 8, *planes, _284=(3, 2), pack=DEFLATE),
        tiff(">", 2, 8, *planes, _284=(3, 2)),
        tiff("<", 2, 16, *[plane * np.uint16(257) for plane in planes], _284=(3, 2), pack=DEFLATE),
        tiff("<", 5, 8, np.array(Image.fromarray(COLOUR).convert("CMYK"))),
    ):
        np.testing.assert_array_equal(decode_picture(io.BytesIO(data)), COLOUR)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff("<", 2, 16, *[GREY] * 3, _284=(3, 2)), r"not read \(planes of more than 8 bits\)"),
        (tiff("<", 1, 8, GREY.astype(np.uint8), _339=SIGNED), r"not read \(8 bits with a sign\)"),
        (tiff("<", 6, 8, GREY.astype(np.uint8)), r"not read \(YCbCr with colour at half the si"),
        (tiff("<", 2, 32, COLOUR.astype("<f4"), _339=FRACTIONS), "damaged, or a TIFF image of a k"),
        (tiff("<", 1, 64, GREY.astype("<f8"), _339=FRACTIONS), "or a TIFF image of a kind that is"),
        (b"II+\0" + bytes(60), "a BigTIFF image, which is not read: save it as PNG or JPEG"),
        (tiff("<", 1, 16, GREY, _259=(3, 34887)), "a kind that is not read: save it as PNG or JP"),
        (tiff("<", 1, 32, GREY.astype("<f4"), _339=FRACTIONS), "fractions as pixel values that a"),
        (
            tiff(">", 1, 32, (GREY.astype("u4") << 23).astype(">u4")),
            "whole numbers as pixel values that are not",
        ),
    ],
)
def test_a_kind_that_is_not_read_is_not_called_damaged_alone(data: bytes, reason: str):
    with pytest.raises(DamagedError, match=f"^'a.tif' .*{reason}"):
        decode_picture(io.BytesIO(data), name="a.tif")
