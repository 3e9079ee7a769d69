import subprocess
import sys

import pytest
import torch

from resnet_demo.training import fit as module
from resnet_demo.training.fit import TrainingError, fit


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 12 bytes"),
        MemoryError(),
    ],
    ids=["device", "torch on the host", "host"],
)
def test_memory_that_runs_out_names_the_batch_and_proposes_half(error, datasets, tiny, monkeypatch):
    def step(training, *_):
        if training.step == 3:
            raise error
        return torch.tensor(1.0), torch.tensor(0)

    monkeypatch.setattr(module, "train_step", step)
    with pytest.raises(
        TrainingError, match=r"batch_size 20 at image_size 12; try batch_size 10$"
    ) as raised:
        list(fit(tiny(), datasets))
    assert raised.value.retry == {"batch_size": 10}


def test_of_a_batch_of_one_there_is_no_half(datasets, tiny, monkeypatch):
    def step(*_):
        raise torch.OutOfMemoryError("out")

    monkeypatch.setattr(module, "train_step", step)
    with pytest.raises(TrainingError, match="try a smaller network or image") as raised:
        list(fit(tiny(batch_size=1, batch_norm=False), datasets))
    assert raised.value.retry == {}


def test_other_errors_go_through_as_they_are(datasets, tiny, monkeypatch):
    def step(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(module, "train_step", step)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        list(fit(tiny(), datasets))


LIMITED = """
import resource, sys
from pathlib import Path
from resnet_demo.config import make_config
from resnet_demo.data.store import Datasets
from resnet_demo.training.fit import TrainingError, fit
import torch
torch.set_num_threads(1)
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 400_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
knobs = {"dataset": "colours", "model": "resnet18", "image_size": 192, "batch_size": 64}
try:
    list(fit(make_config(knobs), Datasets(Path(sys.argv[1]))))
except TrainingError as error:
    print(error, error.retry)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_real_limit_on_memory_is_told_in_the_same_words(colours):
    told = subprocess.check_output([sys.executable, "-c", LIMITED, colours], text=True)
    assert told.startswith("out of memory with batch_size 64 at image_size 192; try batch_size 32")
    assert told.endswith("{'batch_size': 32}\n")
