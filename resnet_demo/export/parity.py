"""Parity: the same pictures through the app and through an exported file, compared.

The pictures are those of the run's test split, brought to twenty sizes, and thirty files of odd
kinds. Without the test split, generated pictures take its place, and the result says so.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image

from resnet_demo.data.pictures import decode_picture
from resnet_demo.data.shapes import make_shapes10
from resnet_demo.data.store import Datasets
from resnet_demo.errors import DamagedError, DemoError
from resnet_demo.export.source import ExportSource
from resnet_demo.inference.predict import evaluation_batch_size, predict
from resnet_demo.paths import Paths
from resnet_demo.runs.text import share_text

SIZES = (  # width, height; all of them occur
    *((16, 16), (20, 28), (32, 32), (33, 47), (48, 48), (64, 64), (75, 100), (96, 96), (128, 128)),
    *((160, 120), (150, 200), (224, 224), (256, 192), (300, 400), (320, 320), (375, 500)),
    *((500, 375), (640, 480), (1024, 768), (5000, 40)),
)
MAX_PICTURES = 1000  # of the test split
GENERATED = 200  # pictures in its place
# Not 1 and 0: other kernels round otherwise, and two classes that are nearly equal may swap.
MIN_AGREEMENT, MAX_DIFFERENCE = 0.999, 0.01
CHUNK = 50  # pictures that a prediction gets at once; at most 120 MB of the largest size
ORIENTATION = 0x0112  # the EXIF tag


@dataclass(frozen=True)
class ParityPicture:
    """A picture as the app decodes it, and as a file.

    rgb: (H, W, 3) uint8. encoded: the file's bytes; None: a PNG of `rgb`.
    """

    name: str
    rgb: np.ndarray
    encoded: bytes | None = None

    @property
    def data(self) -> bytes:
        """Return the bytes of the picture's file."""
        # PNG loses nothing; level 1 is the fastest.
        return self.encoded or encode(Image.fromarray(self.rgb), "PNG", compress_level=1)


# Returns probabilities (N, C) of the pictures, whose sizes may differ.
Predict = Callable[[Sequence[ParityPicture]], np.ndarray]
# Called with a phrase for what is being done, and how much of it is done. May raise StoppedError.
OnProgress = Callable[[str, int, int], object]


@dataclass(frozen=True)
class ParityPictures:
    """The pictures of a comparison, made one after the other. origin: a phrase that names them.

    images: (N, S, S, 3) uint8, as stored.
    """

    origin: str
    images: np.ndarray

    def __len__(self) -> int:
        return len(self.images) + len(ODD_KINDS)

    def __iter__(self) -> Iterator[ParityPicture]:
        # Pictures of one size follow each other, so that they can be computed in batches.
        for number, (width, height) in enumerate(SIZES):
            for index in range(number, len(self.images), len(SIZES)):
                rgb = resized(self.images[index], width, height)
                yield ParityPicture(f"picture {index + 1}, {width} × {height}", rgb)
        photo = self.images[0]
        for name, make in ODD_KINDS.items():
            encoded = make(photo)
            yield ParityPicture(name, decode_picture(io.BytesIO(encoded), name=name), encoded)


@dataclass(frozen=True)
class Parity:
    """The comparison of an exported file with the app.

    pictures: their number. origin: which ones. agreement: share with the same most likely class.
    largest, median: difference of a picture's probabilities, the largest over its classes.
    """

    pictures: int
    origin: str
    agreement: float
    largest: float
    median: float

    @property
    def passed(self) -> bool:
        """Return whether the file may be used in place of the app."""
        return self.agreement >= MIN_AGREEMENT and self.largest <= MAX_DIFFERENCE

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers, ready for JSON."""
        return {
            "pictures": self.pictures,
            "origin": self.origin,
            "agreement": self.agreement,
            "largest": self.largest,
            "median": self.median,
            "passed": self.passed,
        }

    def text(self) -> str:
        """Return the numbers as a table for a terminal."""
        rows = {
            "pictures": f"{self.pictures:,} ({self.origin})",
            "same label": f"{share_text(self.agreement, 2)} (at least {share_text(MIN_AGREEMENT)})",
            "largest difference": f"{self.largest:.6f} (at most {MAX_DIFFERENCE})",
            "median difference": f"{self.median:.6f}",
            "result": "equal to the app" if self.passed else "NOT equal to the app",
        }
        return "\n".join(f"{name:<20}{value}" for name, value in rows.items())


def parity_pictures(source: ExportSource, paths: Paths) -> ParityPictures:
    """Return the pictures to compare with: of the run's test split, else generated ones.

    A dataset without test images gives validation images. Raises nothing for a missing dataset.
    """
    datasets, name = Datasets(paths.data), source.config.dataset
    try:
        info = datasets.get(name)
        split = "test" if info.test else "val"
        images, _, positions = datasets.load_split(source.config, split)
    except DemoError:
        positions = ()
    if not len(positions):
        reason = f"the images of {name} are not on this machine"
        images = make_shapes10()["test"][0]
        positions, origin = np.arange(len(images)), f"generated and odd pictures; {reason}"
        count = GENERATED
    else:
        count = min(MAX_PICTURES, len(positions))
        kind = "test" if split == "test" else "validation"
        origin = (
            f"{count:,} {kind} pictures of {name} at twenty sizes, and {len(ODD_KINDS)} odd ones"
        )
    # Spread over the whole split, which may be sorted by class.
    chosen = positions[np.linspace(0, len(positions) - 1, count).round().astype(int)]
    return ParityPictures(origin, np.asarray(images[chosen]))


def measure_parity(
    source: ExportSource,
    predict: Predict,
    pictures: ParityPictures,
    on_progress: OnProgress = lambda what, done, total: None,
) -> Parity:
    """Compare the app's answers with those of an exported file.

    Raises DamagedError for a network that computes NaN, and what `on_progress` raises.
    """
    same, differences = 0, []
    remaining = iter(pictures)
    while chunk := list(islice(remaining, CHUNK)):
        ours, theirs = app_answers(source, chunk), predict(chunk)
        same += int((ours.argmax(1) == theirs.argmax(1)).sum())
        # A NaN of the file counts as the largest difference that there can be.
        differences += np.nan_to_num(np.abs(ours - theirs), nan=1.0).max(1).tolist()
        on_progress("comparing with the app", len(differences), len(pictures))
    return Parity(
        pictures=len(differences),
        origin=pictures.origin,
        agreement=same / len(differences),
        largest=max(differences),
        median=float(np.median(differences)),
    )


def app_answers(source: ExportSource, pictures: Sequence[ParityPicture]) -> np.ndarray:
    """Return the probabilities (N, C) float64 that `Classifier.classify` gives these pictures."""
    preprocessing = source.preprocessing
    seen = np.stack([preprocessing.fit_picture(picture.rgb) for picture in pictures])
    size = evaluation_batch_size(preprocessing)
    logits = predict(source.saved.model, preprocessing.prepare, torch.from_numpy(seen), size)
    answers = logits.double().softmax(1)  # as `classify` computes them
    if not answers.isfinite().all():
        raise DamagedError("the network computes NaN instead of an answer: its training diverged")
    return answers.numpy()


def resized(rgb: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 at another size, by PIL."""
    if rgb.shape[:2] == (height, width):
        return rgb
    return np.array(Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC))


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return the bytes of a picture file of that kind."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photo_file(
    size: tuple[int, int], mode: str = "RGB", kind: str = "PNG", **options: Any
) -> Callable[[np.ndarray], bytes]:
    """Return a function that makes a file of a picture at that width and height."""

    def make(photo: np.ndarray) -> bytes:
        image = Image.fromarray(resized(photo, *size)).convert(mode)
        return encode(image, kind, **options)

    return make


def turned(orientation: int) -> Callable[[np.ndarray], bytes]:
    """Return a function that makes a JPEG whose EXIF tag turns it."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return photo_file((180, 120), kind="JPEG", exif=exif.tobytes())


def transparent(photo: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """Make a picture that fades out to the right."""
    rgb = resized(photo, 200, 150)
    alpha = np.broadcast_to(np.linspace(255, 0, 200).astype(np.uint8), (150, 200))
    return encode(Image.fromarray(np.dstack((rgb, alpha))), kind, **options)


def transparent_palette(photo: np.ndarray) -> bytes:
    """Make a GIF with one transparent colour."""
    image = Image.fromarray(resized(photo, 90, 60)).convert("P", palette=Image.Palette.ADAPTIVE)
    return encode(image, "GIF", transparency=3)


def deep_grey(photo: np.ndarray) -> bytes:
    """Make a PNG of 16 bits a pixel."""
    grey = np.array(Image.fromarray(resized(photo, 70, 50)).convert("L"))
    return encode(Image.fromarray(grey.astype(np.uint16) * 257), "PNG")  # 257: 255 becomes 65,535


def drawn(make: Callable[[np.random.Generator], np.ndarray]) -> Callable[[np.ndarray], bytes]:
    """Return a function that makes a PNG of generated pixels."""
    return lambda photo: encode(Image.fromarray(make(np.random.default_rng(0))), "PNG")


def checkerboard(random: np.random.Generator) -> np.ndarray:
    """Draw squares of one pixel, the finest pattern there is: (157, 211, 3) uint8."""
    board = np.indices((157, 211)).sum(0) % 2 * 255
    return np.repeat(board[..., None], 3, 2).astype(np.uint8)


ODD_KINDS: dict[str, Callable[[np.ndarray], bytes]] = {
    "one pixel": photo_file((1, 1)),
    "one pixel high": photo_file((300, 1)),
    "one pixel wide": photo_file((1, 300)),
    "two pixels high": photo_file((401, 2)),
    "5,000 wide": photo_file((5000, 7)),
    "5,000 wide, a JPEG": photo_file((5000, 40), kind="JPEG"),
    "5,000 high": photo_file((33, 5000)),
    "large": photo_file((2400, 1600), kind="JPEG"),
    "grey": photo_file((120, 90), "L"),
    "grey JPEG": photo_file((131, 77), "L", "JPEG"),
    "grey with alpha": photo_file((100, 100), "LA"),
    "black and white": photo_file((64, 48), "1"),
    "16-bit grey": deep_grey,
    "palette": photo_file((99, 101), "P"),
    "transparent palette": transparent_palette,
    "transparent": transparent,
    "transparent WebP": lambda photo: transparent(photo, "WEBP", lossless=True),
    "WebP": photo_file((150, 110), kind="WEBP"),
    "BMP": photo_file((51, 52), kind="BMP"),
    "progressive JPEG": photo_file((257, 191), kind="JPEG", progressive=True),
    "JPEG with full colour": photo_file((255, 193), kind="JPEG", subsampling=0, quality=95),
    "white": drawn(lambda random: np.full((40, 60, 3), 255, np.uint8)),
    "black": drawn(lambda random: np.zeros((60, 40, 3), np.uint8)),
    "noise": drawn(lambda random: random.integers(0, 256, (217, 333, 3), np.uint8)),
    "checkerboard": drawn(checkerboard),
    **{f"turned by EXIF, {tag}": turned(tag) for tag in (2, 3, 5, 6, 8)},
}
