"""TIFF pictures: kinds that PIL reads wrongly or not at all, and the range that a file declares.

Values are corrected in the description of the pixels, before they are decoded. No torch here.
"""

import sys
from typing import BinaryIO

from PIL.TiffImagePlugin import OPEN_INFO, TiffImageFile

from resnet_demo.errors import DamagedError

MAGICS = (b"II*\0", b"MM\0*")
# Tags.
BITS, COMPRESSION, PHOTOMETRIC, STRIP_BYTES, PLANAR = 258, 259, 262, 279, 284
SAMPLE_FORMAT, LARGEST_VALUES = 339, (281, 341)  # MaxSampleValue, SMaxSampleValue
WHITE_IS_ZERO, RGB, YCBCR = 0, 2, 6  # of the tag PHOTOMETRIC
SIGNED = 2  # of the tag SAMPLE_FORMAT
INVERTED = "inverted"  # in the info of a picture whose white is 0 and not yet inverted
FRACTION_RANGES = (255, 1023, 4095, 16383, 65535)  # declared for values that are no whole numbers
NATIVE = {"F;32BF": "F;32NF", "I;16BS": "I;16NS", "I;32BS": "I;32NS", "I;32B": "I;32N"}
# Big-endian kinds, as ImageJ writes them, that PIL 12 knows with the other order of bytes only:
# photometric, sample format, fill order, bits, extra samples -> mode, raw mode.
BIG_ENDIAN = {
    (0, (1,), 1, (16,), ()): ("I;16B", "I;16B"),
    (1, (1,), 1, (32,), ()): ("I", "I;32B"),
    (1, (1,), 1, (12,), ()): ("I;16", "I;12"),
}
UNREAD = "is a TIFF image of a kind that is not read"
SAVE = "save it as PNG or JPEG"


def open_tiff(file: BinaryIO, name: str) -> TiffImageFile:
    """Return a TIFF picture, its header read; what PIL would read wrongly is set right.

    Raises DamagedError for a kind that cannot be read, and anything that PIL raises.
    """
    for kind, modes in BIG_ENDIAN.items():
        OPEN_INFO.setdefault((b"MM", *kind), modes)
    image = TiffImageFile(file)
    deep = max(_values(image, BITS, 1)) > 8
    if deep and _first(image, PLANAR, 1) == 2 and image.tile[0].codec_name == "raw":
        raise DamagedError(f"{name} {UNREAD} (planes of more than 8 bits): {SAVE}")
    if _first(image, SAMPLE_FORMAT, 1) == SIGNED and not deep:
        raise DamagedError(f"{name} {UNREAD} (8 bits with a sign): {SAVE}")
    if image.tile[0].codec_name == "libtiff" and sys.byteorder == "little":
        # libtiff returns values in this machine's order, PIL takes them for the file's.
        image.tile = [
            tile._replace(args=(NATIVE.get(tile.args[0], tile.args[0]), *tile.args[1:]))
            for tile in image.tile
        ]
    if _first(image, PHOTOMETRIC, 1) == YCBCR and image.tile[0].codec_name == "raw":
        _read_ycbcr(image, name)
    if deep and _first(image, PHOTOMETRIC, 1) == WHITE_IS_ZERO:
        image.info[INVERTED] = True
    return image


def _read_ycbcr(image: TiffImageFile, name: str) -> None:
    """Make PIL read uncompressed luma and colour differences, which it takes for RGB."""
    width, height = image.size
    whole = sum(_values(image, STRIP_BYTES, 0)) == width * height * 3
    if not whole or _first(image, PLANAR, 1) == 2:
        raise DamagedError(f"{name} {UNREAD} (YCbCr with colour at half the sides): {SAVE}")
    image._mode = "YCbCr"  # PIL has no public way to set it
    image.tile = [tile._replace(args=("YCbCr", *tile.args[1:])) for tile in image.tile]


def declared_bits(image: TiffImageFile) -> int:
    """Return the depth that a file declares for its grey values; 0 where it declares none.

    Sixteen bits per sample declare nothing: cameras store 10, 12 or 14 bits in them.
    """
    largest = _declared_largest(image)
    # Some programs write the largest value of this picture there, so its depth counts.
    if 255 < largest < 2**16:
        return int(largest).bit_length()
    bits = _first(image, BITS, 0)
    return bits if 8 < bits < 16 else 0


def declared_white(image: TiffImageFile) -> float:
    """Return the value of white that a file with fractions declares; 1 where it declares none."""
    largest = _declared_largest(image)
    return largest if largest in FRACTION_RANGES else 1.0


def most_bits(image: TiffImageFile) -> int:
    """Return the bits of the largest value that the samples of a file can have."""
    is_short = _first(image, SAMPLE_FORMAT, 1) == SIGNED and _first(image, BITS, 0) == 16
    return 15 if is_short else 16


def _declared_largest(image: TiffImageFile) -> float:
    found = [_first(image, tag, 0) for tag in LARGEST_VALUES]
    return next((float(value) for value in found if value), 0.0)


def _values(image: TiffImageFile, tag: int, default: int) -> tuple:
    value = image.tag_v2.get(tag, default)
    return value if isinstance(value, tuple) else (value,)


def _first(image: TiffImageFile, tag: int, default: int) -> float:
    return next(iter(_values(image, tag, default)), default)
