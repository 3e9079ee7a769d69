"""What tests of several folders share."""

import os
import shutil
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # many processes on few cores

BROWSERS = ("chromium", "chromium-browser", "google-chrome")  # the same as in scripts/machine.sh


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The system's Chromium, else the one that Playwright downloaded. None: the test fails."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    if not Path(path).exists():
        pytest.fail("No Chromium on this machine: `make browser` installs one.")
    return path


@pytest.fixture(scope="session")
def colours(tmp_path_factory) -> Path:
    """A data root with `colours`: 150 training and 30 test images of 12 pixels, three classes."""
    import numpy as np
    from PIL import Image

    from resnet_demo.data.importing import import_images

    root, source = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for channel, label in enumerate(("red", "green", "blue")):
        for split, count in (("train", 50), ("test", 10)):
            folder = source / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 120, (12, 12, 3), dtype=np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(folder / f"{number:03}.png")
    import_images(root, "colours", source, size=12)
    return root
