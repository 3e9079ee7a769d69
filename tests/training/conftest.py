"""A dataset small enough to train on in a second: three classes that a mean colour tells apart."""

import numpy as np
import pytest

from resnet_demo.config import make_config
from resnet_demo.data.importing import import_images
from resnet_demo.data.store import Datasets


@pytest.fixture(scope="session")
def datasets(tmp_path_factory):
    """`colours`: 150 training and 30 test images of 12 pixels."""
    from PIL import Image

    root, source = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        for split, count in (("train", 50), ("test", 10)):
            folder = source / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (12, 12, 3), dtype=np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(folder / f"{i:03}.png")
    import_images(root, "colours", source, size=12)
    return Datasets(root)


@pytest.fixture
def tiny():
    """Asks for a config on `colours`, three epochs of seven steps unless said otherwise."""

    def asked(**knobs):
        base = {"dataset": "colours", "model": "resnet9", "image_size": 12, "batch_size": 20}
        return make_config({**base, "epochs": 3, "crop": 2, "peak_lr": 0.02, **knobs})

    return asked
