"""Large pictures are decoded in a process of their own, which has a time limit."""

import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_demo.data import decode_process
from resnet_demo.data.decode_process import decode_in_process, is_cheap
from resnet_demo.data.pictures import MutedWarnings, decode_picture
from resnet_demo.errors import DamagedError

NOISE = np.random.RandomState(4).randint(0, 256, (300, 320, 3)).astype(np.uint8)


@pytest.fixture
def stored(tmp_path: Path):
    """Return a function that stores a picture of noise and returns its path."""

    def store(name: str, **options) -> Path:
        Image.fromarray(NOISE).save(tmp_path / name, **options)
        return tmp_path / name

    return store


def test_the_other_process_returns_the_same_pixels(stored):
    for name in ("a.png", "b.jpg"):
        path = stored(name)
        np.testing.assert_array_equal(decode_in_process(path), decode_picture(path))


def test_its_errors_are_the_same_sentences(tmp_path: Path):
    (tmp_path / "x.png").write_bytes(b"just text")
    with pytest.raises(DamagedError, match=r"^'my.png' is not a PNG"):
        decode_in_process(tmp_path / "x.png", "my.png")


def test_a_picture_that_takes_too_long_is_given_up(stored):
    rule = r"^'a.png' takes longer than 0.01 s to decode: save it as a smaller picture"
    with pytest.raises(DamagedError, match=rule):
        decode_in_process(stored("a.png"), limit_s=0.01)


def test_a_process_that_is_killed_is_reported(stored, monkeypatch):
    monkeypatch.setattr(decode_process.sys, "executable", "/bin/false")
    with pytest.raises(DamagedError, match=r"^'a.png' could not be decoded$"):
        decode_in_process(stored("a.png"))


def test_the_other_process_gets_no_secret(monkeypatch):
    given = []
    monkeypatch.setenv("DATABASE_URL", "postgres://me:secret@host")

    def run(command, env, **options):
        given.append(env)
        raise decode_process.subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(decode_process.subprocess, "run", run)
    with pytest.raises(DamagedError):
        decode_in_process(Path("a.png"))
    assert given[0].keys() <= {*decode_process.ENVIRONMENT, "OPENBLAS_NUM_THREADS"}


def test_usual_pictures_are_cheap_and_costly_ones_are_not(stored, monkeypatch):
    usual, progressive = stored("a.jpg"), stored("b.jpg", progressive=True)
    assert all(map(is_cheap, (usual, progressive, stored("a.png"))))
    monkeypatch.setattr(decode_process, "CHEAP_SCAN_PIXELS", 5 * NOISE.shape[0] * NOISE.shape[1])
    assert is_cheap(usual)
    assert not is_cheap(progressive)  # of ten scans
    monkeypatch.setattr(decode_process, "CHEAP_BYTES", 4 * NOISE.shape[0] * NOISE.shape[1] - 1)
    assert not is_cheap(usual)


def test_formats_whose_headers_may_take_much_memory_are_decoded_in_the_other_process(
    tmp_path: Path,
):
    for name in ("a.tif", "a.avif"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
        assert not is_cheap(tmp_path / name)
        assert decode_in_process(tmp_path / name).shape == (4, 4, 3)
    file = tmp_path / "a.jpg"
    Image.new("RGB", (4, 4)).save(file)
    data, comment = file.read_bytes(), b"\xff\xfe\xff\xff" + bytes(65_533)
    for segments, cheap in ((3, True), (5, False)):
        file.write_bytes(data[:2] + segments * comment + data[2:] + bytes(10**6))
        assert is_cheap(file) is cheap


def test_a_picture_that_takes_too_much_memory_is_given_up(stored, monkeypatch):
    monkeypatch.setattr(decode_process, "MEMORY_BYTES", 10**7)  # less than the libraries take
    with pytest.raises(DamagedError, match=r"^'a.png' takes too much memory to decode: save it"):
        decode_in_process(stored("a.png"))


def test_larger_files_of_uncounted_formats_are_not_cheap(stored):
    assert not any(map(is_cheap, (stored("a.tif"), stored("a.bmp"), stored("a.gif"))))
    assert is_cheap(stored("a.webp", quality=1))


def test_a_damaged_header_is_reported_at_once(tmp_path: Path):
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    with pytest.raises(DamagedError, match=r"^'x.png' is cut short or damaged$"):
        is_cheap(tmp_path / "x.png")


@pytest.mark.filterwarnings("error")
def test_warnings_are_muted_for_several_threads_at_once():
    muted, entered, leave = MutedWarnings(), threading.Event(), threading.Event()
    before = warnings.filters

    def hold() -> None:
        with muted:
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(60)
    with muted:
        warnings.warn("first", stacklevel=1)
    leave.set()
    thread.join()
    assert warnings.filters is before
    with muted:
        warnings.warn("second", stacklevel=1)
    with pytest.raises(UserWarning, match="third"):
        warnings.warn("third", stacklevel=1)


def test_the_process_loads_neither_torch_nor_gradio():
    program = "import sys, resnet_demo.data.decode_process; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert not {"torch", "gradio"} & set(done.stdout.decode().split())
