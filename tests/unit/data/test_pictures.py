"""Decoding picture files, and making them square."""

import io
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from zlib import compress, crc32

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from resnet_demo.data import picture_formats, pictures
from resnet_demo.data.pictures import (
    FITS,
    crop_region,
    crop_to_square,
    decode_picture,
    fit_to_square,
    pad_region,
    pad_to_square,
    squash_to_square,
)
from resnet_demo.errors import ConfigError, DamagedError, NotFoundError

RED = (200, 10, 20)
CORNER = np.full((6, 8, 3), 255, np.uint8)  # white, but for one dark corner
CORNER[:2, :3] = (10, 20, 30)
NO_IMAGE = "'x.png' is not a PNG, JPEG, WebP, AVIF, BMP, GIF, TIFF, PPM or PGM image"


def written(image: Image.Image, kind: str, **options) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return io.BytesIO(file.getvalue())


def decoded(image: Image.Image, kind: str = "PNG", **options) -> np.ndarray:
    return decode_picture(written(image, kind, **options))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
def test_every_lossless_format_gives_the_pixels_back(kind: str):
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = decoded(Image.fromarray(CORNER), kind, **options)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, CORNER)


def test_a_jpeg_is_read():
    pixels = decoded(Image.new("RGB", (16, 8), RED), "JPEG", quality=95)
    assert pixels.shape == (8, 16, 3)
    np.testing.assert_allclose(pixels, np.broadcast_to(RED, pixels.shape), atol=3)


@pytest.mark.parametrize(
    ("mode", "colour", "seen"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("LA", (100, 255), (100, 100, 100)),
        ("LA", (100, 0), (255, 255, 255)),
        ("RGB", RED, RED),
        ("RGBA", (*RED, 255), RED),
        ("RGBA", (*RED, 0), (255, 255, 255)),
        ("RGBA", (0, 100, 200, 51), (204, 224, 244)),  # a fifth of the colour, the rest white
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 257 * 70, (70, 70, 70)),  # more than 14 bits hold
    ],
)
def test_every_mode_of_a_png_becomes_rgb(mode: str, colour, seen):
    pixels = decoded(Image.new(mode, (3, 2), colour))
    np.testing.assert_array_equal(pixels, np.broadcast_to(seen, (2, 3, 3)))


def test_a_palette_and_its_transparent_colour_become_rgb_on_white():
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert decoded(image).tolist() == [[list(RED), [0, 0, 255]]]
    assert decoded(image, transparency=1).tolist() == [[list(RED), [255, 255, 255]]]
    assert decoded(image, "GIF", transparency=0).tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_cmyk_becomes_rgb():
    pixels = decoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", quality=100)
    np.testing.assert_allclose(pixels, np.broadcast_to((0, 255, 255), pixels.shape), atol=4)


def test_floating_point_grey_from_0_to_1_is_scaled():
    pixels = decoded(Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)), "TIFF")
    assert pixels[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("value", [300.0, float("nan")])
def test_pixel_values_of_unknown_range_are_refused(value: float):
    image = Image.fromarray(np.full((2, 2), value, np.float32))
    with pytest.raises(DamagedError, match="'the picture' has fractions as pixel values that are"):
        decoded(image, "TIFF")


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_a_channel_become_eight(kind: int, channels: int):
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">L", len(data)) + name + data + struct.pack(">L", crc32(name + data))

    levels = np.array([10, 100, 200], np.uint16) * 257  # 257 is 65535 / 255
    pixels = np.repeat(levels[:, None], channels, 1)
    if kind >= 4:
        pixels[:, -1] = 65535  # opaque
    header = struct.pack(">LLBBBBB", 3, 1, 16, kind, 0, 0, 0)
    rows = b"\0" + pixels.astype(">u2").tobytes()
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", compress(rows))
    result = decode_picture(io.BytesIO(data + chunk(b"IEND", b"")))
    assert result.tolist() == [[[10] * 3, [100] * 3, [200] * 3]]


def test_only_the_first_frame_is_read():
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, (0, 0, 255))]
    pixels = decoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(pixels, np.broadcast_to(RED, (4, 4, 3)))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(10))  # 0 and 9 mean nothing
def test_the_exif_orientation_is_applied_as_pil_does(kind: str, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = written(Image.fromarray(CORNER), kind, exif=exif, **options)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(data)))
    data.seek(0)
    np.testing.assert_array_equal(decode_picture(data), upright)


@pytest.mark.parametrize("where", ["XMP of a PNG", "XMP of a JPEG", "text of a PNG"])
def test_the_orientation_is_read_wherever_pil_looks_for_it(where: str):
    """PIL is not asked where an image has none of these fields, which takes time."""
    exif, text = Image.Exif(), PngImagePlugin.PngInfo()
    exif[0x0112] = 6
    xmp = '<x:xmpmeta><tiff:Orientation="6"/></x:xmpmeta>'
    if where == "XMP of a PNG":
        text.add_itxt("XML:com.adobe.xmp", xmp)
    else:
        text.add_text("Raw profile type exif", f"\nexif\n       9\n{exif.tobytes().hex()}")
    jpeg = {"format": "JPEG", "xmp": xmp.encode(), "quality": 100, "subsampling": 0}
    data = io.BytesIO()
    Image.fromarray(CORNER).save(
        data, **(jpeg if "JPEG" in where else {"format": "PNG", "pnginfo": text})
    )
    upright = np.asarray(ImageOps.exif_transpose(Image.open(data)))
    assert upright.shape == (8, 6, 3)
    data.seek(0)
    np.testing.assert_array_equal(decode_picture(data), upright)


def test_a_picture_is_turned_upright_by_its_exif_tag():
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the right side down
    pixels = decoded(Image.fromarray(CORNER), exif=exif)
    assert pixels.shape == (8, 6, 3)
    assert pixels[0, -1].tolist() == [10, 20, 30]  # what was top left is top right


NOISE = np.random.RandomState(2).randint(0, 256, (37, 53, 4)).astype(np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "CMYK", "P", "1"])
@pytest.mark.parametrize(("times", "limit"), [(1, 1961), (2, 1960), (2, 491), (3, 490)])
def test_a_large_picture_is_reduced_as_pil_does(mode: str, times: int, limit: int, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_RETURNED_PIXELS", limit)  # of 37 x 53 = 1,961 pixels
    monkeypatch.setattr(pictures, "STRIPE_PIXELS", 200)  # several stripes, the last one smaller
    image = Image.fromarray(NOISE).convert(mode)
    data = written(image, "TIFF" if mode == "CMYK" else "PNG")
    white = Image.new("RGBA", image.size, "white")
    whole = Image.alpha_composite(white, Image.open(data).convert("RGBA")).convert("RGB")
    if mode == "CMYK":
        whole = Image.open(data).convert("RGB")
    data.seek(0)
    np.testing.assert_array_equal(decode_picture(data), np.asarray(whole.reduce(times)))


def test_a_large_picture_of_16_bits_is_reduced_too(monkeypatch):
    monkeypatch.setattr(pictures, "MAX_RETURNED_PIXELS", 500)
    levels = NOISE[..., 0].astype(np.uint16) * 257
    expected = Image.fromarray(NOISE[..., 0]).reduce(2)
    pixels = decoded(Image.fromarray(levels))
    np.testing.assert_array_equal(pixels, np.repeat(np.asarray(expected)[..., None], 3, 2))


def test_a_broken_exif_block_neither_fails_nor_warns():
    data = written(Image.fromarray(CORNER), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff junk")
    assert decode_picture(data).shape == CORNER.shape


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM"])
def test_every_format_cut_anywhere_is_damaged_or_whole(kind: str, capfd):
    noise = np.random.RandomState(0).randint(0, 256, (24, 24, 3)).astype(np.uint8)
    data = written(Image.fromarray(noise), kind).getvalue()
    for length in range(16, len(data) - 200, 61):
        with pytest.raises(
            DamagedError, match=r"^'a.png' is cut short or damaged(, or a TIFF.*)?$"
        ):
            decode_picture(io.BytesIO(data[:length]), name="a.png")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "'x.png' is empty"),
        (
            b"GIF is no picture",
            NO_IMAGE,
        ),
        (b"\x89PNG\r\n\x1a\nrubbish", "'x.png' is cut short or damaged"),
        (
            b"just text\n",
            NO_IMAGE,
        ),
        (
            b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
            "'x.png' is an SVG image, which is not read: save it as PNG or JPEG",
        ),
        (
            b"\0\0\0\x18ftypisom\0\0\0\0isommp42",  # a video
            NO_IMAGE,
        ),
        (
            b"data:image/png;base64,iVBORw0KGgo=",
            NO_IMAGE,
        ),
    ],
)
def test_a_file_that_is_no_image_is_refused_with_one_sentence(
    tmp_path: Path, data: bytes, reason: str
):
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(DamagedError, match=f"^{re.escape(reason)}$"):
        decode_picture(tmp_path / "x.png")


def test_an_unsupported_format_is_refused():
    with pytest.raises(DamagedError, match="is not a PNG"):
        decoded(Image.new("RGB", (4, 4)), "TGA")


@pytest.mark.parametrize("first", [b"heic", b"heix", b"mif1"])
def test_a_heic_picture_is_refused_with_what_to_do_where_its_reader_is_missing(
    first: bytes, monkeypatch
):
    monkeypatch.setattr(picture_formats.importlib.util, "find_spec", lambda name: None)
    data = b"\0\0\0\x1cftyp" + first + b"\0\0\0\0mif1heicmiaf" + bytes(40)
    rule = r"^'a.jpg' is a HEIC image: install the package pillow-heif .* save the image as JPEG$"
    with pytest.raises(DamagedError, match=rule):
        decode_picture(io.BytesIO(data), name="a.jpg")


@pytest.mark.parametrize(("orientation", "shape"), [(1, (20, 40, 3)), (6, (40, 20, 3))])
def test_a_heic_picture_of_a_phone_is_read_upright(orientation: int, shape: tuple[int, ...]):
    pillow_heif = pytest.importorskip("pillow_heif")
    image = Image.new("RGB", (40, 20), RED)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=95, exif=exif.tobytes())
    pixels = decode_picture(io.BytesIO(file.getvalue()), name="IMG_0001.HEIC")
    np.testing.assert_allclose(pixels, np.broadcast_to(RED, shape), atol=6)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xff\x0a" + bytes(40), "a JPEG XL image, which is not read: save it as PNG or JPEG"),
        (b"\0\0\0\x0cjP  \r\n", "a JPEG 2000 image, which is not read: save it as PNG or JPEG"),
        (b"<?xml version='1.0'?>\n<!-- by hand -->\n<svg>", "an SVG image, which is not read: .*"),
        (b"\xef\xbb\xbf <!DOCTYPE HTML>", "a web page and not a picture: download the .* itself"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS .*: run git lfs .*"),
        (b"no picture <svg", "not a PNG, JPEG, .*"),
    ],
)
def test_another_kind_of_file_is_named_with_what_to_do(data: bytes, text: str):
    with pytest.raises(DamagedError, match=f"^'x.png' is {text}$"):
        decode_picture(io.BytesIO(data), name="x.png")


def test_a_damaged_heic_picture_is_refused_with_one_sentence():
    pytest.importorskip("pillow_heif")
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
    with pytest.raises(
        DamagedError, match=r"^'a\.heic' cannot be [^\n]*damaged .*; save it as JPEG$"
    ):
        decode_picture(io.BytesIO(data), name="a.heic")


def test_an_avif_picture_is_read_whatever_its_name_and_first_brand():
    image = Image.new("RGB", (20, 10), RED)
    data = written(image, "AVIF", quality=95).getvalue()
    for content in (data, data.replace(b"ftypavif", b"ftypmif1", 1)):
        pixels = decode_picture(io.BytesIO(content), name="photo.jpg")
        np.testing.assert_allclose(pixels, np.broadcast_to(RED, (10, 20, 3)), atol=5)


@pytest.mark.parametrize(
    ("data", "levels"),
    [
        (b"P5 3 1 255\n\0\x40\xff", [0, 64, 255]),
        (b"P5\n# made by hand\n3 1\n100\n\0\x19\x64", [0, 64, 255]),
        (b"P2\t3 1 15\n0 3 15\n", [0, 51, 255]),
        (b"P5 3 1 1023\n\0\0\0\xcc\3\xff", [0, 51, 255]),  # two bytes a value
        (b"P5 3 1 65535\n\0\0\1\1\2\2", [0, 1, 2]),  # a dark picture stays dark
        (b"P4 3 1\n\x40", [255, 0, 255]),
    ],
)
def test_grey_netpbm_pictures_are_scaled_from_the_range_in_their_header(
    data: bytes, levels: list[int]
):
    assert decode_picture(io.BytesIO(data)).tolist() == [[[level] * 3 for level in levels]]


def test_a_ppm_that_is_slow_to_read_is_limited_to_fewer_pixels(monkeypatch):
    monkeypatch.setattr(picture_formats, "MAX_SLOW_PIXELS", 3)
    assert decoded(Image.new("RGB", (4, 1)), "PPM").shape == (1, 4, 3)
    for slow in (b"P3 4 1 255\n" + b"9 " * 12, b"P6 4 1 100\n" + bytes(12)):
        with pytest.raises(DamagedError, match="most for a PPM or PGM in text or with an unusual"):
            decode_picture(io.BytesIO(slow))


@pytest.mark.parametrize(
    ("largest", "bits"),
    [(200, 8), (256, 10), (1000, 10), (1024, 12), (4095, 12), (9000, 14), (16384, 16)],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_deep_grey_is_scaled_by_the_smallest_depth_that_holds_it(
    largest: int, bits: int, kind: str
):
    depths = []
    image = Image.fromarray(np.array([[0, largest // 2, largest]], np.uint16))
    pixels = decode_picture(written(image, kind), on_deep_grey=depths.append)
    expected = [round(255 * value / (2**bits - 1)) for value in (0, largest // 2, largest)]
    assert pixels[0, :, 0].tolist() == expected
    assert depths == ([bits] if bits > 8 else [])


def test_integers_in_a_tiff_are_scaled_like_other_deep_grey_and_negative_ones_refused():
    values = np.array([[0, 1000, 3000]], np.int32)
    assert decoded(Image.fromarray(values), "TIFF")[0, :, 0].tolist() == [0, 62, 187]  # 12 bits
    for wrong in (-1, 65536):
        with pytest.raises(DamagedError, match=r"whole numbers .* not all from 0 to 65535"):
            decoded(Image.fromarray(values + np.int32(wrong)), "TIFF")


def test_the_depth_that_a_tiff_declares_counts_before_its_largest_value():
    image = Image.fromarray(np.array([[0, 250]], np.uint16))
    for declared, level in ((4095, 16), (1023, 62), (3001, 16), (65535, 1)):
        pixels = decoded(image, "TIFF", tiffinfo={281: declared})
        assert pixels[0, 1].tolist() == [level] * 3


def test_the_depth_that_a_png_declares_counts_before_its_largest_value():
    data = written(Image.fromarray(np.array([[0, 250]], np.uint16)), "PNG").getvalue()
    chunk = b"sBIT" + bytes([12])
    chunk = struct.pack(">L", 1) + chunk + struct.pack(">L", crc32(chunk))
    after_header = 8 + 25
    declared = data[:after_header] + chunk + data[after_header:]
    assert decode_picture(io.BytesIO(declared))[0, 1].tolist() == [16] * 3
    assert decode_picture(io.BytesIO(data))[0, 1].tolist() == [250] * 3


@pytest.mark.parametrize("repeated", [True, False])
def test_a_png_whose_values_were_scaled_up_from_the_declared_depth_stays_dark(repeated: bool):
    original = np.array([[0, 9, 60]], np.uint16)  # of 10 bits
    values = original << 6 | (original >> 4 if repeated else 0)
    data = written(Image.fromarray(values), "PNG").getvalue()
    chunk = b"sBIT" + bytes([10])
    declared = data[:33] + struct.pack(">L", 1) + chunk + struct.pack(">L", crc32(chunk))
    pixels = decode_picture(io.BytesIO(declared + data[33:]))
    assert pixels[0, :, 0].tolist() == np.rint(original[0] * 255 / 1023).tolist()


def test_the_depth_is_that_of_the_whole_picture_when_it_is_converted_in_stripes(monkeypatch):
    monkeypatch.setattr(pictures, "STRIPE_PIXELS", 4)
    monkeypatch.setattr(picture_formats, "MAX_SLOW_PIXELS", 4)
    values = np.full((4, 4), 200, np.uint16)
    values[3, 3] = 4000
    assert decoded(Image.fromarray(values), "TIFF")[0, 0].tolist() == [12] * 3


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded():
    for side in (13_000, 20_000):
        bomb = written(Image.new("1", (side, side)), "PNG", compress_level=1)
        rule = f"^'a.png' is too large: {side}x{side} pixels, the most is 50,000,000 pixels$"
        with pytest.raises(DamagedError, match=rule):
            decode_picture(bomb, name="a.png")


@pytest.mark.parametrize(
    ("kind", "options", "limit", "rule"),
    [
        ("PNG", {}, 240 // 4, "the most for an image is 60"),
        ("BMP", {}, 240 // 4, "the most for an image is 60"),
        ("JPEG", {}, 240 // 4, "the most for an image is 60"),
        ("AVIF", {}, 240 // 16, "the most for an AVIF image is 15"),
        ("WEBP", {}, 240 // 16, "the most for a WebP image is 15"),
        ("TIFF", {}, 240 // 8, "the most for a TIFF image is 30"),
    ],
)
def test_a_format_that_takes_more_memory_is_limited_to_fewer_pixels(
    kind: str, options: dict, limit: int, rule: str, monkeypatch
):
    monkeypatch.setattr(picture_formats, "MAX_BYTES", 240)
    assert decode_picture(written(Image.new("RGB", (limit, 1)), kind, **options)).shape[1] == limit
    larger = written(Image.new("RGB", (limit + 1, 1)), kind, **options)
    with pytest.raises(DamagedError, match=f"{limit + 1}x1 pixels, {rule} pixels"):
        decode_picture(larger)


@pytest.mark.parametrize(
    ("subsampling", "whole", "half"),  # limits in pixels, of 2,400 bytes
    [(0, 2400 // 10, 2400 // 7), (2, 2400 // 7, 2400 // 4)],
)
def test_a_large_progressive_jpeg_is_decoded_at_half_its_size(
    subsampling: int, whole: int, half: int, monkeypatch
):
    monkeypatch.setattr(picture_formats, "MAX_BYTES", 2400)
    monkeypatch.setattr(picture_formats, "free_memory", lambda: 4 * 2400)

    def jpeg(pixels: int) -> io.BytesIO:
        image = Image.new("RGB", (pixels // 2, 2), RED)
        return written(image, "JPEG", progressive=True, subsampling=subsampling, quality=95)

    assert decode_picture(jpeg(whole)).shape[0] == 2
    pixels = decode_picture(jpeg(half))
    assert pixels.shape[0] == 1
    np.testing.assert_allclose(pixels, np.broadcast_to(RED, pixels.shape), atol=6)
    with pytest.raises(DamagedError, match=f"the most for a progressive JPEG is {half} pixels"):
        decode_picture(jpeg(half + 2))
    # Where memory is free, only the limit of all pictures holds.
    monkeypatch.setattr(picture_formats, "free_memory", lambda: float("inf"))
    monkeypatch.setattr(picture_formats, "MAX_PIXELS", half + 40)
    assert decode_picture(jpeg(half + 40)).shape[0] == 1
    with pytest.raises(DamagedError, match=f"the most is {half + 40} pixels"):
        decode_picture(jpeg(half + 42))


MEASURE = """
import sys
from pathlib import Path
from resnet_demo.data.pictures import FITS, decode_picture, fit_to_square, shrink_to_side
from resnet_demo.errors import DamagedError

def peak_mb():
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1000

fit_to_square(decode_picture(Path(sys.argv[1])), 32, "pad")  # loads the libraries
idle = peak_mb()
for name in sys.argv[2:]:
    rgb = None  # else the last picture is in memory while the next one is decoded
    try:
        rgb = decode_picture(Path(name))
        for fit in FITS:
            fit_to_square(rgb, 32, fit)
        shrink_to_side(rgb, 1024)
    except DamagedError as error:
        print(error)
print(peak_mb() - idle)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read as on Linux")
def test_neither_a_bomb_nor_the_largest_picture_takes_more_than_450_mb(tmp_path: Path):
    examples = [  # each just below the limit of its kind
        ("small.png", Image.new("RGBA", (9, 9)), {}),
        ("bomb.png", Image.new("1", (20_000, 20_000)), {"compress_level": 1}),
        ("large.png", Image.new("RGB", (7071, 7071)), {"compress_level": 1}),
        ("large.jpg", Image.new("RGB", (7071, 7071)), {"progressive": True, "subsampling": 0}),
        ("larger.jpg", Image.new("RGB", (7071, 7071)), {"progressive": True, "subsampling": 2}),
        ("large.webp", Image.new("RGBA", (3872, 3872)), {"method": 0}),
    ]
    for name, image, options in examples:
        image.save(tmp_path / name, **options)
    files = [str(tmp_path / name) for name, _, _ in examples]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *files], capture_output=True, text=True, check=True
    )
    *refused, peak = done.stdout.splitlines()
    assert len(refused) == 1
    assert "bomb.png" in refused[0]
    # A picture of 50 million pixels takes 200 MB itself, and one in progressive colour 350 MB.
    assert 300 < float(peak) < 450


def test_a_picture_of_exactly_the_pixel_limit_is_allowed(monkeypatch):
    monkeypatch.setattr(picture_formats, "MAX_PIXELS", 50)
    image = written(Image.new("RGB", (10, 5), RED), "PNG")
    assert decode_picture(image).shape == (5, 10, 3)
    monkeypatch.setattr(picture_formats, "MAX_PIXELS", 49)
    image.seek(0)
    with pytest.raises(DamagedError, match="10x5 pixels, the most is 49 pixels"):
        decode_picture(image)


def test_a_missing_path_or_one_that_is_no_file_is_refused(tmp_path: Path):
    with pytest.raises(NotFoundError, match=r"^there is no file 'gone.png'$"):
        decode_picture(tmp_path / "gone.png")
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("pipe.png", "."):
        with pytest.raises(DamagedError, match="is not a file"):
            decode_picture(tmp_path / name)
    with pytest.raises(DamagedError, match="cannot be read: File name too long"):
        decode_picture(tmp_path / ("x" * 300))


def test_a_long_name_is_cut_and_its_control_characters_are_escaped():
    with pytest.raises(DamagedError, match=r"^'evil\\x1b\[31mx+…") as caught:
        decode_picture(io.BytesIO(b"junk"), name="evil\x1b[31m" + "x" * 500)
    assert len(str(caught.value)) < 150


def test_the_centre_square_is_resized_as_pil_does():
    image = np.random.RandomState(0).randint(0, 256, (20, 50, 3)).astype(np.uint8)
    centre = Image.fromarray(image[:, 15:35]).resize((8, 8), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(crop_to_square(image, 8), np.asarray(centre))
    upright = np.ascontiguousarray(image.transpose(1, 0, 2))
    assert crop_to_square(upright, 32).shape == (32, 32, 3)


def test_a_square_of_the_right_size_is_kept_bit_for_bit():
    image = np.random.RandomState(0).randint(0, 256, (8, 8, 3)).astype(np.uint8)
    np.testing.assert_array_equal(crop_to_square(image, 8), image)


WIDE = np.random.RandomState(1).randint(0, 256, (20, 51, 3)).astype(np.uint8)
TALL = np.ascontiguousarray(WIDE.transpose(1, 0, 2))


@pytest.mark.parametrize("rgb", [WIDE, TALL], ids=["wide", "tall"])
@pytest.mark.parametrize("side", [8, 33, 64])
def test_a_squashed_picture_is_that_of_pil(rgb: np.ndarray, side: int):
    expected = Image.fromarray(rgb).resize((side, side), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(squash_to_square(rgb, side), np.asarray(expected))


@pytest.mark.parametrize("rgb", [WIDE, TALL], ids=["wide", "tall"])
@pytest.mark.parametrize("side", [8, 33, 64])
def test_a_padded_picture_is_pils_between_bars_of_its_mean_colour(rgb: np.ndarray, side: int):
    square = pad_to_square(rgb, side)
    assert (square.shape, square.dtype) == ((side, side, 3), np.uint8)
    part = pad_region(*rgb.shape[:2], side)
    inside = ImageOps.contain(Image.fromarray(rgb), (side, side), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(square[part], np.asarray(inside))
    bars = np.ones((side, side), bool)
    bars[part] = False
    assert abs(np.flatnonzero(bars).mean() - (side * side - 1) / 2) <= side / 2  # on both sides
    mean = np.rint(np.asarray(inside).mean((0, 1)))
    np.testing.assert_array_equal(square[bars], np.broadcast_to(mean, (bars.sum(), 3)))


@pytest.mark.parametrize("fit", FITS)
def test_every_way_of_fitting_keeps_a_square_of_that_size_bit_for_bit(fit: str):
    square = WIDE[:, :20]
    np.testing.assert_array_equal(fit_to_square(square, 20, fit), square)


def test_fit_selects_the_way_of_fitting():
    for fit, expected in (
        ("crop", crop_to_square),
        ("squash", squash_to_square),
        ("pad", pad_to_square),
    ):
        np.testing.assert_array_equal(fit_to_square(WIDE, 16, fit), expected(WIDE, 16))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 500, 3), (500, 1, 3)])
def test_a_line_of_pixels_becomes_a_square_too(fit: str, shape: tuple[int, ...]):
    line = np.full(shape, 77, np.uint8)
    np.testing.assert_array_equal(fit_to_square(line, 8, fit), np.full((8, 8, 3), 77))


@pytest.mark.parametrize("fit", ["", "fill", None, ["crop"]])
def test_another_way_of_fitting_is_refused(fit: object):
    with pytest.raises(ConfigError, match=r"^fit must be one of crop, squash, pad, got "):
        fit_to_square(WIDE, 8, fit)


def test_the_cropped_region_is_the_middle():
    assert crop_region(20, 51) == (slice(0, 20), slice(15, 35))
    assert crop_region(51, 20) == (slice(15, 35), slice(0, 20))


def test_pictures_are_read_without_torch():
    program = "import sys, resnet_demo.data.pictures; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
