"""Decoding picture files to RGB pixels, and making them square. Uploads and imports both use it.

No torch here. Any fault of a file is raised as DamagedError with one sentence.
"""

import io
import math
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image

from resnet_demo.data.picture_formats import damage_text, open_picture, white_level
from resnet_demo.data.picture_structure import EXIF, check_tags
from resnet_demo.data.tiff_pictures import INVERTED
from resnet_demo.errors import (
    ConfigError,
    DamagedError,
    DemoError,
    NotFoundError,
    one_of,
    shortened,
)

MAX_RETURNED_PIXELS = 12_500_000  # larger pictures are returned at a half or a third of their size
STRIPE_PIXELS = 1_000_000  # pixels converted at a time
PNG_METADATA = "Raw profile type exif"  # in a text of a PNG, as ImageMagick writes it
# What of an image's info PIL's `getexif` reads.
ORIENTED_BY = {"exif", PNG_METADATA, "xmp", "XML:com.adobe.xmp"}
FITS = ("crop", "squash", "pad")  # ways to make a picture square
Region = tuple[slice, slice]  # rows, columns
ORIENTATIONS: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # by the EXIF tag's value
    1: lambda rgb: rgb,
    2: lambda rgb: rgb[:, ::-1],
    3: lambda rgb: rgb[::-1, ::-1],
    4: lambda rgb: rgb[::-1],
    5: lambda rgb: rgb.transpose(1, 0, 2),
    6: lambda rgb: np.rot90(rgb, -1),
    7: lambda rgb: rgb[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90,
}


class MutedWarnings:
    """A context without warnings, for any number of threads at once.

    Filters of warnings are global to the process: the first thread sets them, and the last one
    restores them.
    """

    def __init__(self) -> None:
        self.lock, self.threads = Lock(), 0
        self.filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self.lock:
            if not self.threads:
                self.filters = warnings.catch_warnings()
                self.filters.__enter__()
                warnings.simplefilter("ignore")
            self.threads += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.threads -= 1
            if not self.threads:
                self.filters.__exit__()


MUTED_WARNINGS = MutedWarnings()


def decode_picture(
    source: Path | BinaryIO,
    *,
    name: str | None = None,
    on_deep_grey: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Return the first frame as (H, W, 3) uint8 RGB, upright by its EXIF tag.

    Reads the formats of `picture_formats`. Transparency is put on white, grey of more than 8 bits
    is scaled (see `white_level`), colour profiles are ignored. A picture of more than
    MAX_RETURNED_PIXELS is reduced by averaging.
    name: the file's name in messages. on_deep_grey: called with the depth in bits of such a grey.
    Raises NotFoundError for a path that does not exist, DamagedError for anything else.
    """
    if isinstance(source, str | Path):
        return _decode_path(Path(source), name)
    name = shortened(name or _name_of(source))
    with MUTED_WARNINGS:  # odd metadata is no reason to refuse a file or to print
        try:
            return _to_rgb(open_picture(source, name), name, on_deep_grey)
        except DemoError:
            raise
        except Exception as error:  # PIL's readers raise many types on foreign bytes
            raise DamagedError(damage_text(source, name)) from error


def fit_to_square(rgb: np.ndarray, side: int, fit: str) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 as (side, side, 3), made square in one of FITS.

    Raises ConfigError for another way.
    """
    check_fit(fit)
    functions = {"crop": crop_to_square, "squash": squash_to_square, "pad": pad_to_square}
    return functions[fit](rgb, side)


def crop_to_square(rgb: np.ndarray, size: int) -> np.ndarray:
    """Return the centre square of (H, W, 3) uint8, resized to (size, size, 3).

    Bilinear and antialiased, as PIL does. A square of that size is returned bit for bit.
    """
    square = np.ascontiguousarray(rgb[crop_region(*rgb.shape[:2])])
    return square if len(square) == size else _resize(square, size, size)


def squash_to_square(rgb: np.ndarray, side: int) -> np.ndarray:
    """Return all of (H, W, 3) uint8 as (side, side, 3), its proportions changed."""
    return _resize(rgb, side, side)


def pad_to_square(rgb: np.ndarray, side: int) -> np.ndarray:
    """Return all of (H, W, 3) uint8 in its proportions, centred in (side, side, 3)."""
    rows, columns = pad_region(*rgb.shape[:2], side)
    content = _resize(rgb, rows.stop - rows.start, columns.stop - columns.start)
    square = np.empty((side, side, 3), np.uint8)
    # Padded with the mean colour: black bars would add the strongest edge of the whole image.
    square[:] = np.rint(content.mean(axis=(0, 1)))
    square[rows, columns] = content
    return square


def shrink_to_side(rgb: np.ndarray, side: int) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 in its proportions, with no side longer than `side`."""
    longest = max(rgb.shape[:2])
    if longest <= side:
        return rgb
    return _resize(rgb, *(max(1, round(length * side / longest)) for length in rgb.shape[:2]))


def check_fit(fit: str) -> None:
    """Raise ConfigError for a way that is not in FITS."""
    if fit not in FITS:
        raise ConfigError.rule("fit", one_of(FITS), fit)


def crop_region(height: int, width: int) -> Region:
    """Return the region of a picture that `crop` shows: its centre square."""
    side = min(height, width)
    return _middle(side, height), _middle(side, width)


def pad_region(height: int, width: int, side: int) -> Region:
    """Return the region of a side x side square that a picture fills under `pad`."""
    longest = max(height, width)
    lengths = (max(1, round(length * side / longest)) for length in (height, width))
    rows, columns = (_middle(length, side) for length in lengths)
    return rows, columns


def _middle(length: int, whole: int) -> slice:
    start = (whole - length) // 2
    return slice(start, start + length)


def _resize(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(rgb))
    return np.array(image.resize((width, height), Image.Resampling.BILINEAR))


def _decode_path(path: Path, name: str | None) -> np.ndarray:
    name = name or path.name
    try:
        if not path.exists():
            raise NotFoundError(f"there is no file {shortened(name)}")
        if not path.is_file():  # opening a named pipe would block
            raise DamagedError(f"{shortened(name)} is not a file")
        with open(path, "rb") as file:
            return decode_picture(file, name=name)
    except OSError as error:
        raise DamagedError(f"{shortened(name)} cannot be read: {error.strerror}") from error


def _name_of(file: BinaryIO) -> str:
    name = getattr(file, "name", None)
    return Path(name).name if isinstance(name, str) else "the picture"


def _to_rgb(
    image: Image.Image, name: str, on_deep_grey: Callable[[int], None] | None
) -> np.ndarray:
    image.load()
    width, height = image.size
    is_deep = image.mode.startswith("I") or image.mode == "F"
    white = white_level(image, name) if is_deep else 255.0
    if on_deep_grey and white > 255:
        on_deep_grey(int(white).bit_length())
    factor = math.ceil(math.sqrt(width * height / MAX_RETURNED_PIXELS))
    if factor == 1 and width * height <= STRIPE_PIXELS:
        return np.ascontiguousarray(_turn_upright(np.array(_flatten(image, white)), image))
    # Converted in stripes: each whole copy of a large picture would take hundreds of MB.
    rows = factor * max(1, STRIPE_PIXELS // (width * factor))
    rgb = np.empty((-(-height // factor), -(-width // factor), 3), np.uint8)
    for top in range(0, height, rows):
        stripe = _flatten(image.crop((0, top, width, min(top + rows, height))), white)
        rgb[top // factor : (top + rows) // factor] = stripe.reduce(factor)
    return np.ascontiguousarray(_turn_upright(rgb, image))


def _flatten(image: Image.Image, white: float) -> Image.Image:
    """Convert to mode RGB, with transparency on white. white: its value in a deep grey image."""
    if image.mode.startswith("I") or image.mode == "F":
        levels = np.rint(np.asarray(image) * (255.0 / white)).astype(np.uint8)
        if image.info.get(INVERTED):
            levels = 255 - levels
        return Image.fromarray(levels).convert("RGB")
    if image.has_transparency_data:
        foreground = image.convert("RGBA")
        white = Image.new("RGBA", foreground.size, "white")
        image = Image.alpha_composite(white, foreground)
    return image if image.mode == "RGB" else image.convert("RGB")


def _turn_upright(rgb: np.ndarray, image: Image.Image) -> np.ndarray:
    """Return the pixels turned as the EXIF tag of the image says; a view."""
    # A TIFF has tags of its own. Making PIL look for the tag takes a tenth of the time of decoding
    # a small picture.
    if ORIENTED_BY.isdisjoint(image.info) and not hasattr(image, "tag_v2"):
        return rgb
    orientation = 1
    with suppress(Exception):  # a broken tag: the pixels are still good
        check_tags(io.BytesIO(_metadata(image)), "")
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return ORIENTATIONS.get(orientation, ORIENTATIONS[1])(rgb)


def _metadata(image: Image.Image) -> bytes:
    """Return the EXIF metadata of an image, as `getexif` takes it, without its beginning."""
    metadata = image.info.get("exif")
    if metadata is None and (text := image.info.get(PNG_METADATA)):
        metadata = bytes.fromhex("".join(text.split("\n")[3:]))
    return (metadata or b"").removeprefix(EXIF)
