"""A finished run, and the same run packed, for tests that only read them."""

import pytest
import torch

from resnet_demo.data.store import Datasets
from resnet_demo.export.pack import pack
from resnet_demo.runs.store import Run
from tests.tiny import finished_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory, colours):
    """Return a run on `colours` that was trained in this process."""
    torch.set_num_threads(1)  # on tensors this small, threads only wait for each other
    return finished_run(tmp_path_factory.mktemp("finished"), colours)


@pytest.fixture(scope="session")
def packed(tmp_path_factory, finished, colours):
    """Return the run packed as `cifar10-shipped`, and the summary of the packing."""
    folder = tmp_path_factory.mktemp("packed") / "cifar10-shipped"
    summary = pack(finished, Datasets(colours), folder)
    return Run(folder, shipped=True), summary
