"""Sources of images for tests to import: a folder, a zip or a tar of the same files."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Files = dict[str, bytes]


def png(value: int, size: int = 8) -> bytes:
    """Return a square PNG whose pixels follow from value, no two rows alike."""
    rows = np.arange(size * size * 3).reshape(size, size, 3) * 7 + value * 31
    file = io.BytesIO()
    Image.fromarray((rows % 256).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def files() -> Files:
    """Return two classes with three training pictures and one test picture each."""
    names = [f"train/{label}/{n}.png" for label in ("cat", "dog") for n in range(3)]
    names += ["test/cat/0.png", "test/dog/0.png"]
    return {name: png(number) for number, name in enumerate(names)}


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[[Files], Path]:
    def write(files: Files) -> Path:
        for name, data in files.items():
            path = tmp_path / "source" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return tmp_path / "source"

    return write


@pytest.fixture
def zip_of(tmp_path: Path) -> Callable[[Files], Path]:
    def write(files: Files) -> Path:
        with zipfile.ZipFile(tmp_path / "source.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return tmp_path / "source.zip"

    return write


@pytest.fixture
def tar_of(tmp_path: Path) -> Callable[..., Path]:
    def write(files: Files, packing: str = "") -> Path:
        path = tmp_path / f"source.tar.{packing}"
        with tarfile.open(path, f"w:{packing}") as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return path

    return write


@pytest.fixture
def source_of(folder_of, zip_of, tar_of) -> Callable[[str, Files], Path]:
    """Return a function that writes files as a folder, zip, tar, gz, xz or bz2."""

    def write(kind: str, files: Files) -> Path:
        if kind == "folder":
            return folder_of(files)
        return zip_of(files) if kind == "zip" else tar_of(files, "" if kind == "tar" else kind)

    return write
