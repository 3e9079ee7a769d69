"""Decoding a picture of a stranger: in this process if that is cheap, else in a separate one.

The other process has limits on time and memory. It imports numpy and PIL only, and gets no secret
in its environment.
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

from resnet_demo.data.picture_formats import DECODING_BYTES, SCANS, damage_text, open_picture
from resnet_demo.data.picture_structure import jpeg_header_bytes
from resnet_demo.data.pictures import MUTED_WARNINGS, decode_picture
from resnet_demo.errors import DamagedError, DemoError, shortened
from resnet_demo.paths import REPOSITORY

TIME_LIMIT_S = 20.0
# What is decoded in this process. PNG and JPEG are those whose parts have been counted.
CHEAP_BYTES = 80_000_000  # of memory: 20 million pixels of a PNG or of a usual JPEG
CHEAP_SCAN_PIXELS = 50_000_000  # pixels of a JPEG times its scans
CHEAP_HEADER_BYTES = 262_144  # of a JPEG before its pixels, which PIL reads in Python
CHEAP_FILE_BYTES = 65_536  # of the other formats
PNG, JPEG = b"\x89PNG", b"\xff\xd8\xff"
# TIFF, AVIF and HEIF: their readers take memory for what stands in the file, before its size.
COSTLY_FORMATS = (b"II*\0", b"MM\0*")
COSTLY_BOX = b"ftyp"
MEMORY_BYTES = 10**9  # of the other process, its libraries included; the most is about 700 MB
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "SYSTEMROOT")
NICENESS = 5  # a large picture must not slow down the page


def is_cheap(path: Path, name: str | None = None) -> bool:
    """Return whether decoding a picture takes little time and memory. Raises DamagedError.

    name: the file's name in messages.
    """
    label = shortened(name or path.name)
    try:
        with open(path, "rb") as file, MUTED_WARNINGS:
            start, size = file.read(8), os.fstat(file.fileno()).st_size
            if start.startswith(COSTLY_FORMATS) or start[4:] == COSTLY_BOX:
                return False
            if not start.startswith((PNG, JPEG)) and size > CHEAP_FILE_BYTES:
                return False
            may_be_long = start.startswith(JPEG) and size > CHEAP_HEADER_BYTES
            if may_be_long and jpeg_header_bytes(file, label) > CHEAP_HEADER_BYTES:
                return False
            file.seek(0)
            try:
                image = open_picture(file, label)
            except DemoError:
                raise
            except Exception as error:  # PIL's readers raise many types on foreign bytes
                raise DamagedError(damage_text(file, label)) from error
    except OSError as error:
        raise DamagedError(f"{label} cannot be read: {error.strerror}") from error
    width, height = image.size
    scans = image.info[SCANS]
    is_quick = scans == 1 or width * height * scans <= CHEAP_SCAN_PIXELS
    return is_quick and image.info[DECODING_BYTES] <= CHEAP_BYTES


def decode_in_process(
    path: Path, name: str | None = None, limit_s: float = TIME_LIMIT_S
) -> np.ndarray:
    """Return a picture as `decode_picture` does, decoded in a separate process.

    Raises DamagedError, also for a picture that takes longer than limit_s.
    """
    command = [sys.executable, "-m", "resnet_demo.data.decode_process"]
    environment = {key: os.environ[key] for key in ENVIRONMENT if key in os.environ}
    environment["OPENBLAS_NUM_THREADS"] = "1"  # each thread would reserve memory
    request = json.dumps([str(path), name, MEMORY_BYTES]).encode()
    try:
        done = subprocess.run(
            command,
            input=request,
            capture_output=True,
            timeout=limit_s,
            cwd=REPOSITORY,  # where `-m` finds the package of a checkout
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        raise DamagedError(
            f"{shortened(name or path.name)} takes longer than {limit_s:g} s to decode: save it as "
            "a smaller picture, or as a usual JPEG or PNG"
        ) from error
    head, _, pixels = done.stdout.partition(b"\n")
    if done.returncode or not head:  # killed, for example by the system when memory runs out
        raise DamagedError(f"{shortened(name or path.name)} could not be decoded")
    answer = json.loads(head)
    if "error" in answer:
        raise DamagedError(answer["error"])
    return np.frombuffer(pixels, np.uint8).reshape(answer["shape"])


def main() -> None:
    """Decode the picture named on standard input; write a line of JSON, then the pixels."""
    os.nice(NICENESS)
    path, name, memory = json.load(sys.stdin)
    with suppress(ImportError, ValueError, OSError):  # not a Unix system, or a lower limit is set
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    try:
        rgb = decode_picture(Path(path), name=name)
    except DemoError as error:
        text = str(error)
        if isinstance(error.__cause__, MemoryError):
            text = f"{shortened(name or Path(path).name)} takes too much memory to decode: save it "
            text += "as a smaller picture, or as a usual JPEG or PNG"
        answer, pixels = {"error": text}, b""
    else:
        answer, pixels = {"shape": rgb.shape}, memoryview(rgb).cast("B")
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.write(pixels)


if __name__ == "__main__":
    main()
