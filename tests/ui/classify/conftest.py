"""Runs and uploads for the Classify tab."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from resnet_demo.paths import Paths
from resnet_demo.ui.services import Services
from tests.ui.fake_evaluations import untrained_runs


@pytest.fixture(scope="package")
def runs(tmp_path_factory, describe_again):
    """Return runs of the same network: `mine`, `yours`, and `other`, which has other classes."""
    torch.set_num_threads(1)  # on tensors this small, threads only wait for each other
    root = untrained_runs(tmp_path_factory.mktemp("untrained"), "mine", "yours", "other")
    describe_again(root / "other", classes=["blue", "one", "two"])
    return root


@pytest.fixture
def services(tmp_path, runs, colours, monkeypatch):
    """Return services over copies of the runs; uploads are in tmp_path / uploads."""
    shutil.copytree(runs, tmp_path / "runs")
    (tmp_path / "uploads").mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    return Services(Paths(tmp_path / "runs", colours, tmp_path / "shipped"))


@pytest.fixture
def upload(tmp_path, services):
    """Return a function that stores a picture, or other bytes, as an upload; returns its path."""

    def put(name="red.png", content=None, size=(40, 20)):
        path = tmp_path / "uploads" / name
        if content is None:
            pixels = np.random.default_rng(len(name)).integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
        else:
            path.write_bytes(content)
        return str(path)

    return put


@pytest.fixture(scope="session")
def last():
    """Return a function that merges the updates of all steps, as the page does."""

    def merge(steps):
        shown = {}
        for updates in steps:
            shown |= updates
        return shown

    return merge
