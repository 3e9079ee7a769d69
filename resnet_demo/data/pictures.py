"""A picture file in, RGB pixels out: uploads and imports are read here, by one set of rules.

No torch here. Everything that can be wrong with a file ends as one sentence.
"""

import math
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from resnet_demo.errors import ConfigError, DamagedError, DemoError, NotFoundError, shortened

# Readers are called directly: Image.open would try fifty more formats, and warn or fail by
# limits of its own. A file's first bytes decide, never its name.
READERS: tuple[tuple[bytes, type[ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"\xff\xd8\xff", JpegImageFile),
    (b"GIF87a", GifImageFile),
    (b"GIF89a", GifImageFile),
    (b"BM", BmpImageFile),
    (b"II*\0", TiffImageFile),
    (b"MM\0*", TiffImageFile),
)
MAX_PIXELS = 50_000_000
MAX_BYTES = 240_000_000  # while one is unpacked
MAX_RETURNED_PIXELS = (
    12_500_000  # pixels; a picture of more comes at a half of its size, or a third
)
STRIPE_PIXELS = 1_000_000  # pixels converted at a time
FITS = ("crop", "squash", "pad")  # ways to make a square of a picture; training data are cropped
Region = tuple[slice, slice]  # rows, columns
ORIENTATIONS: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # by EXIF's orientation
    1: lambda rgb: rgb,
    2: lambda rgb: rgb[:, ::-1],
    3: lambda rgb: rgb[::-1, ::-1],
    4: lambda rgb: rgb[::-1],
    5: lambda rgb: rgb.transpose(1, 0, 2),
    6: lambda rgb: np.rot90(rgb, -1),
    7: lambda rgb: rgb[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90,
}
_DECODE_LOCK = Lock()  # warning filters belong to the process; and it bounds the memory


def decode_picture(source: Path | BinaryIO, *, name: str | None = None) -> np.ndarray:
    """(H, W, 3) uint8 RGB of the first frame, upright by its EXIF tag, transparency on white.

    PNG, JPEG, WebP, BMP, GIF and TIFF; 16-bit grey is scaled, colour profiles are ignored. The
    size is checked before a pixel is unpacked; over MOST_KEPT pixels the picture comes smaller,
    means of two or more pixels a side. name: what to call the file in messages.
    Raises NotFoundError for a path that is not there, DamagedError for all else.
    """
    if isinstance(source, str | Path):
        return _decode_path(Path(source), name)
    name = shortened(name or _name_of(source))
    reader = _reader_for(source, name)
    with _DECODE_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata: no reason to refuse or to print
        try:
            image = reader(source)
            _check_size(image, name)
            return _rgb(image, name)
        except DemoError:
            raise
        except Exception as error:  # PIL's readers raise what they like on foreign bytes
            raise DamagedError(f"{name} is cut short or damaged") from error


def crop_to_square(rgb: np.ndarray, size: int) -> np.ndarray:
    """The centre square of (H, W, 3) uint8, resized to (size, size, 3).

    Bilinear and antialiased, as PIL does; what has that size already is kept bit for bit.
    """
    square = np.ascontiguousarray(rgb[crop_region(*rgb.shape[:2])])
    return square if len(square) == size else _resized(square, size, size)


def squash_to_square(rgb: np.ndarray, side: int) -> np.ndarray:
    """All of (H, W, 3) uint8, its proportions given up, as (side, side, 3). Resized as a crop."""
    return _resized(rgb, side, side)


def pad_to_square(rgb: np.ndarray, side: int) -> np.ndarray:
    """All of (H, W, 3) uint8 in its proportions, in the middle of (side, side, 3).

    Around it is its mean colour: black bars would end in the strongest edge of the whole square,
    and the network would see that first.
    """
    rows, columns = pad_region(*rgb.shape[:2], side)
    content = _resized(rgb, rows.stop - rows.start, columns.stop - columns.start)
    square = np.empty((side, side, 3), np.uint8)
    square[:] = np.rint(content.mean(axis=(0, 1)))
    square[rows, columns] = content
    return square


def fit_to_square(rgb: np.ndarray, side: int, fit: str) -> np.ndarray:
    """A picture (H, W, 3) uint8 as (side, side, 3), fitted in one of FITS.

    Raises ConfigError for another way.
    """
    check_fit(fit)
    return {"crop": crop_to_square, "squash": squash_to_square, "pad": pad_to_square}[fit](
        rgb, side
    )


def shrink_to_side(rgb: np.ndarray, side: int) -> np.ndarray:
    """A picture (H, W, 3) uint8 in its proportions, no side longer than that; antialiased."""
    longest = max(rgb.shape[:2])
    if longest <= side:
        return rgb
    return _resized(rgb, *(max(1, round(length * side / longest)) for length in rgb.shape[:2]))


def check_fit(fit: str) -> None:
    """Raises ConfigError for what is not in FITS."""
    if fit not in FITS:
        raise ConfigError.rule("fit", f"one of {', '.join(FITS)}", fit)


def crop_region(height: int, width: int) -> Region:
    """The part of a picture that is its centre square: what `crop` shows."""
    side = min(height, width)
    return _middle(side, height), _middle(side, width)


def pad_region(height: int, width: int, side: int) -> Region:
    """The part of a square of that side that a picture of height x width fills under `pad`."""
    longest = max(height, width)
    across = (max(1, round(length * side / longest)) for length in (height, width))
    rows, columns = (_middle(length, side) for length in across)
    return rows, columns


def _middle(length: int, whole: int) -> slice:
    start = (whole - length) // 2
    return slice(start, start + length)


def _resized(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(rgb))
    return np.array(image.resize((width, height), Image.Resampling.BILINEAR))


def _decode_path(path: Path, name: str | None) -> np.ndarray:
    name = name or path.name
    try:
        if not path.exists():
            raise NotFoundError(f"there is no file {shortened(name)}")
        if not path.is_file():  # a pipe would be waited for
            raise DamagedError(f"{shortened(name)} is not a file")
        with open(path, "rb") as file:
            return decode_picture(file, name=name)
    except OSError as error:
        raise DamagedError(f"{shortened(name)} cannot be read: {error.strerror}") from error


def _name_of(file: BinaryIO) -> str:
    name = getattr(file, "name", None)
    return Path(name).name if isinstance(name, str) else "the picture"


def _reader_for(file: BinaryIO, name: str) -> type[ImageFile]:
    start = file.read(16)
    file.seek(0)
    if not start:
        raise DamagedError(f"{name} is empty")
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return WebPImageFile
    for magic, reader in READERS:
        if start.startswith(magic):
            return reader
    raise DamagedError(f"{name} is not a PNG, JPEG, WebP, BMP, GIF or TIFF image")


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    cost, kind = _cost(image)
    most = min(MAX_PIXELS, MAX_BYTES // cost)
    if width * height > most:
        of_its_kind = f" of {kind}" if most < MAX_PIXELS else ""
        raise DamagedError(
            f"{name} is too large: {width}x{height} pixels, the most{of_its_kind} is {most:,} in "
            "all"
        )


def _cost(image: Image.Image) -> tuple[int, str]:
    """The most bytes that unpacking takes for each pixel, measured; and what is so dear."""
    if image.format == "WEBP":
        return 16, "a WebP image"
    if image.format == "TIFF":
        return 8, "a TIFF image"
    if image.info.get("progressive"):  # a JPEG whose every coefficient is kept to the end
        return 4 + 2 * len(image.getbands()), "a progressive JPEG"
    return 4, "an image"


def _rgb(image: Image.Image, name: str) -> np.ndarray:
    """Converted in stripes: whole copies of a large picture would each take hundreds of MB."""
    image.load()
    width, height = image.size
    times = math.ceil(math.sqrt(width * height / MAX_RETURNED_PIXELS))
    rows = times * max(1, STRIPE_PIXELS // (width * times))
    rgb = np.empty((-(-height // times), -(-width // times), 3), np.uint8)
    for top in range(0, height, rows):
        stripe = _opaque(image.crop((0, top, width, min(top + rows, height))), name)
        rgb[top // times : (top + rows) // times] = stripe.reduce(times)
    return np.ascontiguousarray(_upright(rgb, image))


def _opaque(image: Image.Image, name: str) -> Image.Image:
    """In mode RGB, transparency on white."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_grey_of_deep(np.asarray(image), name)).convert("RGB")
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        white = Image.new("RGBA", seen.size, "white")
        image = Image.alpha_composite(white, seen)
    return image.convert("RGB")


def _upright(rgb: np.ndarray, image: Image.Image) -> np.ndarray:
    """The pixels of an image as its EXIF tag turns them; a view."""
    orientation = 1
    with suppress(Exception):  # a broken tag: the pixels are good as they stand
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return ORIENTATIONS.get(orientation, ORIENTATIONS[1])(rgb)


def _grey_of_deep(values: np.ndarray, name: str) -> np.ndarray:
    """(H, W) of 16-bit or float grey as uint8. Raises DamagedError where the range is unknown."""
    top = 1.0 if values.dtype.kind == "f" else 65535
    if not (values.min() >= 0 and values.max() <= top):  # NaN too
        raise DamagedError(f"{name} has numbers that are neither 8 nor 16 bits, nor from 0 to 1")
    return np.rint(values * (255.0 / top)).astype(np.uint8)
