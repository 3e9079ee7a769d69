"""The formats of picture files: their readers, their limits, and the range of their grey values.

A reader is chosen by a file's first bytes, and only its header is read here. No torch here.
"""

import importlib.util
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import AvifImagePlugin, Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from resnet_demo.data import tiff_pictures
from resnet_demo.data.picture_structure import check_jpeg, check_png, check_tags
from resnet_demo.errors import DamagedError
from resnet_demo.files import free_memory

# Readers are called directly: Image.open would try fifty more formats, and would warn or fail by
# other limits. The first bytes of a file select its reader, never its name.
READERS: tuple[tuple[bytes, type[ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"\xff\xd8\xff", JpegImageFile),
    (b"GIF87a", GifImageFile),
    (b"GIF89a", GifImageFile),
    (b"BM", BmpImageFile),
    *((magic, TiffImageFile) for magic in tiff_pictures.MAGICS),
    *((b"P%d%c" % (kind, space), PpmImageFile) for kind in range(1, 7) for space in b" \t\r\n"),
)
FORMATS = "PNG, JPEG, WebP, AVIF, BMP, GIF, TIFF, PPM or PGM image"
# Of the first box of a file in ISO's base media format. mif1 and msf1 occur in both kinds.
AVIF_BRANDS = {b"avif", b"avis"}
HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"}
HEIF_BRANDS |= {b"mif1", b"msf1"}
FIRST_BYTES = 512  # enough for the brands, and for the comments before an SVG image
MAX_BRANDS = 64  # bytes
# What else has the name of a picture, by its first bytes.
OTHER_FORMATS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"8BPS", "a Photoshop file"),
    (b"II+\0", "a BigTIFF image"),
    (b"MM\0+", "a BigTIFF image"),
    (b"\0\0\1\0", "an icon"),
    (b"%PDF", "a PDF document"),
    (b"version https://git-lfs", "a pointer of Git LFS and not the picture: run git lfs pull"),
)
WEB_PAGE = "a web page and not a picture: download the picture itself"
TEXT_FORMATS = ((b"<svg", "an SVG image"), (b"<html", WEB_PAGE), (b"<!doctype html", WEB_PAGE))
MAX_PIXELS = 50_000_000
MAX_BYTES = 240_000_000  # of memory while a file is decoded
# Of a progressive JPEG in full colour, whose coefficients no reader can do without, where this
# share of the free memory holds them.
MAX_PROGRESSIVE_BYTES, FREE_SHARE = 360_000_000, 1 / 4
MAX_SLOW_PIXELS = 1_000_000  # of a PPM or PGM that PIL decodes in Python: about 2 s
GREY_BITS = (8, 10, 12, 14, 16)  # depths of cameras and scanners
SIGNIFICANT_BITS = "significant_bits"  # in the info of a PNG
MAX_PNG_CHUNKS = 100  # looked at before the pixels
# In the info of an opened picture: passes over its pixels, and the memory that decoding takes.
SCANS, DECODING_BYTES = "scans", "decoding_bytes"
PROGRESSIVE = "a progressive JPEG"


def open_picture(file: BinaryIO, name: str) -> ImageFile:
    """Return the picture of a file, its header read and its size checked; no pixel is decoded yet.

    name: of the file, in messages. Raises DamagedError, and anything that PIL's readers raise.
    """
    reader = _reader_for(file, name)
    if reader is PngImageFile:
        check_png(file, name)
    if reader is TiffImageFile:
        check_tags(file, name)
    scans = check_jpeg(file, name) if reader is JpegImageFile else 1
    if reader.format == "HEIF":
        image = _open_heif(reader, file, name)
    else:
        image = tiff_pictures.open_tiff(file, name) if reader is TiffImageFile else reader(file)
    image.info[SCANS] = scans
    image.info[DECODING_BYTES] = _check_size(image, name)
    if isinstance(image, PngImageFile) and image.mode.startswith("I"):
        image.info[SIGNIFICANT_BITS] = _read_significant_bits(file)
    return image


def damage_text(file: BinaryIO, name: str) -> str:
    """Return the sentence for a picture whose reader has failed."""
    file.seek(0)
    text = f"{name} is cut short or damaged"
    if file.read(4) in tiff_pictures.MAGICS:  # a format of many kinds: PIL reads most
        text += f", or {tiff_pictures.UNREAD.removeprefix('is ')}: {tiff_pictures.SAVE}"
    return text


def _reader_for(file: BinaryIO, name: str) -> type[ImageFile]:
    start = file.read(FIRST_BYTES)
    file.seek(0)
    if not start:
        raise DamagedError(f"{name} is empty")
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return WebPImageFile
    for magic, reader in READERS:
        if start.startswith(magic):
            return reader
    brands = set(_brands(start))
    if brands & AVIF_BRANDS and AvifImagePlugin.SUPPORTED:
        return AvifImageFile
    if brands & HEIF_BRANDS and not brands & AVIF_BRANDS:
        return _heif_reader(name)
    raise DamagedError(f"{name} is {_other_format(start)}")


def _other_format(start: bytes) -> str:
    """Return what a file is that is not read, and what to do."""
    text = start.lower().lstrip(b"\xef\xbb\xbf \t\r\n")
    found = next((kind for magic, kind in OTHER_FORMATS if start.startswith(magic)), "")
    if text.startswith(b"<"):
        found = next((kind for mark, kind in TEXT_FORMATS if mark in text), found)
    if not found:
        return f"not a {FORMATS}"
    return found if ":" in found else f"{found}, which is not read: save it as PNG or JPEG"


def _brands(start: bytes) -> Iterator[bytes]:
    """Yield the brands in the first box of a file: what it is, and what may read it too."""
    if start[4:8] != b"ftyp":
        return
    yield start[8:12]
    for position in range(16, min(int.from_bytes(start[:4], "big"), MAX_BRANDS), 4):
        yield start[position : position + 4]


def _heif_reader(name: str) -> type[ImageFile]:
    if importlib.util.find_spec("pillow_heif") is None:
        raise DamagedError(
            f"{name} is a HEIC image: install the package pillow-heif to read this format, or save "
            "the image as JPEG"
        )
    from pillow_heif.as_plugin import HeifImageFile

    return HeifImageFile


def _open_heif(reader: type[ImageFile], file: BinaryIO, name: str) -> ImageFile:
    try:
        return reader(file)
    except Exception as error:  # the plugin raises many types on foreign bytes
        # Also for what libheif does not read, as a picture of several tiles or of more bits.
        raise DamagedError(
            f"{name} cannot be read as a HEIC image: it is damaged or of a kind that is not "
            "supported; save it as JPEG"
        ) from error


def _check_size(image: Image.Image, name: str) -> int:
    """Return the bytes of memory that decoding a picture takes, before it is decoded.

    A file of a few kilobytes may declare billions of pixels. Raises DamagedError for too many.
    """
    width, height = image.size
    if isinstance(image, JpegImageFile) and width * height * _decoding_cost(image)[0] > MAX_BYTES:
        _decode_at_half_size(image)
    cost, kind = _decoding_cost(image)
    most = MAX_BYTES
    if width * height * cost > most and kind == PROGRESSIVE:
        most = max(most, min(MAX_PROGRESSIVE_BYTES, FREE_SHARE * free_memory()))
    limit = min(MAX_PIXELS, int(most / cost))
    if isinstance(image, PpmImageFile) and image.tile[0].codec_name != "raw":
        limit, kind = MAX_SLOW_PIXELS, "a PPM or PGM in text or with an unusual range"
    if width * height > limit:
        for_kind = f" for {kind}" if limit < MAX_PIXELS else ""
        raise DamagedError(
            f"{name} is too large: {width}x{height} pixels, the most{for_kind} is {limit:,} pixels"
        )
    return int(width * height * cost)


def _decode_at_half_size(image: JpegImageFile) -> None:
    """Configure libjpeg to return a half of each side: a quarter of the memory for pixels."""
    width, height = image.size
    if min(width, height) > 1:
        image.draft(image.mode, (width // 2, height // 2))


def _decoding_cost(image: Image.Image) -> tuple[float, str]:
    """Return the most bytes per pixel that decoding takes, as measured, and the kind of file."""
    if image.format in ("WEBP", "AVIF", "HEIF"):
        return 16, {"WEBP": "a WebP image"}.get(image.format, f"an {image.format} image")
    if image.format == "TIFF":
        return 8, "a TIFF image"
    # With several scans libjpeg keeps every coefficient until the end.
    if image.info.get(SCANS, 1) > 1 or image.info.get("progressive"):
        scale = image.decoderconfig[0] if image.decoderconfig else 1
        return 4 / scale**2 + 2 * _samples_per_pixel(image), PROGRESSIVE
    return 4, "an image"


def _samples_per_pixel(image: JpegImageFile) -> float:
    """Return the coefficients per pixel: 3 for full colour, 1.5 with colour at half the sides."""
    areas = [across * down for _, across, down, _ in image.layer]
    largest = max(layer[1] for layer in image.layer) * max(layer[2] for layer in image.layer)
    return sum(areas) / largest


def white_level(image: Image.Image, name: str) -> float:
    """Return the value of white in a picture of mode I, I;16 or F.

    For whole numbers it is that of the depth which the file declares or, where it declares none,
    the smallest depth in GREY_BITS that holds the largest value. It is never the largest value
    itself, because a dark picture has to stay dark. For fractions it is 1, unless declared.
    Raises DamagedError for an unknown range.
    """
    low, high = _extremes(image)
    is_tiff, has_fractions = isinstance(image, TiffImageFile), image.mode == "F"
    top = 2.0 ** max(GREY_BITS) - 1
    if has_fractions:
        top = tiff_pictures.declared_white(image) if is_tiff else 1.0
    if not (low >= 0 and high <= top):  # written so that NaN is refused too
        kind = "fractions" if has_fractions else "whole numbers"
        raise DamagedError(
            f"{name} has {kind} as pixel values that are not all from 0 to {top:g}: its white is "
            "unknown"
        )
    if has_fractions:
        return top
    bits = max(_declared_bits(image), _bits_holding(high))
    if is_tiff:
        bits = min(bits, tiff_pictures.most_bits(image))
    elif bits < max(GREY_BITS) and _is_scaled_up(image, bits):
        bits = max(GREY_BITS)
    return 2.0**bits - 1


def _stripes(image: Image.Image) -> Iterator[np.ndarray]:
    """Yield the values of a grey picture, some rows at a time: a copy of all takes memory."""
    rows = max(1, MAX_SLOW_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))


def _extremes(image: Image.Image) -> tuple[float, float]:
    """Return the least and the largest value; NaN where there is one."""
    extremes = np.array([(part.min(), part.max()) for part in _stripes(image)], np.float64)
    return extremes[:, 0].min(), extremes[:, 1].max()


def _is_scaled_up(image: Image.Image, bits: int) -> bool:
    """Return True for a PNG whose values of fewer bits were scaled to 16, as its standard asks.

    The lower bits then repeat the upper ones, or are 0. Others store the values as they are.
    """
    declared = image.info.get(SIGNIFICANT_BITS, 0)
    if not declared:
        return False
    shift = max(GREY_BITS) - declared
    return all(
        np.array_equal(low, np.zeros_like(low)) or np.array_equal(low, part >> declared)
        for part in _stripes(image)
        for low in [part & ((1 << shift) - 1)]
    )


def _bits_holding(value: float) -> int:
    return next(bits for bits in GREY_BITS if value < 2**bits)


def _declared_bits(image: Image.Image) -> int:
    """Return the depth that a file declares for its grey values; 0 where it declares none."""
    if isinstance(image, PpmImageFile):
        return 16  # PIL has scaled the values from the range in the header
    if isinstance(image, PngImageFile):
        return image.info[SIGNIFICANT_BITS]
    return tiff_pictures.declared_bits(image) if isinstance(image, TiffImageFile) else 0


def _read_significant_bits(file: BinaryIO) -> int:
    """Return the depth in the sBIT chunk of a PNG, which PIL ignores; 0 without one."""
    before = file.seek(0, 1)
    file.seek(8)
    bits = 0
    for _ in range(MAX_PNG_CHUNKS):
        header = file.read(8)
        if len(header) < 8 or header[4:] == b"IDAT":
            break
        length = int.from_bytes(header[:4], "big")
        if header[4:] == b"sBIT" and length:
            bits = min(file.read(1)[0], max(GREY_BITS))
            break
        file.seek(length + 4, 1)  # 4: the checksum
    file.seek(before)
    return bits
