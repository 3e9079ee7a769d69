"""The program of each rank in test_distributed.py: some short runs, and notes of the results.

torchrun starts it: `two_ranks.py DATA OUT`. Each rank writes OUT/rank-N.pt, the first one its runs.
"""

import sys
from pathlib import Path

import torch

from resnet_demo.config import make_config
from resnet_demo.data.store import Datasets
from resnet_demo.errors import ConfigError, DamagedError
from resnet_demo.events import Step, to_dict
from resnet_demo.training.distributed import join_world
from resnet_demo.training.fit import fit
from resnet_demo.training.state import Training

BASE = {
    "stratify": False,
    "dataset": "colours",
    "model": "resnet8",
    "image_size": 12,
    "crop": 2,
    "cutout": 3,
    "crop_area": 0.5,
    "rotation": 15.0,
    "colour_jitter": 0.3,
    "epochs": 3,
    "optimizer": "sgd",
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 5e-4,
    "flip": True,
    "label_smoothing": 0.0,
    "schedule": "one-cycle",
    "warmup_epochs": 0.0,
    "peak_lr": 0.02,
    "precision": "float32",  # bf16, where the hardware has it, rounds what is compared
    "batch_size": 21,  # shares of 10 and 11, and of 4 and 5 of the last 9
}
RUNS = {
    "plain": {"batch_norm": False},
    "even": {"batch_norm": False, "batch_size": 20, "label_smoothing": 0.1, "epochs": 1},
    "normalized": {"epochs": 2},
    # resnet9: its whitening stem is computed from images, on each rank.
    "muon": {"model": "resnet9", "epochs": 1, "optimizer": "muon", "peak_lr": 0.2, "momentum": 0.6},
    "averaged": {"batch_norm": False, "epochs": 1, "ema_decay": 0.9},
    "averaged, normalized": {"epochs": 1, "ema_decay": 0.9},
    "fault": {"epochs": 1, "validate_in_training_mode": True},
}


class Rank:
    """One rank, with the trainings that it has begun."""

    def __init__(self, ranks, datasets: Datasets, out: Path) -> None:
        self.ranks, self.datasets, self.out = ranks, datasets, out
        self.begin, self.begun = Training.begin, []
        Training.begin = self.remembered

    def remembered(self, *args) -> Training:
        self.begun.append(self.begin(*args))
        return self.begun[-1]

    def train(self, name: str, knobs: dict, stop_after: int | None = None) -> dict:
        """Return events and weights. stop_after: the second rank stops after so many steps."""
        folder, events = None, []
        if self.ranks.rank == 0:
            folder = self.out / name
            folder.mkdir(exist_ok=True)

        def should_stop() -> bool:
            steps = sum(isinstance(event, Step) for event in events)
            return self.ranks.rank == 1 and stop_after is not None and steps >= stop_after

        config = make_config({**BASE, **knobs})
        for event in fit(config, self.datasets, folder, should_stop, self.ranks):
            events.append(event)
        state = self.begun[-1].model.state_dict()
        kept = self.begun[-1].kept_model.state_dict()
        return {"events": [to_dict(event) for event in events], "weights": state, "kept": kept}


def error_of(call) -> str:
    """Return type and message of the error, or ""."""
    try:
        call()
    except (ConfigError, DamagedError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main(data: Path, out: Path) -> None:
    with join_world() as ranks:
        rank = Rank(ranks, Datasets(data), out)
        notes = {name: rank.train(name, knobs) for name, knobs in RUNS.items()}
        notes["first part"] = rank.train("stopped", RUNS["plain"], stop_after=9)
        notes["second part"] = rank.train("stopped", RUNS["plain"])
        notes["few"] = error_of(lambda: rank.train("few", {"batch_size": 44}))  # 135 = 3 × 44 + 3
        if ranks.rank == 0:
            (out / "damaged").mkdir()
            (out / "damaged" / "last.pt").write_bytes(b"no checkpoint")
        notes["damaged"] = error_of(lambda: rank.train("damaged", {}))
        torch.save(notes, out / f"rank-{ranks.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
