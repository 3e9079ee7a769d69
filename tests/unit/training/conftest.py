"""A run of one second: a small network on three classes that differ in their mean colour."""

import pytest

from resnet_demo.config import make_config
from resnet_demo.data.store import Datasets


@pytest.fixture(scope="session")
def datasets(colours):
    return Datasets(colours)


@pytest.fixture
def tiny():
    """Return a function that makes a config on `colours`, three epochs of seven steps."""

    def make(**knobs):
        base = {"dataset": "colours", "model": "resnet8", "image_size": 12, "batch_size": 20}
        base["precision"] = "float32"  # bf16, where the hardware has it, rounds what is compared
        base["grow_from"] = 1.0
        return make_config({**base, "epochs": 3, "crop": 2, "peak_lr": 0.02, **knobs})

    return make
